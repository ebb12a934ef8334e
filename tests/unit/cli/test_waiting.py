"""receipt, kick and dead-letters: what they say about what waits, and what they do to it."""

from __future__ import annotations

import hashlib
import json
import uuid
from dataclasses import replace

import pytest
import redis
from kombu.exceptions import OperationalError

from confkeep.broker import keys
from confkeep.errors import (
    BrokerUnavailable,
    ConfkeepError,
    PoisonedBackup,
    StagedBytesDamaged,
    StoreUnavailable,
)
from confkeep.queue import acceptance, receipts, wakeups
from confkeep.queue.acceptance import Submission
from confkeep.queue.entry import Entry
from confkeep.queue.receipts import Outcome
from confkeep.settings import load_settings
from tasks import Receipt
from tests.turns import as_dead, publish, read_batch
from tests.unit.cli.conftest import ROUTER, SWITCH, TENANT, Confkeep, Store
from worker.queue import backoff, dead_letters, inboxes
from worker.queue.inbox import Inbox, Unreadable

OTHER = "bbbb2222-0000-4000-8000-000000000002"
EXPORT = b"/ip address\n\x1b[31madd\n"
UNKNOWN = "99999999-0000-4000-8000-000000000009"


class Queue:
    """A server, and the wake-ups that the command line sent."""

    def __init__(self, client: redis.Redis) -> None:
        self.client = client
        self.woken: list[str] = []

    def accept(self, number: int, tenant_id: str = TENANT) -> Entry:
        """A backup that waits."""
        entry = Entry(
            backup_id=f"{number:08x}-0000-4000-8000-000000000000",
            device_id=ROUTER,
            message="a \x1b[31m message",
            captured_at=None,
            export_bytes=len(EXPORT),
            export_sha256=hashlib.sha256(EXPORT).hexdigest(),
            binary_bytes=3,
            binary_sha256=hashlib.sha256(b"\x88ab").hexdigest(),
            staging="redis",
        )
        submission = Submission(tenant_id, entry, EXPORT + b"\x88ab", None)
        (answer,) = acceptance.accept(self.client, load_settings(), [submission])
        assert answer.outcome == "accepted"
        return entry

    def bury(self, number: int, tenant_id: str = TENANT) -> Entry:
        """A backup that was accepted and became a dead letter."""
        entry = self.accept(number, tenant_id)
        error = StagedBytesDamaged("a \x1b[31m reason")
        batch = read_batch(Inbox(self.client, load_settings(), tenant_id))
        dead_letters.bury(Inbox(self.client, load_settings(), tenant_id), entry, error)
        self.end(entry, error, tenant_id)
        Inbox(self.client, load_settings(), tenant_id).settle(
            batch.entries, marks=as_dead(batch.entries)
        )
        return entry

    def end(self, entry: Entry, value: dict[str, object] | ConfkeepError, tenant_id: str) -> None:
        outcome = Outcome(entry.backup_id, entry.digest(tenant_id), value)
        publish(self.client, [outcome], 60)

    def letters(self) -> list[str]:
        return [letter.backup_id for letter in dead_letters.list_dead_letters(self.client)]

    def waiting(self, tenant_id: str = TENANT) -> list[str]:
        return [
            waiting.entry.backup_id
            for waiting in Inbox(self.client, load_settings(), tenant_id).peek(100)
        ]


@pytest.fixture
def queue(client: redis.Redis, monkeypatch: pytest.MonkeyPatch) -> Queue:
    made = Queue(client)
    monkeypatch.setattr(
        wakeups, "send", lambda _app, _settings, tenant_id: made.woken.append(tenant_id)
    )
    return made


# --- receipt


