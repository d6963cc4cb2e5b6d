// Runs the three usage examples and pushes what they recorded.
import './counter_example.js';
import './gauge_example.js';
import './histogram_example.js';

import { shutdownMetrics } from 'pangolin-metrics';

process.exitCode = (await shutdownMetrics()) ? 0 : 1;
