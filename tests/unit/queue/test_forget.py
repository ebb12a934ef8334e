"""Erasing everywhere: what Redis and the staging hold of a device or a tenant goes, and only that."""

from __future__ import annotations

import dataclasses
import datetime as dt
import hashlib
import json
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
import redis
from celery import Celery

from confkeep.broker import keys
from confkeep.errors import BackupsWaiting, NotInStore, PoisonedBackup, StoreMissing, TenantLocked
from confkeep.models import Receipt
from confkeep.queue import acceptance, events, receipts, wakeups
from confkeep.queue.acceptance import Submission
from confkeep.queue.entry import Entry
from confkeep.queue.receipts import Outcome
from confkeep.settings import Settings
from tests.judge import assert_all_readable
from tests.turns import lose_wake_ups, publish
from worker.engine import forget, hold, untold
from worker.process.local import EmbeddedServer
from worker.queue import dead_letters, inbox, oddities, totals
from worker.queue.inbox import Inbox
from worker.store.repository.backup import Backup
from worker.store.repository.tenant_repository import create_repository, repository_path
from worker.store.writing.commit import Writer

TENANT, OTHER = str(uuid.uuid4()), str(uuid.uuid4())
DEVICE, STAYS = str(uuid.uuid4()), str(uuid.uuid4())


