"""What prometheus-client asks for the figures of a deployment and of a store."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from worker.figures.deployment_figures import DeploymentFigures
from worker.figures.metric_families import families
from worker.figures.store_figures import StoreFigures


class Collector:
    """Asked at each scrape."""

    def __init__(self, deployment: DeploymentFigures, store: StoreFigures) -> None:
        self._deployment = deployment
        self._store = store

    def describe(self) -> list[Any]:
        """Nothing, so that registering does not ask for the values."""
        return []

    def collect(self) -> Iterator[Any]:
        samples = [*self._deployment.samples(), *self._store.samples()]
        yield from families([*samples, *self._store.names(samples)])
