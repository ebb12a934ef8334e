"""Proves that a restore works: restores a random sample from a fresh clone.

For each version of the sample, two witnesses must agree: the files that come out of the clone, read
back from a folder that was empty, and what the repository's own history says about them.
"""

from __future__ import annotations

import os
import random
import secrets
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Final

import pygit2

from confkeep.errors import RepositoryDamaged, StoreUnavailable
from confkeep.routeros.script import binary_kind, parse_script
from worker.store.git.durable import file_system_errors
from worker.store.git.git_process import Progress
from worker.store.git.pack_set import names_of
from worker.store.history.index import HistoryIndex, open_index
from worker.store.repository import reader
from worker.store.repository.backup import BINARY_NAME, EXPORT_NAME, FILE_NAMES, Detail, Version
from worker.store.repository.line_delta import count_changed_lines
from worker.store.repository.tenant_repository import (
    TenantRepository,
    no_repository,
    open_repository,
)
from worker.store.upkeep.clone import ANOTHER_FOLDER, clone_repository
from worker.store.upkeep.drill_report import DrillReport, Point, Restored

#: How many versions are restored by default.
SAMPLE: Final = 20
#: Most devices, and most of the newest versions of each, whose sizes are reported.
_CURVES: Final = 8
_CURVE_VERSIONS: Final = 200
#: Seconds during which a clone is retried when packs were removed beneath it.
_CLONES_S: Final = 3600.0
#: The errors that reading a damaged repository raises; for a missing object it is KeyError.
_UNREADABLE: Final = (RepositoryDamaged, pygit2.GitError, KeyError)


class _Stopped(Exception):
    """The caller asked to stop."""


def drill_repository(
    path: Path,
    *,
    sample: int = SAMPLE,
    seed: int | None = None,
    scratch: Path | None = None,
    progress: Progress | None = None,
    stop: Callable[[], bool] | None = None,
) -> DrillReport:
    """Restore a random sample of versions from a fresh clone, and check the result.

    May run beside workers. Problems are reported, not raised.

    Args:
        sample: how many versions, each of a different device as far as there are enough.
        seed: chooses the sample; None: a random one.
        scratch: where the clone is made and removed again; None: the system's temporary folder.
            Needs as much space as the repository.
        progress: gets told what is being done.
        stop: called now and then; if it returns True, the drill ends with the report so far.

    Raises:
        NotInStore: there is no repository.
        StoreUnavailable: too little free space for the clone, or the file system refused.
    """
    if not path.is_dir():
        raise no_repository(path)
    start = time.monotonic()
    report = DrillReport(path.stem, secrets.randbelow(1 << 32) if seed is None else seed)
    with (
        file_system_errors(path.name),
        tempfile.TemporaryDirectory(prefix="confkeep-drill-", dir=scratch) as folder,
    ):
        try:
            _Drill(report, open_repository(path), Path(folder), progress, stop).run(sample)
        except _Stopped:
            report.complete = False
        except _UNREADABLE as error:
            report.problems.append(f"the repository cannot be read: {error}")
    report.last_seen = dict(sorted(report.last_seen.items(), key=lambda item: item[1]))
    report.duration_s = time.monotonic() - start
    return report


