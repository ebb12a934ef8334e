"""`confkeep http`."""

from __future__ import annotations

import os

import click

from confkeep.observe import logs
from worker.cli import service
from worker.cli.terminal import Terminal, pass_terminal
from worker.http import listening, server


@click.command("http")
@click.option("--port", type=click.IntRange(1, 65_535),
              help="Where to listen.  [default: CONFKEEP_HTTP_PORT]")  # fmt: skip
@click.option("--address", help="Address to listen on.  [default: CONFKEEP_HTTP_ADDRESS]")
@pass_terminal
def command(terminal: Terminal, port: int | None, address: str | None) -> None:
    """Serve HTTP: backups come in, and histories, files and events go out.

    Callers send a token of `confkeep token create`. It keeps nothing itself: any number of these
    processes may run. It reads the store at CONFKEEP_GIT_STORE_PATH; with CONFKEEP_HTTP_STORE=0 it
    asks the workers instead. Put a proxy in front that speaks TLS. docs/http.md has the routes.

    \b
    Ends with
      0   SIGTERM or Ctrl-C, once the requests that ran have ended;
          at a second Ctrl-C at once
      2   it cannot listen on the port
      7   the extra `http` is not installed

    \b
    Examples:
      confkeep http
      confkeep http --port 9000 --address 0.0.0.0
    """
    listening.require_installed()
    settings = service.begin(terminal)
    logs.configure(settings)
    port, address = port or settings.http_port, address or settings.http_address
    # Before it listens: who connects waits for none of it.
    with service.loading():
        serving = server.server_of(
            settings, lambda: terminal.note(f"http at http://{address}:{port}/v1/health")
        )
    with listening.listen(address, port) as opened:
        server.run(serving, opened)
    # Threads that wait for a disk must not keep the process.
    terminal.note("ended")
    os._exit(0)
