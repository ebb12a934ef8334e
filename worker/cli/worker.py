"""`confkeep worker`."""

from __future__ import annotations

import os

import click

from worker import keys
from worker.app import app
from worker.cli import running
from worker.cli.terminal import Terminal, count_text, pass_terminal
from worker.settings import get_settings, variable_of


@click.command("worker")
@click.option(
    "-c",
    "--concurrency",
    type=click.IntRange(1, 256),
    help="Tenants that are committed at once.  [default: the number of processors]",
)
@click.option(
    "--pool",
    type=click.Choice(["prefork", "threads", "solo"]),
    default="prefork",
    show_default=True,
    help="Processes, threads, or neither.",
)
@click.option("--name", help="Unique on this machine.  [default: worker-INDEX]")
@click.option(
    "--loglevel",
    type=click.Choice(["debug", "info", "warning", "error"]),
    help="Least severe level to log.  [default: CONFKEEP_LOG_LEVEL]",
)
@pass_terminal
def command(
    terminal: Terminal,
    concurrency: int | None,
    pool: str,
    name: str | None,
    loglevel: str | None,
) -> None:
    """Run a worker that commits what is enqueued.

    It serves the shards that CONFKEEP_WORKER_INDEX and CONFKEEP_WORKER_COUNT give it, and ends in
    order on SIGTERM and Ctrl-C: the running commit is finished, the rest stays in the inboxes.
    The same as `celery -A worker.app worker --without-mingle --without-gossip -O fair`.
    """
    running.adopt(terminal)
    if loglevel is not None:
        os.environ[variable_of("log_level")] = loglevel
    settings = get_settings()
    name = name or f"worker-{settings.worker_index}"
    concurrency = concurrency or os.cpu_count() or 1
    shards = keys.shards_of_worker(settings.worker_index, settings.worker_count, settings.shards)
    terminal.note(
        f"worker {name}: {count_text(len(shards), 'shard')} of {settings.shards}, "
        f"{count_text(concurrency, 'tenant')} at once, store {settings.git_store_path}"
    )
    arguments = ["--quiet", "worker", "--without-mingle", "--without-gossip", "-O", "fair"]
    arguments += ["--concurrency", str(concurrency), "--pool", pool, "--hostname", f"{name}@%h"]
    app.worker_main([*arguments, "--loglevel", settings.log_level])
