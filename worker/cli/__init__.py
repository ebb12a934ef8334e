"""The command line: what people type; one command, one module.

One command is one module of this package with a click command named `command`, and one line in
`COMMANDS`. Modules are imported when their command runs, so that `confkeep --help` needs none of
Celery, pygit2 and pydantic.
"""

from __future__ import annotations

import errno
import gc
import importlib
import os
import sys
from difflib import get_close_matches
from typing import Any, Final

import click

from confkeep.errors import ConfkeepError, StoreUnavailable
from worker.cli.next_step import next_step
from worker.cli.terminal import Terminal
from worker.store.git import refusals

#: What commands are for -> a command's name -> the first line of its help, as `confkeep --help` lists
#: them.
GROUPS: Final = {
    "Try it": {
        "demo": "Show in seconds what confkeep does, with made-up routers.",
        "up": "Run a server and workers on this machine until Ctrl-C.",
    },
    "Bring in": {
        "enqueue": "Hand over one backup of one device.",
        "import": "Hand over a folder of exports, oldest first, or another tool's history.",
        "name": "Say what a device, or a tenant, is called.",
    },
    "Look": {
        "devices": "List a tenant's devices with what people call them.",
        "history": "List the versions of a device, or the devices of a tenant.",
        "show": "Print a device's export as it is or was.",
        "diff": "Show what changed between two versions of a device.",
        "search": "Search the newest exports for lines.",
        "restore": "Write a device's two files into a folder.",
        "receipt": "Tell what became of a backup.",
        "digest": "Tell what changed in a tenant's last hours, and what needs a look.",
    },
    "Operate": {
        "worker": "Run a worker that commits what is enqueued.",
        "status": "Show what waits, who works and what failed.",
        "health": "Say whether the worker here lives and is ready, for probes.",
        "http": "Serve HTTP: backups come in, and histories, files and events go out.",
        "exporter": "Serve metrics of the whole deployment to Prometheus.",
        "hooks": "Tell other programs what happens: webhooks, signed and in order.",
        "events": "Print what happened, or follow it as it happens.",
        "store": "Say which store the workers commit to, or make this one the right one.",
        "kick": "Try again at once for a tenant that waits after a fault.",
        "dead-letters": "List, show, retry and discard what cannot be committed.",
        "refused": "List, show and discard messages that no worker acts on.",
        "stale": "List the devices whose newest backup is too old.",
    },
    "Prove and repair": {
        "verify": "Read all that is kept and say whether it is sound.",
        "drill": "Restore a random sample from a fresh clone and prove that it is right.",
        "repair": "Rebuild damaged files that can be derived from git.",
        "repack": "Put packs and loose objects together, so that repositories stay small.",
        "reindex": "Build the history index anew from git.",
    },
    "Remove": {
        "retention": "Remove old versions by rules, or show what would go.",
        "forget-device": "Erase a device and all its backups for good.",
        "forget-tenant": "Erase a tenant and all its backups for good.",
    },
    "Set up": {
        "completion": "Print what a shell needs to complete commands, tenants and devices.",
        "token": "Make, list and revoke the tokens that callers of HTTP send.",
        "acl": "Print rules for the server's users, to be loaded as its `aclfile`.",
    },
}
COMMANDS: Final = {name: said for group in GROUPS.values() for name, said in group.items()}

#: The status of a process that Ctrl-C ended, as shells have it.
INTERRUPTED: Final = 130
#: What errors call it.
_OUTPUT: Final = "standard output"


def module_of(name: str) -> str:
    """The module of a command; a name that is a keyword of Python gets a `_` at its end."""
    stem = name.replace("-", "_")
    return f"worker.cli.{stem}_" if stem == "import" else f"worker.cli.{stem}"