def test_a_receipt_of_redis_is_printed(store: Store, confkeep: Confkeep, queue: Queue) -> None:
    entry = queue.accept(1)
    made = Receipt(
        backup_id=entry.backup_id,
        tenant_id=TENANT,
        device_id=ROUTER,
        sha="5" * 40,
        lines_added=3,
        lines_removed=1,
        unchanged=False,
        export_changed=True,
        committed_at="2026-09-30T10:00:00Z",
        warnings=["the clock is \x1b[31m wrong"],
    ).model_dump(mode="json")
    queue.end(entry, made, TENANT)

    said = confkeep("receipt", entry.backup_id, "--json")
    done = confkeep("receipt", entry.backup_id)

    assert (said.exit_code, done.exit_code) == (0, 0)
    assert json.loads(said.stdout) == {
        "backup_id": entry.backup_id,
        "state": "SUCCESS",
        "source": "redis",
        "reason": None,
        "next_step": None,
        "tenant_name": None,
        "receipt": made,
    }
    assert f"{entry.backup_id} is in git" in done.stdout
    assert "+3 -1 lines, the configuration changed" in done.stdout
    assert r"warning: the clock is \x1b[31m wrong" in done.stderr
    assert confkeep("receipt", entry.backup_id, "--tenant", TENANT).exit_code == 0
    assert confkeep("receipt", entry.backup_id, "--tenant", OTHER).exit_code == 2


def test_a_record_without_its_entry_is_told_with_the_next_step(
    store: Store, confkeep: Confkeep, queue: Queue
) -> None:
    entry = queue.accept(1)
    assert confkeep("receipt", entry.backup_id).exit_code == 16
    queue.client.xtrim(keys.inbox(TENANT), maxlen=0)
    done = confkeep("receipt", entry.backup_id)
    assert done.exit_code == 24
    assert "its entry is not in the inbox any more" in done.stderr
    assert "Hand the backup over again with the same backup_id" in " ".join(done.stderr.split())


