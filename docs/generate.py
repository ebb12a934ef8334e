"""Writes the generated parts of the pages, and the man page; `--check` only says which are stale.

A generated part stands between `<!-- generated: NAME -->` and `<!-- end -->`. `NAME` is one of
`TABLES`, or `file PATH` for a file of the project as a block of code.
"""

from __future__ import annotations

import ast
import itertools
import json
import re
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import yaml
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from confkeep import errors
from confkeep.errors import ConfkeepError
from confkeep.settings import Settings, variable_of
from docs import masking_tables
from docs.cli_reference import below, cli_commands, cli_exit_codes
from docs.man_page import MAN_PAGE, man_page
from docs.markdown import table
from worker.observe import metrics, states
from worker.observe.metrics import Metric

ROOT = Path(__file__).parents[1]
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")))
OPENAPI = ROOT / "docs" / "openapi.json"
_BLOCK = re.compile(
    r"(<!-- generated: (?P<name>[\w ./-]+) -->\n).*?(?P<end><!-- end -->)", re.DOTALL
)
#: What Prometheus puts into an alert's texts.
_PLACEHOLDER = re.compile(r"\{\{.*?\}\}")
_LANGUAGES = {".py": "python", ".sh": "sh", ".yml": "yaml", ".yaml": "yaml"}


#: What a deployment sets, or a reader looks for first.
_SETTINGS_THAT_MATTER = (
    *("redis_url", "git_store_path", "staging", "staging_path", "shards", "events_days"),
    *("stale_hours", "replicas", "http_port", "log_format"),
)


def settings_table() -> str:
    """The variables that matter most, each with its default and meaning."""
    rows = []
    for name in _SETTINGS_THAT_MATTER:
        field = Settings.model_fields[name]
        default = "" if field.default is PydanticUndefined else f"`{field.default}`"
        rows.append((f"`{variable_of(name)}`", default, str(field.description)))
    return table(("variable", "default", "meaning"), rows)


def settings_limits() -> str:
    """Every variable with what it may be set to."""
    rows = []
    for name, field in Settings.model_fields.items():
        default = "not set" if field.default is None else f"`{field.default}`"
        rows.append((f"`{variable_of(name)}`", default, _allowed(field), str(field.description)))
    return table(("variable", "default", "allowed", "meaning"), rows)


def _allowed(field: FieldInfo) -> str:
    kind: Any = field.annotation
    choices = [each for each in get_args(kind) if each is not type(None)]
    if get_origin(kind) is Literal:
        return ", ".join(f"`{choice}`" for choice in choices)
    if len(choices) == 1:
        [kind] = choices
    if kind is bool:
        return "`0` or `1`"
    limits: dict[str, Any] = {
        limit: getattr(each, limit)
        for each in field.metadata
        for limit in ("gt", "ge", "le")
        if getattr(each, limit, None) is not None
    }
    if not limits:
        return "a path" if getattr(kind, "__name__", "") == "Path" else "a text"
    low = f"above {limits['gt']}" if "gt" in limits else f"from {limits.get('ge')}"
    return f"{low} to {limits['le']}" if "le" in limits else low


def errors_table() -> str:
    """Every error with its exit code."""
    kinds = [kind for kind in below(ConfkeepError) if kind.__module__ == errors.__name__]
    rows = [
        (str(kind.exit_code), f"`{kind.__name__}`", "yes" if kind.retryable else "no", kind.hint)
        for kind in sorted(kinds, key=lambda kind: (kind.exit_code, kind.__name__))
    ]
    return table(("exit code", "error", "retry helps", "what to do"), rows)


