"""`confkeep exporter`."""

from __future__ import annotations

import threading
from typing import Any, Final

import click

from confkeep.broker.connections import open_client
from worker.cli import service
from worker.cli.params import Age
from worker.cli.terminal import Terminal, pass_terminal
from worker.figures.collector import Collector
from worker.figures.deployment_figures import DeploymentFigures
from worker.figures.store_figures import StoreFigures
from worker.http.listening import refused

#: The port if neither the option nor CONFKEEP_METRICS_PORT gives one.
DEFAULT_PORT: Final = 9108
#: Most seconds to wait for an answer of Redis, so that a scrape does not time out.
_REDIS_TIMEOUT_S: Final = 2.0


@click.command("exporter")
@click.option(
    "--port",
    type=click.IntRange(1, 65_535),
    help=f"Where to listen.  [default: CONFKEEP_METRICS_PORT, or {DEFAULT_PORT}]",
)
@click.option("--address", help="Address to listen on.  [default: CONFKEEP_METRICS_ADDRESS]")
@click.option(
    "--worst",
    type=click.IntRange(0, 1_000),
    default=10,
    show_default=True,
    help="How many tenants get figures of their own: those that wait longest, and those with the "
    "most packs and bytes.",
)
@click.option(
    "--stale-after",
    "stale_after_s",
    type=Age(),
    metavar="AGE",
    help="The age of its newest backup from which a device counts as stale.  [default: CONFKEEP_STALE_HOURS]",
)
@click.option(
    "--store-every",
    "store_every_s",
    type=Age(),
    default="5m",
    show_default=True,
    metavar="AGE",
    help="Time between two looks through the store.",
)
@click.option("--once", is_flag=True, help="Print the metrics and end: for cron and text files.")
@pass_terminal
def command(
    terminal: Terminal,
    port: int | None,
    address: str | None,
    worst: int,
    stale_after_s: float | None,
    store_every_s: float,
    once: bool,
) -> None:
    """Serve metrics of the whole deployment to Prometheus.

    One for a deployment is enough; several do no harm. It reads Redis at each scrape, and the store
    (if there is one at CONFKEEP_GIT_STORE_PATH) in the background. While Redis does not answer,
    `confkeep_up` is 0. docs/metrics.md lists all metrics.

    \b
    Ends with
      0   SIGTERM or Ctrl-C, or after --once
      2   it cannot listen on the port

    \b
    Examples:
      confkeep exporter
      confkeep exporter --port 9200 --stale-after 2d
      confkeep exporter --once > confkeep.prom
    """
    from prometheus_client import CollectorRegistry, generate_latest, start_http_server

    settings = service.begin(terminal)
    client = open_client(settings, timeout_s=min(_REDIS_TIMEOUT_S, settings.redis_timeout_s))
    if stale_after_s is None:
        stale_after_s = settings.stale_after_s
    store = StoreFigures(settings.git_store_path, stale_after_s=stale_after_s, worst=worst)
    registry: Any = CollectorRegistry()
    registry.register(Collector(DeploymentFigures(client, settings, worst=worst), store))
    if once:
        store.look()
        terminal.bytes(generate_latest(registry))
        return
    port = port or settings.metrics_port or DEFAULT_PORT
    address = address or settings.metrics_address
    stop = service.until_asked()
    try:
        server, _thread = start_http_server(port, address, registry=registry)
    except OSError as error:
        raise refused(address, port, error, "metrics_port", "metrics_address") from error
    terminal.note(f"metrics at http://{address}:{port}/metrics")
    looking = threading.Thread(
        target=store.run, args=(store_every_s, stop), name="store figures", daemon=True
    )
    looking.start()
    stop.wait()
    server.shutdown()
    server.server_close()