def test_git_gives_the_receipt_for_ever(
    filled: Store, confkeep: Confkeep, queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    filled.add(SWITCH, b"/interface\n", tenant_id=OTHER)
    for number, committed in enumerate(filled.commits):
        tenant_id = OTHER if number == 5 else TENANT
        done = confkeep("receipt", committed.backup_id, "--json")
        assert done.exit_code == 0, done.stderr
        said = json.loads(done.stdout)
        assert (said["state"], said["source"]) == ("SUCCESS", "git")
        expected = Receipt(
            tenant_id=tenant_id,
            **{
                name: getattr(part, name)
                for part in (committed, committed.detail)
                for name in Receipt.model_fields
                if hasattr(part, name)
            },
        )
        assert said["receipt"] == expected.model_dump(mode="json")
        assert "this is from git" in done.stderr


def test_git_answers_without_a_server(
    filled: Store, confkeep: Confkeep, monkeypatch: pytest.MonkeyPatch, tmp_path: str
) -> None:
    monkeypatch.setenv("CONFKEEP_REDIS_URL", f"unix://{tmp_path}/no.sock?db=0")

    done = confkeep("receipt", filled.commits[2].backup_id)
    unknown = confkeep("receipt", UNKNOWN)

    assert done.exit_code == 0
    assert filled.commits[2].sha in done.stdout
    assert "Redis did not answer; this is from git" in done.stderr
    # It may wait in the server that is away.
    assert unknown.exit_code == 11


def test_an_id_that_nobody_knows(filled: Store, confkeep: Confkeep, queue: Queue) -> None:
    known = filled.commits[0].backup_id

    assert confkeep("receipt", UNKNOWN).exit_code == 2
    assert "not known to Redis and not in git" in confkeep("receipt", UNKNOWN).stderr
    assert confkeep("receipt", "nonsense").exit_code == 2
    assert confkeep("receipt", known, "--tenant", OTHER).exit_code == 2
    assert confkeep("receipt", known, "--tenant", TENANT[:6]).exit_code == 0


def test_what_waits_says_so_and_why(store: Store, confkeep: Confkeep, queue: Queue) -> None:
    entry = queue.accept(1)
    waits = confkeep("receipt", entry.backup_id)
    receipts.show_retrying(
        queue.client, [entry.backup_id], StoreUnavailable("disk \x1b[31mfull"), 600
    )
    retried = confkeep("receipt", entry.backup_id)
    said = json.loads(confkeep("receipt", entry.backup_id, "--json").stdout)

    assert (waits.exit_code, retried.exit_code) == (16, 16)
    assert "waits in its tenant's inbox" in waits.stdout
    assert r"reason     disk \x1b[31mfull" in retried.stdout
    assert (said["state"], said["reason"], said["receipt"]) == ("RETRY", "disk \x1b[31mfull", None)


def test_a_dead_letter_ends_with_its_reason(store: Store, confkeep: Confkeep, queue: Queue) -> None:
    entry = queue.bury(1)

    done = confkeep("receipt", entry.backup_id)
    queue.client.delete(keys.result(entry.backup_id))
    expired = confkeep("receipt", entry.backup_id)

    assert (done.exit_code, expired.exit_code) == (22, 22)
    assert r"error: a \x1b[31m reason" in done.stderr
    assert "confkeep dead-letters" in done.stderr
    assert (expired.stdout, expired.stderr) == (done.stdout, done.stderr)


def test_an_error_of_somebody_else_is_a_poisoned_backup(
    store: Store, confkeep: Confkeep, queue: Queue
) -> None:
    result = {"exc_type": "SystemError", "exc_message": ["boo"], "exc_module": "builtins"}
    record = {"status": "FAILURE", "result": result}
    queue.client.set(keys.result(UNKNOWN), json.dumps(record))

    done = confkeep("receipt", UNKNOWN)

    assert done.exit_code == PoisonedBackup.exit_code
    assert "SystemError: boo" in done.stderr


def test_a_repository_that_cannot_be_read_hides_no_other(
    filled: Store, confkeep: Confkeep, queue: Queue
) -> None:
    broken = filled.path / f"{TENANT[:-1]}0.git"
    broken.mkdir()

    found = confkeep("receipt", filled.commits[0].backup_id)
    unknown = confkeep("receipt", UNKNOWN)

    assert found.exit_code == 0
    assert "cannot be read" in found.stderr
    assert unknown.exit_code == 33
    broken.rmdir()


# --- kick


def test_kick_ends_the_wait_and_wakes_the_tenant(
    store: Store, confkeep: Confkeep, queue: Queue
) -> None:
    queue.accept(1)
    for _ in range(7):
        backoff.failed(
            Inbox(queue.client, load_settings(), TENANT), StoreUnavailable("disk \x1b[31mfull")
        )
    queue.client.delete(keys.wake(TENANT))

    done = confkeep("kick", TENANT[:6])

    assert done.exit_code == 0
    assert f"for tenant {TENANT}: 1 backup waiting" in done.stdout
    assert r"waited after 7 tries: StoreUnavailable: disk \x1b[31mfull" in done.stderr
    wait = backoff.get(Inbox(queue.client, load_settings(), TENANT))
    assert wait is not None
    assert (wait.tries, wait.next_ms) == (0, 0)
    assert queue.woken == [TENANT]
    assert queue.waiting(), "it is the worker who commits"


def test_kick_of_an_idle_tenant_does_nothing(
    store: Store, confkeep: Confkeep, queue: Queue
) -> None:
    done = confkeep("kick", OTHER)

    assert (done.exit_code, queue.woken) == (0, [])
    assert f"Nothing waits for tenant {OTHER}." in done.stdout
    assert confkeep("kick", "dddd").exit_code == 2


def test_a_wake_up_that_is_not_sent_is_no_failure(
    store: Store, confkeep: Confkeep, queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lost(*_: object) -> None:
        raise OperationalError("away")

    queue.accept(1)
    monkeypatch.setattr(wakeups, "send", lost)

    done = confkeep("kick", TENANT)

    assert done.exit_code == 0
    assert "sweep" in done.stderr


# --- dead-letters


def test_dead_letters_are_listed_and_shown_without_their_payload(
    store: Store, confkeep: Confkeep, queue: Queue
) -> None:
    entry = queue.bury(1)

    listed = confkeep("dead-letters", "list")
    said = json.loads(confkeep("dead-letters", "list", "--json").stdout)
    shown = confkeep("dead-letters", "show", entry.backup_id[:8])
    more = json.loads(confkeep("dead-letters", "show", entry.backup_id, "--json").stdout)

    assert entry.backup_id[:8] in listed.stdout
    assert r"a \x1b[31m reason" in listed.stdout
    (letter,) = said["dead_letters"]
    assert letter.keys() == {
        *("backup_id", "tenant_id", "tenant_name", "device_id", "device_name"),
        *("reason", "kind", "died_at"),
    }
    assert letter.items() <= more.items()
    assert (more["export_bytes"], more["binary_bytes"], more["staged_bytes"]) == (21, 3, 24)
    assert r"StagedBytesDamaged: a \x1b[31m reason" in shown.stdout
    assert "24 bytes, there still (redis)" in shown.stdout
    for done in (listed, shown):
        assert "ip address" not in done.output
        assert "\x1b" not in done.output


@pytest.mark.usefixtures("at_80_columns")
def test_80_columns_hold_the_date_and_the_whole_reason(
    store: Store, confkeep: Confkeep, queue: Queue
) -> None:
    reason = "export_text has 7 bytes in staging, and 21 were accepted; nobody can make them whole"
    entry = replace(queue.accept(1), device_name="core1.of-a-site-with-a-very-long-name.example")
    inbox = Inbox(queue.client, load_settings(), TENANT)
    dead_letters.bury(inbox, entry, StagedBytesDamaged(reason))

    lines = confkeep("dead-letters", "list").stdout.splitlines()

    assert max(map(len, lines)) <= 80
    died = dead_letters.list_dead_letters(queue.client)[0].died_at[:16].replace("T", " ")
    start = lines[0].index("reason")
    assert lines[1].startswith(f"{entry.backup_id[:8]}  {died}  core1.of-a-site")
    assert " ".join(line[start:].strip() for line in lines[1:]) == reason


def test_show_export_gives_the_very_bytes(store: Store, confkeep: Confkeep, queue: Queue) -> None:
    entry = queue.bury(1)
    staged = keys.staged(TENANT, entry.backup_id)

    whole = confkeep("dead-letters", "show", entry.backup_id, "--export")
    queue.client.set(staged, b"/ip damaged")
    damaged = confkeep("dead-letters", "show", entry.backup_id, "--export")
    queue.client.delete(staged)
    gone = confkeep("dead-letters", "show", entry.backup_id, "--export")

    assert (whole.exit_code, whole.stdout_bytes) == (0, EXPORT)
    assert (damaged.exit_code, damaged.stdout_bytes) == (0, b"/ip damaged")
    assert "this is what is there" in damaged.stderr
    assert (gone.exit_code, gone.stdout_bytes) == (21, b"")
    assert "bytes     gone" in confkeep("dead-letters", "show", entry.backup_id).stdout


def test_retry_puts_back_under_the_same_id_and_wakes(
    store: Store, confkeep: Confkeep, queue: Queue
) -> None:
    first, second, third = queue.bury(1), queue.bury(2), queue.bury(3, OTHER)
    queue.accept(4)

    done = confkeep("dead-letters", "retry", second.backup_id, third.backup_id[:8])

    assert done.exit_code == 0, done.stderr
    assert "2 backups put back." in done.stdout
    assert queue.waiting()[1:] == [second.backup_id]
    assert queue.waiting(OTHER) == [third.backup_id]
    assert queue.letters() == [first.backup_id]
    assert queue.woken == [TENANT, OTHER]


def test_what_is_no_entry_does_not_keep_the_others_from_being_retried(
    store: Store, confkeep: Confkeep, queue: Queue
) -> None:
    dead_letters.bury_unreadable(
        Inbox(queue.client, load_settings(), TENANT), Unreadable("1-1", "nonsense")
    )
    entry = queue.bury(1)
    (unreadable,) = {*queue.letters()} - {entry.backup_id}

    done = confkeep("dead-letters", "retry", "--all", "--yes")

    assert done.exit_code == 20
    assert queue.waiting() == [entry.backup_id]
    assert queue.letters() == [unreadable]
    assert confkeep("dead-letters", "show", unreadable).exit_code == 0
    assert confkeep("dead-letters", "show", unreadable, "--export").exit_code == 20
    assert confkeep("dead-letters", "discard", unreadable).exit_code == 0
    assert queue.letters() == []


@pytest.mark.parametrize("what", ["retry", "discard"])
def test_all_needs_a_word_of_confirmation(
    store: Store, confkeep: Confkeep, queue: Queue, what: str
) -> None:
    letters = [queue.bury(number).backup_id for number in (1, 2)]

    for typed in ("", "\n", "y\n", f"{what} 3\n"):
        refused = confkeep("dead-letters", what, "--all", typed=typed)
        assert refused.exit_code == 2
        assert "nothing was done. With --yes" in refused.stderr
        assert queue.letters() == letters
    assert f"Type `{what} 2` to go on" in refused.stderr
    assert confkeep("dead-letters", what, "--all", typed=f"{what} 2\n").exit_code == 0
    assert queue.letters() == []


def test_discard_deletes_for_good(store: Store, confkeep: Confkeep, queue: Queue) -> None:
    first, second = queue.bury(1), queue.bury(2)

    done = confkeep("dead-letters", "discard", first.backup_id)

    assert done.exit_code == 0
    assert queue.letters() == [second.backup_id]
    assert not queue.client.exists(keys.staged(TENANT, first.backup_id))
    assert queue.client.exists(keys.staged(TENANT, second.backup_id))
    assert queue.waiting() == []


@pytest.mark.parametrize("what", ["retry", "discard"])
def test_a_wrong_name_does_nothing_to_any(
    store: Store, confkeep: Confkeep, queue: Queue, what: str
) -> None:
    entry = queue.bury(1)

    assert confkeep("dead-letters", what, entry.backup_id, UNKNOWN).exit_code == 2
    assert confkeep("dead-letters", what).exit_code == 2
    assert confkeep("dead-letters", what, entry.backup_id, "--all").exit_code == 2
    assert queue.letters() == [entry.backup_id]
    assert confkeep("dead-letters", "show", str(uuid.uuid4())).exit_code == 2


# --- status


def test_status_tells_load_and_limits_and_when_the_next_try_is(
    store: Store, confkeep: Confkeep, queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CONFKEEP_TOTAL_MAX_BACKUPS", "20")
    queue.accept(1)
    queue.accept(2, OTHER)
    backoff.failed(Inbox(queue.client, load_settings(), OTHER), BrokerUnavailable("away"))
    now_ms = inboxes.server_time_ms(queue.client)
    wait = keys.backoff(TENANT)
    queue.client.hset(wait, "tries", 6)
    queue.client.hset(wait, "since_ms", now_ms - 3 * 3_600_000)
    queue.client.hset(wait, "next_ms", now_ms + 45_000)
    queue.client.hset(wait, "reason", "disk full")

    said = json.loads(confkeep("status", "--json").stdout)
    lines = confkeep("status").stdout.splitlines()

    assert said["load"]["backups"] == 2
    assert said["load"]["bytes"] == 48
    assert said["load"]["max_backups"] == 20
    boxes = {box["tenant_id"]: box for box in said["inboxes"]}
    assert boxes[TENANT]["bytes"] == 24
    assert boxes[TENANT]["failing_since"] < boxes[TENANT]["next_try"]
    assert boxes[OTHER]["stalled"] is False
    assert any(line.startswith("  2 of at most 20 backups, 48 bytes of at most") for line in lines)
    at = lines.index("Waiting after a fault: 2 tenants, 1 stalled")
    assert lines[at + 1].startswith(f"  {TENANT}: stalled, 6 failed tries in 3 h, next try in 4")
    assert lines[at + 2] == "    disk full"
    assert f"confkeep kick {TENANT}" in lines[at + 3]
    assert lines[at + 4].startswith(f"  {OTHER}: 1 failed try in 0")
