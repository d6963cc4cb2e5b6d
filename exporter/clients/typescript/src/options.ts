// What can be set, and the environment variables of OpenTelemetry that set the same.
import type { MeterProvider } from '@opentelemetry/api';

export interface MetricsOptions {
    /**
     * Default true. `false`, `OTEL_SDK_DISABLED=true` or `OTEL_METRICS_EXPORTER=none` make every instrument do
     * nothing.
     */
    enabled?: boolean;
    /**
     * The whole URL of the exporter's OTLP receiver; default `http://127.0.0.1:4318/v1/metrics`, or what
     * `OTEL_EXPORTER_OTLP_METRICS_ENDPOINT` and `OTEL_EXPORTER_OTLP_ENDPOINT` say.
     */
    url?: string;
    /**
     * Sent as `Authorization: Bearer`, for an exporter with `application.otlp.token_file`. A function is asked
     * before each push. `OTEL_EXPORTER_OTLP_HEADERS` can say the same.
     */
    token?: string | (() => string);
    /** Default `http/protobuf`, or what `OTEL_EXPORTER_OTLP_METRICS_PROTOCOL` and `OTEL_EXPORTER_OTLP_PROTOCOL` say. */
    protocol?: 'http/protobuf' | 'http/json';
    /**
     * Default `cumulative`, which loses nothing while the exporter is away, or what
     * `OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE` says.
     */
    temporality?: 'cumulative' | 'delta';
    /** Between pushes; default 15,000, or what `OTEL_METRIC_EXPORT_INTERVAL` says. */
    intervalMillis?: number;
    /** For one push with its retries; default 10,000, or what `OTEL_METRIC_EXPORT_TIMEOUT` says; at most the interval. */
    timeoutMillis?: number;
    /** Default `pangolin`, or what `OTEL_SERVICE_NAME` and `OTEL_RESOURCE_ATTRIBUTES` say. */
    serviceName?: string;
    /** Of one metric; default 20,000. What is beyond is one series with the label `otel_metric_overflow`. */
    maxSeries?: number;
    /** One line when pushing begins to fail, and one when it works again; default `console.warn`. */
    log?: (line: string) => void;
    /** The application's own provider, which then pushes; the options about pushing mean nothing with it. */
    meterProvider?: MeterProvider;
}

type Environment = Readonly<Record<string, string | undefined>>;

/** What of {@link MetricsOptions} has a default here; the rest is left to OpenTelemetry's packages. */
export interface Settings {
    readonly enabled: boolean;
    readonly url: string | undefined;
    readonly json: boolean;
    readonly intervalMillis: number;
    readonly timeoutMillis: number;
    readonly maxSeries: number;
}

/** Never throws: what makes no sense is told to `log` and the default holds. */
export function resolveSettings(
    options: MetricsOptions,
    environment: Environment,
    log: (line: string) => void,
): Settings {
    const variable = (name: string): string | undefined => environment[name]?.trim() || undefined;

    const positive = (option: string, given: number | undefined, name: string | undefined, otherwise: number): number => {
        const text = name === undefined ? undefined : variable(name);
        const [from, value] = given === undefined && text !== undefined ? [name, Number(text)] : [option, given];
        if (value === undefined) return otherwise;
        if (Number.isInteger(value) && value > 0 && value <= 0x7fffffff) return value;
        log(`${from} is no positive whole number: ${otherwise} is used`);
        return otherwise;
    };

    const protocol =
        options.protocol ??
        variable('OTEL_EXPORTER_OTLP_METRICS_PROTOCOL') ??
        variable('OTEL_EXPORTER_OTLP_PROTOCOL') ??
        'http/protobuf';
    if (protocol !== 'http/protobuf' && protocol !== 'http/json')
        log(`the protocol ${JSON.stringify(protocol)} is neither http/protobuf nor http/json: http/protobuf is used`);

    // OpenTelemetry's own default is localhost, which is ::1 first on many hosts.
    const elsewhere =
        variable('OTEL_EXPORTER_OTLP_METRICS_ENDPOINT') !== undefined ||
        variable('OTEL_EXPORTER_OTLP_ENDPOINT') !== undefined;
    const intervalMillis = positive('intervalMillis', options.intervalMillis, 'OTEL_METRIC_EXPORT_INTERVAL', 15_000);
    const timeoutMillis = positive('timeoutMillis', options.timeoutMillis, 'OTEL_METRIC_EXPORT_TIMEOUT', 10_000);
    return {
        enabled:
            (options.enabled ?? true) &&
            variable('OTEL_SDK_DISABLED')?.toLowerCase() !== 'true' &&
            variable('OTEL_METRICS_EXPORTER') !== 'none',
        url: options.url ?? (elsewhere ? undefined : 'http://127.0.0.1:4318/v1/metrics'),
        json: protocol === 'http/json',
        intervalMillis,
        timeoutMillis: Math.min(timeoutMillis, intervalMillis),
        maxSeries: positive('maxSeries', options.maxSeries, undefined, 20_000),
    };
}
