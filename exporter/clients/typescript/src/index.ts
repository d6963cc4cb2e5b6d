export { configureMetrics, getMetricsService, MetricsService, shutdownMetrics } from './service.js';
export type { MetricsOptions } from './options.js';
export type { Counter, Histogram } from './instrument.js';
