"""The text that Prometheus scrapes: what the exporter tells of the deployment, and this process's requests."""

from __future__ import annotations

import threading
from typing import Final

import redis

from confkeep.settings import Settings
from worker.figures.collector import Collector
from worker.figures.deployment_figures import DeploymentFigures
from worker.figures.store_figures import StoreFigures
from worker.http.http_metrics import HttpMetrics

#: Tenants that get figures of their own, and seconds between two looks through the store: the exporter's
#: defaults.
_WORST: Final = 10
_STORE_EVERY_S: Final = 300.0


class Exposition:
    """Collects when it is scraped. The first scrape begins to look through the store in the background."""

    def __init__(self, client: redis.Redis, settings: Settings, http: HttpMetrics) -> None:
        self._deployment = DeploymentFigures(client, settings, worst=_WORST)
        self._store = StoreFigures(
            settings.git_store_path, stale_after_s=settings.stale_after_s, worst=_WORST
        )
        self._http = http
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._looking: threading.Thread | None = None

    def text(self) -> bytes:
        """All metrics in Prometheus's text format."""
        from prometheus_client import CollectorRegistry, generate_latest

        with self._lock:
            if self._looking is None:
                self._looking = threading.Thread(
                    target=self._store.run, args=(_STORE_EVERY_S, self._stop), daemon=True
                )
                self._looking.start()
            registry = CollectorRegistry()
            registry.register(Collector(self._deployment, self._store))
            return generate_latest(registry) + generate_latest(self._http.registry)

    def close(self) -> None:
        self._stop.set()
