"""`confkeep demo`."""

from __future__ import annotations

import contextlib
import datetime as dt
import os
import random
import shlex
import shutil
import sys
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Never
from urllib.parse import quote

import click

from confkeep import BackupPayload, enqueue_backups
from confkeep.errors import GitUnavailable, MaintenanceFailed, NoReceipt, PoisonedBackup
from confkeep.naming import name_tenant
from confkeep.queue.answers import Answer
from confkeep.settings import get_settings
from worker.cli import capture_order, exports_folder, interrupts, one_machine
from worker.cli.diff import How, print_diff
from worker.cli.history import print_versions
from worker.cli.running import DEFAULT_DATA
from worker.cli.samples import SampleDevice
from worker.cli.sending import Sender
from worker.cli.sources.asking import Guess
from worker.cli.terminal import Terminal, count_text, pass_terminal, printable
from worker.cli.waiting import SILENCE_S, Receipts
from worker.engine import resolver
from worker.engine.directory import Called, directory_of, names_of
from worker.engine.made_ids import made_id
from worker.engine.versions import Wanted, rows_of
from worker.http.listening import require_installed
from worker.store.git.git_process import Git
from worker.store.repository.reader import devices_of
from worker.store.repository.tenant_repository import (
    TenantRepository,
    open_repository,
    repository_path,
    tenants_of,
)

TENANTS: Final = ("acme", "birch", "cedar")
DEVICES: Final = 40
POLLS: Final = 5
#: The share of captures that change the configuration, and the share that repeat the last files.
_CHANGED: Final = 0.4
_REPEATED: Final = 0.2
#: Time between two polls by the dates in the captures.
_BETWEEN_POLLS: Final = dt.timedelta(hours=6)

_VERSIONS_SHOWN: Final = 6
_DIFF_LINES: Final = 40
_LOG_LINES: Final = 6
#: Seconds between two looks at what runs.
_POLL_S: Final = 0.2
#: Seconds after which a hanging git is stopped.
_GIT_S: Final = 30