@pytest.fixture(autouse=True)
def own_settings(
    client: redis.Redis, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    for module in (forget, hold, untold):
        monkeypatch.setattr(module, "get_client", lambda _settings=None: client)
    # A tenant that was held is woken by Celery, which has no broker here.
    monkeypatch.setattr(wakeups, "send", lambda *_, **__: None)
    yield
    assert_all_readable(settings.git_store_path)


def entry(device_id: str) -> Entry:
    digest = hashlib.sha256(b"x\n").hexdigest()
    return Entry(str(uuid.uuid4()), device_id, "poll", None, 2, digest, None, None, "redis")


def accept(client: redis.Redis, settings: Settings, tenant_id: str, given: Entry) -> None:
    acceptance.accept(client, settings, [Submission(tenant_id, given, b"x\n")])


def settle(client: redis.Redis, settings: Settings, tenant_id: str, *, dead: bool) -> None:
    """What a turn does: commit or bury, publish, settle."""
    for waiting in Inbox(client, settings, tenant_id).peek(100):
        each = waiting.entry
        value: dict[str, object] | PoisonedBackup = PoisonedBackup("broken")
        if dead:
            dead_letters.bury(Inbox(client, settings, tenant_id), each, PoisonedBackup("broken"))
        else:
            repository = create_repository(repository_path(settings.git_store_path, tenant_id))
            backup = Backup(each.backup_id, each.device_id, b"x\n", None, "poll")
            Writer(repository).commit_backups([backup])
            value = {"tenant_id": tenant_id, "device_id": each.device_id}
        digest = each.digest(tenant_id)
        publish(client, [Outcome(each.backup_id, digest, value)], 3600)
        if not dead:
            receipts.copy(client, each.backup_id, str(uuid.uuid4()), 3600)
        mark = totals.DEAD if dead else totals.mark_of(row(tenant_id, each))
        marks = {each.backup_id: mark}
        Inbox(client, settings, tenant_id).settle([waiting], marks=marks)


def row(tenant_id: str, entry: Entry) -> Receipt:
    return Receipt(
        tenant_id=tenant_id,
        device_id=entry.device_id,
        backup_id=entry.backup_id,
        sha="0" * 40,
        lines_added=1,
        lines_removed=0,
        unchanged=False,
        export_changed=True,
        committed_at=dt.datetime.now(dt.UTC),
    )


def everything(client: redis.Redis) -> str:
    """All keys and values as one text, but for the events by which others learn of the erasure."""
    found = []
    for name in client.scan_iter():
        kind: Any = client.type(name)
        value: Any
        if kind == b"string":
            value = client.get(name)
        elif kind == b"hash":
            value = client.hgetall(name)
        elif kind == b"stream":
            value = client.xrange(name)
            if name.decode() == keys.EVENTS:
                value = [row for row in value if events.FORGOTTEN.encode() not in row[1][b"event"]]
        elif kind == b"list":
            value = client.lrange(name, 0, -1)
        else:
            value = client.zrange(name, 0, -1)
        found.append(f"{name!r} {value!r}")
    return "\n".join(found)


def fill(client: redis.Redis, settings: Settings, tenant_id: str) -> None:
    for dead in (False, True):
        for device_id in (DEVICE, STAYS):
            accept(client, settings, tenant_id, entry(device_id))
        settle(client, settings, tenant_id, dead=dead)
    lose_wake_ups(client)


def test_nothing_of_a_device_is_left(client: redis.Redis, settings: Settings) -> None:
    fill(client, settings, TENANT)
    fill(client, settings, OTHER)
    before = dead_letters.list_dead_letters(client)
    assert everything(client).count(DEVICE) >= 6
    erased = forget.forget_device(settings, TENANT, DEVICE)
    assert (erased.commits, erased.dead_letters) == (1, 1)
    assert erased.records >= 2
    after = dead_letters.list_dead_letters(client)
    gone = [letter for letter in before if letter not in after]
    assert [(letter.tenant_id, letter.device_id) for letter in gone] == [(TENANT, DEVICE)]
    left = everything(client)
    assert gone[0].backup_id not in left
    assert [(one.tenant_id, one.device_id) for one in totals.read_recent(client)] == [
        (OTHER, STAYS),
        (OTHER, DEVICE),
        (TENANT, STAYS),
    ]
    client.delete(keys.RECENT)
    left = everything(client)
    assert all(OTHER in line for line in left.splitlines() if DEVICE in line)
    assert left.count(STAYS) >= 6
    audit = (settings.git_store_path / "confkeep.audit").read_text().splitlines()
    assert [json.loads(line)["state"] for line in audit] == ["begun", "done"]
    assert json.loads(audit[1])["device_id"] == DEVICE
    assert json.loads(audit[1])["commits"] == 1


def test_backups_in_the_inbox_are_waited_out_or_refused(
    client: redis.Redis, settings: Settings
) -> None:
    fill(client, settings, TENANT)
    accept(client, settings, TENANT, entry(DEVICE))
    for wait_s in (0.0, 0.3):
        with pytest.raises(BackupsWaiting):
            forget.forget_device(settings, TENANT, DEVICE, wait_s=wait_s)
    with pytest.raises(BackupsWaiting):
        forget.forget_tenant(settings, TENANT)
    assert not (settings.git_store_path / "confkeep.audit").exists()
    assert client.get(keys.lock(TENANT)) is None
    # Those of other devices do not matter.
    settle(client, settings, TENANT, dead=False)
    accept(client, settings, TENANT, entry(STAYS))
    assert forget.forget_device(settings, TENANT, DEVICE).commits == 2
    assert Inbox(client, settings, TENANT).depth() == 1


def test_what_is_no_lock_holds_no_tenant(client: redis.Redis, settings: Settings) -> None:
    fill(client, settings, TENANT)
    for plant in (
        lambda key: client.hset(key, "x", "y"),
        lambda key: client.set(key, "a lock of confkeep's expires"),
    ):
        plant(keys.lock(TENANT))
        with hold.hold_tenant(settings, TENANT, wait_s=0):
            assert client.pttl(keys.lock(TENANT)) > 0
        assert [note.key for note in oddities.notes(client)] == [keys.lock(TENANT)]
    client.set(keys.lock(TENANT), "another's", ex=60)
    with pytest.raises(TenantLocked), hold.hold_tenant(settings, TENANT, wait_s=0):
        pass
    assert client.get(keys.lock(TENANT)) == b"another's"


@pytest.mark.parametrize("staging", ["redis", "volume"])
def test_nothing_of_a_tenant_is_left(client: redis.Redis, settings: Settings, staging: str) -> None:
    fill(client, settings, TENANT)
    fill(client, settings, OTHER)
    client.set(keys.handoff(TENANT, str(uuid.uuid4())), b"x")
    folder = settings.staging_path / TENANT
    if staging == "volume":
        folder.mkdir(parents=True)
        (folder / "left").write_bytes(b"x")
    other = [line for line in everything(client).splitlines() if OTHER in line]
    assert forget.forget_tenant(settings, TENANT).dead_letters == 2
    newest: Any = client.xrevrange(keys.EVENTS, count=1)
    told = events.parse(newest[0][1][b"event"])
    assert told is not None
    assert (told.type, told.tenant_id, told.device_id) == (events.FORGOTTEN, TENANT, None)
    assert TENANT not in everything(client)
    left = everything(client)
    for line in other:
        if "confkeep:dead" not in line and "confkeep:recent" not in line:
            assert line in left
    assert len(dead_letters.list_dead_letters(client)) == 2
    assert len(totals.read_recent(client)) == 2
    assert not folder.exists()
    names = sorted(path.name for path in settings.git_store_path.iterdir())
    assert names == sorted([f"{OTHER}.git", "confkeep.audit"])
    with pytest.raises(NotInStore):
        forget.forget_tenant(settings, TENANT)


def test_what_an_earlier_releases_producers_left_is_told_and_goes_with_its_tenant_alone(
    client: redis.Redis, settings: Settings
) -> None:
    accept(client, settings, TENANT, entry(DEVICE))
    settle(client, settings, TENANT, dead=False)
    for tenant in (TENANT, OTHER):
        client.set(f"confkeep:arrived:{tenant}:{uuid.uuid4()}", b"/ip")
        client.rpush(f"confkeep:arrivals:{tenant}", "{}")
        client.hset("confkeep:arriving", tenant, 3)
    [told] = oddities.look(client, [])
    assert told.key == "confkeep:arriving"
    with pytest.raises(BackupsWaiting, match="confkeep status"):
        forget.forget_device(settings, TENANT, DEVICE)
    forget.forget_tenant(settings, TENANT)
    left = list(client.scan_iter(match="confkeep:arriv*"))
    assert (len(left), [name for name in left if TENANT.encode() in name]) == (3, [])
    assert client.hkeys("confkeep:arriving") == [OTHER.encode()]


def test_a_dead_letter_without_an_entry_goes_if_it_names_the_device(
    client: redis.Redis, settings: Settings
) -> None:
    fill(client, settings, TENANT)
    found = inbox.Unreadable("1-1", f"nonsense of {DEVICE}")
    dead_letters.bury_unreadable(Inbox(client, settings, TENANT), found)
    dead_letters.bury_unreadable(
        Inbox(client, settings, TENANT), dataclasses.replace(found, stream_id="1-2", text="?")
    )
    assert forget.forget_device(settings, TENANT, DEVICE).dead_letters == 2
    assert DEVICE not in everything(client)
    assert len(dead_letters.list_dead_letters(client)) == 2


def test_results_that_name_the_device_go_and_no_others(
    client: redis.Redis, settings: Settings
) -> None:
    fill(client, settings, TENANT)
    # Celery's records, of `backups.retention` and of a portal's own tasks on the same server.
    for name, result in (
        ("a plan", {"tenant_id": TENANT, "devices": [{"device_id": DEVICE}]}),
        ("another plan", {"tenant_id": TENANT, "devices": [{"device_id": STAYS}]}),
        ("a text of the portal's", "YQo="),
        ("a list of the portal's", [{"sha": "0" * 40, "message": "poll"}]),
    ):
        record = {"status": "SUCCESS", "result": result, "task_id": name}
        client.set(keys.result(name), json.dumps(record), ex=3600)
    forget.forget_device(settings, TENANT, DEVICE)
    left = everything(client)
    assert "a plan" not in left
    kept = ("another plan", "a text of the portal's", "a list of the portal's")
    assert [name in left for name in kept] == [True] * 3


@pytest.fixture
def clients_app(real_server: EmbeddedServer) -> Iterator[Callable[..., Celery]]:
    """Makes Celery clients that know nothing of confkeep."""
    url = f"redis+socket://{real_server.socket}"
    with ExitStack() as opened:
        yield lambda **configuration: opened.enter_context(
            Celery("client", broker=url, backend=url, changes=configuration, set_as_current=False)
        )


@pytest.mark.parametrize("client", ["real"], indirect=True)
def test_a_compressed_message_is_not_unpacked_to_see_whose_it_is(
    client: redis.Redis, settings: Settings, clients_app: Callable[..., Celery]
) -> None:
    """No worker acts on it, and a few bytes may unpack to billions."""
    fill(client, settings, TENANT)
    app = clients_app(task_compression="gzip")
    app.send_task("backups.receive", kwargs={"tenant_id": OTHER}, queue=keys.RECEIVE_QUEUE)
    with pytest.raises(BackupsWaiting, match="holds 1 message that cannot be read"):
        forget.forget_tenant(settings, TENANT)


@pytest.mark.parametrize("client", ["real"], indirect=True)
@pytest.mark.parametrize(
    "configuration",
    [{}, {"task_protocol": 1}],
    ids=["plain", "protocol 1"],
)
def test_messages_that_are_not_accepted_yet_are_waited_out_or_refused(
    client: redis.Redis,
    settings: Settings,
    clients_app: Callable[..., Celery],
    configuration: dict[str, Any],
) -> None:
    fill(client, settings, TENANT)
    app = clients_app(**configuration)
    staged = {name: str(uuid.uuid4()) for name in ("named", "unnamed")}
    for name in staged.values():
        client.set(keys.handoff(TENANT, name), b"x")

    def send(tenant_id: str, device_id: str, **more: object) -> None:
        given = {"tenant_id": tenant_id, "device_id": device_id, "message": "poll", **more}
        app.send_task("backups.receive", kwargs=given, queue=keys.RECEIVE_QUEUE)

    send(OTHER, DEVICE, export_text="1")
    send(TENANT, STAYS, export_staged={"id": staged["named"], "size_bytes": 1, "sha256": "0" * 64})
    app.send_task("backups.history", args=(TENANT, DEVICE), queue=keys.RECEIVE_QUEUE)
    with pytest.raises(BackupsWaiting, match=r"holds 1 message for tenant .* that no worker"):
        forget.forget_tenant(settings, TENANT)
    send(TENANT, DEVICE.upper(), export_text="2")
    for _ in range(10):
        send(OTHER, STAYS, export_text="3")
    with pytest.raises(BackupsWaiting, match=r"holds 1 message for device .* that no worker"):
        forget.forget_device(settings, TENANT, DEVICE, wait_s=0.1)
    with app.connection() as connection, connection.SimpleQueue(keys.RECEIVE_QUEUE) as queue:
        taken = [queue.get(timeout=5) for _ in range(4)]
        assert client.hlen(keys.UNACKED) == 4
        with pytest.raises(BackupsWaiting, match="message for device"):
            forget.forget_device(settings, TENANT, DEVICE)
        assert not (settings.git_store_path / "confkeep.audit").exists()
        taken[3].ack()
        # What is named is known; of the other one nobody can tell.
        assert forget.forget_device(settings, TENANT, DEVICE).handed_over == 1
        for message in taken[:3]:
            message.ack()
    client.lpush(keys.RECEIVE_QUEUE, b"nonsense")
    with pytest.raises(BackupsWaiting, match="cannot be read"):
        forget.forget_tenant(settings, TENANT)


def test_where_the_store_is_not_mounted_nothing_is_erased(
    client: redis.Redis, settings: Settings
) -> None:
    """Else an erasure would report success while the repository is on the volume still."""
    fill(client, settings, TENANT)
    settings.git_store_path.rename(settings.git_store_path.with_name("not mounted"))
    # The last look clears it; nothing waits.
    client.delete(keys.wake(TENANT))
    before = sorted(client.keys())
    with pytest.raises(StoreMissing):
        forget.forget_tenant(settings, TENANT)
    with pytest.raises(StoreMissing):
        forget.forget_device(settings, TENANT, DEVICE)
    assert sorted(client.keys()) == before
