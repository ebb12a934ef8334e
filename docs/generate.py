"""Writes the generated tables into the Markdown pages; `--check` only says whether they are fresh.

A table stands between `<!-- generated: NAME -->` and `<!-- end -->`.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Sequence
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
