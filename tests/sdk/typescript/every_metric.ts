// Usage: node every_metric.js CATALOGUE
//
// Uses each member of the service once, by the rows of the catalogue (`pangolin_exporter catalog --format json`): adds
// 3, records 0.3 or sets 1, with each label's own name as its value.
import { readFileSync } from 'node:fs';

import { configureMetrics, shutdownMetrics } from 'pangolin-metrics';

interface Row {
    name: string;
    type: string;
    labels: string[];
}
type Instrument = { add?(value: number, labels: object): void; record?(value: number, labels: object): void };

const rows: Row[] = JSON.parse(readFileSync(process.argv[2] ?? '', 'utf8'));
const service = configureMetrics({}) as unknown as Record<string, unknown>;
const camelCase = (name: string) => name.replaceAll(/_(\w)/g, (_, letter: string) => letter.toUpperCase());
const used: string[] = [];
for (const row of rows) {
    const member = camelCase(row.name.replace(/^pangolin_/, ''));
    const setter = `set${member.charAt(0).toUpperCase()}${member.slice(1)}`;
    const labels = Object.fromEntries(row.labels.map((label) => [label, label]));
    const instrument = service[member] as Instrument | undefined;
    if (row.type === 'gauge' && typeof service[setter] === 'function')
        (service[setter] as (...values: unknown[]) => void)(...row.labels, 1);
    else if (instrument?.add !== undefined) instrument.add(3, labels);
    else if (instrument?.record !== undefined) instrument.record(0.3, labels);
    else continue;
    used.push(row.name);
}
console.log(JSON.stringify(used));
process.exitCode = (await shutdownMetrics()) ? 0 : 1;