@click.command("demo")
@click.option(
    "--from",
    "source",
    metavar="DIR",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Play real exports: TENANT/DEVICE/*.rsc, DEVICE/*.rsc or *.rsc.",
)
@click.option(
    "--order",
    type=click.Choice(["auto", *capture_order.ORDERS]),
    default="auto",
    show_default=True,
    help="With --from: what tells a device's older export from the newer.",
)
@click.option(
    "--data",
    type=click.Path(file_okay=False, path_type=Path),
    default=DEFAULT_DATA / "demo",
    show_default=True,
    help="Folder to keep the store in. What an earlier demo left there is removed.",
)
@click.option(
    "--http",
    "http_port",
    type=click.IntRange(1, 65_535),
    metavar="PORT",
    help="Serve what is kept by HTTP until Ctrl-C, on this port of 127.0.0.1.",
)
@pass_terminal
def command(
    terminal: Terminal, source: Path | None, order: str, data: Path, http_port: int | None
) -> None:
    """Show in seconds what confkeep does, with made-up routers.

    Starts a server and a worker on this machine, plays a scheduler that polls the 40 devices of
    each of 3 tenants 5 times, and shows what confkeep keeps of that. At the end it stops the
    server and the worker; the store stays in --data for you to look at.

    \b
    Examples:
      confkeep demo
      confkeep demo --from exports --data demo-of-ours
      confkeep demo --http 8080
    """
    if http_port is not None:
        require_installed()
    one_machine.empty_for_demo(data)
    _isolate()
    here, folder, source = Path.cwd(), data.resolve(), source and source.resolve()
    # In that folder, neither we nor the worker read a `.env` of the user.
    with contextlib.chdir(folder), interrupts.noted() as asked:
        terminal.note("starting a server and a worker ...")
        concurrency = min(len(TENANTS), os.cpu_count() or 1)
        with one_machine.run(
            folder, workers=1, concurrency=concurrency, interrupts=asked, http_port=http_port
        ) as machine:
            os.environ.update(machine.environment)
            get_settings.cache_clear()
            if source is None:
                done = _play_samples(terminal, machine)
            else:
                done = _play_folder(terminal, machine, source, None if order == "auto" else order)
            if http_port is not None:
                # What is to be pasted counts from where the user stands.
                with contextlib.chdir(here):
                    _show(terminal, machine.store, done)
                _serve(terminal, machine, http_port)
    _show(terminal, data / "store", done)
    terminal.note(
        "`confkeep up` runs a server and workers until Ctrl-C; those of the demo have ended."
    )


@dataclass(frozen=True, slots=True)
class _Done:
    """What the demo has handed over."""

    backups: int
    unchanged: int
    seconds: float
    #: Tenant and device that are worth a look; None: the device with the most versions.
    best: tuple[str, str] | None


def _isolate() -> None:
    """Forget the user's settings: the demo must not reach a real server or store."""
    for name in [name for name in os.environ if name.startswith("CONFKEEP_")]:
        del os.environ[name]
    os.environ.pop("GIT_STORE_PATH", None)


class _Router:
    """A made-up device as the scheduler of the demo polls it."""

    def __init__(self, tenant_id: str, seed: str, *, has_binary: bool) -> None:
        self.tenant_id = tenant_id
        self.sample = SampleDevice(seed)
        self.changes = 0
        self.changed_last = False
        self._random = random.Random(seed)  # noqa: S311 - no secret
        self._has_binary = has_binary
        self._files: tuple[bytes, bytes | None] | None = None

    def poll(self, number: int, now: dt.datetime) -> BackupPayload:
        at = now - (POLLS - number) * _BETWEEN_POLLS
        luck = self._random.random()
        self.changed_last = self._files is not None and luck < _CHANGED
        if self.changed_last:
            self.changes += 1
            self.sample.mutate()
        if self._files is None or luck < 1 - _REPEATED:
            self._files = (
                self.sample.export(at),
                self.sample.binary() if self._has_binary else None,
            )
        export, binary = self._files
        return BackupPayload.checked(
            tenant_id=self.tenant_id,
            device_id=self.sample.device_id,
            export_text=export,
            binary_backup=binary,
            message=f"{self.sample.identity}: poll {number}",
            captured_at=at,
        )


def _play_samples(terminal: Terminal, machine: one_machine.OneMachine) -> _Done:
    now = dt.datetime.now(dt.UTC).replace(microsecond=0)
    tenant_ids = [made_id(name) for name in TENANTS]
    routers = [
        _Router(tenant_id, f"demo {tenant} {device}", has_binary=(tenant, device) != (0, 0))
        for tenant, tenant_id in enumerate(tenant_ids)
        for device in range(DEVICES)
    ]
    for tenant_id, name in zip(tenant_ids, TENANTS, strict=True):
        name_tenant(tenant_id, name)
    total = POLLS * len(routers)
    unchanged = 0
    started = time.monotonic()
    receipts = Receipts(check=machine.check)
    what = f"polling {len(routers)} routers {POLLS} times"
    with terminal.progress(what, total) as advance:
        for number in range(1, POLLS + 1):
            results = enqueue_backups([router.poll(number, now) for router in routers])
            receipts.expect([result.id for result in results])
            unchanged += _unchanged(receipts.poll(), advance)
        while len(receipts):
            unchanged += _unchanged(receipts.wait(), advance)
    seconds = time.monotonic() - started
    best = max(routers, key=lambda router: (router.changed_last, router.changes))
    return _Done(total, unchanged, seconds, (best.tenant_id, best.sample.device_id))


def _unchanged(answers: Sequence[Answer], advance: Callable[[int], None]) -> int:
    """How many of these backups changed nothing."""
    unchanged = 0
    for answer in answers:
        if answer.receipt is None:
            raise PoisonedBackup(str(answer.error))
        unchanged += answer.receipt.unchanged
    advance(len(answers))
    return unchanged


def _play_folder(
    terminal: Terminal, machine: one_machine.OneMachine, source: Path, order: str | None
) -> _Done:
    files = (path for shape in ("*", "*/*") for path in source.glob(shape))
    names_tenants = not any(path.suffix.lower() == ".rsc" for path in files)
    found = exports_folder.scan(
        source, order=order, tenant=None if names_tenants else "demo", asker=Guess()
    )
    for note in found.notes:
        terminal.note(printable(note))
    started = time.monotonic()
    with terminal.progress("importing", len(found.captures)) as advance:
        sent = Sender(frozenset(), advance, silence_s=SILENCE_S, check=machine.check).send(
            found.captures
        )
    seconds = time.monotonic() - started
    for path, reason in [*sent.refused, *sent.dead]:
        terminal.note(f"refused {printable(path)}: {printable(reason)}")
    return _Done(sent.imported, sent.unchanged, seconds, None)


def _show(terminal: Terminal, store: Path, done: _Done) -> None:
    tenants = tenants_of(store)
    if not done.backups or not tenants:
        raise NoReceipt(
            "nothing was accepted", hint="The lines above say why each export was refused."
        )
    if done.best is None:
        best = max(
            (row.versions, tenant, row.called.id)
            for tenant in tenants
            for row in directory_of(open_repository(repository_path(store, tenant)))
        )
        tenant_id, device_id = best[1:]
    else:
        tenant_id, device_id = done.best
    repository = open_repository(repository_path(store, tenant_id))
    devices = [
        len(devices_of(open_repository(repository_path(store, tenant)))) for tenant in tenants
    ]
    terminal.prose(
        f"{count_text(done.backups, 'backup')} of {count_text(sum(devices), 'device')} of "
        f"{count_text(len(tenants), 'tenant')} are in git: {done.backups / done.seconds:.0f} a "
        "second, each safe on disk before its receipt.",
        style="bold green",
    )
    if done.unchanged:
        terminal.prose(
            f"{done.unchanged} repeated the device's last files: they are commits too, but no "
            "history lists them."
        )
    tenant = _typed(tenant_id, resolver.tenants(store))
    called = names_of(repository)
    device = _typed(device_id, called.values())
    _show_device(terminal, repository, called[device_id])
    _show_git_log(terminal, repository)
    path = os.path.relpath(store)
    confkeep = _own_name()
    terminal.heading("Go on with")
    terminal.line(f"  export CONFKEEP_GIT_STORE_PATH={path}", style="cyan")
    for command_line in (
        f"{confkeep} devices {tenant}",
        f"{confkeep} history {tenant} {device}",
        f"{confkeep} restore {tenant} {device} -o restored",
        f"git -C {path}/{tenant_id[:8]}*.git log --stat -3",
    ):
        terminal.line(f"  {command_line}", style="cyan")


def _serve(terminal: Terminal, machine: one_machine.OneMachine, port: int) -> Never:
    """Let HTTP be served until a signal comes, and say how to ask it."""
    terminal.heading("Pages")
    terminal.line(f"  {machine.page}", style="cyan")
    terminal.heading("HTTP")
    terminal.line(f"  export TOKEN={machine.token}", style="cyan")
    tenant = resolver.tenants(machine.store)[0]
    for path in ("tenants", f"tenants/{quote(tenant.name or tenant.id)}/devices?limit=3"):
        terminal.line(
            f"  curl -H \"Authorization: Bearer $TOKEN\" 'http://127.0.0.1:{port}/v1/{path}'",
            style="cyan",
        )
    terminal.note("Ctrl-C ends it")
    while True:
        machine.check()
        time.sleep(_POLL_S)


def _show_device(terminal: Terminal, repository: TenantRepository, device: Called) -> None:
    rows = rows_of(repository, device.id, Wanted(limit=_VERSIONS_SHOWN))
    terminal.heading(f"History of {printable(str(device))}")
    print_versions(terminal, rows)
    terminal.heading("Its last change")
    print_diff(terminal, repository, device.id, how=How(max_lines=_DIFF_LINES))


def _show_git_log(terminal: Terminal, repository: TenantRepository) -> None:
    terminal.heading(f"git log --oneline -{_LOG_LINES}, straight from git")
    git = Git(repository.path, None, time.monotonic() + _GIT_S)
    try:
        log = git.run("log", "--oneline", f"-{_LOG_LINES}")
    except GitUnavailable:
        terminal.note("There is no usable git on this machine; the demo does not need it.")
        return
    except MaintenanceFailed as error:
        terminal.note(printable(str(error)))
        return
    for line in log.decode("utf-8", "surrogateescape").splitlines():
        terminal.line(printable(line))


def _typed(one_id: str, known: Collection[Called]) -> str:
    """What a person types for one of `known`: its name if that is its alone, else its id."""
    names = [one.name for one in known]
    name = next(one.name for one in known if one.id == one_id)
    return one_id if name is None or names.count(name) > 1 else shlex.quote(name)


def _own_name() -> str:
    """How the user can call this program again from the current folder."""
    called = Path(sys.argv[0])
    if called.name != "confkeep":
        return f"{sys.executable} -m confkeep"
    found = shutil.which("confkeep")
    if found is not None and os.path.samefile(found, called):
        return "confkeep"
    return min(os.path.relpath(called), str(called), key=len)
