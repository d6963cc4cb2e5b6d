// The service behind getMetricsService(): the instruments and the life of what pushes them.
import type { Meter } from '@opentelemetry/api';
import type { MeterProvider } from '@opentelemetry/sdk-metrics';

import { PangolinInstruments } from './instruments.js';
import { resolveSettings } from './options.js';
import type { MetricsOptions } from './options.js';
import { describe, makePusher } from './pushing.js';
import type { Pusher } from './pushing.js';

const scope = 'pangolin-metrics';

/** Pangolin's metrics. Nothing here throws, and nothing waits for the exporter but what returns a promise. */
export class MetricsService extends PangolinInstruments {
    readonly #pusher: Pusher | undefined;
    readonly #log: (line: string) => void;

    private constructor(
        meter: Meter | undefined,
        maxSeries: number,
        pusher: Pusher | undefined,
        log: (line: string) => void,
    ) {
        super(meter, maxSeries);
        this.#pusher = pusher;
        this.#log = log;
    }

    /** A service apart from the one of {@link getMetricsService}. */
    static create(options: MetricsOptions = {}): MetricsService {
        const log = options.log ?? ((line: string) => console.warn(`${scope}: ${line}`));
        const settings = resolveSettings(options, process.env, log);
        const disabled = () => new MetricsService(undefined, settings.maxSeries, undefined, log);
        if (!settings.enabled) return disabled();
        try {
            const { meterProvider } = options;
            const pusher = meterProvider === undefined ? makePusher(options, settings, log) : undefined;
            const meter = (meterProvider ?? pusher?.provider)?.getMeter(scope);
            return new MetricsService(meter, settings.maxSeries, pusher, log);
        } catch (error) {
            log(`metrics are switched off: ${describe(error)}`);
            return disabled();
        }
    }

    /** Pushes now. True when the exporter has taken what was recorded before the call, and when nothing is pushed. */
    async forceFlush(timeoutMillis = 5_000): Promise<boolean> {
        return this.#attempt((provider) => provider.forceFlush({ timeoutMillis }));
    }

    /** Pushes for the last time and ends pushing; what is recorded later is lost. As {@link forceFlush} otherwise. */
    async shutdown(timeoutMillis = 5_000): Promise<boolean> {
        return this.#attempt((provider) => provider.shutdown({ timeoutMillis }));
    }

    async #attempt(action: (provider: MeterProvider) => Promise<void>): Promise<boolean> {
        if (this.#pusher === undefined) return true;
        try {
            await action(this.#pusher.provider);
            return !this.#pusher.failing();
        } catch (error) {
            this.#log(`the last push did not succeed: ${describe(error)}`);
            return false;
        }
    }
}

let service: MetricsService | undefined;
let ended = false;

/** The process's service; made with the defaults unless {@link configureMetrics} has made it. */
export function getMetricsService(): MetricsService {
    service ??= MetricsService.create();
    return service;
}

/**
 * Makes the process's service with these options. To be called before the first {@link getMetricsService}: instruments
 * that somebody holds stay with the service that they are of, so a later call changes nothing and says so.
 */
export function configureMetrics(options: MetricsOptions): MetricsService {
    if (service !== undefined && !ended) {
        const log = options.log ?? ((line: string) => console.warn(`${scope}: ${line}`));
        log('configureMetrics() came after the first use of the metrics: its options are ignored');
        return service;
    }
    ended = false;
    service = MetricsService.create(options);
    return service;
}

/** {@link MetricsService.shutdown} of the process's service, if there is one. */
export async function shutdownMetrics(timeoutMillis?: number): Promise<boolean> {
    ended = true;
    return (await service?.shutdown(timeoutMillis)) ?? true;
}