#: The rooms, in the order in which imports run.
_ROOMS = (
    *("worker/cli", "worker/cli/sources", "worker/http", "worker/http/routes"),
    *("worker/http/oxidized", "worker/http/pages", "tasks", "worker"),
    *("worker/reading", "worker/figures", "worker/hooks", "worker/engine"),
    *("worker/process", "worker/queue", "worker/broker", "worker/observe"),
    *("worker/store/upkeep", "worker/store/rewriting", "worker/store/writing"),
    *("worker/store/history", "worker/store/repository", "worker/store/git"),
    *("confkeep", "confkeep/queue", "confkeep/broker", "confkeep/broker/lua"),
    *("worker/masking", "confkeep/observe", "confkeep/routeros", "confkeep/vendors"),
)
_LUA = "The atomic steps in the server."
#: Who imports whom, as far as it helps to see it: from a room to the next one below.
_CHAINS = (
    "worker/cli > worker/http > worker/reading",
    "tasks > worker/reading",
    "worker/http > worker/figures",
    "worker/cli > worker/figures",
    "worker/reading > worker/engine",
    "worker/figures > worker/hooks",
    "worker/cli > worker/hooks > worker/engine > worker/process > worker/queue > worker/broker",
    "worker/broker > worker/observe > confkeep",
    "worker/engine > worker/store/upkeep > worker/store/rewriting > worker/store/writing",
    "worker/store/writing > worker/store/history > worker/store/repository > worker/store/git",
    "worker/store/git > confkeep > confkeep/queue > confkeep/broker > confkeep/routeros",
    "worker/engine > worker/masking > confkeep/routeros > confkeep/vendors",
)


def rooms_picture() -> str:
    """The rooms, each with its first line, above those that it imports from."""
    lines = ["```mermaid", "flowchart TD", "    accTitle: The rooms of the code"]
    pairs = [pair for chain in _CHAINS for pair in itertools.pairwise(chain.split(" > "))]
    for room in dict.fromkeys(room for pair in pairs for room in pair):
        what = _first_line(ROOT / room / "__init__.py").removesuffix(".").replace('"', "'")
        lines.append(f'    {room.replace("/", "_")}["{room}: {what.replace("`", "")}"]')
    lines += [f"    {a} --> {b}".replace("/", "_") for a, b in pairs]
    return "\n".join([*lines, "```"]) + "\n"


def modules_table() -> str:
    """Every module with its first line."""
    parts = []
    for room in _ROOMS:
        door = ROOT / room / "__init__.py"
        what = _first_line(door) if door.exists() else _LUA
        modules = [
            (f"`{path.name}`", _first_line(path))
            for path in sorted((ROOT / room).iterdir())
            if path.suffix in (".py", ".lua") and not path.name.startswith("__")
        ]
        parts.append(f"## {room}\n\n{what}\n\n{table(('module', 'is'), modules)}")
    return "\n".join(parts)


def _first_line(path: Path) -> str:
    text = path.read_text("utf-8")
    if path.suffix == ".py":
        text = ast.get_docstring(ast.parse(text)) or ""
    return text.split("\n", 1)[0].removeprefix("--").strip().replace("|", "\\|")


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
        for package in ("confkeep", "tasks", "worker")
        for path in sorted((ROOT / package).rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and isinstance(node.func.value, ast.Name)
        and node.func.value.id == "log"
        and node.func.attr in _LEVELS
    ]


def _log_call(where: str, level: str, node: ast.Call) -> LogCall:
    # `exc_info` is logging's own: the line gets the traceback.
    keywords = [one for one in node.keywords if one.arg not in (None, "exc_info")]
    named = {str(keyword.arg): keyword.value for keyword in keywords}
    event, action = (
        value.value if isinstance(value, ast.Constant) and isinstance(value.value, str) else ""
        for value in (node.args[0], named.pop("action", None))
    )
    return LogCall(where, level, event, action, list(named))


def actions_table() -> str:
    """Every `action`, with its level and fields."""
    rows = []
    for call in sorted(log_calls(), key=lambda call: call.action):
        says = call.event or ("what it does" if call.level == "info" else "what is wrong")
        rows.append((f"`{call.action}`", call.level, says, _as_code(call.fields)))
    return table(("action", "level", "says", "fields"), rows)


