"""Metrics of a run for Prometheus: counters, stage times and the state of the board."""

import asyncio
import ssl
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

from fer_edge import __version__
from fer_edge.edge_runtime.board import board_name, temperature_c, throttle_bits
from fer_edge.edge_runtime.cameras.camera import OnMessage
from fer_edge.edge_runtime.live.pipeline import LabeledFrame
from fer_edge.edge_runtime.live.stats import BUCKETS_MS, Histogram, PipelineStats
from fer_edge.edge_runtime.outputs.http_server import HttpServer, Service
from fer_edge.edge_runtime.outputs.rate_limit import Reading

# The port of Prometheus exporters in OpenTelemetry. A scrape takes milliseconds, so few connections are enough.
METRICS = Service("metrics", "--metrics", 9464, "metrics", max_connections=6)
PATH = "/metrics"
# Bits of the Raspberry Pi firmware; 16 bits higher, the same since the start of the board.
# Source: https://www.raspberrypi.com/documentation/computers/os.html#get_throttled
THROTTLE_REASONS = ("under_voltage", "frequency_capped", "throttled", "soft_temperature_limit")
SINCE_START_BITS = 16


class MetricsServer:
    """Serves the metrics at ``/metrics``. Nothing is computed until a client asks.

    Args:
        address: ``HOST:PORT``, ``HOST``, ``:PORT`` or ``PORT``; the default is 127.0.0.1:9464. Port 0 picks a free port.
        stats: The pipeline's counters.
        shown: Names for the metric ``fer_edge_info``, such as ``{"model": "cnn_nano_fer2013_int8.tflite"}``.
        labels: Label names of the model. Their counters start at 0.
        token: As for HttpServer.
        tls: As for HttpServer.
        on_problem: As for HttpServer.

    Attributes:
        url: URL of the metrics, including the token.

    Raises:
        ImportError: If prometheus-client or aiohttp is not installed.
        OSError: If the server cannot listen on the address.
        ValueError: If the address cannot be parsed, or the token is too short.
    """

    def __init__(
        self,
        address: str,
        stats: PipelineStats,
        shown: dict[str, str] | None = None,
        labels: tuple[str, ...] = (),
        *,
        token: str | None = None,
        tls: ssl.SSLContext | None = None,
        on_problem: OnMessage | None = None,
    ) -> None:
        try:
            from prometheus_client import CollectorRegistry, ProcessCollector, exposition
        except ImportError as error:
            raise ImportError(
                f"the metrics need prometheus-client ({error}). Install it: pip install 'fer-edge[edge,metrics]'"
            ) from error
        self._choose_encoder = exposition.choose_encoder
        self._faces = Counter(dict.fromkeys(labels, 0))
        self._newest_s: float | None = None
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(_PipelineCollector(stats, shown or {}, self._faces, self._age_s))
        ProcessCollector(registry=self._registry)
        self._server = HttpServer(METRICS, address, token=token, tls=tls, on_problem=on_problem)
        self._server.start({PATH: self._metrics})
        self.url = self._server.url(PATH)

    def write(self, labeled: LabeledFrame) -> None:
        """Count the labels of a frame."""
        self._newest_s = time.monotonic()
        self._faces.update(face.label for face in labeled.faces)

    def close(self, complete: bool) -> None:
        """Stop serving."""
        self._server.close()

    def _age_s(self) -> float | None:
        return None if self._newest_s is None else time.monotonic() - self._newest_s

    async def _metrics(self, request: Any) -> Any:
        encode, content_type = self._choose_encoder(request.headers.get("Accept", ""))
        body = await asyncio.to_thread(encode, self._registry)  # reads files of /proc and /sys
        return self._server.web.Response(body=body, headers={"Content-Type": content_type})


class _PipelineCollector:
    """Turns the counters of a pipeline into the metrics of prometheus_client."""

    def __init__(
        self, stats: PipelineStats, shown: dict[str, str], faces: "Counter[str]", age_s: Callable[[], float | None]
    ) -> None:
        from prometheus_client import core

        self._core = core
        self._stats = stats
        self._info = {"version": __version__, "board": board_name(), **shown}
        self._faces = faces
        self._age_s = age_s
        self._temperature_c = Reading(lambda: temperature_c())
        self._throttle_bits = Reading(lambda: throttle_bits())

    def collect(self) -> Iterator[Any]:
        """Yield all metrics. Values that cannot be read are left out."""
        stats = self._stats
        yield self._core.InfoMetricFamily("fer_edge", "The program, its model and its board", value=self._info)
        for name, text, value in (
            ("frames_captured", "Frames from the source", stats.captured),
            ("frames_labeled", "Frames that were labeled", stats.processed),
            ("frames_dropped", "Frames that a newer one replaced", stats.dropped),
            ("camera_losses", "Times that the camera was lost", stats.lost),
        ):
            yield self._core.CounterMetricFamily(f"fer_edge_{name}", text, value=value)
        faces = self._core.CounterMetricFamily("fer_edge_faces", "Labeled faces, one per face and frame", labels=("label",))
        for label, count in list(self._faces.items()):
            faces.add_metric((label,), count)
        yield faces
        stages = self._core.HistogramMetricFamily("fer_edge_stage_seconds", "Time of a stage", labels=("stage",))
        for stage, histogram in stats.histograms().items():
            stages.add_metric((stage,), *_buckets_and_sum(histogram))
        yield stages
        latency = self._core.HistogramMetricFamily("fer_edge_latency_seconds", "Time from capture to label")
        latency.add_metric((), *_buckets_and_sum(stats.latencies))
        yield latency
        yield from self._state()
        yield from self._throttling()

    def _state(self) -> Iterator[Any]:
        up = self._stats.captured > 0 and self._stats.lost == self._stats.reopened
        for name, text, value in (
            ("camera_up", "1 while the source delivers frames", float(up)),
            ("newest_frame_age_seconds", "Time since the newest labeled frame", self._age_s()),
            ("temperature_celsius", "Temperature of the processor", self._temperature_c()),
        ):
            if value is not None:
                yield self._core.GaugeMetricFamily(f"fer_edge_{name}", text, value=value)

    def _throttling(self) -> Iterator[Any]:
        bits = self._throttle_bits()
        if bits is None:
            return
        for name, text, shift in (
            ("throttled", "1 while the firmware of the Raspberry Pi limits the board", 0),
            ("throttled_since_start", "1 if it did since the start of the board", SINCE_START_BITS),
        ):
            family = self._core.GaugeMetricFamily(f"fer_edge_{name}", text, labels=("reason",))
            for bit, reason in enumerate(THROTTLE_REASONS):
                family.add_metric((reason,), bits >> (bit + shift) & 1)
            yield family


def _buckets_and_sum(histogram: Histogram) -> tuple[list[tuple[str, int]], float]:
    """Return the cumulative counts by upper bound, and the sum, both in seconds."""
    bounds = [str(bound_ms / 1000) for bound_ms in BUCKETS_MS] + ["+Inf"]
    return list(zip(bounds, histogram.cumulative(), strict=True)), histogram.total_ms / 1000
