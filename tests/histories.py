"""Histories that plain git writes fast, of any shape, for tests that need many commits."""

from __future__ import annotations

import random
import subprocess
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import pygit2

from confkeep.labels import NO_LABELS, Labels
from tests.judge import GIT_ENVIRONMENT, git
from worker.store.repository.backup import Backup, Detail
from worker.store.repository.detail import exports_of, read_detail
from worker.store.repository.reader import walk_versions
from worker.store.repository.tenant_repository import TenantRepository

_FAST_IMPORT = (
    "-c fastimport.unpackLimit=1 -c core.fsync=none fast-import --quiet --force --date-format=raw"
)

#: Where a random history's clock begins.
START_S = 1_600_000_000


def device_ids(count: int, seed: int = 0) -> list[str]:
    rng = random.Random(seed)
    return [str(uuid.UUID(int=rng.getrandbits(128), version=4)) for _ in range(count)]


@dataclass
class Stream:
    """A `git fast-import` stream for `refs/heads/main`, built commit by commit."""

    parts: list[bytes] = field(default_factory=list)
    commits: int = 0

    def commit(
        self,
        files: dict[str, bytes | None],
        *,
        when_s: int,
        parents: list[int] | None = None,
        message: bytes = b"poll",
    ) -> int:
        """Add a commit; None removes a file. Returns its mark. Parents: the commit before."""
        self.commits += 1
        if parents is None:
            parents = [self.commits - 1] if self.commits > 1 else []
        out = [b"reset refs/heads/main\n"] if not parents else []
        out.append(b"commit refs/heads/main\nmark :%d\n" % self.commits)
        out.append(b"committer Plain <plain@example.net> %d +0000\n" % when_s)
        out.append(b"data %d\n%s\n" % (len(message), message))
        for number, parent in enumerate(parents):
            out.append(b"%s :%d\n" % (b"merge" if number else b"from", parent))
        for name, data in files.items():
            if data is None:
                out.append(b"D %s\n" % name.encode())
            else:
                out.append(b"M 100644 inline %s\ndata %d\n%s\n" % (name.encode(), len(data), data))
        self.parts.append(b"".join(out))
        return self.commits

    def write(self, path: Path) -> None:
        """Create the repository, or add to it."""
        if not path.exists():
            path.mkdir(parents=True)
            git(path, "init", "--quiet", "--bare", "--initial-branch=main")
        subprocess.run(
            ["git", "-C", str(path), *_FAST_IMPORT.split()],
            input=b"".join(self.parts),
            check=True,
            env=GIT_ENVIRONMENT,
        )


def write_linear(path: Path, devices: list[str], commits: int, seed: int = 0) -> None:
    """One changed device a commit, some unchanged, some seconds shared, the clock at times back."""
    rng, stream, when_s = random.Random(seed), Stream(), START_S
    for number in range(commits):
        when_s += rng.choice([0, 0, 1, 60, -5])
        device = devices[number % len(devices)] if number < len(devices) else rng.choice(devices)
        files: dict[str, bytes | None] = {f"{device}/export.rsc": b"%d\n" % rng.randrange(50)}
        if rng.random() < 0.5:
            files[f"{device}/backup.bin"] = rng.randbytes(8)
        stream.commit(files, when_s=when_s, message=b"poll %d" % number)
    stream.write(path)


def write_merged(path: Path, devices: list[str], commits: int, seed: int) -> None:
    """A random graph: forks, merges of up to three, removed devices, clocks that disagree."""
    rng, stream = random.Random(seed), Stream()
    tips: list[int] = []
    # Some histories have many commits in one second, some have clocks far apart, some both.
    same, skews = rng.choice([1, 1, 5, 100]), rng.choice([[0], [0, 0, -10, 10], [0, -15, 40, -200]])
    for number in range(commits):
        last = number == commits - 1
        if not tips:
            parents: list[int] = []
        elif last:
            parents = list(dict.fromkeys(tips))
        elif len(set(tips)) > 1 and rng.random() < 0.3:
            parents = rng.sample(sorted(set(tips)), k=min(len(set(tips)), rng.choice([2, 2, 3])))
        else:
            parents = [rng.choice(tips)]
        files: dict[str, bytes | None] = {}
        for device in rng.sample(devices, min(len(devices), rng.choice([0, 1, 1, 1, 2]))):
            name = f"{device}/export.rsc"
            files[name] = None if rng.random() < 0.1 else b"%d\n" % rng.randrange(3)
        if not parents:
            files = {f"{device}/export.rsc": b"0\n" for device in devices}
        mark = stream.commit(
            files,
            when_s=START_S + number // same * 10 + rng.choice(skews),
            parents=parents,
            message=b"poll %d" % number,
        )
        tips = [tip for tip in tips if tip not in parents] + [mark]
        if not last and len(tips) < 3 and rng.random() < 0.3:
            tips.append(rng.choice([mark, *(parents or [mark])]))
    stream.write(path)


def random_backups(
    devices: list[str], count: int, seed: int, *, labelled: bool = False
) -> list[Backup]:
    """Backups that change a little, some of them nothing, some only the header's date."""
    rng, naming = random.Random(seed), random.Random(seed)
    backups = []
    for _ in range(count):
        labels = NO_LABELS
        if labelled:
            name = naming.choice([None, None, "core1", "Zürich, rack 7", ""])
            labels = Labels(name, group=naming.choice([None, None, "edge"]))
        body = [f"add name=x{rng.randrange(2)}" for _ in range(rng.randrange(1, 4))]
        header = f"# 2025-09-{rng.randrange(10, 13)} 10:00:00 by RouterOS 7.16"
        backups.append(
            Backup(
                backup_id=str(uuid.UUID(int=rng.getrandbits(128), version=4)),
                device_id=rng.choice(devices),
                export="\r\n".join([header, *body, ""]).encode(),
                binary=rng.choice([None, b"\0\1", b"\0\2"]),
                message=f"poll {rng.randrange(1000)}",
                labels=labels,
            )
        )
    return backups


def ids_of_main(path: Path) -> list[str]:
    """All commits of main, newest first."""
    git_repository = pygit2.Repository(str(path))
    tip = git_repository.references["refs/heads/main"].target
    return [str(commit.id) for commit in git_repository.walk(tip)]


def walked_detail(repository: TenantRepository, sha: str, device: str) -> Detail:
    """The detail of a version, from git alone."""

    def older() -> Iterator[bytes]:
        versions = walk_versions(repository, device, tip=pygit2.Oid(hex=sha))
        yield from exports_of(repository, (each.sha for each in islice(versions, 2, None)), device)

    return read_detail(repository, sha, device, older)
