"""What `confkeep` promises a portal, held by a running worker and by the stand-in of `confkeep.testing`."""

from __future__ import annotations

import asyncio
import inspect
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import confkeep
from confkeep import testing
from confkeep.broker.connections import open_client
from confkeep.settings import get_settings
from tests.integration.conftest import become_producer, forget_environment
from tests.servers import Deployment, deployment

BINARY = b"\x88\xac\xa1\xb1" + (16).to_bytes(4, "little") + b"backup.."
EXPORT = "# 2026-10-01 10:00:00 by RouterOS 7.16\n/system identity\nset name=core1\n"
LATER = EXPORT.replace("10:00:00", "11:00:00")

#: Starts the work, where it does not run yet.
Work = Callable[[], None]


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    with deployment(tmp_path_factory.mktemp("client"), CONFKEEP_INBOX_MAX_BACKUPS="5") as running:
        running.start_worker(pool="threads", concurrency=2)
        yield running


@pytest.fixture(params=["a worker", "the stand-in"])
def system(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    if request.param == "a worker":
        become_producer(request.getfixturevalue("running"), monkeypatch)
        yield
    else:
        monkeypatch.setenv("CONFKEEP_INBOX_MAX_BACKUPS", "5")
        # Whatever asks a server finds none.
        monkeypatch.setenv("CONFKEEP_REDIS_URL", "unix:///nowhere")
        forget_environment()
        with testing.fake():
            yield
    forget_environment()


@pytest.fixture(params=["no worker", "the stand-in"])
def idle(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[Work]:
    """Nobody works until it is called."""
    if request.param == "no worker":
        with deployment(tmp_path, CONFKEEP_INBOX_MAX_BACKUPS="5") as running:
            become_producer(running, monkeypatch)

            def start() -> None:
                running.start_worker(pool="threads", concurrency=2)

            yield start
    else:
        monkeypatch.setenv("CONFKEEP_INBOX_MAX_BACKUPS", "5")
        forget_environment()
        with testing.fake() as service:
            service.hold()

            def commit() -> None:
                service.commit()

            yield commit
    forget_environment()


def new_id() -> str:
    return str(uuid.uuid4())


@pytest.mark.usefixtures("system")
def test_receipts_say_what_changed() -> None:
    tenant, device = new_id(), new_id()
    captures: list[tuple[str, bytes | None]] = [
        (EXPORT, BINARY),
        (EXPORT, BINARY),
        (LATER, BINARY),
        (LATER + "/ip address\nadd address=10.0.0.1/24\n", None),
        (EXPORT + "/ip address\n", None),
    ]
    results = [
        confkeep.enqueue_backup(tenant, device, export, binary, f"{n}")
        for n, (export, binary) in enumerate(captures)
    ]
    receipts = [result.receipt(timeout=30) for result in results]
    seen = [
        (each.unchanged, each.export_changed, each.lines_added, each.lines_removed)
        for each in receipts
    ]
    assert seen == [
        (False, True, 3, 0),
        (True, False, 0, 0),
        (False, False, 1, 1),
        (False, True, 2, 0),
        (False, True, 1, 2),
    ]
    assert [each.suspect is None for each in receipts] == [True] * 4 + [False]
    assert len(receipts[4].warnings) == 1
    for result, receipt in zip(results, receipts, strict=True):
        assert (receipt.tenant_id, receipt.device_id) == (tenant, device)
        assert receipt.backup_id == result.backup_id == result.id
        assert confkeep.receipt_of(result.backup_id) == receipt
        # However an id is spelt: another text would be waited for in vain.
        given = uuid.UUID(result.backup_id)
        for spelt in (result.backup_id, given, given.hex, result.backup_id.upper()):
            assert confkeep.BackupResult(spelt).receipt(timeout=5) == receipt
        assert result.get(timeout=5)["sha"] == receipt.sha
        assert (result.state, result.successful()) == ("SUCCESS", True)


@pytest.mark.usefixtures("system")
def test_a_capture_that_lost_much_is_suspect_once() -> None:
    tenant, device = new_id(), new_id()
    whole = LATER + "/ip address\n" + "".join(f"add address=10.0.0.{n}/24\n" for n in range(30))
    cut, shorter = whole[: whole.index("add address=10.0.0.20/")], LATER
    captures = [EXPORT, whole, cut, shorter, whole, cut, cut, cut.replace("11:00", "12:00"), cut]
    receipts = [
        confkeep.enqueue_backup(tenant, device, each, None, "m").receipt(timeout=30)
        for each in captures
    ]
    seen = "".join("g" if each.suspect is None else "s" for each in receipts)
    assert seen == "ggssgsggg"
    assert receipts[2].suspect == ("the export is cut off: the last good one goes on for 10 lines")
    listed = confkeep.history(tenant, device)
    assert [each.suspect is None for each in listed] == [
        each.suspect is None for each in reversed(receipts) if not each.unchanged
    ]


@pytest.mark.usefixtures("system")
def test_labels_stay_until_others_are_given() -> None:
    tenant, device, other = new_id(), new_id(), new_id()
    enqueue = confkeep.enqueue_backup
    first = enqueue(tenant, device, EXPORT, None, "m", device_address=" 10.0.0.1 ")
    second = enqueue(tenant, device, LATER, None, "m", device_name="Core 1", device_group="core")
    bare = enqueue(tenant, other, "/ip address\n", None, "m")
    naming = confkeep.name_device(tenant, device, "core-1", group="")
    again = confkeep.name_device(tenant, device, "core-1", group="", backup_id=naming.id)
    with pytest.raises(confkeep.BackupIdConflict):
        confkeep.name_device(tenant, device, "core-2", backup_id=naming.id)
    third = enqueue(tenant, device, LATER, None, "m")
    receipts = [each.receipt(timeout=30) for each in (first, second, bare, naming, again, third)]
    names = [receipt.device_name for receipt in receipts]
    assert names == ["core1", "Core 1", None, "core-1", "core-1", "core-1"]
    assert receipts[3] == receipts[4]
    assert (receipts[3].unchanged, receipts[3].export_changed) == (True, False)
    listed = confkeep.directory(tenant)
    assert [(each.device_id, each.name, each.versions) for each in listed] == [
        (other, None, 1),
        (device, "core-1", 2),
    ]
    named = listed[1]
    assert (named.own_name, named.address, named.group) == ("core1", "10.0.0.1", None)
    assert named.sha == receipts[1].sha
    assert named.last_backup_at == receipts[5].committed_at
    assert confkeep.devices(tenant) == sorted([device, other])
    assert len(confkeep.history(tenant, device)) == 2
    for wrong in ("x" * 254, "a\nb", "\u202egnp"):
        with pytest.raises(confkeep.InvalidBackup):
            enqueue(tenant, device, EXPORT, None, "m", device_name=wrong)
    with pytest.raises(confkeep.InvalidBackup):
        confkeep.name_device(tenant, device)


@pytest.mark.usefixtures("system")
def test_each_commit_is_told_as_an_event() -> None:
    tenant, device = new_id(), new_id()
    receipts = [
        confkeep.enqueue_backup(tenant, device, each, None, "m").receipt(timeout=30)
        for each in (EXPORT, EXPORT, LATER)
    ]
    confkeep.name_device(tenant, device, name="edge").receipt(timeout=30)
    told = list(confkeep.events(tenants=[tenant], follow=False))
    assert [event.type for event in told] == [*["backup.committed"] * 3, "device.renamed"]
    assert [confkeep.Receipt.of(event.data) for event in told[:3]] == receipts
    shas = [event.data["sha"] for event in told]
    assert [event.data["parent_sha"] for event in told] == [None, *shas[:3]]
    names = [event.data["labels"]["name"] for event in told]
    assert names == [None, None, None, "edge"]
    assert len({event.id for event in told}) == 4
    rest = confkeep.events(told[1].cursor, tenants=[tenant], types=["device.renamed"], follow=False)
    assert [event.id for event in rest] == [told[3].id]


@pytest.mark.usefixtures("system")
def test_an_id_is_committed_once() -> None:
    tenant, device, backup_id = new_id(), new_id(), new_id()
    first = confkeep.enqueue_backup(tenant, device, EXPORT, None, "m", backup_id=backup_id)
    again = confkeep.enqueue_backup(tenant, device, EXPORT, None, "again", backup_id=backup_id)
    assert first.receipt(timeout=30) == again.receipt(timeout=30)
    for other in ((tenant, device, LATER, None), (tenant, new_id(), EXPORT, None)):
        with pytest.raises(confkeep.BackupIdConflict):
            confkeep.enqueue_backup(*other, "m", backup_id=backup_id)
    assert [each.backup_id for each in confkeep.history(tenant, device)] == [backup_id]


@pytest.mark.usefixtures("system")
def test_what_is_kept_is_read_back() -> None:
    tenant, device, other = new_id(), new_id(), new_id()
    backups: list[confkeep.BackupFields] = [
        {"tenant_id": tenant, "device_id": device, "export_text": EXPORT, "message": "first"},
        {"tenant_id": tenant, "device_id": other, "export_text": "/other\n", "message": "other"},
        {
            "tenant_id": tenant,
            "device_id": device,
            "export_text": "/ip caf\xe9\n".encode("latin-1"),
            "binary_backup": BINARY,
            "message": "second",
        },
        {
            "tenant_id": tenant,
            "device_id": device,
            "export_text": "/ip caf\xe9\n".encode("latin-1"),
            "binary_backup": BINARY,
            "message": "unchanged",
        },
    ]
    first, between, second, _ = (
        result.receipt(timeout=30) for result in confkeep.enqueue_backups(backups)
    )
    assert confkeep.devices(tenant) == sorted([device, other])
    versions = confkeep.history(uuid.UUID(tenant), device)
    assert [(each.sha, each.message) for each in versions] == [
        (second.sha, "second"),
        (first.sha, "first"),
    ]
    assert confkeep.history(tenant, device, 1) == versions[:1]
    assert confkeep.history(tenant, new_id()) == []
    assert confkeep.read_file(tenant, second.sha, device, "export.rsc") == b"/ip caf\xe9\n"
    assert confkeep.read_file(tenant, second.sha[:12], device, "backup.bin") == BINARY
    # A commit of another device shows this one as it was then.
    assert confkeep.read_file(tenant, between.sha, device, "export.rsc") == EXPORT.encode()
    difference = confkeep.diff(tenant, device, first.sha, second.sha).splitlines()
    assert "-/system identity" in difference
    assert "+/ip caf\ufffd" in difference


@pytest.mark.usefixtures("system")
@pytest.mark.parametrize(
    ("question", "error"),
    [
        (lambda t, d, s: confkeep.devices(new_id()), "NotInStore"),
        (lambda t, d, s: confkeep.history(new_id(), d), "NotInStore"),
        (lambda t, d, s: confkeep.history(t, "core1"), "InvalidId"),
        (lambda t, d, s: confkeep.devices("core1"), "InvalidId"),
        (lambda t, d, s: confkeep.read_file(t, "0" * 40, d, "export.rsc"), "NotInStore"),
        (lambda t, d, s: confkeep.read_file(t, "master", d, "export.rsc"), "InvalidId"),
        (lambda t, d, s: confkeep.read_file(t, s, d, "passwd"), "InvalidId"),
        (lambda t, d, s: confkeep.read_file(t, s, d, "backup.bin"), "NotInStore"),
        (lambda t, d, s: confkeep.diff(t, d, s, "0" * 40), "NotInStore"),
        (lambda t, d, s: confkeep.receipt_of(new_id()), "UnknownBackup"),
        (lambda t, d, s: confkeep.receipt_of("1"), "InvalidId"),
        (lambda t, d, s: confkeep.enqueue_backup(t, d, " \n", None, "m"), "InvalidBackup"),
        (lambda t, d, s: confkeep.enqueue_backup(t, d, "/ip", None, "m" * 4097), "InvalidBackup"),
        (lambda t, d, s: confkeep.enqueue_backup(t, "d", "/ip", None, "m"), "InvalidBackup"),
    ],
)
def test_errors_are_of_the_one_tree(
    question: Callable[[str, str, str], object], error: str
) -> None:
    tenant, device = new_id(), new_id()
    sha = confkeep.enqueue_backup(tenant, device, EXPORT, None, "m").receipt(timeout=30).sha
    with pytest.raises(confkeep.ConfkeepError) as raised:
        question(tenant, device, sha)
    assert type(raised.value).__name__ == error
    assert raised.value.hint


def test_an_error_of_a_worker_keeps_its_own_hint(
    running: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    become_producer(running, monkeypatch)
    with pytest.raises(confkeep.NotInStore) as caught:
        confkeep.history(new_id(), new_id())
    assert "their first backup makes it" in caught.value.hint
    forget_environment()


def test_what_waits_is_waited_for(idle: Work) -> None:
    tenant, device = new_id(), new_id()
    results = [confkeep.enqueue_backup(tenant, device, f"/ip {n}", None, f"{n}") for n in range(5)]
    with pytest.raises(
        confkeep.InboxFull, match=f"inbox of tenant {tenant} is full: 5 back"
    ) as full:
        confkeep.enqueue_backup(tenant, device, "/ip", None, "m")
    assert full.value.retryable
    assert confkeep.receipt_of(results[0].backup_id) is None
    assert (results[0].ready(), results[0].state) == (False, "PENDING")
    with pytest.raises(confkeep.NoReceipt):
        results[0].receipt(timeout=0.05)

    async def wait() -> list[confkeep.Receipt]:
        with pytest.raises(confkeep.NoReceipt, match=results[0].backup_id):
            await confkeep.receipt(results[0].backup_id, timeout=0.05)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(results[1], 0.05)
        everybody = [asyncio.ensure_future(confkeep.receipt(each.backup_id)) for each in results]
        gone = asyncio.ensure_future(confkeep.receipt(results[0].backup_id))
        await asyncio.sleep(0)
        gone.cancel()
        before = threading.active_count()
        await asyncio.get_running_loop().run_in_executor(starter, idle)
        receipts = await asyncio.wait_for(asyncio.gather(*everybody), 60)
        # The starter's is one more; waiting took none.
        assert threading.active_count() <= before + 1
        assert await results[0] == receipts[0]
        return receipts

    # A worker ends with the thread that started it, and the threads of `to_thread` with their event loop.
    with ThreadPoolExecutor(1) as starter:
        receipts = asyncio.run(wait())
        assert [each.backup_id for each in receipts] == [each.backup_id for each in results]
        # A second event loop of the same process, as each of a portal's tasks has.
        assert asyncio.run(confkeep.receipt(results[4].backup_id, timeout=30)) == receipts[4]
        assert [each.message for each in confkeep.history(tenant, device)] == list("43210")


@pytest.mark.usefixtures("idle")
def test_what_is_larger_than_an_inbox_waits_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    tenant, device = new_id(), new_id()
    monkeypatch.setenv("CONFKEEP_INBOX_MAX_BYTES", "10")
    forget_environment()
    confkeep.enqueue_backup(tenant, device, EXPORT, None, "m")
    with pytest.raises(confkeep.InboxFull):
        confkeep.enqueue_backup(tenant, device, "/ip", None, "m")


def test_one_connection_waits_for_all(running: Deployment, monkeypatch: pytest.MonkeyPatch) -> None:
    become_producer(running, monkeypatch)

    async def wait() -> int:
        waits = [asyncio.ensure_future(confkeep.receipt(new_id(), 60)) for _ in range(1_200)]
        most = 0
        with open_client(get_settings()) as client:
            # The worker's sweep asks by the same command.
            others = {each["id"] for each in client.client_list()}

            def looks() -> int:
                return int(client.info("commandstats").get("cmdstat_mget", {"calls": 0})["calls"])

            def asking() -> int:
                ours = [each for each in client.client_list() if each["id"] not in others]
                return sum(each["cmd"] == "mget" for each in ours)

            enough = looks() + 10
            async with asyncio.timeout(30):
                while looks() < enough:
                    most = max(most, asking())
                    await asyncio.sleep(0.01)
                assert not any(each.done() for each in waits)
                for each in waits:
                    each.cancel()
                # With nobody left to wait, it closes its connection by itself.
                while asking():  # noqa: ASYNC110 - the server has no event for it
                    await asyncio.sleep(0.01)
        return most

    assert asyncio.run(wait()) == 1


def test_a_receipt_that_is_there_costs_one_round_trip(
    running: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    become_producer(running, monkeypatch)
    worker = running.start_worker(pool="threads")
    backup_id = confkeep.enqueue_backup(new_id(), new_id(), EXPORT, None, "m").backup_id
    confkeep.BackupResult(backup_id).receipt(timeout=30)

    worker.stop()
    with open_client(get_settings()) as client:
        client.config_resetstat()
        confkeep.BackupResult(backup_id).receipt(timeout=5)
        seen = {name.removeprefix("cmdstat_") for name in client.info("commandstats")}
    assert seen & {"get", "subscribe", "unsubscribe"} == {"get"}


def test_an_outage_is_waited_out_and_a_long_one_told(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with deployment(tmp_path) as running:
        become_producer(running, monkeypatch)
        tenant, device = new_id(), new_id()
        result = confkeep.enqueue_backup(tenant, device, EXPORT, None, "m")

        async def wait() -> confkeep.Receipt:
            waiting = asyncio.ensure_future(confkeep.receipt(result.backup_id))
            await asyncio.sleep(0.2)
            await asyncio.to_thread(running.server.kill)
            await asyncio.sleep(0.5)
            await asyncio.to_thread(running.server.start)
            await asyncio.to_thread(running.start_worker, pool="threads")
            return await asyncio.wait_for(waiting, 60)

        assert asyncio.run(wait()).device_id == device
        running.server.kill()
        monkeypatch.setattr("confkeep.awaiting._OUTAGE_S", 0.5)
        began = time.monotonic()
        with pytest.raises(confkeep.BrokerUnavailable):
            asyncio.run(confkeep.receipt(new_id(), timeout=30))
        assert time.monotonic() - began < 25
    forget_environment()


def test_the_stand_in_makes_dead_letters_and_outages(fake_confkeep: testing.FakeConfkeep) -> None:
    fake_confkeep.hold()
    result = confkeep.enqueue_backup(new_id(), new_id(), EXPORT, None, "m")
    assert [each.backup_id for each in fake_confkeep.accepted] == [result.backup_id]
    fake_confkeep.poison(result.backup_id)
    for wait in (
        lambda: result.receipt(5),
        lambda: result.get(5),
        lambda: confkeep.receipt_of(result.backup_id),
        lambda: asyncio.run(confkeep.receipt(result.backup_id, 5)),
    ):
        with pytest.raises(confkeep.PoisonedBackup, match="by a test"):
            wait()
    assert result.failed()
    backup = fake_confkeep.accepted[0]
    again = confkeep.enqueue_backups([backup])[0]
    assert confkeep.receipt_of(again.backup_id) is None, "it waits once more"
    [receipt] = fake_confkeep.commit()
    assert (again.receipt(5), fake_confkeep.accepted) == (receipt, [backup])
    fake_confkeep.outage = confkeep.BrokerUnavailable("Redis is away")
    for call in (
        lambda: confkeep.enqueue_backup(new_id(), new_id(), EXPORT, None, "m"),
        lambda: confkeep.devices(new_id()),
        lambda: confkeep.receipt_of(new_id()),
        lambda: asyncio.run(confkeep.receipt(new_id(), 5)),
    ):
        with pytest.raises(confkeep.BrokerUnavailable, match="away"):
            call()


def test_after_the_stand_in_the_real_one_is_back(monkeypatch: pytest.MonkeyPatch) -> None:
    with testing.fake():
        confkeep.enqueue_backup(new_id(), new_id(), EXPORT, None, "m")
    monkeypatch.setenv("CONFKEEP_REDIS_URL", "unix:///nowhere")
    forget_environment()
    for call in (
        lambda: confkeep.enqueue_backup(new_id(), new_id(), EXPORT, None, "m"),
        lambda: confkeep.history(new_id(), new_id()),
        lambda: confkeep.devices(new_id()),
        lambda: confkeep.receipt_of(new_id()),
    ):
        with pytest.raises(confkeep.BrokerUnavailable):
            call()
    forget_environment()


def fields_of(value: Any) -> set[str]:
    return set(value.__annotations__)


def test_the_typed_keys_are_the_arguments() -> None:
    assert fields_of(confkeep.BackupFields) == set(confkeep.BackupPayload.model_fields)
    # A call's priority is that of all its backups.
    one, many = (
        set(inspect.signature(function).parameters)
        for function in (confkeep.enqueue_backup, confkeep.enqueue_backups)
    )
    assert fields_of(confkeep.BackupFields) == one - {"priority"}
    assert "priority" in one & many
