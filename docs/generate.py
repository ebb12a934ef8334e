"""Writes the generated tables into the Markdown pages; `--check` only says whether they are fresh.

A table stands between `<!-- generated: NAME -->` and `<!-- end -->`.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic_core import PydanticUndefined

from worker import errors, metrics
from worker.errors import ConfkeepError
from worker.metrics import Metric
from worker.settings import Settings, variable_of

ROOT = Path(__file__).parents[1]
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
_BLOCK = re.compile(r"(<!-- generated: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


def settings_table() -> str:
    """Every variable with its default and meaning."""
    rows = ["| variable | default | meaning |", "|---|---|---|"]
    for name, field in Settings.model_fields.items():
        default = "" if field.default is PydanticUndefined else f"`{field.default}`"
        rows.append(f"| `{variable_of(name)}` | {default} | {field.description} |")
    return "\n".join(rows) + "\n"


def errors_table() -> str:
    """Every error with its exit code."""
    rows = ["| exit code | error | retry helps | what to do |", "|---|---|---|---|"]
    for kind in sorted(_tree(ConfkeepError), key=lambda kind: (kind.exit_code, kind.__name__)):
        helps = "yes" if kind.retryable else "no"
        rows.append(f"| {kind.exit_code} | `{kind.__name__}` | {helps} | {kind.hint} |")
    return "\n".join(rows) + "\n"


def _tree(root: type[ConfkeepError]) -> list[type[ConfkeepError]]:
    found = [root, *(each for child in root.__subclasses__() for each in _tree(child))]
    return [kind for kind in found if kind.__module__ == errors.__name__]


_LEVELS = ("debug", "info", "warning", "error", "critical", "exception")


@dataclass(frozen=True, slots=True)
class LogCall:
    """A line of ours, as the sources write it."""

    where: str
    level: str
    #: What it says; empty when that is no constant.
    event: str
    action: str
    fields: list[str]


def log_calls() -> list[LogCall]:
    """Every call that writes a line by a module's `log`."""
    return [
        _log_call(str(path.relative_to(ROOT)), node.func.attr, node)
        for package in ("tasks", "worker")
        for path in sorted((ROOT / package).rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and isinstance(node.func.value, ast.Name)
        and node.func.value.id == "log"
        and node.func.attr in _LEVELS
    ]


def _log_call(where: str, level: str, node: ast.Call) -> LogCall:
    named = {keyword.arg: keyword.value for keyword in node.keywords if keyword.arg}
    event, action = (
        value.value if isinstance(value, ast.Constant) and isinstance(value.value, str) else ""
        for value in (node.args[0], named.pop("action", None))
    )
    return LogCall(where, level, event, action, list(named))


def actions_table() -> str:
    """Every `action`, with its level and fields."""
    rows = ["| action | level | says | fields |", "|---|---|---|---|"]
    for call in sorted(log_calls(), key=lambda call: call.action):
        fields = ", ".join(f"`{name}`" for name in call.fields)
        says = call.event or "what is wrong"
        rows.append(f"| `{call.action}` | {call.level} | {says} | {fields} |")
    return "\n".join(rows) + "\n"


def metrics_table(declared: Sequence[Metric]) -> str:
    """Metrics with their kinds, labels and meaning."""
    rows = ["| metric | kind | labels | meaning |", "|---|---|---|---|"]
    for metric in declared:
        labels = ", ".join(f"`{label}`" for label in metric.labels)
        rows.append(f"| `{metric.name}` | {metric.kind} | {labels} | {metric.help} |")
    return "\n".join(rows) + "\n"


def steps_table() -> str:
    """The steps of a batch, as `confkeep_worker_step_seconds` names them."""
    rows = ["| step | what it does |", "|---|---|"]
    rows += [f"| `{step}` | {what} |" for step, what in metrics.STEPS.items()]
    return "\n".join(rows) + "\n"


TABLES: dict[str, Callable[[], str]] = {
    "actions": actions_table,
    "settings": settings_table,
    "errors": errors_table,
    "worker_metrics": lambda: metrics_table(metrics.OF_WORKER),
    "worker_steps": steps_table,
    "redis_metrics": lambda: metrics_table(metrics.OF_REDIS),
    "store_metrics": lambda: metrics_table(metrics.OF_STORE),
}


def fresh(text: str) -> str:
    """The page with its tables made anew."""
    return _BLOCK.sub(lambda block: block[1] + TABLES[block[2]]() + block[3], text)


def main() -> int:
    """Rewrite the pages, or with `--check` tell which are stale."""
    stale = 0
    for page in PAGES:
        text = page.read_text("utf-8")
        if fresh(text) != text:
            stale += 1
            print(f"stale: {page.relative_to(ROOT)}")
            if "--check" not in sys.argv:
                page.write_text(fresh(text), "utf-8")
    return stale if "--check" in sys.argv else 0


if __name__ == "__main__":
    sys.exit(main())
