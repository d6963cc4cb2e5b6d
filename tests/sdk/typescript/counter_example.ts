import { getMetricsService } from 'pangolin-metrics';

const metrics = getMetricsService();

// Record a site connection drop
metrics.siteConnectionDropsTotal.add(1, {
    site_id: 's-abc'
});

// Record bandwidth
metrics.siteBandwidthBytesTotal.add(4096, {
    site_id: 's-abc',
    direction: 'egress',
    protocol: 'tcp'
});
