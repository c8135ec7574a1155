"""Counters and times of a service, as Prometheus reads them."""

from __future__ import annotations

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from quickstudy.serve.service import Service

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)


class Metrics:
    """Of one service.

    Args:
        service: what is measured.
    """

    media_type = CONTENT_TYPE_LATEST

    def __init__(self, service: Service) -> None:
        self._registry = CollectorRegistry()
        self._requests = Counter(
            "quickstudy_requests_total", "Requests by path and status", ("path", "status"), registry=self._registry
        )
        self._seconds = Histogram(
            "quickstudy_request_seconds", "Time to answer", ("path",), registry=self._registry, buckets=_SECONDS
        )
        batches = Histogram(
            "quickstudy_batch_pictures",
            "Pictures classified together",
            registry=self._registry,
            buckets=(1, 2, 4, 8, 16, 32, 64),
        )
        service.observe = batches.observe
        waiting = Gauge("quickstudy_waiting_pictures", "Pictures that wait", registry=self._registry)
        waiting.set_function(lambda: service.waiting)
        self.under_way = Gauge("quickstudy_requests_under_way", "Not answered yet", registry=self._registry)
        changes = Gauge("quickstudy_last_change", "Number of the last change", registry=self._registry)
        changes.set_function(lambda: service.change_number)

    def request(self, path: str, status: int, seconds: float) -> None:
        """Note a request."""
        self._requests.labels(path, str(status)).inc()
        self._seconds.labels(path).observe(seconds)

    def text(self) -> bytes:
        """Return all of them."""
        return generate_latest(self._registry)
