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
from docs.markdown import table
from worker.cli import INTERRUPTED, cli
from worker.cli.stale import STALE

#: Statuses that belong to no error of ours.
_OTHER_CODES = {
    0: "All went well.",
    1: "The operating system refused a file, or a reader of the output went away.",
    2: "Wrong usage: an unknown command or option, or an argument that is no id.",
    STALE: "`confkeep stale`: at least one device is stale.",
    INTERRUPTED: "Ctrl-C, or a question of `confkeep import` that was not answered.",
}


def cli_commands() -> str:
    """Every command with its usage, help and options."""
    root = click.Context(cli, info_name="confkeep")
    parts = [f"```text\n{usage(root)}\n```\n", _options(root)]
    for context in commands(root):
        parts += [
            f"#{'#' * context.command_path.count(' ')} {context.command_path}\n",
            _prose(context.command.help or ""),
            f"```text\n{usage(context)}\n```\n",
            _options(context),
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


def exit_codes() -> dict[int, list[str]]:
    """Every status that a command may end with, in order -> what it means."""
    meanings: dict[int, list[str]] = {code: [text] for code, text in _OTHER_CODES.items()}
    for kind in sorted(_all_errors(), key=lambda kind: kind.__name__):
        says = (inspect.getdoc(kind) or "").split("\n\n")[0].replace("\n", " ")
        meanings.setdefault(kind.exit_code, []).append(f"`{kind.__name__}`: {says}")
    return dict(sorted(meanings.items()))


def cli_exit_codes() -> str:
    """The statuses as a table."""
    rows = [(str(code), "<br>".join(texts)) for code, texts in exit_codes().items()]
    return table(("exit code", "meaning"), rows)


def _all_errors() -> set[type[ConfkeepError]]:
    """Those of the whole project, with the few that only the command line raises."""
    for module in pkgutil.walk_packages(worker.cli.__path__, "worker.cli."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    return {
        kind
        for kind in below(ConfkeepError)
        if kind.__module__.startswith(("confkeep.", "worker."))
    }


def below(kind: type[ConfkeepError]) -> Iterator[type[ConfkeepError]]:
    """An error's class and all those below it."""
    yield kind
    for child in kind.__subclasses__():
        yield from below(child)


def usage(context: click.Context) -> str:
    """How a command is called."""
    return f"{context.command_path} {' '.join(context.command.collect_usage_pieces(context))}"


def paragraphs(text: str) -> Iterator[tuple[str, bool]]:
    """The paragraphs of a help, each with whether it must not be wrapped (click's `\\b`)."""
    for paragraph in inspect.cleandoc(text).split("\n\n"):
        is_verbatim = paragraph.startswith("\b")
        yield paragraph.removeprefix("\b").strip("\n"), is_verbatim


def options_of(context: click.Context) -> Iterator[tuple[str, str]]:
    """The options of a command with what they mean. The help speaks of the arguments."""
    for parameter in context.command.get_params(context):
        names, meaning = parameter.get_help_record(context) or ("", "")
        if meaning and "--help" not in parameter.opts:
            yield names, meaning


def _prose(text: str) -> str:
    """The help as Markdown."""
    return "\n".join(
        f"```text\n{paragraph}\n```\n" if is_verbatim else f"{_escaped(paragraph)}\n"
        for paragraph, is_verbatim in paragraphs(text)
    )


def _escaped(text: str) -> str:
    """What Markdown would take for a mark of its own; code in backticks stays."""
    pieces = re.split(r"(`[^`]*`)", text)
    marked = [p if p.startswith("`") else re.sub(r"([*|]|<(?=\w))", r"\\\1", p) for p in pieces]
    return "".join(marked)


def _options(context: click.Context) -> str:
    rows = [
        (f"`{names.replace('|', chr(92) + '|')}`", _escaped(meaning))
        for names, meaning in options_of(context)
    ]
    return table(("option", "meaning"), rows) if rows else ""
