"""`confkeep worker`."""

from __future__ import annotations

import os
import socket

import click

from confkeep.broker import keys
from confkeep.broker.connections import open_client
from confkeep.errors import BrokerUnavailable, StoreUnavailable
from confkeep.settings import Settings, variable_of
from worker.app import app
from worker.cli import service
from worker.cli.terminal import Terminal, count_text, pass_terminal
from worker.observe import telemetry
from worker.process import broker_check, own_store


@click.command("worker")
@click.option(
    "-c",
    "--concurrency",
    type=click.IntRange(1, 256),
    help="Tenants to commit at once.  [default: the number of processors]",
)
@click.option(
    "--pool",
    type=click.Choice(["prefork", "threads", "solo"]),
    default="prefork",
    show_default=True,
    help="How it runs tasks: in processes, in threads, or one at a time in itself.",
)
@click.option(
    "--name",
    help="Its name, unique on this machine.  [default: worker-PID, with a count worker-INDEX]",
)
@click.option(
    "--loglevel",
    type=click.Choice(["debug", "info", "warning", "error"]),
    help="The least severe level to log.  [default: CONFKEEP_LOG_LEVEL]",
)
@pass_terminal
@click.pass_context
def command(
    ctx: click.Context,
    terminal: Terminal,
    concurrency: int | None,
    pool: str,
    name: str | None,
    loglevel: str | None,
) -> None:
    """Run a worker that commits what is enqueued.

    Start as many as you like, on one store: each serves all shards, and one at a time commits for a
    tenant. Workers with disks of their own divide the shards by CONFKEEP_WORKER_INDEX and
    CONFKEEP_WORKER_COUNT. On SIGTERM and Ctrl-C a worker finishes the running commit, leaves the
    rest in the inboxes and ends with 0.

    The same as `celery -A worker.app worker --without-mingle --without-gossip -O fair`. It ends
    with 14 when the server may lose what it acknowledged, because it evicts keys or keeps no
    append-only file, and with 44 when its store is not the one that other workers of its shards
    commit to.

    \b
    Examples:
      confkeep worker
      confkeep worker --concurrency 8 --loglevel warning
      confkeep worker --pool threads --name night
    """
    if loglevel is not None:
        os.environ[variable_of("log_level")] = loglevel
    settings = service.begin(terminal)
    telemetry.start(settings)
    # Containers differ by their host names, processes of one machine by their numbers.
    number = settings.worker_index if settings.worker_count > 1 else os.getpid()
    name = name or f"worker-{number}"
    hostname = f"{name}@{socket.gethostname()}"
    _refuse(settings, hostname)
    concurrency = concurrency or os.cpu_count() or 1
    shards = keys.shards_of_worker(settings.worker_index, settings.worker_count, settings.shards)
    terminal.note(
        f"worker {name}: {count_text(len(shards), 'shard')} of {settings.shards}, "
        f"{count_text(concurrency, 'tenant')} at once, store {settings.git_store_path}"
    )
    # Celery's command line loads its plugins and a shell: a quarter of what a start costs.
    with service.loading():
        worker = app.Worker(
            hostname=hostname,
            pool_cls=pool,
            concurrency=concurrency,
            loglevel=settings.log_level,
            optimization="fair",
            without_mingle=True,
            without_gossip=True,
            quiet=True,
        )
    worker.start()
    ctx.exit(worker.exitcode or 0)


def _refuse(settings: Settings, name: str) -> None:
    """End at once, in two lines, when the server may lose data, or the store is not that of its shards; the
    worker itself checks only later."""
    client = open_client(settings)
    try:
        broker_check.check(client, settings)
        own_store.settle(client, settings, name)
    except (BrokerUnavailable, StoreUnavailable):
        # The worker waits for it.
        return
    finally:
        client.close()
