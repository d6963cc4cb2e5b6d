import { getMetricsService } from 'pangolin-metrics';

const metrics = getMetricsService();
const startTime = Date.now();

// ... perform operation ...

const duration = (Date.now() - startTime) / 1000; // Convert to seconds

// Record handshake latency
metrics.siteHandshakeLatencySeconds.record(duration, {
    site_id: 's-abc',
    transport: 'websocket'
});