class _Drill:
    """One run of a drill. Only its report outlives it."""

    def __init__(
        self,
        report: DrillReport,
        source: TenantRepository,
        folder: Path,
        progress: Progress | None,
        stop: Callable[[], bool] | None,
    ) -> None:
        self._report = report
        self._source = source
        self._folder = folder
        self._progress = progress or (lambda _what, _done, _total: None)
        self._stop = stop or (lambda: False)

    def run(self, sample: int) -> None:
        report, source = self._report, self._source
        tip = source.tip()
        if tip is None:
            return
        report.tip = str(tip)
        devices = reader.devices_of(source)
        report.devices = len(devices)
        with open_index(source) as index:
            rng = random.Random(report.seed)  # noqa: S311 - a sample, and no secret
            chosen = list(_choose(index, tip, devices, sample, rng))
            clone = self._clone()
            if clone is not None:
                for number, (device, versions, place) in enumerate(chosen):
                    self._tick("restored", number, len(chosen))
                    newer = versions[place - 1].sha if place else None
                    version = versions[place]
                    one = Restored(device, version.sha, version.captured_at)
                    report.restored.append(self._restore(index, clone, one, newer))
            self._describe(index, tip, devices, [device for device, _versions, _place in chosen])

    def _tick(self, what: str, done: int, total: int) -> None:
        if self._stop():
            raise _Stopped
        self._progress(what, done, total)

    def _clone(self) -> TenantRepository | None:
        self._tick("clone", 0, 1)
        path = self._source.path
        needed = _size_of(path / "objects")
        free = shutil.disk_usage(self._folder).free
        if free < needed:
            raise StoreUnavailable(
                f"{path.name}: a clone needs {needed:,} bytes, and {self._folder.parent} has {free:,}",
                hint=ANOTHER_FOLDER,
            )
        folder = path / "objects" / "pack"
        start, number, again = time.monotonic(), 0, True
        while again:
            packs, number = names_of(folder).keys(), number + 1
            clone = self._folder / f"clone-{number}.git"
            problem = clone_repository(path, clone, stop=self._stop)
            if self._stop():
                raise _Stopped
            # Retry only if a concurrent repack removed a pack beneath the clone; otherwise it would
            # fail again.
            went = bool(packs - names_of(folder).keys())
            again = problem is not None and went and time.monotonic() < start + _CLONES_S
        self._report.clone_s = time.monotonic() - start
        if problem is not None:
            self._report.problems.append(f"the repository cannot be cloned: {problem}")
            return None
        return open_repository(clone)

    def _restore(
        self,
        index: HistoryIndex,
        clone: TenantRepository,
        one: Restored,
        newer: str | None,
    ) -> Restored:
        try:
            # The version itself, with details: the first one older than the next newer version.
            (said,) = index.versions(
                one.device_id, tip=self._report.tip, limit=1, before=newer, details=True
            )
            assert said.detail is not None
            return self._compare(clone, one, said.detail)
        except _UNREADABLE as error:
            return replace(one, problems=(f"cannot be read: {error}",))

    def _compare(self, clone: TenantRepository, one: Restored, detail: Detail) -> Restored:
        """Restore a version from the clone, and compare it with the source and with what the index tells."""
        there = reader.find_commit(clone, one.commit)
        old, new = reader.read_change(clone, there, one.device_id)
        folder = self._folder / one.device_id / one.commit
        folder.mkdir(parents=True)
        for name, data in ((EXPORT_NAME, new.export), (BINARY_NAME, new.binary)):
            if data is not None:
                (folder / name).write_bytes(data)
        files = {file.name: file.read_bytes() for file in folder.iterdir()}
        shutil.rmtree(folder)
        export, binary = files.get(EXPORT_NAME), files.get(BINARY_NAME)

        problems = []
        blobs = _blobs_of(reader.find_commit(self._source, one.commit), one.device_id)
        for name, size in ((EXPORT_NAME, detail.export_bytes), (BINARY_NAME, detail.binary_bytes)):
            problems += _differences(name, files.get(name), blobs.get(name))
            if (len(files[name]) if name in files else None) != size:
                problems.append(f"{name} has not the size that the history says: {size}")
        added, removed = count_changed_lines(old.export or b"", export or b"")
        if (added, removed) != (detail.lines_added, detail.lines_removed):
            problems.append(
                f"+{added} -{removed} lines, and the history says "
                f"+{detail.lines_added} -{detail.lines_removed}"
            )
        script = None if export is None else parse_script(export)
        return replace(
            one,
            export_bytes=None if export is None else len(export),
            binary_bytes=None if binary is None else len(binary),
            lines_added=added,
            lines_removed=removed,
            unrecognised_share=None if script is None else round(script.unrecognised_share, 4),
            looks_like_routeros=None if script is None else script.recognised > 0,
            binary_kind=None if binary is None else binary_kind(binary),
            problems=tuple(problems),
        )

    def _describe(
        self, index: HistoryIndex, tip: pygit2.Oid, devices: list[str], sampled: list[str]
    ) -> None:
        """Fill in the data for the charts."""
        distinct = list(dict.fromkeys(sampled))
        for number, device in enumerate(distinct[:_CURVES]):
            self._tick("sizes", number, min(len(distinct), _CURVES))
            versions = index.versions(device, tip=tip, limit=_CURVE_VERSIONS, details=True)
            self._report.curves[device] = [
                Point(
                    version.captured_at,
                    version.detail.export_bytes or 0,
                    version.detail.binary_bytes or 0,
                )
                for version in reversed(versions)
                if version.detail is not None
            ]
        seen = index.all_last_seen(tip)
        self._report.last_seen = {device: seen[device] for device in devices if device in seen}


def _choose(
    index: HistoryIndex,
    tip: pygit2.Oid,
    devices: list[str],
    sample: int,
    rng: random.Random,
) -> Iterator[tuple[str, list[Version], int]]:
    """Devices with their versions, newest first, and the position of the version to restore."""
    histories = {
        device: index.versions(device, tip=tip)
        for device in rng.sample(devices, min(sample, len(devices)))
    }
    taken = {device: rng.randrange(len(found)) for device, found in histories.items() if found}
    more = [
        (device, place)
        for device, found in histories.items()
        for place in range(len(found))
        if taken[device] != place
    ]
    rest = min(sample - len(taken), len(more))
    for device, place in [*taken.items(), *rng.sample(more, rest)]:
        yield device, histories[device], place


def _size_of(folder: Path) -> int:
    size = 0
    for below, _folders, names in os.walk(folder):
        for name in names:
            # A concurrent repack removes the packs that it replaced.
            with suppress(FileNotFoundError):
                size += os.stat(os.path.join(below, name)).st_size
    return size


def _blobs_of(commit: pygit2.Commit, device: str) -> dict[str, pygit2.Oid]:
    """The files of a device that a commit's trees name; does not read the files."""
    try:
        entry = commit.tree[device]
    except KeyError:
        return {}
    if not isinstance(entry, pygit2.Tree):
        return {}
    return {item.name: item.id for item in entry if item.name in FILE_NAMES}


def _differences(name: str, restored: bytes | None, blob: pygit2.Oid | None) -> list[str]:
    if restored is None:
        return [] if blob is None else [f"{name} was not restored"]
    if blob is None:
        return [f"{name} is not in the history"]
    return [] if pygit2.hash(restored) == blob else [f"{name} has other bytes than in the history"]
