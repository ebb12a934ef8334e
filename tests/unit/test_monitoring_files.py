"""The dashboard and the alerts use what exists; the checker itself notices what does not."""

from __future__ import annotations

import json
import re
import statistics
from collections.abc import Callable
from typing import Any

import pytest
import yaml

from confkeep.settings import Settings, variable_of
from docs.generate import ROOT
from tests import promql
from worker.cli import COMMANDS
from worker.observe import metrics
from worker.observe.metrics import Metric

RULES = ROOT / "docs" / "alerts" / "confkeep.rules.yml"
DASHBOARD = ROOT / "docs" / "grafana" / "confkeep.json"

_DURATION = re.compile(r"(\d+(ms|[smhdwy]))+")


def rules() -> list[dict[str, Any]]:
    groups = yaml.safe_load(RULES.read_text("utf-8"))["groups"]
    return [rule for group in groups for rule in group["rules"]]


def targets() -> list[tuple[str, dict[str, Any]]]:
    panels = json.loads(DASHBOARD.read_text("utf-8"))["panels"]
    return [(panel["title"], target) for panel in panels for target in panel.get("targets", ())]


@pytest.mark.parametrize("rule", rules(), ids=lambda rule: rule["alert"])
def test_every_alert_is_one_that_prometheus_takes(rule: dict[str, Any]) -> None:
    assert set(rule) <= {"alert", "expr", "for", "labels", "annotations"}
    assert re.fullmatch(r"Confkeep[A-Za-z]+", rule["alert"])
    assert _DURATION.fullmatch(rule.get("for", "0s"))
    assert set(rule["labels"]) == {"severity"}
    assert rule["labels"]["severity"] in ("warning", "critical")
    assert set(rule["annotations"]) == {"summary", "description", "runbook"}
    labels = promql.check(rule["expr"], metrics.ALL)
    for text in rule["annotations"].values():
        assert len(text) > 20
        templates = re.findall(r"\{\{\s*(.*?)\s*\}\}", text)
        assert text.count("{{") == text.count("}}") == len(templates)
        for template in templates:
            used, _, function = (part.strip() for part in template.partition("|"))
            assert used == "$value" or used.removeprefix("$labels.") in labels, template
            assert function in ("", "humanize", "humanizeDuration", "humanizePercentage")


def test_alerts_have_names_of_their_own() -> None:
    names = [rule["alert"] for rule in rules()]
    assert len(set(names)) == len(names)


def test_what_alerts_tell_people_to_do_exists() -> None:
    text = RULES.read_text("utf-8")
    for name in re.findall(r"`confkeep ([a-z-]+)", text):
        assert name in COMMANDS
    variables = {variable_of(field) for field in Settings.model_fields}
    assert set(re.findall(r"CONFKEEP_[A-Z_]+", text)) <= variables
    for page in re.findall(r"docs/[\w./-]+\.md", text):
        assert (ROOT / page).exists()


@pytest.mark.parametrize(("panel", "target"), targets(), ids=lambda found: str(found)[:40])
def test_every_panel_asks_for_what_exists(panel: str, target: dict[str, Any]) -> None:
    labels = promql.check(target["expr"], metrics.ALL)
    used = set(re.findall(r"\{\{\s*(\w+)\s*\}\}", target["legendFormat"]))
    assert used <= labels, panel


