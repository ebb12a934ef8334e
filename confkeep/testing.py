"""A fake confkeep for your own tests, with the same promises and without a server.

With pytest, in your `conftest.py`:

    pytest_plugins = ["confkeep.testing"]

and in a test:

    def test_the_poller_hands_over_each_router_once(fake_confkeep):
        poll(routers)                                  # your code, which calls enqueue_backup
        assert [each.message for each in fake_confkeep.accepted] == ["poll of core1"]
        assert receipt_of(id_of(core1)).lines_added == 3

Without pytest: `with confkeep.testing.fake() as fake_confkeep:`.

What holds as in real life: arguments and their limits, `backup_id`s (the same one is committed once; with
other bytes it is a conflict), full inboxes, receipts, dead letters, the order, and what the reading
functions answer, and the events of commits and dead letters. What differs: a backup is committed at once unless `hold()` was called, commits have
made-up ids, and line counts are difflib's, which now and then are not git's.
"""

from __future__ import annotations

import base64
import dataclasses
import datetime as dt
import difflib
import hashlib
import re
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final
from unittest import mock

from celery import Celery
from celery.backends.base import KeyValueStoreBackend

from confkeep import awaiting, enqueue, reading, results
from confkeep.app import app
from confkeep.errors import (
    ConfkeepError,
    InvalidId,
    NotInStore,
    PoisonedBackup,
    UnknownBackup,
)
from confkeep.event_reader import Page
from confkeep.following import Events
from confkeep.ids import checked_uuid
from confkeep.labels import NO_LABELS, Labels
from confkeep.models import BackupPayload, Device, HistoryEntry, NamingPayload, Receipt
from confkeep.queue import events, receipts
from confkeep.queue.acceptance import Accepted
from confkeep.queue.answers import Answer
from confkeep.queue.events import Event
from confkeep.queue.receipts import Outcome
from confkeep.routeros.export import same_configuration
from confkeep.routeros.loss import why_lost
from confkeep.routeros.own_name import own_name
from confkeep.routeros.suspect import warning_of, why_suspect
from confkeep.settings import get_settings

try:
    import pytest
except ImportError:  # no pytest, no fixture
    pytest = None  # type: ignore[assignment]

#: The files of a device.
_EXPORT: Final = "export.rsc"
_BINARY: Final = "backup.bin"
_Payload = BackupPayload | NamingPayload
#: Seconds that a follower of events waits before it looks again.
_PAUSE_S: Final = 0.01
_SHA: Final = re.compile(r"[0-9a-f]{4,40}")


@dataclass(frozen=True, slots=True)
class _Commit:
    payload: _Payload
    receipt: Receipt
    #: The device's files after the commit.
    files: dict[str, bytes]


