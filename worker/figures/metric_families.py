"""Turns samples of our metrics into the families that prometheus-client prints."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from worker.observe.metrics import Metric
from worker.queue.totals import Latency


@dataclass(frozen=True, slots=True)
class Sample:
    """A value of a counter or gauge, or all of a histogram."""

    metric: Metric
    value: float | Latency
    #: The values of the metric's labels, in their order.
    labels: tuple[str, ...] = ()


def families(samples: Iterable[Sample]) -> Iterator[Any]:
    """One family for each metric, in the order in which the samples first name it."""
    from prometheus_client.core import (
        CounterMetricFamily,
        GaugeMetricFamily,
        HistogramMetricFamily,
    )

    found: dict[str, Any] = {}
    for sample in samples:
        metric = sample.metric
        family = found.get(metric.name)
        if isinstance(sample.value, Latency):
            family = HistogramMetricFamily(metric.name, metric.help, labels=metric.labels)
            family.add_metric(sample.labels, _buckets(sample.value), sample.value.sum_s)
        else:
            if family is None:
                kind = CounterMetricFamily if metric.kind == "counter" else GaugeMetricFamily
                family = kind(metric.name, metric.help, labels=metric.labels)
            family.add_metric(sample.labels, sample.value)
        found[metric.name] = family
    yield from found.values()


def _buckets(latency: Latency) -> list[tuple[str, float]]:
    from prometheus_client.utils import floatToGoString

    return [
        (floatToGoString(bound), count)  # type: ignore[no-untyped-call]
        for bound, count in latency.buckets.items()
    ]
