// What the compiler must refuse: an @ts-expect-error without an error is one.
import type { MetricsService } from 'pangolin-metrics';

export function misuse(metrics: MetricsService): void {
    // @ts-expect-error labels are missing
    metrics.siteConnectionDropsTotal.add(1);
    // @ts-expect-error a label is missing
    metrics.siteHandshakeLatencySeconds.record(1, { site_id: 's-abc' });
    // @ts-expect-error a label that the metric does not have
    metrics.siteConnectionDropsTotal.add(1, { site_id: 's-abc', transport: 'websocket' });
    // @ts-expect-error a direction that does not exist
    metrics.siteBandwidthBytesTotal.add(1, { site_id: 's-abc', direction: 'up', protocol: 'tcp' });
    // @ts-expect-error a state is true or false
    metrics.setSiteOnline('s-abc', 'websocket', 1);
    // @ts-expect-error a number of sessions is no state
    metrics.setUiActiveSessions(true);
    // @ts-expect-error no such metric
    metrics.siteConnectionDrops.add(1, { site_id: 's-abc' });
    metrics.restartCountTotal.add(1);
    metrics.uiRequestsTotal.add(1, { endpoint: '/api/v1/site/:id', method: 'GET', status: 200 });
    metrics.setSiteOnline('s-abc', 'websocket', null);
}
