"""Verifies a repository's files: leftovers, checksums at their ends, packs with their idx files."""

from __future__ import annotations

import contextlib
import errno
import os
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from confkeep.errors import RepositoryDamaged, SideFileDamaged
from worker.store.git import flock, git_config, keep, opening
from worker.store.git.checksums import end_of, trailer_problem
from worker.store.git.git_objects import GitObjects
from worker.store.repository import id_map, recovery
from worker.store.repository.backup import pack_uuid
from worker.store.rewriting.retention_file import RULES_NAME, load_rules
from worker.store.rewriting.rewrite import BEFORE_REFS
from worker.store.upkeep.verify_report import Kind, Report

#: Files that only make reading faster: removing a damaged one loses nothing.
_HELPERS: Final = (
    "objects/pack/multi-pack-index*",
    "objects/pack/*.rev",
    "objects/pack/*.bitmap",
    "objects/info/commit-graph",
    "objects/info/commit-graphs/*.graph",
)


#: Kinds that `main` is read from: with such a finding, it is unknown what `main` holds.
_GIT_SIDE: Final = frozenset({Kind.REF, Kind.PACK, Kind.IDX, Kind.OBJECT})


@contextlib.contextmanager
def maintenance_kept_away(path: Path, wait_s: float) -> Iterator[bool]:
    """Keep maintenance away during the block; yields False if it runs, so packs may be removed."""
    with contextlib.ExitStack() as held:
        try:
            kept_away = held.enter_context(flock.no_maintenance(path, wait_s=wait_s))
        except OSError as error:
            if error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS):
                raise
            # A process that may not lock still verifies.
            kept_away = True
        yield kept_away


def look_into_folders(path: Path) -> None:
    """Raise if a folder may not be read: a search for files would treat it as empty."""
    for name in ("", "refs", "refs/heads", "objects", "objects/pack"):
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            os.listdir(path / name)


def check_leftovers(report: Report, deadline: float, *, maintained: bool) -> bool:
    """Note files of dead writers. Returns whether there was a moment without living writers.

    Args:
        maintained: whether maintenance runs; its files look like those of a dead one.
    """
    path = report.path
    if not (path / "objects" / "pack").is_dir():
        report.add(Kind.PACK, "objects/pack", "the folder is missing")
        return True
    while True:
        try:
            with flock.exclusive(path) as alone:
                if alone:
                    _note_leftovers(report, maintained=maintained)
                    return True
        except PermissionError:
            # A process that may not lock cannot tell a leftover from a file in use.
            return True
        if time.monotonic() >= deadline:
            return False
        time.sleep(0.02)


def _note_leftovers(report: Report, *, maintained: bool) -> None:
    repack_leftovers = [] if maintained else recovery.repack_leftovers(report.path)
    for leftover in (*recovery.leftovers(report.path), *repack_leftovers):
        name = leftover.relative_to(report.path).as_posix()
        report.add(Kind.LEFTOVER, name, "a writer that died left it; the next one removes it")
    for file in opening.cut_short(report.path):
        text = f"it is cut short; the next writer renames it to {file.name}{opening.ASIDE}"
        report.add(Kind.LEFTOVER, file.relative_to(report.path).as_posix(), text)
    if (report.path / id_map.PENDING_NAME).exists():
        text = "a rewrite that died left it; the next writer renames or removes it"
        report.add(Kind.LEFTOVER, id_map.PENDING_NAME, text)


def check_config(report: Report) -> None:
    """Check that git can work with the repository's configuration."""
    problem = git_config.problem_of(report.path)
    if problem is not None:
        report.add(Kind.CONFIG, git_config.NAME, problem)


@dataclass(frozen=True, slots=True)
class Half:
    """A pack without its idx, or an idx without its pack."""

    #: The path of the file that exists.
    found: str
    #: The finding that it becomes if a ref needs what it holds.
    kind: Kind
    place: str
    text: str


def check_files(report: Report, tick: Callable[[int, int], None]) -> list[Half]:
    """Check all files that end with a checksum, and that packs and idx files come in pairs.

    Args:
        tick: gets how many packs are done, and how many there are.

    Returns:
        The files without their partner that a crash may have left: it is not known yet whether refs
        need what they hold.
    """
    if not (report.path / "objects" / "pack").is_dir():
        return []
    packs = _Packs(report, tick)
    while packs.look():
        pass
    halves = packs.halves()
    helpers = [file for pattern in _HELPERS for file in sorted(report.path.glob(pattern))]
    for file in helpers:
        # A lock, and the folder of git's incremental form.
        if file.suffix in (".lock", ".d"):
            continue
        _check_trailer(report, file, Kind.HELPER)
    return halves