@dataclass
class FakeConfkeep:
    """The fake that your code talks to within `fake()`; thread-safe."""

    #: Every accepted backup once, in order.
    accepted: list[BackupPayload] = field(default_factory=list)
    #: The error of every call to Redis, such as `BrokerUnavailable("away")`; None: no outage.
    outage: ConfkeepError | None = None
    _waiting: list[_Payload] = field(default_factory=list)
    _by_id: dict[str, _Payload] = field(default_factory=dict)
    _answers: dict[str, Answer] = field(default_factory=dict)
    _commits: list[_Commit] = field(default_factory=list)
    _labels: dict[tuple[str, str], Labels] = field(default_factory=dict)
    _events: list[Event] = field(default_factory=list)
    _holds: bool = False
    _lock: threading.RLock = field(default_factory=threading.RLock)

    def hold(self) -> None:
        """From now on backups wait in their inboxes, as if no worker ran."""
        self._holds = True

    def commit(self, backup_id: str | None = None) -> list[Receipt]:
        """Commit one waiting backup; without an id commit all, in order, and end `hold`.

        Raises:
            InvalidId: no such backup waits.
        """
        with self._lock:
            if backup_id is None:
                self._holds = False
                chosen = list(self._waiting)
            else:
                chosen = [self._waiting_one(backup_id)]
            return [self._commit(payload) for payload in chosen]

    def poison(self, backup_id: str, error: PoisonedBackup | None = None) -> None:
        """Turn a waiting backup into a dead letter.

        Raises:
            InvalidId: no such backup waits.
        """
        with self._lock:
            payload = self._waiting_one(backup_id)
            self._waiting.remove(payload)
            reason = error or PoisonedBackup("it was poisoned by a test")
            self._answers[backup_id] = Answer(backup_id, None, reason)
            said = {"kind": type(reason).__name__, "reason": str(reason)}
            name = payload.device_name
            self._tell(events.DEAD, payload, {"backup_id": backup_id, "device_name": name, **said})

    def _waiting_one(self, backup_id: str) -> _Payload:
        for payload in self._waiting:
            if payload.backup_id == backup_id:
                return payload
        raise InvalidId("backup_id", f"{backup_id} does not wait")

    def _submit(
        self,
        chunks: Sequence[Sequence[_Payload]],
        *,
        high: bool = False,  # noqa: ARG002 - one tenant's order is all that it keeps
    ) -> None:
        for chunk in chunks:
            for payload in chunk:
                self._accept(payload)

    def _accept(self, payload: _Payload) -> None:
        self._reach()
        with self._lock:
            known = self._by_id.get(payload.backup_id)
            is_same = known is not None and _identity(known) == _identity(payload)
            told = self._answers.get(payload.backup_id)
            # A dead letter is accepted again.
            if is_same and (told is None or told.receipt is not None):
                return
            is_other = known is not None and not is_same
            answer = Accepted("conflict") if is_other else self._room_for(payload)
            refused = enqueue.refusal_of(answer, payload.tenant_id, payload.backup_id)
            if refused is not None:
                raise refused
            self._answers.pop(payload.backup_id, None)
            self._by_id[payload.backup_id] = payload
            if known is None and isinstance(payload, BackupPayload):
                self.accepted.append(payload)
            self._waiting.append(payload)
            if not self._holds:
                self._commit(payload)

    def _room_for(self, payload: _Payload) -> Accepted:
        settings = get_settings()
        own = [one for one in self._waiting if one.tenant_id == payload.tenant_id]
        for outcome, waiting, most, most_bytes in (
            ("tenant full", own, settings.inbox_max_backups, settings.inbox_max_bytes),
            ("all full", self._waiting, settings.total_max_backups, settings.total_max_bytes),
        ):
            size = sum(map(_size, waiting))
            # One that is larger than the limit waits alone.
            too_large = waiting and size + _size(payload) > most_bytes
            if len(waiting) + 1 > most or too_large:
                return Accepted(outcome, entries=len(waiting), bytes=size)
        return Accepted("accepted")

    def _commit(self, payload: _Payload) -> Receipt:
        self._waiting.remove(payload)
        before = self._files(payload.tenant_id, payload.device_id)
        device = payload.tenant_id, payload.device_id
        labels = self._labels[device] = payload.labels.over(self._labels.get(device, NO_LABELS))
        old = before.get(_EXPORT)
        files, suspect, export_changed, name = before, None, False, labels.name
        if isinstance(payload, BackupPayload):
            files = {_EXPORT: payload.export_text}
            if payload.binary_backup is not None:
                files[_BINARY] = payload.binary_backup
            suspect = why_suspect(payload.export_text, payload.binary_backup)
            export_changed = old is None or not same_configuration(old, payload.export_text)
            name = name or own_name(payload.export_text)
        new = files.get(_EXPORT)
        changed = _changed_lines(old or b"", new or b"")
        if suspect is None and export_changed and old is not None and new is not None:
            before_it = [
                each.files[_EXPORT]
                for each in reversed(self._versions(*device))
                if not each.receipt.unchanged and _EXPORT in each.files
            ]
            suspect = why_lost(new, before_it, max(changed.count("+"), changed.count("-")))
        receipt = Receipt(
            backup_id=payload.backup_id,
            tenant_id=payload.tenant_id,
            device_id=payload.device_id,
            sha=hashlib.sha1(payload.backup_id.encode(), usedforsecurity=False).hexdigest(),
            lines_added=changed.count("+"),
            lines_removed=changed.count("-"),
            unchanged=files == before,
            export_changed=export_changed,
            committed_at=dt.datetime.now(dt.UTC).replace(microsecond=0),
            suspect=suspect,
            device_name=name,
            warnings=[] if suspect is None else [warning_of(suspect)],
        )
        of_tenant = self._of(payload.tenant_id)
        self._tell(
            events.COMMITTED if isinstance(payload, BackupPayload) else events.RENAMED,
            payload,
            {
                **receipt.model_dump(mode="json"),
                "labels": dataclasses.asdict(labels),
                "parent_sha": of_tenant[-1].receipt.sha if of_tenant else None,
            },
        )
        self._commits.append(_Commit(payload, receipt, files))
        self._answers[payload.backup_id] = Answer(payload.backup_id, receipt)
        return receipt

    def _files(self, tenant_id: str, device_id: str) -> dict[str, bytes]:
        versions = self._versions(tenant_id, device_id)
        return versions[-1].files if versions else {}

    def _versions(self, tenant_id: str, device_id: str) -> list[_Commit]:
        return [each for each in self._of(tenant_id) if each.payload.device_id == device_id]

    def _of(self, tenant_id: str) -> list[_Commit]:
        return [each for each in self._commits if each.payload.tenant_id == tenant_id]

    def _tell(self, type_: str, payload: _Payload, data: dict[str, Any]) -> None:
        about = (payload.backup_id,)
        told = events.new(type_, payload.tenant_id, payload.device_id, data=data, about=about)
        place = str(len(self._events) + 1)
        told._cursor = lambda: place  # noqa: SLF001 - as a reader does
        self._events.append(told)

    def _page(self, asked: Events) -> Page:
        """What a reader of events is told; its cursor is how many there were."""
        self._reach()
        with self._lock:
            new = self._events[int(asked._cursor or 0) :]  # noqa: SLF001
            wanted = [each for each in new if asked._wants(each)]  # noqa: SLF001
            if not wanted and asked._follow:  # noqa: SLF001
                time.sleep(_PAUSE_S)
            return Page(wanted, str(len(self._events)))

    def _reach(self) -> None:
        if self.outage is not None:
            raise self.outage

    def _read(self, _client: object, backup_ids: Sequence[str]) -> list[Answer]:
        self._reach()
        with self._lock:
            return [self._answers[each] for each in backup_ids if each in self._answers]

    async def _read_async(self, client: object, backup_ids: Sequence[str]) -> list[Answer]:
        return self._read(client, backup_ids)

    def _find(self, backup_id: str) -> Answer | None:
        if backup_id not in self._by_id:
            self._reach()
            raise UnknownBackup("backup_id", f"{backup_id} is not known to Redis")
        return next(iter(self._read(None, [backup_id])), None)

    def _ask(self, task: str, tenant_id: Any, *arguments: Any, timeout: float) -> Any:  # noqa: ARG002 - as the real one
        self._reach()
        answers: dict[str, Callable[..., Any]] = {
            "backups.history": self._history,
            "backups.read_file": self._read_file,
            "backups.diff": self._diff,
            "backups.devices": self._devices,
            "backups.directory": self._directory,
        }
        tenant_id = checked_uuid("tenant_id", tenant_id)
        with self._lock:
            if not self._of(tenant_id):
                raise NotInStore(f"no repository {tenant_id}.git")
            return answers[task](tenant_id, *arguments)

    def _devices(self, tenant_id: str) -> list[str]:
        return sorted({each.payload.device_id for each in self._of(tenant_id) if each.files})

    def _directory(self, tenant_id: str) -> list[dict[str, Any]]:
        found = []
        for device_id in self._devices(tenant_id):
            versions = self._versions(tenant_id, device_id)
            changed = [each for each in versions if not each.receipt.unchanged]
            captured = [each for each in versions if isinstance(each.payload, BackupPayload)]
            labels = self._labels[tenant_id, device_id]
            own = own_name(changed[-1].files[_EXPORT])
            device = Device(
                device_id=device_id,
                name=labels.name or own,
                own_name=own,
                address=labels.address,
                model=labels.model,
                group=labels.group,
                versions=len(changed),
                sha=changed[-1].receipt.sha,
                changed_at=changed[-1].receipt.committed_at,
                last_backup_at=captured[-1].receipt.committed_at,
            )
            found.append((len(self._commits) - self._commits.index(changed[-1]), device))
        found.sort(key=lambda one: one[0])
        return [device.model_dump(mode="json") for _place, device in found]

    def _history(self, tenant_id: str, device_id: str, limit: int) -> list[dict[str, Any]]:
        return [
            HistoryEntry(
                sha=each.receipt.sha,
                message=each.payload.message,
                committed_at=each.receipt.committed_at,
                backup_id=each.payload.backup_id,
                suspect=each.receipt.suspect,
            ).model_dump(mode="json")
            for each in reversed(self._versions(tenant_id, device_id))
            if not each.receipt.unchanged
        ][:limit]

    def _read_file(self, tenant_id: str, sha: str, device_id: str, filename: str) -> str:
        if filename not in (_EXPORT, _BINARY):
            raise InvalidId("filename", f"must be {_EXPORT} or {_BINARY}")
        data = self._files_in(tenant_id, sha, device_id).get(filename)
        if data is None:
            raise NotInStore(f"no {filename} of device {device_id} in commit {sha}")
        return base64.b64encode(data).decode("ascii")

    def _diff(self, tenant_id: str, device_id: str, old_sha: str, new_sha: str) -> str:
        old, new = (
            self._files_in(tenant_id, sha, device_id).get(_EXPORT, b"").decode("utf-8", "replace")
            for sha in (old_sha, new_sha)
        )
        lines = difflib.unified_diff(
            old.splitlines(), new.splitlines(), old_sha, new_sha, lineterm=""
        )
        return "\n".join(lines)

    def _files_in(self, tenant_id: str, sha: str, device_id: str) -> dict[str, bytes]:
        """A device's files as they were after a commit, which may be another device's."""
        if not _SHA.fullmatch(sha):
            raise InvalidId("commit_sha", "must be 4 to 40 hexadecimal digits")
        commits = self._of(tenant_id)
        places = [n for n, each in enumerate(commits) if each.receipt.sha.startswith(sha)]
        if not places:
            raise NotInStore(f"no commit {sha} in {tenant_id}.git")
        before = [each for each in commits[: places[0] + 1] if each.payload.device_id == device_id]
        return before[-1].files if before else {}


