"""Usage: push.py URL PROTOCOL TEMPORALITY CLIENT COUNT

As push.mjs, with OpenTelemetry's SDK for Python. PROTOCOL is protobuf.
"""

import sys

from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.sdk.metrics import Counter, Histogram, MeterProvider
from opentelemetry.sdk.metrics.export import AggregationTemporality, PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource

url, _, temporality, client, count = sys.argv[1:]
chosen = AggregationTemporality[temporality.upper()]
exporter = OTLPMetricExporter(
    endpoint=url, compression=Compression.Gzip, preferred_temporality={Counter: chosen, Histogram: chosen}
)
provider = MeterProvider(
    [PeriodicExportingMetricReader(exporter, export_interval_millis=3_600_000)],
    Resource.create({"service.name": client}),
)
meter = provider.get_meter("push")
jobs = meter.create_counter("pangolin_background_jobs_total")
requests = meter.create_counter("sdk.test.requests", unit="{request}")
durations = meter.create_histogram(
    "sdk.test.duration", unit="s", explicit_bucket_boundaries_advisory=[0.25, 0.5, 1]
)
pending = meter.create_up_down_counter("sdk.test.pending")
depths = meter.create_gauge("pangolin_background_queue_depth")

for _ in sys.stdin:
    for i in range(int(count)):
        jobs.add(i % 7, {"job_type": client, "status": f"status-{i % 3}"})
        requests.add(1, {"client": client})
        durations.record((i % 8) / 4, {"client": client})
        pending.add(3 if i % 2 == 0 else -2, {"client": client})
    depths.set(int(count), {"job_type": client})
    provider.force_flush()
    print("pushed", flush=True)
provider.shutdown()
