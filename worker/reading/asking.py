"""Reads through the workers, where the store cannot be reached: each question is a task of the tenant's queue."""

from __future__ import annotations

import time
import uuid
from collections.abc import Collection, Sequence
from typing import Any, Final

import redis
from kombu.entity import Queue
from kombu.exceptions import OperationalError

from confkeep.app import app
from confkeep.broker import keys
from confkeep.broker.broker_faults import explain
from confkeep.errors import InvalidId, NoReceipt
from confkeep.following import AskedGit
from confkeep.labels import Labels
from confkeep.models import Receipt
from confkeep.queue import receipts
from confkeep.settings import Settings
from worker.engine import resolver
from worker.engine.directory import Called
from worker.engine.search import Query
from worker.engine.versions import Wanted
from worker.reading.answers import (
    CommitsPage,
    DeviceEntry,
    DevicesPage,
    DiffAnswer,
    File,
    FoundEntry,
    Since,
    TenantCounts,
    TenantEntry,
    VersionEntry,
)
from worker.reading.directory_page import Filter
from worker.reading.questions import as_json, from_json
from worker.reading.store_reader import DiffHow, FileName

TASK: Final = "backups.answer"
#: Seconds to wait for a worker. It may be busy with a batch.
TIMEOUT_S: Final = 4.0
#: Seconds between two looks for an answer: the first, and the longest.
_FIRST_S: Final = 0.005
_LONGEST_S: Final = 0.1
#: Seconds for which the list of all tenants counts.
_TENANTS_S: Final = 30.0


class TaskReader:
    """Asks the workers. Its methods are those of `StoreReader`; thread-safe.

    It polls for each answer: Celery's own way of waiting is for one thread alone. Each call may raise
    NoReceipt and BrokerUnavailable too.
    """

    def __init__(self, client: redis.Redis, settings: Settings) -> None:
        self._client = client
        self._settings = settings
        self._tenants: tuple[float, list[str]] = (-_TENANTS_S, [])

    def tenants(self, among: Collection[str] | None) -> list[TenantEntry]:
        return [self.entry(tenant_id) for tenant_id in self._ids(among)]

    def tenant(self, given: str, among: Collection[str] | None) -> TenantEntry:
        """As `StoreReader`. A whole id costs no question."""
        try:
            found = resolver.find_known_tenant([Called(one) for one in among or ()], given, among)
        except InvalidId:
            known = [Called(each.tenant_id, Labels(each.name)) for each in self.tenants(among)]
            found = resolver.find_known_tenant(known, given, among)
        return TenantEntry(tenant_id=found.id, name=found.name)

    def entry(self, tenant_id: str) -> TenantEntry:
        found: TenantEntry = self._ask(tenant_id, "entry")
        return found

    def counts(self, tenant_id: str) -> TenantCounts:
        found: TenantCounts = self._ask(tenant_id, "counts")
        return found

    def directory(self, tenant_id: str) -> Sequence[DeviceEntry]:
        found: list[DeviceEntry] = self._ask(tenant_id, "directory")
        return found

    def page(
        self, tenant_id: str, wanted: Filter, after: tuple[str, str] | None, limit: int
    ) -> DevicesPage:
        found: DevicesPage = self._ask(tenant_id, "page", wanted=wanted, after=after, limit=limit)
        return found

    def device(self, tenant_id: str, device: str) -> DeviceEntry:
        found: DeviceEntry = self._ask(tenant_id, "device", device=device)
        return found

    def versions(self, tenant_id: str, device: str, wanted: Wanted) -> list[VersionEntry]:
        found: list[VersionEntry] = self._ask(tenant_id, "versions", device=device, wanted=wanted)
        return found

    def version(self, tenant_id: str, device: str, version: str) -> VersionEntry:
        found: VersionEntry = self._ask(tenant_id, "version", device=device, version=version)
        return found

    def file(
        self, tenant_id: str, device: str, version: str, name: FileName, *, reveal: bool
    ) -> File:
        found: File = self._ask(
            tenant_id, "file", device=device, version=version, name=name, reveal=reveal
        )
        return found

    def diff(
        self,
        tenant_id: str,
        device: str,
        version: str,
        against: str,
        *,
        reveal: bool,
        how: DiffHow = DiffHow(),  # noqa: B008 - frozen
    ) -> DiffAnswer:
        found: DiffAnswer = self._ask(
            tenant_id,
            "diff",
            device=device,
            version=version,
            against=against,
            reveal=reveal,
            how=how,
        )
        return found

    def since(self, tenant_id: str, device: str, version: str) -> list[Since]:
        found: list[Since] = self._ask(tenant_id, "since", device=device, version=version)
        return found

    def commits(self, tenant_id: str, since: str | None, limit: int) -> CommitsPage:
        found: CommitsPage = self._ask(tenant_id, "commits", since=since, limit=limit)
        return found

    def receipt_in(self, tenant_id: str, backup_id: str) -> Receipt | None:
        found: Receipt | None = self._ask(tenant_id, "receipt_in", backup_id=backup_id)
        return found

    def receipt(self, backup_id: str, among: Collection[str] | None) -> Receipt | None:
        for tenant_id in self._ids(among):
            found = self.receipt_in(tenant_id, backup_id)
            if found is not None:
                return found
        return None

    def search(self, tenant_id: str, query: Query, limit: int, *, reveal: bool) -> list[FoundEntry]:
        found: list[FoundEntry] = self._ask(
            tenant_id, "search", query=query, limit=limit, reveal=reveal, timeout_s=20.0
        )
        return found

    def let_go(self) -> None:
        """As `StoreReader`: it keeps nothing open."""

    def _ids(self, among: Collection[str] | None) -> list[str]:
        if among is not None:
            return sorted(among)
        at, found = self._tenants
        if time.monotonic() - at > _TENANTS_S:
            found = AskedGit(TIMEOUT_S).tenants()
            self._tenants = time.monotonic(), found
        return found

    def _ask(
        self, tenant_id: str, what: str, *, timeout_s: float = TIMEOUT_S, **arguments: Any
    ) -> Any:
        """Ask the worker that has the tenant's repository.

        Raises:
            NoReceipt: none answered in time.
            BrokerUnavailable: Redis did not answer.
            ConfkeepError: as the reader there.
        """
        question_id = str(uuid.uuid4())
        message = app.amqp.create_task_message(
            question_id, TASK, [tenant_id, what, as_json(arguments)], {}, expires=timeout_s
        )
        # Before others' bulk: a person waits.
        name = keys.queue_of(tenant_id, self._settings.shards, high=True)
        queue = Queue(name)  # type: ignore[no-untyped-call]
        try:
            with app.producer_pool.acquire(block=True, timeout=timeout_s) as producer:
                app.amqp.send_task_message(producer, TASK, message, queue=queue, retry=False)
        except OperationalError as error:
            raise explain(error) from error
        deadline = time.monotonic() + timeout_s
        pause_s = _FIRST_S
        while time.monotonic() < deadline:
            record = receipts.read(self._client, question_id)
            if record is not None and record.get("status") == "SUCCESS":
                return from_json(what, record.get("result"))
            if record is not None and record.get("status") == "FAILURE":
                raise receipts.error_of(record.get("result"))
            time.sleep(pause_s)
            pause_s = min(_LONGEST_S, pause_s * 1.5)
        raise NoReceipt(f"no worker answered for {timeout_s:g} s")
