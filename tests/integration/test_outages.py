"""A server that refuses: workers wait and go on, and what was accepted is committed once."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import redis
from click.testing import CliRunner

from confkeep.broker import keys
from confkeep.queue import wakeups
from confkeep.settings import get_settings
from tasks import BrokerUnavailable, enqueue_backup
from tests.integration.conftest import become_producer, forget_environment
from tests.judge import backup_ids
from tests.servers import Deployment, deployment, wait_for
from worker.app import app
from worker.cli import cli

#: Recoveries wait for these; in a test they are short.
QUICK = {
    "CONFKEEP_REDIS_TIMEOUT_S": "1",
    "CONFKEEP_LOCK_TTL_S": "2",
    "CONFKEEP_WAKE_TTL_S": "1",
    "CONFKEEP_SWEEP_INTERVAL_S": "0.3",
    "CONFKEEP_SHARDS": "2",
}
#: Seconds that a window stays open: several sweeps and reconnects of the worker.
WINDOW_S = 0.8
#: Seconds from a window's end until all is committed: the reconnect, and a lock that must expire.
RECOVERY_S = 12


@pytest.fixture
def quick(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Deployment]:
    with deployment(tmp_path, **QUICK) as running:
        become_producer(running, monkeypatch)
        yield running
    forget_environment()


Window = Callable[[Any, Deployment], Any]


@contextmanager
def configured(admin: Any, name: str, value: str) -> Iterator[None]:
    before = admin.config_get(name)[name]
    admin.config_set(name, value)
    try:
        yield
    finally:
        admin.config_set(name, before)


@contextmanager
def readonly(admin: Any, _: Deployment) -> Iterator[None]:
    admin.replicaof("127.0.0.1", 1)
    try:
        yield
    finally:
        admin.execute_command("REPLICAOF NO ONE")


@contextmanager
def masterdown(admin: Any, running: Deployment) -> Iterator[None]:
    with (
        configured(admin, "replica-serve-stale-data", "no"),
        readonly(admin, running),
    ):
        yield


@contextmanager
def misconf(admin: Any, running: Deployment) -> Iterator[None]:
    """A snapshot that cannot be put in its place."""
    (running.server.data / "dump.rdb" / "in the way").mkdir(parents=True, exist_ok=True)
    with configured(admin, "save", "3600 1"):
        admin.bgsave()
        wait_for(
            lambda: admin.info("persistence")["rdb_last_bgsave_status"] == "err", "the snapshot"
        )
        yield


def noreplicas(admin: Any, _: Deployment) -> Any:
    return configured(admin, "min-replicas-to-write", "1")


def oom(admin: Any, _: Deployment) -> Any:
    return configured(admin, "maxmemory", "1")


@contextmanager
def busy(admin: Any, running: Deployment) -> Iterator[None]:
    def loop() -> None:
        with running.client() as other, pytest.raises(redis.ResponseError):
            other.eval("while true do end", 0)

    with configured(admin, "busy-reply-threshold", "50"):
        thread = threading.Thread(target=loop)
        thread.start()
        try:
            yield
        finally:
            # Before the threshold it is not running yet, as the server sees it.
            wait_for(lambda: _killed(admin), "the script to end")
            thread.join()


def _killed(admin: Any) -> bool:
    try:
        return bool(admin.script_kill())
    except redis.ResponseError:
        return False


@contextmanager
def no_clients(admin: Any, _: Deployment) -> Iterator[None]:
    admin.ping()
    with configured(admin, "maxclients", "1"):
        admin.execute_command("CLIENT KILL TYPE normal SKIPME yes")
        admin.execute_command("CLIENT KILL TYPE pubsub")
        yield


@contextmanager
def no_rights(admin: Any, _: Deployment) -> Iterator[None]:
    admin.execute_command("ACL SETUSER default -@write -@pubsub")
    try:
        yield
    finally:
        admin.execute_command("ACL SETUSER default +@all")


@contextmanager
def password(admin: Any, _: Deployment) -> Iterator[None]:
    admin.ping()
    with configured(admin, "requirepass", "nobody knows"):
        admin.execute_command("CLIENT KILL TYPE normal SKIPME yes")
        yield


@contextmanager
def paused(admin: Any, _: Deployment) -> Iterator[None]:
    admin.execute_command("CLIENT PAUSE", int(WINDOW_S * 2000), "WRITE")
    yield
    admin.execute_command("CLIENT UNPAUSE")


@contextmanager
def stalled(admin: Any, _: Deployment) -> Iterator[None]:
    """No answer to anybody, for longer than clients wait."""
    admin.execute_command("CLIENT PAUSE", int(WINDOW_S * 1000), "ALL")
    yield


#: By pool: all kinds together, for the time that a test may take.
WINDOWS: dict[str, list[Window]] = {
    "prefork": [readonly, misconf, oom, busy, no_clients, no_rights, stalled],
    "threads": [noreplicas, stalled, password],
    "solo": [masterdown, paused, no_rights],
}
EVERY_WINDOW = [*dict.fromkeys(window for windows in WINDOWS.values() for window in windows)]


class Producer:
    """Sends to one tenant, and repeats with the same id what was not accepted."""

    def __init__(self) -> None:
        self.tenant, self.device = str(uuid.uuid4()), str(uuid.uuid4())
        self.ids: list[str] = []

    def try_once(self, backup_id: str) -> bool:
        try:
            enqueue_backup(
                self.tenant, self.device, f"/ip {backup_id}", None, "m", backup_id=backup_id
            )
        except BrokerUnavailable as error:
            assert error.hint
            return False
        return True

    def send(self) -> Any:
        """Whatever it takes."""
        backup_id = str(uuid.uuid4())
        self.ids.append(backup_id)
        wait_for(lambda: self.try_once(backup_id), "an enqueue to be accepted", 15)

    def assert_committed(self, running: Deployment, what: str) -> None:
        repository = running.store / f"{self.tenant}.git"
        with running.client() as client:
            wait_for(
                lambda: not client.xlen(keys.inbox(self.tenant)),
                f"all to be committed after {what}: {running.log.read_text()[-3000:]}",
                RECOVERY_S,
            )
        assert backup_ids(repository) == self.ids


def refuse(running: Deployment, admin: Any, producer: Producer, window: Window) -> None:
    """One window, with enqueues before it, in it and after it."""
    producer.send()
    with window(admin, running):
        end = time.monotonic() + WINDOW_S
        producer.ids.append(str(uuid.uuid4()))
        accepted = False
        while time.monotonic() < end:
            accepted = accepted or producer.try_once(producer.ids[-1])
            time.sleep(0.2)
    if not accepted:
        wait_for(lambda: producer.try_once(producer.ids[-1]), "the server to take it again", 15)
    producer.send()
    producer.assert_committed(running, window.__name__)


def outlive(running: Deployment, pool: str, windows: list[Window]) -> None:
    worker = running.start_worker(pool=pool)
    producer = Producer()
    with running.client() as admin:
        for window in windows:
            refuse(running, admin, producer, window)
            assert worker.running(), f"{window.__name__}: {running.log.read_text()[-3000:]}"
        assert not admin.exists(keys.DEAD)
        assert not admin.exists(keys.attempts(producer.tenant))
        records: Any = admin.mget([keys.result(backup_id) for backup_id in producer.ids])
        wait_for(lambda: BACK in running.log.read_text(), "the end to be told")
    assert all(record and b'"SUCCESS"' in record for record in records)
    log = running.log.read_text()
    assert 0 < log.count("action=broker.away") <= len(windows), log
    for noise in ("Traceback", "Connection to broker lost", "Trying again", "Couldn't ack"):
        assert noise not in log, log


BACK = "action=broker.back"


@pytest.mark.parametrize("pool", list(WINDOWS))
def test_a_worker_outlives_every_kind_of_refusal(quick: Deployment, pool: str) -> None:
    outlive(quick, pool, WINDOWS[pool])


@pytest.mark.chaos
@pytest.mark.parametrize("pool", list(WINDOWS))
def test_a_worker_of_each_pool_outlives_every_kind_of_refusal(quick: Deployment, pool: str) -> None:
    outlive(quick, pool, EVERY_WINDOW)


def test_an_acknowledgement_that_is_refused_costs_a_connection_and_no_worker(
    quick: Deployment,
) -> None:
    """With a pool of one, a message that is never acknowledged would be its last."""
    worker = quick.start_worker(pool="threads")
    producer = Producer()
    with quick.client() as client:
        admin: Any = client
        producer.send()
        producer.assert_committed(quick, "nothing")
        admin.execute_command("ACL SETUSER default -zrem (+zrem ~confkeep:*)")
        # Wake-ups are acknowledged without the server.
        wakeups.ask_for_stale(app, get_settings())
        wait_for(lambda: "(NOPERM)" in quick.log.read_text(), "the refusal")
        admin.execute_command("ACL SETUSER default clearselectors +@all")
        producer.send()
        producer.assert_committed(quick, "the refusal's end")
        wait_for(lambda: BACK in quick.log.read_text(), "the end to be told")
    assert worker.running()


def test_a_worker_that_starts_in_an_outage_waits_and_goes_on(quick: Deployment) -> None:
    producer = Producer()
    producer.send()
    with quick.client() as client:
        admin: Any = client
        admin.replicaof("127.0.0.1", 1)

        def end() -> None:
            wait_for(lambda: "(READONLY)" in quick.log.read_text(), "the outage to be told")
            admin.execute_command("REPLICAOF NO ONE")

        ending = threading.Thread(target=end)
        quick.log.touch()
        ending.start()
        quick.start_worker(pool="solo", PYTHONPROFILEIMPORTTIME="1")
        ending.join()
    producer.assert_committed(quick, "a start in an outage")
    # Celery's command line, with its plugins and its shell, is a quarter of what a start costs.
    lines = quick.log.read_text().splitlines()
    loaded = {line.split("|")[-1].strip() for line in lines if line.startswith("import time:")}
    assert "celery.worker" in loaded
    unwanted = ("celery.bin", "click_plugins", "click_repl")
    assert not [name for name in loaded if name.startswith(unwanted)]


def test_a_running_worker_tells_that_the_server_keeps_nothing_any_more(quick: Deployment) -> None:
    worker = quick.start_worker(pool="threads")
    producer = Producer()
    run_path = str(quick.path / "run")

    def health() -> Any:
        return CliRunner().invoke(cli, ["health"], env={"CONFKEEP_RUN_PATH": run_path})

    wait_for(lambda: health().exit_code == 0, "the worker to be ready")
    assert "warning" not in health().output
    with quick.client() as client:
        admin: Any = client
        with (
            configured(admin, "appendonly", "no"),
            configured(admin, "maxmemory-policy", "allkeys-lru"),
        ):
            wait_for(lambda: "action=broker.volatile" in quick.log.read_text(), "the warning")
            told = quick.log.read_text()
            wait_for(lambda: "warning: " in health().output, "health to tell")
            assert health().exit_code == 0, "a restart would not help, and would be refused"
            producer.send()
            producer.assert_committed(quick, "the server was changed")
            said = CliRunner().invoke(cli, ["status"]).output
            scraped = CliRunner().invoke(cli, ["exporter", "--once"]).output
        wait_for(lambda: "action=broker.durable" in quick.log.read_text(), "the end")
        wait_for(lambda: "warning: " not in health().output, "health to be well")
    for text in (told, said):
        assert "appendonly is no" in text
        assert "maxmemory-policy is allkeys-lru" in text
    assert "confkeep_broker_volatile 1.0" in scraped
    assert quick.log.read_text().count("action=broker.volatile") == 2, "once for each"
    assert worker.running()
