// The module against a receiver that notes what it is sent, or against none.
import assert from 'node:assert/strict';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { test } from 'node:test';
import type { TestContext } from 'node:test';

import { MetricsService } from 'pangolin-metrics';

interface Point {
    asDouble?: number;
    asInt?: number;
    count?: number;
    sum?: number;
    explicitBounds?: number[];
    attributes: { key: string; value: { stringValue?: string } }[];
}
interface Metric {
    name: string;
    unit: string;
    sum?: { dataPoints: Point[]; aggregationTemporality: number };
    gauge?: { dataPoints: Point[] };
    histogram?: { dataPoints: Point[]; aggregationTemporality: number };
}
interface Push {
    authorization: string | undefined;
    resource: { key: string; value: { stringValue: string } }[];
    metrics: Map<string, Metric>;
}

async function receiver(context: TestContext) {
    const pushes: Push[] = [];
    let status = 200;
    const server = createServer((request, response) => {
        const chunks: Buffer[] = [];
        request.on('data', (chunk: Buffer) => chunks.push(chunk));
        request.on('end', () => {
            const body = JSON.parse(Buffer.concat(chunks).toString());
            const [{ resource, scopeMetrics }] = body.resourceMetrics;
            const metrics: Metric[] = scopeMetrics.flatMap((scope: { metrics: Metric[] }) => scope.metrics);
            pushes.push({
                authorization: request.headers.authorization,
                resource: resource.attributes,
                metrics: new Map(metrics.map((metric) => [metric.name, metric])),
            });
            response.writeHead(status, { 'content-type': 'application/json' }).end('{}');
        });
    });
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    context.after(() => {
        server.closeAllConnections();
        server.close();
    });
    const { port } = server.address() as AddressInfo;
    return {
        url: `http://127.0.0.1:${port}/v1/metrics`,
        pushes,
        answer: (code: number) => (status = code),
        last: () => pushes.at(-1) ?? assert.fail('nothing was pushed'),
    };
}

const labels = (point: Point) =>
    Object.fromEntries(point.attributes.map(({ key, value }) => [key, value.stringValue]));
const one = (points: Point[] | undefined): Point => {
    assert.equal(points?.length, 1);
    return points?.[0] ?? assert.fail();
};
const quiet = { log: () => {}, protocol: 'http/json' } as const;

test('counters, histograms and gauges arrive with their labels, units and buckets', async (context) => {
    const server = await receiver(context);
    const service = MetricsService.create({ ...quiet, url: server.url });
    service.siteBandwidthBytesTotal.add(4000, { site_id: 'a', direction: 'egress', protocol: 'tcp' });
    service.siteBandwidthBytesTotal.add(96, { site_id: 'a', direction: 'egress', protocol: 'tcp' });
    service.restartCountTotal.add(1);
    service.authRequestDurationSeconds.record(0.02, { auth_method: 'password', result: 'success' });
    service.setSiteOnline('a', 'websocket', true);
    service.setUiActiveSessions(5);
    assert.equal(await service.forceFlush(), true);
    const { metrics, resource } = server.last();

    const bandwidth = metrics.get('pangolin_site_bandwidth_bytes_total');
    const bytes = one(bandwidth?.sum?.dataPoints);
    assert.equal(bandwidth?.unit, 'By');
    assert.equal(bandwidth?.sum?.aggregationTemporality, 2);
    assert.equal(bytes.asDouble, 4096);
    assert.deepEqual(labels(bytes), { site_id: 'a', direction: 'egress', protocol: 'tcp' });

    const duration = one(metrics.get('pangolin_auth_request_duration_seconds')?.histogram?.dataPoints);
    assert.equal(duration.sum, 0.02);
    assert.equal(duration.explicitBounds?.[0], 0.001);
    assert.equal(duration.explicitBounds?.at(-1), 60);

    assert.equal(one(metrics.get('pangolin_restart_count_total')?.sum?.dataPoints).asDouble, 1);
    assert.equal(one(metrics.get('pangolin_site_online')?.gauge?.dataPoints).asDouble, 1);
    assert.deepEqual(labels(one(metrics.get('pangolin_ui_active_sessions')?.gauge?.dataPoints)), {});
    const attributes = new Map(resource.map(({ key, value }) => [key, value.stringValue]));
    assert.equal(attributes.get('service.name'), 'pangolin');
    assert.match(attributes.get('service.instance.id') ?? '', /^[0-9a-f-]{36}$/);

    service.setSiteOnline('a', 'websocket', null);
    assert.equal(await service.shutdown(), true);
    assert.equal(server.last().metrics.get('pangolin_site_online'), undefined);
});

test('values that are no numbers, and negative ones of counters, are dropped', async (context) => {
    const server = await receiver(context);
    const service = MetricsService.create({ ...quiet, url: server.url });
    const site = { site_id: 'a' };
    for (const value of [1, Number.NaN, Number.POSITIVE_INFINITY, -5, 2]) {
        service.siteConnectionDropsTotal.add(value, site);
        service.traefikProviderSyncSeconds.record(value);
        service.setUiActiveSessions(value);
    }
    await service.shutdown();
    const { metrics } = server.last();
    assert.equal(one(metrics.get('pangolin_site_connection_drops_total')?.sum?.dataPoints).asDouble, 3);
    assert.equal(one(metrics.get('pangolin_traefik_provider_sync_seconds')?.histogram?.dataPoints).count, 2);
    assert.equal(one(metrics.get('pangolin_ui_active_sessions')?.gauge?.dataPoints).asDouble, 2);
});

