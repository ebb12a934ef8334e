"""What the HTTP process counts of its requests."""

from __future__ import annotations

from typing import Final

from worker.observe import metrics

#: Methods that are counted by name; a client may send any.
_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


class HttpMetrics:
    """Counters of one process, in its memory."""

    def __init__(self) -> None:
        from prometheus_client import CollectorRegistry, Counter, Histogram

        self.registry = CollectorRegistry()
        self._requests = Counter(
            metrics.HTTP_REQUESTS.name,
            metrics.HTTP_REQUESTS.help,
            metrics.HTTP_REQUESTS.labels,
            registry=self.registry,
        )
        self._seconds = Histogram(
            metrics.HTTP_SECONDS.name,
            metrics.HTTP_SECONDS.help,
            metrics.HTTP_SECONDS.labels,
            registry=self.registry,
            buckets=metrics.HTTP_SECONDS.bounds,
        )

    def count(self, method: str, route: str, status: int, took_s: float) -> None:
        """Count a request.

        Args:
            route: its route's pattern, so that the number of series is bounded.
            status: 0 if the client went away before the answer.
        """
        method = method if method in _METHODS else "other"
        self._requests.labels(method, route, str(status)).inc()
        self._seconds.labels(route).observe(took_s)
