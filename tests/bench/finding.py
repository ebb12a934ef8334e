"""Finding: `confkeep search` against `git grep`, and commands that take a name against those with an id."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from confkeep.labels import Labels
from tests.bench.fleet import BINARY_BYTES, Fleet, folder
from tests.bench.table import Row, alternate, at_most, median_costs, timed
from tests.judge import GIT_ENVIRONMENT
from worker.engine.resolver import find_device, find_tenant
from worker.store.repository.backup import Backup, Naming
from worker.store.repository.tenant_repository import create_repository, open_repository
from worker.store.writing.commit import Writer

SEARCHED_DEVICES = 10_000
NAMED_DEVICES = 1_000
#: Backups that are written at once.
BATCH = 2_500
#: What is searched for, and the seconds that it may take: texts of a few devices, as people look for them.
LITERAL, LITERAL_S = "customer-4711 dst-port", 2.0
REGEX, REGEX_S = "dst-port=(22|8291) ", 3.0
#: How much more a whole command may take for a name: less cannot be told from noise.
NAME_BOUND = 1.1
#: Resolutions a round.
RESOLVED = 20


def rows() -> Iterator[Row]:
    """The rows about finding."""
    with folder() as store:
        path = searched_tenant(store)
        yield from search("literal", LITERAL, LITERAL_S, path, [], ["-F"])
        yield from search("regular expression", REGEX, REGEX_S, path, ["--regex"], ["-E"])
    with folder() as store:
        yield from names(named_tenant(store))


def searched_tenant(store: Path) -> Path:
    """Devices of which no two exports have a line in common but by chance."""
    fleet = Fleet(SEARCHED_DEVICES)
    path = store / f"{fleet.uuid()}.git"
    writer = Writer(create_repository(path))
    for start in range(0, SEARCHED_DEVICES, BATCH):
        writer.commit_backups(
            [
                Backup(fleet.uuid(), device_id, fleet.export(), None, "poll")
                for device_id in fleet.device_ids[start : start + BATCH]
            ]
        )
    writer.close()
    return path


def search(
    what: str, pattern: str, bar_s: float, path: Path, ours: list[str], theirs: list[str]
) -> Iterator[Row]:
    """Whole commands, from their start to their end, that find the same lines."""
    tenant_id = path.name.removesuffix(".git")
    by_confkeep = ["search", *ours, "--", pattern, tenant_id]
    by_git = ["git", "-C", str(path), "grep", *theirs, "-n", "-e", pattern, "main"]

    def lines_of_git() -> bytes:
        return subprocess.run(by_git, env=GIT_ENVIRONMENT, capture_output=True, check=True).stdout

    def lines_of_confkeep() -> bytes:
        return confkeep(path.parent, *by_confkeep)

    found = lines_of_confkeep().count(b"\n")
    assert 0 < found == lines_of_git().count(b"\n")
    our_s, their_s = median_costs(
        alternate([partial(timed, lines_of_confkeep), partial(timed, lines_of_git)])
    )
    our_work_s, their_work_s = median_costs(
        alternate([partial(processor_s, lines_of_confkeep), partial(processor_s, lines_of_git)], 3)
    )
    name = f"search of a {what} in {SEARCHED_DEVICES:,} devices"
    figures = (
        f"{our_s:.2f} s, git grep {their_s:.2f} s; of processors {our_work_s:.2f} and "
        f"{their_work_s:.2f} s; {found} lines"
    )
    yield at_most(f"{name}, part of {bar_s:g} s", our_s / bar_s, detail=figures)
    yield Row(f"{name}, against git grep", their_s / our_s, None, 2, detail=figures)


def named_tenant(store: Path) -> Path:
    """A tenant and devices with names, and two versions of each device."""
    fleet = Fleet(NAMED_DEVICES)
    tenant_id = fleet.uuid()
    path = store / f"{tenant_id}.git"
    writer = Writer(create_repository(path))
    writer.commit_backups([Naming(fleet.uuid(), tenant_id, Labels("acme"), "name")])
    for export in (fleet.first_export, fleet.next_export(fleet.first_export)):
        binary = fleet.random.randbytes(BINARY_BYTES)
        writer.commit_backups(
            [
                Backup(fleet.uuid(), device, export, binary, "poll", labels=Labels(f"core{number}"))
                for number, device in enumerate(fleet.device_ids)
            ]
        )
    writer.close()
    return path


def names(path: Path) -> Iterator[Row]:
    """What whole commands by name and by id take of a processor, and what finding the device alone takes."""
    number = NAMED_DEVICES // 2
    tenant_id, device_id = path.name.removesuffix(".git"), Fleet(NAMED_DEVICES).device_ids[number]
    by_name, by_id = ("acme", f"core{number}"), (tenant_id, device_id)

    def resolve(tenant: str, device: str) -> None:
        for _ in range(RESOLVED):
            assert find_tenant(path.parent, tenant).id == tenant_id
            assert find_device(open_repository(path), device).id == device_id

    name_s, id_s = median_costs(
        alternate([partial(timed, partial(resolve, *one)) for one in (by_name, by_id)])
    )
    alone = f"to find it {name_s / RESOLVED * 1e3:.1f} and {id_s / RESOLVED * 1e3:.1f} ms"
    for command in ("history", "show", "diff"):
        run = partial(confkeep, path.parent, command)
        assert run(*by_name) == run(*by_id)
        name_s, id_s = median_costs(
            alternate([partial(processor_s, partial(run, *one)) for one in (by_name, by_id)])
        )
        yield at_most(
            f"{command} by name in a tenant of {NAMED_DEVICES:,} devices, over by id",
            name_s / id_s,
            NAME_BOUND,
            1,
            detail=f"{name_s * 1e3:.0f} and {id_s * 1e3:.0f} ms of a processor, {alone}",
        )


def processor_s(call: Callable[[], object]) -> float:
    """Seconds of a processor that a call's child processes take: other work on the machine does not count."""

    def used() -> float:
        usage = resource.getrusage(resource.RUSAGE_CHILDREN)
        return usage.ru_utime + usage.ru_stime

    before = used()
    call()
    return used() - before


def confkeep(store: Path, *arguments: str) -> bytes:
    """What a command prints, as a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "confkeep", *arguments],
        env={**os.environ, "CONFKEEP_GIT_STORE_PATH": str(store)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=True,
    ).stdout