test('the token goes with every push, and is asked for anew', async (context) => {
    const server = await receiver(context);
    const lines: string[] = [];
    let token = 'first';
    const service = MetricsService.create({ ...quiet, log: (line) => lines.push(line), url: server.url, token: () => token });
    service.restartCountTotal.add(1);
    await service.forceFlush();
    token = 'second';
    await service.shutdown();
    assert.deepEqual(server.pushes.map((push) => push.authorization), ['Bearer first', 'Bearer second']);
    assert.deepEqual(lines, []);
});

test('a token that cannot be had is told, and nothing is thrown', async (context) => {
    const server = await receiver(context);
    const lines: string[] = [];
    const token = () => {
        throw new Error('no such file');
    };
    const service = MetricsService.create({ ...quiet, log: (line) => lines.push(line), url: server.url, token });
    service.restartCountTotal.add(1);
    await service.forceFlush();
    await service.shutdown();
    assert.deepEqual(lines, ['there is no token: no such file']);
    assert.equal(server.last().authorization, undefined);
});

test('the name of the service: option, else environment', async (context) => {
    const server = await receiver(context);
    process.env['OTEL_SERVICE_NAME'] = 'of-environment';
    for (const options of [{}, { serviceName: 'of-option' }]) {
        const service = MetricsService.create({ ...quiet, url: server.url, ...options });
        service.restartCountTotal.add(1);
        await service.shutdown();
    }
    delete process.env['OTEL_SERVICE_NAME'];
    const names = server.pushes.map(
        ({ resource }) => resource.find(({ key }) => key === 'service.name')?.value.stringValue,
    );
    assert.deepEqual(names, ['of-environment', 'of-option']);
});

test('delta temporality pushes what was added since', async (context) => {
    const server = await receiver(context);
    const service = MetricsService.create({ ...quiet, url: server.url, temporality: 'delta' });
    service.restartCountTotal.add(3);
    await service.forceFlush();
    service.restartCountTotal.add(4);
    await service.shutdown();
    const sums = server.pushes.map((push) => push.metrics.get('pangolin_restart_count_total')?.sum);
    assert.deepEqual(sums.map((sum) => one(sum?.dataPoints).asDouble), [3, 4]);
    assert.equal(sums[0]?.aggregationTemporality, 1);
});

test('an exporter that is away is said once, nothing is thrown, and nothing is lost when it is back', async (context) => {
    const server = await receiver(context);
    const lines: string[] = [];
    const options = { log: (line: string) => lines.push(line), url: server.url, protocol: 'http/json' } as const;
    const service = MetricsService.create(options);
    server.answer(400);
    for (let i = 0; i < 3; ++i) {
        service.restartCountTotal.add(1);
        assert.equal(await service.forceFlush(), false);
    }
    assert.equal(lines.filter((line) => line.startsWith('cannot push metrics: ')).length, 1, lines.join('\n'));
    server.answer(200);
    assert.equal(await service.shutdown(), true);
    assert.equal(lines.at(-1), 'metrics are pushed again');
    assert.equal(one(server.last().metrics.get('pangolin_restart_count_total')?.sum?.dataPoints).asDouble, 3);
});

test('nobody listening: no exception, and the end does not wait longer than asked', async () => {
    const service = MetricsService.create({ ...quiet, url: 'http://127.0.0.1:1/v1/metrics', timeoutMillis: 300 });
    service.restartCountTotal.add(1);
    const start = performance.now();
    assert.equal(await service.shutdown(600), false);
    assert.ok(performance.now() - start < 5000);
    service.restartCountTotal.add(1);
});

for (const [what, options] of Object.entries({
    'switched off': { enabled: false },
    'a URL that is none': { url: 'not a url' },
}))
    test(`${what}: instruments that do nothing`, async () => {
        const service = MetricsService.create({ ...quiet, ...options });
        service.siteConnectionDropsTotal.add(1, { site_id: 'a' });
        service.setSiteOnline('a', 'websocket', true);
        service.traefikProviderSyncSeconds.record(1);
        assert.equal(await service.forceFlush(), true);
        assert.equal(await service.shutdown(), true);
    });

test('options that make no sense are told, and the defaults hold', async () => {
    const lines: string[] = [];
    const log = (line: string) => lines.push(line);
    process.env['OTEL_METRIC_EXPORT_INTERVAL'] = 'soon';
    const service = MetricsService.create({ log, url: 'http://127.0.0.1:1', maxSeries: -1 });
    delete process.env['OTEL_METRIC_EXPORT_INTERVAL'];
    assert.deepEqual(lines, [
        'OTEL_METRIC_EXPORT_INTERVAL is no positive whole number: 15000 is used',
        'maxSeries is no positive whole number: 20000 is used',
    ]);
    await service.shutdown(1);
});

test('series beyond the limit: counters fold into one, gauges keep the first', async (context) => {
    const server = await receiver(context);
    const service = MetricsService.create({ ...quiet, url: server.url, maxSeries: 10 });
    for (let i = 0; i < 50; ++i) {
        service.siteConnectionDropsTotal.add(1, { site_id: `site-${i}` });
        service.setWsActiveConnections(`site-${i}`, i);
    }
    await service.shutdown();
    const { metrics } = server.last();
    const drops = metrics.get('pangolin_site_connection_drops_total')?.sum?.dataPoints ?? [];
    assert.ok(drops.length <= 10);
    assert.equal(drops.reduce((sum, point) => sum + (point.asDouble ?? 0), 0), 50);
    assert.ok((metrics.get('pangolin_ws_active_connections')?.gauge?.dataPoints.length ?? 0) <= 10);
});
