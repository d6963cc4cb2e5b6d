import { getMetricsService } from 'pangolin-metrics';

const metrics = getMetricsService();

// Update site online status
metrics.setSiteOnline('s-abc', 'websocket', true);

// Update active connections count
metrics.setResourceActiveConnections('s-abc', 'api', 'http/1.1', 12);

// Update UI active sessions
metrics.setUiActiveSessions(5);