def _identity(payload: _Payload) -> tuple[object, ...]:
    """What makes two backups of one id the same."""
    if isinstance(payload, NamingPayload):
        return payload.tenant_id, payload.device_id, payload.labels
    return payload.tenant_id, payload.device_id, payload.export_text, payload.binary_backup


def _size(payload: _Payload) -> int:
    if isinstance(payload, NamingPayload):
        return 0
    return len(payload.export_text) + len(payload.binary_backup or b"")


def _changed_lines(old: bytes, new: bytes) -> str:
    """`+` for each added line, `-` for each removed one."""
    before, after = (each.decode("utf-8", "surrogateescape").splitlines() for each in (old, new))
    return "".join(line[0] for line in difflib.ndiff(before, after) if line[0] in "+-")


class _Backend(KeyValueStoreBackend):  # type: ignore[misc]
    """A result backend that reads from the fake."""

    def __init__(self, service: FakeConfkeep, celery: Celery) -> None:
        super().__init__(app=celery)
        self._service = service

    def get(self, key: str | bytes) -> bytes | None:
        name = key.decode() if isinstance(key, bytes) else key
        backup_id = name.removeprefix(self.task_keyprefix.decode())
        for answer in self._service._read(None, [backup_id]):  # noqa: SLF001 - two halves of one thing
            value: Any = answer.error
            if answer.receipt is not None:
                value = answer.receipt.model_dump(mode="json")
            return receipts.final_record(backup_id, Outcome(backup_id, None, value)).encode()
        return None

    def get_task_meta(self, task_id: str, cache: bool = True) -> Any:  # noqa: ARG002 - what waits may be committed
        return super().get_task_meta(task_id, cache=False)

    def wait_for_pending(self, result: Any, timeout: float | None = None, **options: Any) -> Any:
        """Wait with a polling interval short enough for tests."""
        return super().wait_for_pending(result, timeout, **{**options, "interval": 0.01})


@contextmanager
def fake() -> Iterator[FakeConfkeep]:
    """Replace confkeep in this process by a fake, also for modules that imported it before."""
    service = FakeConfkeep()
    backend = _Backend(service, app)
    with (
        mock.patch.object(enqueue, "submit_all", service._submit),  # noqa: SLF001
        mock.patch.object(results, "_backend", return_value=backend),
        mock.patch.object(reading, "_ask", service._ask),  # noqa: SLF001
        mock.patch.object(reading, "_find", service._find),  # noqa: SLF001
        mock.patch.object(awaiting, "_read", service._read_async),  # noqa: SLF001
        mock.patch.object(Events, "_read", lambda asked, *_: service._page(asked)),  # noqa: SLF001
    ):
        yield service


if pytest is not None:

    @pytest.fixture
    def fake_confkeep() -> Iterator[FakeConfkeep]:
        """A fake confkeep for what your code enqueues and reads in this test."""
        with fake() as service:
            yield service
