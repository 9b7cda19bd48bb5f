"""What a server counts, for Prometheus."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

MEDIA = "text/plain; version=0.0.4; charset=utf-8"
_SIZES = tuple(2**k for k in range(13))


class Metrics:
    """Requests, their latency, what is computed together, and how many wait.

    They are in a registry of their own, so that several applications live in one process.
    """

    def __init__(self) -> None:
        registry = self._registry = CollectorRegistry()
        route = ("route",)
        self._requests = Counter(
            "aevb_requests", "Requests answered.", ("route", "status"), registry=registry
        )
        self._seconds = Histogram(
            "aevb_request_seconds", "Seconds until the answer.", route, registry=registry
        )
        self.batch_requests = Histogram(
            "aevb_batch_requests",
            "Requests computed together.",
            buckets=_SIZES,
            registry=registry,
        )
        self.batch_rows = Histogram(
            "aevb_batch_rows", "Rows computed together.", buckets=_SIZES, registry=registry
        )
        self.inside = Gauge(
            "aevb_requests_inside", "Requests read, waiting and computed now.", registry=registry
        )
        self.ready = Gauge("aevb_ready", "1 once all models are ready.", registry=registry)

    def answered(self, route: str, status: int, seconds: float) -> None:
        """Count a request."""
        self._requests.labels(route, str(status)).inc()
        self._seconds.labels(route).observe(seconds)

    def page(self) -> bytes:
        """Return all numbers in Prometheus's text format."""
        return generate_latest(self._registry)
