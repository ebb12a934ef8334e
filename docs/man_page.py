"""The command line's man page, made from click's own objects; it runs no command."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import click

from docs.cli_reference import commands, exit_codes, options_of, paragraphs, usage
from worker.cli import GROUPS, cli

#: The wheel of the workers installs it as share/man/man1/confkeep.1.
MAN_PAGE: Final = Path(__file__).parents[1] / "packaging" / "confkeep-worker" / "confkeep.1"

#: What roff would take for a mark of its own, or show as another character than a shell wants.
_ESCAPES: Final = str.maketrans(
    {"\\": r"\e", "-": r"\-", "'": r"\(aq", "`": r"\(ga", "^": r"\(ha", "~": r"\(ti"}
)

_ABOUT: Final = (
    "This page holds the help of every command. Settings are environment variables: the project's "
    "page docs/settings.md lists them."
)


def man_page() -> str:
    """All commands on one page, in the groups of `--help`."""
    project = tomllib.loads((MAN_PAGE.parent / "pyproject.toml").read_text("utf-8"))["project"]
    root = click.Context(cli, info_name="confkeep")
    said = (cli.help or "").removesuffix(".")
    lines = [
        f'.TH CONFKEEP 1 "" "confkeep {project["version"]}" "User Commands"',
        *(".SH NAME", _text(f"confkeep - {said[0].lower()}{said[1:]}")),
        *(".SH SYNOPSIS", _text(usage(root))),
        *(".SH DESCRIPTION", _text(_ABOUT), ".SH OPTIONS", *_options(root)),
    ]
    for title, names in GROUPS.items():
        lines.append(f'.SH "{title.upper()}"')
        for context in commands(root):
            if context.command_path.split()[1] in names:
                lines += _command(context)
    lines.append('.SH "EXIT STATUS"')
    for code, meanings in exit_codes().items():
        lines += [
            ".TP",
            f".B {code}",
            "\n.br\n".join(_text(each.replace("`", "")) for each in meanings),
        ]
    return "\n".join(lines) + "\n"


def _command(context: click.Context) -> Iterator[str]:
    yield f'.SS "{_text(usage(context))}"'
    for text, is_verbatim in paragraphs(context.command.help or ""):
        # Fewer columns to the left, so that lines of 78 fit.
        block = (".EX", ".in -5n", _text(text), ".in", ".EE")
        yield from (".PP", *block) if is_verbatim else (".PP", _text(text))
    yield from _options(context)


def _options(context: click.Context) -> Iterator[str]:
    for names, meaning in options_of(context):
        yield from (".TP", f".B {_text(names)}", _text(meaning))


def _text(text: str) -> str:
    """Text as roff shows it unchanged. A line that begins with a dot would be a command."""
    lines = text.translate(_ESCAPES).split("\n")
    return "\n".join(rf"\&{line}" if line.startswith(".") else line for line in lines)
