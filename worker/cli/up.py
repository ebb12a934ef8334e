"""`confkeep up`."""

from __future__ import annotations

import os
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Final

import click

from worker.cli import interrupts, one_machine, running
from worker.cli.terminal import Terminal, count_text, pass_terminal
from worker.http.listening import require_installed

_POLL_S: Final = 0.2


@click.command("up")
@click.option(
    "--data",
    type=click.Path(file_okay=False, path_type=Path),
    default=running.DEFAULT_DATA,
    show_default=True,
    help="Folder of the store and of the server's file; created if missing.",
)
@click.option(
    "--workers",
    type=click.IntRange(1, 64),
    default=1,
    show_default=True,
    help="Workers; each serves all tenants.",
)
@click.option(
    "-c",
    "--concurrency",
    type=click.IntRange(1, 256),
    help="Tenants that each worker commits at once.  [default: the number of processors]",
)
@click.option(
    "--http",
    "http_port",
    type=click.IntRange(1, 65_535),
    metavar="PORT",
    help="Serve HTTP too, on this port of 127.0.0.1.",
)
@pass_terminal
def command(
    terminal: Terminal,
    data: Path,
    workers: int,
    concurrency: int | None,
    http_port: int | None,
) -> None:
    """Run a server and workers on this machine until Ctrl-C.

    Where the extra `http` is installed, webhooks are sent too. Prints the variables that clients
    need, then what the workers log. Other commands find it by themselves when they run in the
    same folder. Backups that are accepted but not committed when
    it ends are committed when it runs again.

    \b
    Examples:
      confkeep up
      confkeep up --data /srv/confkeep --workers 2
      confkeep up --http 8080
    """
    if http_port is not None:
        require_installed()
    try:
        with (
            interrupts.noted() as asked,
            one_machine.run(
                data,
                workers=workers,
                concurrency=concurrency or os.cpu_count() or 1,
                interrupts=asked,
                http_port=http_port,
            ) as machine,
        ):
            one_machine.keep_for_good(machine.data)
            machine.start_hooks()
            for name, value in machine.environment.items():
                terminal.line(f"export {name}='{value}'")
            if http_port is not None:
                terminal.line(f"pages: {machine.page}")
                terminal.note(
                    f"programs: http://127.0.0.1:{http_port}/v1/; `confkeep token create` makes a token"
                )
            terminal.note(
                f"{count_text(workers, 'worker')} and a server run on {data}; Ctrl-C ends them"
            )
            _follow(terminal, machine)
    except KeyboardInterrupt:
        terminal.note("ended; what is not committed yet waits for the next `confkeep up`")


def _follow(terminal: Terminal, machine: one_machine.OneMachine) -> None:
    """Print what all parts log from now on, until a part ends or a signal comes."""
    # A worker alone needs no name.
    named = len(machine.parts.keys() - {"hooks"}) > 1
    logs = {}
    with ExitStack() as stack:
        for name in machine.parts:
            log = stack.enter_context(machine.log_of(name).open(errors="replace", encoding="utf-8"))
            log.seek(0, os.SEEK_END)
            logs[f"{name} " if named or name == "hooks" else ""] = log
        try:
            while True:
                for prefix, log in logs.items():
                    for line in log:
                        terminal.line(prefix + line.rstrip("\n"))
                machine.check()
                time.sleep(_POLL_S)
        except KeyboardInterrupt:
            terminal.note("ending the workers, then the server ...")
            raise