def test_the_dashboard_is_one_that_grafana_imports() -> None:
    dashboard = json.loads(DASHBOARD.read_text("utf-8"))
    panels = dashboard["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    cells: set[tuple[int, int]] = set()
    for panel in panels:
        grid = panel["gridPos"]
        assert 0 <= grid["x"] <= 24 - grid["w"]
        own = {(grid["x"] + x, grid["y"] + y) for x in range(grid["w"]) for y in range(grid["h"])}
        assert not own & cells, panel["title"]
        cells |= own
        if panel["type"] != "row":
            assert panel["targets"], panel["title"]
            assert panel["description"], panel["title"]
            assert panel["datasource"]["uid"] == "${datasource}"
    [variable] = dashboard["templating"]["list"]
    assert (variable["name"], variable["query"]) == ("datasource", "prometheus")


def test_no_metric_of_the_deployment_is_left_unseen() -> None:
    shown = " ".join(target["expr"] for _, target in targets())
    shown += " ".join(rule["expr"] for rule in rules())
    # How many tenants there are is no sign of anything.
    unseen = [m.name for m in (*metrics.OF_REDIS, *metrics.OF_STORE) if m.name not in shown]
    assert unseen == [metrics.TENANTS.name]


GB = 1e9
HOUR_S, DAY_S = 3_600, 86_400
#: Seconds between two looks at a disk.
STEP_S = 600


def fires_at(
    free_bytes: Callable[[float], float], disk_bytes: float, until_s: float
) -> list[float]:
    """The seconds at which the expression of ConfkeepStoreNearlyFull gives something.

    The disk is first seen at 0. Python takes the expression once PromQL's own forms are replaced.
    """
    [expression] = [rule["expr"] for rule in rules() if rule["alert"] == "ConfkeepStoreNearlyFull"]
    name = r"(confkeep_store_\w+)"
    expression = re.sub(rf"predict_linear\({name}\[(\w+)\],", r"predict('\1', '\2',", expression)
    expression = re.sub(rf"(?<!'){name}(?: offset (\w+))?", r"value('\1', '\2')", expression)
    series: dict[str, Callable[[float], float]] = {
        "confkeep_store_free_bytes": free_bytes,
        "confkeep_store_disk_bytes": lambda _: disk_bytes,
    }
    seconds = {"": 0, "1d": DAY_S, "6h": 6 * HOUR_S}
    found: list[float] = []
    for now in range(STEP_S, int(until_s), STEP_S):

        def value(name: str, before: str, now: int = now) -> float | None:
            at = now - seconds[before]
            return series[name](at) if at >= 0 else None

        def predict(name: str, window: str, ahead_s: float, now: int = now) -> float:
            times = range(max(0, now - seconds[window]), now + 1, STEP_S)
            slope, now_bytes = statistics.linear_regression(
                [at - now for at in times], [series[name](at) for at in times]
            )
            return now_bytes + slope * ahead_s

        known = {"__builtins__": {}, "value": value, "predict": predict}
        if eval(" ".join(expression.split()), known):
            found.append(now)
    return found


def imported(at: float, begins: float, hours: float, size: float) -> float:
    """What an import has taken by then."""
    return min(max(at - begins, 0) / (hours * HOUR_S), 1) * size


#: Free bytes of a disk of so many: no trend and nothing to tell of.
QUIET: dict[str, tuple[Callable[[float], float], float]] = {
    "a first import, then the polls of a fleet": (
        lambda at: 90 * GB - imported(at, 0, 3, 30 * GB) - at / DAY_S * GB,
        100 * GB,
    ),
    "seen for less than a day, filled by others before": (
        lambda at: 45 * GB - imported(at, 0, 3, 15 * GB),
        100 * GB,
    ),
    "a later import": (lambda at: 80 * GB - imported(at, 2 * DAY_S, 4, 25 * GB), 100 * GB),
    "a small disk with room": (lambda _: 3 * GB, 4 * GB),
}


@pytest.mark.parametrize("what", QUIET)
def test_a_disk_with_room_is_not_nearly_full(what: str) -> None:
    free, disk_bytes = QUIET[what]
    assert fires_at(free, disk_bytes, 4 * DAY_S) == []


def test_a_disk_that_is_nearly_full_is_told_at_once() -> None:
    assert fires_at(lambda _: 9 * GB, 100 * GB, 2 * STEP_S) == [STEP_S]


def test_a_disk_that_fills_up_is_told_a_day_before() -> None:
    full_s = 80 * HOUR_S
    fired = fires_at(lambda at: max(0.0, 80 * GB * (1 - at / full_s)), 100 * GB, full_s)
    assert DAY_S < fired[0] < full_s - DAY_S
    assert fired == list(range(int(fired[0]), full_s, STEP_S)), "it stays until somebody makes room"


A_GAUGE = "confkeep_dead_letters"
A_COUNTER = "confkeep_backups_dead_total"
OF_TENANTS, INFO = "confkeep_repository_bytes", "confkeep_tenant_info"
BUCKETS = "confkeep_commit_latency_seconds_bucket"


@pytest.mark.parametrize(
    ("expression", "problem"),
    [
        ("confkeep_dead_lettters > 0", "no metric confkeep_dead_lettters"),
        ("confkeep_commit_latency_seconds > 1", "no metric"),
        (f"{A_GAUGE}_count > 1", "no metric"),
        (f"rate({A_COUNTER}[5m]", "does not end"),
        (f"({A_GAUGE} > 1", "'\\)' is missing"),
        (f"(rate({A_COUNTER}[5m])))", "not expected"),
        (f"rate({A_COUNTER})", "wants a range"),
        (f"rate({A_COUNTER}[5 minutes])", "no duration"),
        (f"rate({A_GAUGE}[5m])", "rate of a gauge"),
        (f"predict_linear({A_COUNTER}[5m], 60)", "predict_linear of a counter"),
        (f"{A_GAUGE} offset 1", "no duration"),
        (f"{A_GAUGE} and confkeep_inbox_backups offset 1d", "never matches"),
        (f"rates({A_COUNTER}[5m])", "no function rates"),
        (f"sum by (shards) ({A_GAUGE})", "no label shards"),
        ('confkeep_inbox_backups{shrad="01"}', "no label shrad"),
        ("confkeep_inbox_backups{shard=01}", "cannot be read|is no string"),
        (f"histogram_quantile(0.9, sum(rate({BUCKETS}[5m])))", "label le"),
        (f"histogram_quantile(sum by (le) (rate({BUCKETS}[5m])))", "wants a number"),
        (f"{A_GAUGE} > and 1", "not expected"),
        (f"{A_GAUGE} >", "ends too early"),
        (f"{A_GAUGE} and confkeep_inbox_backups", "never matches"),
        (f"{A_COUNTER}[5m]", "a range is no result"),
        ("confkeep_up == 'x'", "cannot be read"),
        (f"topk({A_GAUGE})", "wants a number first"),
        (f"{OF_TENANTS} * on (tenant) {INFO}", "group_left behind it"),
        (f"{OF_TENANTS} and on (tenant) group_left (name) {INFO}", "an operator before it"),
        (f"{OF_TENANTS} * on (shard) group_left (name) {INFO}", "'on' never matches"),
        (f"{OF_TENANTS} * on (tenant) group_left (nmae) {INFO}", "brings the label nmae"),
    ],
)
def test_the_checker_notices(expression: str, problem: str) -> None:
    with pytest.raises(promql.Wrong, match=problem):
        promql.check(expression, metrics.ALL)


def test_names_go_by_the_conventions() -> None:
    names = [metric.name for metric in metrics.ALL]
    assert len(set(names)) == len(names)
    for metric in metrics.ALL:
        assert re.fullmatch(r"confkeep_[a-z_]+", metric.name)
        assert metric.name.startswith("confkeep_worker_") == (metric in metrics.OF_WORKER)
        assert list(metric.bounds) == sorted(metric.bounds)
        assert not re.search(r"_(ms|minutes|hours|kb|mb)(_|$)", metric.name), "base units only"
        assert metric.help.endswith(".")
        if metric.kind == "histogram" or metric.name.endswith("age_seconds"):
            assert metric.name.endswith("_seconds")


def test_series_of_a_histogram() -> None:
    one = Metric("confkeep_x_seconds", "X.", ("step",), (1.0,))
    assert promql.series_of(one) == (
        "confkeep_x_seconds_bucket",
        "confkeep_x_seconds_sum",
        "confkeep_x_seconds_count",
    )
