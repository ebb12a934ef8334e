"""A deployment of the test's own: embedded server, store, workers as real subprocesses."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from celery import Celery
from celery.app.base import PendingConfiguration
from celery.app.utils import Settings, _new_key_to_old, _old_key_to_new
from kombu import pools

from confkeep import app as producer
from confkeep.broker import connections
from confkeep.settings import get_settings
from tests.servers import Deployment, deployment
from worker import app as worker


def with_variables(*each: Mapping[str, str]) -> pytest.MarkDecorator:
    """Run a test with `deployed` once for each of these environments."""
    return pytest.mark.parametrize("deployed", each, indirect=True)


#: Where backups wait for their commit.
STAGINGS = tuple({"CONFKEEP_STAGING": where} for where in ("redis", "volume"))


@pytest.fixture
def deployed(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Deployment]:
    """A running server; this process is a producer of it. The test starts the workers."""
    with deployment(tmp_path, **getattr(request, "param", {})) as running:
        become_producer(running, monkeypatch)
        yield running
    forget_environment()


def become_producer(running: Deployment, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let this process produce for a deployment, as if it had just started."""
    for name, value in running.environment.items():
        monkeypatch.setenv(name, value)
    forget_environment()


def forget_environment() -> None:
    """Undo what a process reads and opens once in its life."""
    get_settings.cache_clear()
    for client in connections._clients.values():
        client.close()
    connections._clients.clear()
    for of in (producer, worker):
        if of.app.configured:
            _forget_configuration(of.app)
            of.app.add_defaults(of.configuration)
    # kombu keeps them by their address, and would hand out closed ones.
    pools.reset()  # type: ignore[no-untyped-call]


def _forget_configuration(app: Celery) -> None:
    if app._pool is not None:
        app._pool.force_close_all()
    if app._backend is not None:
        # A result that the garbage collector finds later would unsubscribe at a server that has ended by then.
        app._backend.result_consumer.subscribed_to.clear()
        # It would also find the sockets, and warn of them at the end of some other test.
        app._backend.result_consumer.stop()
        app._backend.client.connection_pool.disconnect()
    app._pool = app._backend_cache = None
    pending = PendingConfiguration(app._preconf, app._finalize_pending_conf)
    app._conf = Settings(pending, prefix=app.namespace, keys=(_old_key_to_new, _new_key_to_old))
    app._local = threading.local()
    app.__dict__.pop("amqp", None)
    app.configured = False