class _Packs:
    """Checks the packs of a repository while others add and remove some.

    Before a pack is removed its objects are in another pack, so all objects were checked when two
    listings in a row are the same.
    """

    def __init__(self, report: Report, tick: Callable[[int, int], None]) -> None:
        self._report = report
        self._tick = tick
        self._folder = report.path / "objects" / "pack"
        self._names = set[str]()
        self._seen = set[str]()

    def look(self) -> bool:
        """List the packs and check the new ones; returns whether the listing has changed."""
        names = {
            name
            for name in os.listdir(self._folder)
            if name.startswith("pack-") and name.endswith((".pack", ".idx"))
        }
        if names == self._names:
            return False
        self._names = names
        new = sorted(self._stems(".pack") & self._stems(".idx") - self._seen)
        for done, stem in enumerate(new):
            self._tick(done, len(new))
            self._seen.add(stem)
            pack, idx = (self._folder / f"{stem}{suffix}" for suffix in (".pack", ".idx"))
            _check_pair(self._report, pack, idx)
        return True

    def _stems(self, suffix: str) -> set[str]:
        return {name.removesuffix(suffix) for name in self._names if name.endswith(suffix)}

    def halves(self) -> list[Half]:
        """The files of the last listing that lack their other half, but for whole packs: those are
        reported at once, since `repair` can make their idx again."""
        packs, idxs = self._stems(".pack"), self._stems(".idx")
        found = []
        for stem in sorted(idxs - packs):
            place = f"objects/pack/{stem}"
            text = "it is missing; its idx is there"
            found.append(Half(f"{place}.idx", Kind.PACK, f"{place}.pack", text))
        for stem in sorted(packs - idxs):
            place = f"objects/pack/{stem}"
            # A living writer has it, or a dead one's leftover was already noted.
            if keep.is_kept(self._folder, stem) or _is_leftover(self._report, f"{place}.pack"):
                continue
            problem = trailer_problem(self._folder / f"{stem}.pack")
            if problem is None:
                self._report.add(Kind.IDX, f"{place}.idx", "it is missing; its pack is there")
            else:
                text = f"{problem}, and its idx is missing"
                found.append(Half(f"{place}.pack", Kind.PACK, f"{place}.pack", text))
        return found


def judge_halves(report: Report, halves: Sequence[Half]) -> None:
    """After all refs were followed, note each half: as left by a crash if no ref needs anything."""
    harmless = {Kind.LEFTOVER, Kind.INDEX, Kind.HELPER, Kind.CONFIG}
    needed = any(finding.kind not in harmless for finding in report.findings)
    for half in halves:
        if needed:
            report.add(half.kind, half.place, half.text)
        else:
            text = "its pack is missing" if half.found.endswith(".idx") else half.text
            report.add(Kind.LEFTOVER, half.found, f"{text}; no ref needs it")


def _is_leftover(report: Report, place: str) -> bool:
    return any(f.kind == Kind.LEFTOVER and f.place == place for f in report.findings)


def _check_pair(report: Report, pack: Path, idx: Path) -> None:
    _check_trailer(report, pack, Kind.PACK)
    if _check_trailer(report, idx, Kind.IDX):
        with contextlib.suppress(FileNotFoundError, IsADirectoryError):
            # An idx ends with its pack's checksum and its own.
            if end_of(pack, 20) != end_of(idx, 40)[:20]:
                place = idx.relative_to(report.path).as_posix()
                report.add(Kind.IDX, place, "it is of another pack")


def _check_trailer(report: Report, file: Path, kind: Kind) -> bool:
    problem = trailer_problem(file)
    if problem is not None:
        report.add(kind, file.relative_to(report.path).as_posix(), problem)
    return problem is None


def check_rules(report: Report) -> None:
    """Check that the tenant's own rules of retention are those that were set."""
    try:
        load_rules(report.path)
    except SideFileDamaged as error:
        report.add(Kind.RULES, RULES_NAME, str(error))


def check_ids(
    report: Report,
    objects: GitObjects,
    tips: Mapping[str, bytes],
    main: Collection[bytes],
    backup_ids: Mapping[bytes, bytes],
) -> None:
    """Check the maps of rewritten ids, and that the current one agrees with `main`.

    Args:
        tips: the commits that refs name.
        main: the ids of all commits of `main`.
        backup_ids: of the backups in `main`, each with its commit's id.
    """
    path = report.path
    for file in sorted(path.glob(f"{id_map.BEFORE_PREFIX}*")):
        # An empty file says that there was no map.
        if file.stat().st_size:
            _check_map(report, file)
    if (path / id_map.PENDING_NAME).exists():
        # The next opening of the repository decides which of the two maps is current.
        _check_map(report, path / id_map.PENDING_NAME)
    file = path / id_map.FILE_NAME
    if file.exists() and not _check_map(report, file):
        return
    if (path / id_map.PENDING_NAME).exists() or not _GIT_SIDE.isdisjoint(
        finding.kind for finding in report.findings
    ):
        return
    fates: dict[bytes, bytes | None] = {}
    if file.exists():
        with contextlib.closing(id_map.IdMap(file)) as ids:
            fates = {fate.old: fate.new for fate in ids.every_fate()}
            back = sum(
                pack_uuid(gone.backup_id) in backup_ids for gone in ids.every_removed_backup()
            )
        current = {new for new in fates.values() if new is not None}
        lost = sum(id_ not in objects for id_ in current)
        for count, text in (
            (lost, "it leads to {} commits that git has not"),
            (
                len(current.difference(main)) - lost,
                "it leads to {} commits that main does not hold",
            ),
            (
                len(fates.keys() & main),
                "main holds {} commits of which it says that they were replaced",
            ),
            (back, "main holds {} backups of which it says that they were removed"),
        ):
            if count:
                report.add(Kind.IDS, file.name, text.format(count))
    for name, tip in tips.items():
        if name.startswith(BEFORE_REFS) and tip not in main and tip not in fates:
            text = f"main does not hold the history of {name}, and no row tells what became of it"
            report.add(Kind.IDS, file.name, text)


def _check_map(report: Report, file: Path) -> bool:
    try:
        with contextlib.closing(id_map.IdMap(file)) as ids:
            damage = ids.damage()
    except RepositoryDamaged as error:
        damage = str(error)
    if damage:
        report.add(Kind.IDS, file.name, damage)
    return not damage
