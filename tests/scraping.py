"""How tests read what Prometheus would: text to series, and is it what is declared?"""

from __future__ import annotations

import urllib.error
import urllib.request

from prometheus_client import Metric as Family
from prometheus_client.parser import text_string_to_metric_families

from tests.promql import series_of
from worker.observe.metrics import Metric

Series = dict[tuple[str, frozenset[tuple[str, str]]], float]


def scrape(port: int) -> str | None:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
            text: str = answer.read().decode()
    except (urllib.error.URLError, OSError):
        return None
    return text


def families(text: str) -> dict[str, Family]:
    return {family.name: family for family in text_string_to_metric_families(text)}


def series(text: str) -> Series:
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in families(text).values()
        for sample in family.samples
    }


def value(found: Series, name: str, **labels: str) -> float:
    return found[name, frozenset(labels.items())]


def counted(port: int, metric: Metric) -> float:
    text = scrape(port)
    assert text is not None
    return value(series(text), metric.name)


def assert_declared(text: str, declared: tuple[Metric, ...]) -> None:
    """What was scraped is what is declared: names, kinds, texts, labels and bounds, all of it."""
    scraped = families(text)
    assert set(scraped) == {metric.name.removesuffix("_total") for metric in declared}
    for metric in declared:
        family = scraped[metric.name.removesuffix("_total")]
        assert (family.type, family.documentation) == (metric.kind, metric.help)
        for sample in family.samples:
            assert sample.name in series_of(metric)
            le = {"le"} if sample.name.endswith("_bucket") else set()
            assert set(sample.labels) == {*metric.labels, *le}, metric.name
        if metric.kind == "histogram":
            bounds = {float(s.labels["le"]) for s in family.samples if "le" in s.labels}
            assert bounds == {*metric.bounds, float("inf")}
