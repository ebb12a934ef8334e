"""What others wrote under confkeep's keys ends no thread and no command, and costs no other tenant a wait."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
import redis
from click.testing import CliRunner, Result

from confkeep.broker import keys
from confkeep.errors import ConfkeepError, OddValue
from tasks import enqueue_backup
from tests.garbage import KINDS, TEXTS, all_keys
from tests.integration.conftest import become_producer, forget_environment
from tests.servers import Deployment, deployment, node, wait_for
from worker.cli import cli
from worker.queue import tidy

#: Seconds within which another tenant's receipt must come; the sweep and a lock's life are shorter.
_BOUND_S = 30
_QUICK = {
    "CONFKEEP_SWEEP_INTERVAL_S": "0.2",
    "CONFKEEP_WAKE_TTL_S": "1",
    "CONFKEEP_SHARDS": "2",
}
#: Where garbage is made before it is put in its place.
_BESIDE = b"made-beside"
#: What reads Redis and changes nothing; {tenant} and {backup} are those of the garbage.
_COMMANDS = (
    "status",
    "status --watch --count 1",
    "dead-letters list",
    "dead-letters show {backup}",
    "exporter --once",
    "receipt {backup}",
    "kick {tenant}",
)
_MORE_COMMANDS = (
    "status --json",
    "status --watch --count 1 --json",
    "dead-letters list --json",
    "receipt {backup} --json",
    "dead-letters show unsigned-{tenant}",
    "dead-letters show {backup} --export",
    "dead-letters retry {backup}",
    "dead-letters retry --all --yes",
    "dead-letters discard --all --yes",
    "receipt {other}",
    "forget-tenant {tenant} --yes --wait 0",
    "forget-device {tenant} {backup} --yes --wait 0",
)


class Fixed:
    """A deployment with one worker, and garbage in it again and again."""

    def __init__(self, running: Deployment) -> None:
        self.running = running
        self.client = running.client()
        self.tenant, self.other = str(uuid.uuid4()), str(uuid.uuid4())
        self.backup = str(uuid.uuid4())
        self.number = 0

    def run(self, command: str) -> Result:
        """Run a command here; it ends in order, whatever it says."""
        values = {"tenant": self.tenant, "backup": self.backup, "other": self.other}
        done = CliRunner().invoke(cli, command.format(**values).split())
        assert done.exception is None or isinstance(done.exception, SystemExit), (
            command,
            done.exc_info,
        )
        assert "Traceback" not in done.output, (command, done.output)
        if done.exit_code:
            assert "error: " in done.stderr, (command, done.output)
        return done

    def commit(self, tenant: str) -> None:
        """Enqueue one backup, and see its receipt in time."""
        self.number += 1
        result = enqueue_backup(tenant, str(uuid.uuid4()), f"/export {self.number}\n", None, "m")
        receipt = result.get(timeout=_BOUND_S)
        assert receipt["backup_id"] == result.id

    def commit_own(self) -> None:
        """The same for the tenant of the garbage: it may be told what stands in its way, and goes on."""
        deadline = time.monotonic() + _BOUND_S
        while True:
            try:
                self.commit(self.tenant)
            except OddValue as error:
                assert self.tenant in str(error)
                assert time.monotonic() < deadline, error
                time.sleep(0.05)
            else:
                return

    def plant(self, kind: str, key: bytes) -> None:
        """Put garbage in the place of what is there."""
        self.client.delete(_BESIDE)
        KINDS[kind](self.client, _BESIDE, self.tenant, self.backup)
        # In one step: the worker writes there too.
        self.client.rename(_BESIDE, key)

    def wait_for_sweep(self) -> None:
        """Until a sweep that began later has ended."""
        for _ in range(2):
            before = self.report()
            wait_for(partial(self.has_swept, before), "a sweep", _BOUND_S)

    def has_swept(self, before: object) -> bool:
        return self.report() not in (None, before)

    def has_logged(self, text: str) -> bool:
        return text in self.running.log.read_text().replace('"', "")

    def report(self) -> object:
        try:
            return self.client.hget(keys.WORKERS, node())
        except redis.ResponseError:
            return None

    def tidy(self) -> None:
        """Let the worker tidy, and wait until it did."""
        self.client.delete(keys.TIDY)
        wait_for(lambda: self.client.ttl(keys.TIDY) > 0, "the tidying to begin", _BOUND_S)
        self.wait_for_sweep()

    def clean(self) -> None:
        """Forget all garbage, but no report of the worker and no receipt of the other tenant."""
        for key in self.client.scan_iter(match="confkeep:*", count=1000):
            self.client.delete(key)
        self.client.delete(keys.result(self.backup))
        self.tenant, self.backup = str(uuid.uuid4()), str(uuid.uuid4())

    def assert_well(self) -> None:
        """No thread met what nobody foresaw, and the worker lives."""
        log = self.running.log.read_text()
        assert "Exception in thread" not in log
        assert "Traceback" not in log, log[log.index("Traceback") - 500 :][:5_000]
        assert self.running.workers[0].running()
        assert self.run("health").exit_code == 0


@pytest.fixture
def fixed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Fixed]:
    with deployment(tmp_path, **_QUICK) as running:
        become_producer(running, monkeypatch)
        running.start_worker(pool="threads", concurrency=4)
        yield Fixed(running)
    forget_environment()


#: Kinds of garbage of the short form, which plants each under all keys at once.
_SHORT = (
    "string, deep",
    "string, not UTF-8",
    "hash, deep object",
    "hash, most",
    "hash, letters",
    "list",
    "zset",
    "stream, last id",
)


def test_no_garbage_under_any_key_ends_a_thread_or_a_command(fixed: Fixed) -> None:
    for kind in _SHORT:
        for names in all_keys(fixed.tenant, fixed.backup).values():
            for key in names:
                fixed.plant(kind, key)
        try:
            fixed.commit(fixed.other)
        except ConfkeepError as error:
            raise AssertionError(f"{kind}: another tenant could not enqueue: {error}") from error
        for command in _COMMANDS:
            fixed.run(command)
        fixed.commit_own()
        fixed.tidy()
        fixed.assert_well()
        fixed.clean()


@pytest.mark.chaos
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("name", all_keys("tenant", "backup"))
def test_each_garbage_under_each_key_with_each_command(fixed: Fixed, name: str) -> None:
    for place in range(len(all_keys(fixed.tenant, fixed.backup)[name])):
        for kind in KINDS:
            key = all_keys(fixed.tenant, fixed.backup)[name][place]
            fixed.plant(kind, key)
            fixed.commit(fixed.other)
            fixed.wait_for_sweep()
            for command in (*_COMMANDS, *_MORE_COMMANDS):
                fixed.run(command)
            fixed.plant(kind, key)
            fixed.commit_own()
            fixed.tidy()
            fixed.assert_well()
            fixed.clean()


def test_status_names_what_stands_in_the_way_and_what_to_do(fixed: Fixed) -> None:
    fixed.client.rpush(keys.LOAD, "x")
    wait_for(lambda: fixed.has_logged("action=sweep.set_aside"), "it to be set aside", _BOUND_S)
    fixed.client.hset(keys.WORKERS, b"\xff", 1)
    told = {one["key"]: one for one in json.loads(fixed.run("status --json").stdout)["odd"]}
    assert "a list stood there" in told[keys.LOAD]["problem"]
    assert told[keys.LOAD]["step"].endswith(f"DEL {keys.odd(keys.LOAD)}")
    assert told[keys.WORKERS]["step"].endswith('HDEL confkeep:workers "\\xff"')
    text = fixed.run("status").stdout
    assert f"DEL {keys.odd(keys.LOAD)}" in text
    assert fixed.client.lrange(keys.odd(keys.LOAD), 0, -1) == [b"x"], "it is kept whole"


def test_names_that_are_no_utf_8_are_tidied_like_others(fixed: Fixed) -> None:
    tenant = fixed.tenant.encode()
    idle_s = tidy.ABANDONED_S + 1
    for key in (
        b"confkeep:staged:%s:\xff",
        b"confkeep:staged:\xff%s:",
    ):
        fixed.client.set(key % tenant, TEXTS["plain"])
        dump = fixed.client.dump(key % tenant)
        fixed.client.restore(key % tenant, 0, dump, replace=True, idletime=idle_s)  # type: ignore[arg-type]
    fixed.client.set(b"confkeep:handoff:%s:\xff" % tenant, b"x")
    fixed.tidy()
    wait_for(
        lambda: not fixed.client.exists(b"confkeep:staged:%s:\xff" % tenant),
        "the staging to be tidied",
        _BOUND_S,
    )
    assert not list(fixed.client.scan_iter(match="confkeep:staged:*"))
    assert 0 < fixed.client.ttl(b"confkeep:handoff:%s:\xff" % tenant) <= tidy.ABANDONED_S
    fixed.assert_well()
