// The kinds of instruments, on OpenTelemetry's API.
import type { Attributes, Histogram as ApiHistogram, Counter as ApiCounter, Meter } from '@opentelemetry/api';

type LabelArguments<Labels> = keyof Labels extends never ? [] : [labels: Labels];

/** A number that only grows. */
export interface Counter<Labels extends Attributes> {
    /** Adds `value`, which must be finite and not negative; anything else is dropped. */
    add(value: number, ...labels: LabelArguments<Labels>): void;
}

/** A distribution of observations. */
export interface Histogram<Labels extends Attributes> {
    /**
     * Adds one observation, in the unit that the metric's name ends with. It must be finite and not negative; anything
     * else is dropped.
     */
    record(value: number, ...labels: LabelArguments<Labels>): void;
}

/** A family as the exporter's catalogue has it. */
interface Description {
    readonly name: string;
    readonly unit?: string;
    readonly description: string;
}

// The host application's numbers come from subtractions and divisions: a single NaN would stay in a sum for ever.
class CheckedCounter<Labels extends Attributes> implements Counter<Labels> {
    readonly #counter: ApiCounter | undefined;

    constructor(counter: ApiCounter | undefined) {
        this.#counter = counter;
    }

    add(value: number, labels?: Labels): void {
        if (this.#counter !== undefined && Number.isFinite(value) && value >= 0) this.#counter.add(value, labels);
    }
}

class CheckedHistogram<Labels extends Attributes> implements Histogram<Labels> {
    readonly #histogram: ApiHistogram | undefined;

    constructor(histogram: ApiHistogram | undefined) {
        this.#histogram = histogram;
    }

    record(value: number, labels?: Labels): void {
        if (this.#histogram !== undefined && Number.isFinite(value) && value >= 0) this.#histogram.record(value, labels);
    }
}

/** The last value by label set, told when metrics are collected. */
export class GaugeState<Labels extends Record<string, string>> {
    readonly #series = new Map<string, { labels: Labels; value: number }>();
    readonly #maxSeries: number;

    constructor(maxSeries: number) {
        this.#maxSeries = maxSeries;
    }

    /** `null` forgets the series. A new one beyond the limit, and a value that is not finite, are dropped. */
    set(labels: Labels, value: number | boolean | null): void {
        if (this.#maxSeries === 0) return;
        const key = JSON.stringify(Object.values(labels));
        if (value === null) {
            this.#series.delete(key);
            return;
        }
        const number = Number(value);
        if (!Number.isFinite(number)) return;
        const series = this.#series.get(key);
        if (series !== undefined) series.value = number;
        else if (this.#series.size < this.#maxSeries) this.#series.set(key, { labels, value: number });
    }

    observe(observe: (value: number, labels: Labels) => void): void {
        for (const { labels, value } of this.#series.values()) observe(value, labels);
    }
}

/** Makes the instruments of one meter; without a meter, ones that do nothing and keep nothing. */
export class InstrumentFactory {
    readonly #meter: Meter | undefined;
    readonly #maxSeries: number;

    protected constructor(meter: Meter | undefined, maxSeries: number) {
        this.#meter = meter;
        this.#maxSeries = meter === undefined ? 0 : maxSeries;
    }

    protected counter<Labels extends Attributes>({ name, ...options }: Description): Counter<Labels> {
        return new CheckedCounter(this.#meter?.createCounter(name, options));
    }

    protected histogram<Labels extends Attributes>({
        name,
        bounds,
        ...options
    }: Description & { readonly bounds: number[] }): Histogram<Labels> {
        const advice = { explicitBucketBoundaries: bounds };
        return new CheckedHistogram(this.#meter?.createHistogram(name, { ...options, advice }));
    }

    protected gauge<Labels extends Record<string, string>>({ name, ...options }: Description): GaugeState<Labels> {
        const state = new GaugeState<Labels>(this.#maxSeries);
        this.#meter?.createObservableGauge(name, options).addCallback((result) => {
            state.observe((value, labels) => result.observe(value, labels));
        });
        return state;
    }
}
