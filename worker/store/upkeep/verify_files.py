"""Verifies a repository's files: leftovers, checksums at their ends, packs with their idx files."""

from __future__ import annotations

import contextlib
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
from worker.store.upkeep.verify_report import Finding, Kind, Report

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
    """A pack without its idx, or an idx without its pack: what it is if a ref needs what it holds, and else."""

    needed: Finding
    left: Finding


def check_files(report: Report, tick: Callable[[int, int], None]) -> list[Half]:
    """Check all files that end with a checksum, and that packs and idx files come in pairs.

    Others may add and remove packs meanwhile. Before a pack is removed its objects are in another one, so
    all objects were checked when two listings in a row are the same.

    Args:
        tick: gets how many packs are done, and how many there are.

    Returns:
        The files without their partner that a crash may have left: it is not known yet whether refs
        need what they hold.
    """
    folder = report.path / "objects" / "pack"
    if not folder.is_dir():
        return []
    seen, before, now = set[str](), None, _listed(folder)
    while now != before:
        packs, idxs = now
        new = sorted((packs & idxs) - seen)
        for done, stem in enumerate(new):
            tick(done, len(new))
            _check_pair(report, folder / f"{stem}.pack", folder / f"{stem}.idx")
        seen.update(new)
        before, now = now, _listed(folder)
    for pattern in _HELPERS:
        for file in sorted(report.path.glob(pattern)):
            # A lock, and the folder of git's incremental form.
            if file.suffix not in (".lock", ".d"):
                _check_trailer(report, file, Kind.HELPER)
    return [*_idxs_alone(idxs - packs), *_packs_alone(report, packs - idxs)]


def _listed(folder: Path) -> tuple[set[str], set[str]]:
    """The stems of the packs, and of the idx files."""
    names = [name for name in os.listdir(folder) if name.startswith("pack-")]
    packs, idxs = (
        {name.removesuffix(suffix) for name in names if name.endswith(suffix)}
        for suffix in (".pack", ".idx")
    )
    return packs, idxs


def _idxs_alone(stems: Collection[str]) -> Iterator[Half]:
    for place in sorted(f"objects/pack/{stem}" for stem in stems):
        yield Half(
            Finding(Kind.PACK, f"{place}.pack", "it is missing; its idx is there"),
            Finding(Kind.LEFTOVER, f"{place}.idx", "its pack is missing; no ref needs it"),
        )


def _packs_alone(report: Report, stems: Collection[str]) -> Iterator[Half]:
    """The torn ones. A whole one is reported at once, since `repair` can make its idx again."""
    folder = report.path / "objects" / "pack"
    for stem in sorted(stems):
        place = f"objects/pack/{stem}.pack"
        # A living writer has it, or it was noted as what a dead one left.
        noted = any(f.kind == Kind.LEFTOVER and f.place == place for f in report.findings)
        if noted or keep.is_kept(folder, stem):
            continue
        problem = trailer_problem(folder / f"{stem}.pack")
        if problem is None:
            report.add(Kind.IDX, f"objects/pack/{stem}.idx", "it is missing; its pack is there")
        else:
            text = f"{problem}, and its idx is missing"
            yield Half(
                Finding(Kind.PACK, place, text),
                Finding(Kind.LEFTOVER, place, f"{text}; no ref needs it"),
            )


def judge_halves(report: Report, halves: Sequence[Half]) -> None:
    """After all refs were followed, note each half: as left by a crash if no ref needs anything."""
    harmless = {Kind.LEFTOVER, Kind.INDEX, Kind.HELPER, Kind.CONFIG}
    needed = any(finding.kind not in harmless for finding in report.findings)
    for half in halves:
        found = half.needed if needed else half.left
        report.add(found.kind, found.place, found.text)


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
    file, pending = path / id_map.FILE_NAME, path / id_map.PENDING_NAME
    # An empty one says that there was no map.
    before = [each for each in path.glob(f"{id_map.BEFORE_PREFIX}*") if each.stat().st_size]
    for each in (*sorted(before), *([pending] if pending.exists() else [])):
        _check_map(report, each)
    if file.exists() and not _check_map(report, file):
        return
    # The next opening of the repository decides whether the pending map is the current one.
    if pending.exists() or any(finding.kind in _GIT_SIDE for finding in report.findings):
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