class Commands(click.Group):
    """A group that imports a command when it is run and reports confkeep's errors."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in COMMANDS:
            return None
        # Imports make hundreds of thousands of objects and no garbage: looking for it takes an eighth.
        gc.disable()
        try:
            command = importlib.import_module(module_of(cmd_name)).command
        finally:
            gc.enable()
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """List the commands by what they are for, without importing them."""
        for title, commands in GROUPS.items():
            with formatter.section(title):
                formatter.write_dl(list(commands.items()))

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The command that was typed; the error about an unknown one names the nearest ones."""
        close = get_close_matches(args[0], COMMANDS, 2, 0.6)
        if args[0] not in COMMANDS and close:
            raise click.UsageError(
                f"No such command {args[0]!r}. Did you mean {' or '.join(close)}?", ctx
            )
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; an error of ours becomes two lines and its own exit status."""
        arguments = [*ctx.args]
        try:
            return super().invoke(ctx)
        except (KeyboardInterrupt, click.Abort):
            ctx.exit(INTERRUPTED)
        except BrokenPipeError:
            raise
        except (ConfkeepError, OSError) as error:
            terminal = Terminal.of(ctx)
            if terminal.debug:
                raise
            if isinstance(error, OSError):
                ctx.exit(_report(terminal, error))
            terminal.error(str(error), next_step(error, [ctx.invoked_subcommand or "", *arguments]))
            ctx.exit(error.exit_code)

    def make_context(self, *args: Any, **more: Any) -> click.Context:
        """Read what was typed; `--help` and `--version` print here."""
        try:
            return super().make_context(*args, **more)
        except BrokenPipeError:
            raise
        except OSError as error:
            sys.exit(_report(Terminal(), error, _OUTPUT))


@click.group(
    cls=Commands,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="`confkeep COMMAND --help` says more about each. Settings are environment variables; "
    "docs/settings.md lists them.",
)
@click.option("--debug", is_flag=True, help="Show where an error comes from.")
@click.option("--no-color", is_flag=True, help="Print no colours, as NO_COLOR=1 does.")
@click.version_option(package_name="confkeep", message="%(prog)s %(version)s")
@click.pass_context
def cli(ctx: click.Context, debug: bool, no_color: bool) -> None:
    """Keep every configuration backup of network devices in git."""
    ctx.obj = Terminal(no_color=no_color, debug=debug)
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())


def main() -> None:
    """Run the command line and end the process; the console script `confkeep` calls it."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        stream = getattr(sys, name)
        if stream is None:
            # Closed by who started us: a file that we open must not get its number.
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115
        elif mode == "w" and hasattr(stream, "reconfigure"):
            # A terminal that cannot show a character gets its escape, not a traceback.
            stream.reconfigure(errors="backslashreplace")
    try:
        cli.main(prog_name="confkeep", standalone_mode=True)
    except SystemExit as end:
        # At its end Python looks for garbage in all that was imported: a quarter of what a command costs.
        gc.freeze()
        fault = _fault_of_output()
        if fault is None:
            sys.exit(end.code)
        if fault.errno == errno.EPIPE:
            sys.exit(1)
        sys.exit(_report(Terminal(), fault, _OUTPUT))


def _report(terminal: Terminal, error: OSError, name: str | None = None) -> int:
    """Print what the file system refused; returns the exit status.

    Args:
        name: of what could not be written.
    """
    fault = _fault_of_output()
    if fault is not None and fault.errno == error.errno:
        name = _OUTPUT
    name = name or error.filename
    told = error.strerror or str(error)
    full = refusals.of_the_disk(told) is not None
    where = "what standard output goes to" if name == _OUTPUT else name or "what it writes to"
    step = refusals.next_step(told, where) if full else None
    terminal.error(f"{name}: {told}" if name else told, step)
    return StoreUnavailable.exit_code if full else 1


def _fault_of_output() -> OSError | None:
    """What standard output refuses to take of what was printed; None if it took all.

    At its end the interpreter would try again, and print a warning.
    """
    try:
        sys.stdout.flush()
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return error
    return None
