// Usage: node push.mjs URL PROTOCOL TEMPORALITY CLIENT COUNT
//
// Records COUNT times with OpenTelemetry's SDK as it comes, pushes, says "pushed", and does it again for each line of
// standard input. What it records is what push.py records.
import { createInterface } from 'node:readline';

import { OTLPMetricExporter as JsonExporter } from '@opentelemetry/exporter-metrics-otlp-http';
import { AggregationTemporalityPreference } from '@opentelemetry/exporter-metrics-otlp-http';
import { OTLPMetricExporter as ProtobufExporter } from '@opentelemetry/exporter-metrics-otlp-proto';
import { resourceFromAttributes } from '@opentelemetry/resources';
import { MeterProvider, PeriodicExportingMetricReader } from '@opentelemetry/sdk-metrics';

const [url, protocol, temporality, client, count] = process.argv.slice(2);
const exporter = new (protocol === 'json' ? JsonExporter : ProtobufExporter)({
    url,
    temporalityPreference: AggregationTemporalityPreference[temporality.toUpperCase()],
    compression: 'gzip',
});
const provider = new MeterProvider({
    resource: resourceFromAttributes({ 'service.name': client }),
    readers: [new PeriodicExportingMetricReader({ exporter, exportIntervalMillis: 3_600_000 })],
});
const meter = provider.getMeter('push');
const jobs = meter.createCounter('pangolin_background_jobs_total');
const requests = meter.createCounter('sdk.test.requests', { unit: '{request}' });
const durations = meter.createHistogram('sdk.test.duration', {
    unit: 's',
    advice: { explicitBucketBoundaries: [0.25, 0.5, 1] },
});
const pending = meter.createUpDownCounter('sdk.test.pending');
const depths = meter.createGauge('pangolin_background_queue_depth');

for await (const _ of createInterface({ input: process.stdin })) {
    for (let i = 0; i < Number(count); ++i) {
        jobs.add(i % 7, { job_type: client, status: `status-${i % 3}` });
        requests.add(1, { client });
        durations.record((i % 8) / 4, { client });
        pending.add(i % 2 === 0 ? 3 : -2, { client });
    }
    depths.record(Number(count), { job_type: client });
    await provider.forceFlush();
    console.log('pushed');
}
await provider.shutdown();
