// Pushing to the exporter, on OpenTelemetry's SDK.
import { randomUUID } from 'node:crypto';

import { ExportResultCode } from '@opentelemetry/core';
import type { ExportResult } from '@opentelemetry/core';
import { OTLPMetricExporter as JsonExporter } from '@opentelemetry/exporter-metrics-otlp-http';
import { AggregationTemporalityPreference } from '@opentelemetry/exporter-metrics-otlp-http';
import { OTLPMetricExporter as ProtobufExporter } from '@opentelemetry/exporter-metrics-otlp-proto';
import { detectResources, envDetector, resourceFromAttributes } from '@opentelemetry/resources';
import { AggregationTemporality, InstrumentType } from '@opentelemetry/sdk-metrics';
import { MeterProvider, PeriodicExportingMetricReader } from '@opentelemetry/sdk-metrics';
import type { PushMetricExporter, ResourceMetrics } from '@opentelemetry/sdk-metrics';

import type { MetricsOptions, Settings } from './options.js';

// The SDK tells failures only to those who installed a logger of its own.
class TellingExporter implements PushMetricExporter {
    readonly #exporter: PushMetricExporter;
    readonly #log: (line: string) => void;
    #failing = false;

    /** Whether the last push failed. */
    get failing(): boolean {
        return this.#failing;
    }

    constructor(exporter: PushMetricExporter, log: (line: string) => void) {
        this.#exporter = exporter;
        this.#log = log;
    }

    export(metrics: ResourceMetrics, resultCallback: (result: ExportResult) => void): void {
        this.#exporter.export(metrics, (result) => {
            const failing = result.code !== ExportResultCode.SUCCESS;
            if (failing && !this.#failing)
                this.#log(`cannot push metrics: ${describe(result.error)}; further attempts go on in silence`);
            else if (!failing && this.#failing) this.#log('metrics are pushed again');
            this.#failing = failing;
            resultCallback(result);
        });
    }

    forceFlush(): Promise<void> {
        return this.#exporter.forceFlush();
    }

    shutdown(): Promise<void> {
        return this.#exporter.shutdown();
    }

    // Gauges have no temporality on the wire; with `cumulative` the SDK goes on telling series that have ended.
    selectAggregationTemporality(type: InstrumentType): AggregationTemporality {
        if (type === InstrumentType.OBSERVABLE_GAUGE) return AggregationTemporality.DELTA;
        return this.#exporter.selectAggregationTemporality?.(type) ?? AggregationTemporality.CUMULATIVE;
    }
}

/** One line about anything that was thrown. */
export function describe(error: unknown): string {
    if (!(error instanceof Error)) return String(error);
    // An AggregateError of Node's sockets has no message of its own.
    const code = (error as NodeJS.ErrnoException).code;
    return (error.message || String(code ?? error.name)).replaceAll(/\s+/g, ' ');
}

/** A provider of its own, apart from any that the application has. */
export interface Pusher {
    readonly provider: MeterProvider;
    /** Whether the last push failed: flushing and shutting down do not tell. */
    readonly failing: () => boolean;
}

// The SDK's headers must not throw; without a token the exporter says why it refuses.
function askedHeaders(token: () => string, log: (line: string) => void): () => Promise<Record<string, string>> {
    let told = false;
    return async () => {
        try {
            const headers = { authorization: `Bearer ${token()}` };
            told = false;
            return headers;
        } catch (error) {
            if (!told) log(`there is no token: ${describe(error)}`);
            told = true;
            return {};
        }
    };
}

/** Throws when the URL is none. */
export function makePusher(options: MetricsOptions, settings: Settings, log: (line: string) => void): Pusher {
    const { serviceName, temporality, token } = options;
    const configuration = {
        timeoutMillis: settings.timeoutMillis,
        ...(settings.url !== undefined && { url: settings.url }),
        ...(token !== undefined && {
            headers: typeof token === 'string' ? { authorization: `Bearer ${token}` } : askedHeaders(token, log),
        }),
        ...(temporality !== undefined && {
            temporalityPreference:
                temporality === 'delta'
                    ? AggregationTemporalityPreference.DELTA
                    : AggregationTemporalityPreference.CUMULATIVE,
        }),
    };
    if (settings.url !== undefined) new URL(settings.url);
    const exporter = new TellingExporter(
        settings.json ? new JsonExporter(configuration) : new ProtobufExporter(configuration),
        log,
    );
    const provider = new MeterProvider({
        // A process is a stream of its own: the receiver adds up those of several, and of one that starts anew.
        resource: resourceFromAttributes({ 'service.name': 'pangolin', 'service.instance.id': randomUUID() })
            .merge(detectResources({ detectors: [envDetector] }))
            .merge(resourceFromAttributes(serviceName === undefined ? {} : { 'service.name': serviceName })),
        readers: [
            new PeriodicExportingMetricReader({
                exporter,
                exportIntervalMillis: settings.intervalMillis,
                exportTimeoutMillis: settings.timeoutMillis,
                cardinalityLimits: { default: settings.maxSeries },
            }),
        ],
    });
    return { provider, failing: () => exporter.failing };
}
