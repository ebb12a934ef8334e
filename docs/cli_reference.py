"""The command line's reference as Markdown, made from click's own objects; it runs no command."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
from collections.abc import Iterator

import click

import worker.cli
from confkeep.errors import ConfkeepError
from worker.cli import INTERRUPTED, cli
from worker.cli.stale import STALE

#: Statuses that belong to no error of ours.
_OTHER_CODES = {
    0: "All went well.",
    1: "The operating system refused a file, or a reader of the output went away.",
    2: "Wrong usage: an unknown command or option, or an argument that is no id.",
    STALE: "`confkeep stale`: at least one device is stale.",
    INTERRUPTED: "Ctrl-C, or a question that was not answered.",
}


def cli_commands() -> str:
    """Every command with its usage, help and options."""
    root = click.Context(cli, info_name="confkeep")
    parts = [f"```text\n{_usage(cli, root)}\n```\n", _options(cli, root)]
    for context in commands(root):
        command = context.command
        parts += [
            f"#{'#' * context.command_path.count(' ')} {context.command_path}\n",
            _prose(command.help or ""),
            f"```text\n{_usage(command, context)}\n```\n",
            _options(command, context),
        ]
    return "\n".join(part for part in parts if part)


def commands(group: click.Context) -> Iterator[click.Context]:
    """A context for each command below a group, subcommands too, in the order of `--help`."""
    if isinstance(group.command, click.Group):
        for name in group.command.list_commands(group):
            command = group.command.get_command(group, name)
            assert command is not None
            context = click.Context(command, group, info_name=name)
            yield context
            yield from commands(context)


def cli_exit_codes() -> str:
    """Every status that a command may end with."""
    meanings: dict[int, list[str]] = {code: [text] for code, text in _OTHER_CODES.items()}
    for kind in sorted(_all_errors(), key=lambda kind: kind.__name__):
        says = (inspect.getdoc(kind) or "").split("\n\n")[0].replace("\n", " ")
        meanings.setdefault(kind.exit_code, []).append(f"`{kind.__name__}`: {says}")
    rows = ["| exit code | meaning |", "|---|---|"]
    rows += [f"| {code} | {'<br>'.join(meanings[code])} |" for code in sorted(meanings)]
    return "\n".join(rows) + "\n"


def _all_errors() -> set[type[ConfkeepError]]:
    """Those of the whole project, with the few that only the command line raises."""
    for module in pkgutil.walk_packages(worker.cli.__path__, "worker.cli."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    return {
        kind
        for kind in _below(ConfkeepError)
        if kind.__module__.startswith(("confkeep.", "worker."))
    }


def _below(kind: type[ConfkeepError]) -> Iterator[type[ConfkeepError]]:
    yield kind
    for child in kind.__subclasses__():
        yield from _below(child)


def _usage(command: click.Command, context: click.Context) -> str:
    return f"{context.command_path} {' '.join(command.collect_usage_pieces(context))}"


def _prose(text: str) -> str:
    """The help: paragraphs as Markdown, those that click must not wrap (`\\b`) as they stand."""
    parts = []
    for paragraph in inspect.cleandoc(text).split("\n\n"):
        if paragraph.startswith("\b"):
            parts.append(f"```text\n{paragraph[1:].strip(chr(10))}\n```\n")
        else:
            parts.append(f"{_escaped(paragraph)}\n")
    return "\n".join(parts)


def _escaped(text: str) -> str:
    """What Markdown would take for a mark of its own; code in backticks stays."""
    pieces = re.split(r"(`[^`]*`)", text)
    marked = [p if p.startswith("`") else re.sub(r"([*|]|<(?=\w))", r"\\\1", p) for p in pieces]
    return "".join(marked)


def _options(command: click.Command, context: click.Context) -> str:
    rows = []
    for parameter in command.get_params(context):
        record = parameter.get_help_record(context)
        if record is None or "--help" in parameter.opts:
            continue
        names, meaning = record
        if not meaning:  # an argument: the help above speaks of it
            continue
        rows.append(f"| `{names.replace('|', chr(92) + '|')}` | {_escaped(meaning)} |")
    if not rows:
        return ""
    return "\n".join(["| option | meaning |", "|---|---|", *rows]) + "\n"