def _as_code(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def metrics_table(declared: Iterable[Metric]) -> str:
    """Metrics with their kinds, labels and meaning."""
    rows = [(f"`{one.name}`", one.kind, _as_code(one.labels), one.help) for one in declared]
    return table(("metric", "kind", "labels", "meaning"), rows)


def states_table() -> str:
    """The words of states, with what they say of what."""
    rows = []
    for one in states.ALL:
        colour = states.COLOURS[one.role].terminal.replace("dim", "grey")
        rows.append((one.thing, f"*{one.word}*", one.meaning, colour))
    return table(("of a", "word", "it", "colour"), rows)


def steps_table() -> str:
    """The steps of a batch, as `confkeep_worker_step_seconds` names them."""
    rows = [(f"`{step}`", what) for step, what in metrics.STEPS.items()]
    return table(("step", "what it does"), rows)


def alerts_table() -> str:
    """Every alert with what it means and what to do, from the rules themselves."""
    rules = yaml.safe_load((ROOT / "docs" / "alerts" / "confkeep.rules.yml").read_text("utf-8"))
    rows = []
    for rule in (rule for group in rules["groups"] for rule in group["rules"]):
        says = rule["annotations"]
        texts = (says["description"], says["runbook"])
        means, do = (_PLACEHOLDER.sub("…", text).replace("|", "\\|") for text in texts)
        rows.append((f"`{rule['alert']}`", rule["labels"]["severity"], means, do))
    return table(("alert", "severity", "means", "do"), rows)


TABLES: dict[str, Callable[[], str]] = {
    "actions": actions_table,
    "settings": settings_table,
    "settings_limits": settings_limits,
    "errors": errors_table,
    "modules": modules_table,
    "rooms": rooms_picture,
    "cli_commands": cli_commands,
    "cli_exit_codes": cli_exit_codes,
    "alerts": alerts_table,
    "worker_metrics": lambda: metrics_table(metrics.OF_WORKER),
    "worker_steps": steps_table,
    "states": states_table,
    "redis_metrics": lambda: metrics_table(metrics.OF_REDIS),
    "routeros_secrets": masking_tables.routeros_secrets,
    "shaped_secrets": masking_tables.shaped_secrets,
    "vendor_secrets": masking_tables.vendor_secrets,
    "vendor_volatile": masking_tables.vendor_volatile,
    "store_metrics": lambda: metrics_table(metrics.OF_STORE),
    "http_metrics": lambda: metrics_table(metrics.OF_HTTP),
}


def _part(name: str) -> str:
    kind, _, path = name.partition(" ")
    if kind != "file":
        return TABLES[name]()
    text = (ROOT / path).read_text("utf-8")
    return f"```{_LANGUAGES[Path(path).suffix]}\n{text.rstrip(chr(10))}\n```\n"


def fresh(text: str) -> str:
    """The page with its generated parts made anew."""
    return _BLOCK.sub(lambda block: block[1] + _part(block["name"]) + block["end"], text)


def openapi() -> str:
    """The OpenAPI document of `confkeep http`."""
    from worker.http.app import create_app

    return json.dumps(create_app(Settings.model_construct()).openapi(), indent=1) + "\n"


def main() -> int:
    """Rewrite the pages, or with `--check` tell which are stale."""
    stale = 0
    made = {page: fresh(page.read_text("utf-8")) for page in PAGES}
    made |= {MAN_PAGE: man_page(), OPENAPI: openapi()}
    for page, text in made.items():
        if not page.exists() or page.read_text("utf-8") != text:
            stale += 1
            print(f"stale: {page.relative_to(ROOT)}")
            if "--check" not in sys.argv:
                page.write_text(text, "utf-8")
    return stale if "--check" in sys.argv else 0


if __name__ == "__main__":
    sys.exit(main())
