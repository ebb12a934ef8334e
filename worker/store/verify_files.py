"""Verifying a repository's files: leftovers, checksums at their ends, packs with their idx files."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from worker.errors import RepositoryDamaged
from worker.store import flock, id_map, recovery
from worker.store.object_reader import ObjectReader
from worker.store.pack_reader import BadFile, PackReader, check_trailer, read_idx
from worker.store.verify_report import Kind, Report

#: Files that only make reading faster: removing a damaged one loses nothing.
_HELPERS: Final = (
    "objects/pack/multi-pack-index*",
    "objects/pack/*.rev",
    "objects/pack/*.bitmap",
    "objects/info/commit-graph",
    "objects/info/commit-graphs/*.graph",
)


def check_leftovers(report: Report, deadline: float) -> bool:
    """Note files of dead writers. Returns whether a moment without a living one was found."""
    path = report.path
    if not (path / "objects" / "pack").is_dir():
        report.add(Kind.PACK, "objects/pack", "the folder is missing")
        return True
    while True:
        try:
            with flock.exclusive(path) as alone:
                if alone:
                    _note_leftovers(report)
                    return True
        except PermissionError:
            # Who may not lock may not tell a leftover from a file in use.
            return True
        if time.monotonic() >= deadline:
            return False
        time.sleep(0.02)


def _note_leftovers(report: Report) -> None:
    for leftover in (*recovery.leftovers(report.path), *recovery.repack_leftovers(report.path)):
        name = leftover.relative_to(report.path).as_posix()
        report.add(Kind.LEFTOVER, name, "a writer that died left it; the next one removes it")
    if (report.path / id_map.PENDING_NAME).exists():
        text = "a rewrite that died left it; the next writer renames or removes it"
        report.add(Kind.LEFTOVER, id_map.PENDING_NAME, text)


def check_files(report: Report, objects: ObjectReader, tick: Callable[[int, int], None]) -> None:
    """Look at everything that ends with a checksum, and that packs and idx files come in pairs.

    Args:
        objects: gets every pack that can be read.
        tick: gets how many packs are done, and of how many.
    """
    folder = report.path / "objects" / "pack"
    if not folder.is_dir():
        return
    packs = {file.stem: file for file in sorted(folder.glob("pack-*.pack"))}
    idxs = {file.stem: file for file in sorted(folder.glob("pack-*.idx"))}
    total = len(packs.keys() | idxs.keys())
    for done, stem in enumerate(sorted(packs.keys() | idxs.keys())):
        tick(done, total)
        place = f"objects/pack/{stem}"
        if stem not in packs:
            report.add(Kind.PACK, f"{place}.pack", "it is missing; its idx is there")
            continue
        if stem not in idxs:
            _check_trailer(report, packs[stem], Kind.PACK)
            if not _is_leftover(report, f"{place}.pack"):
                report.add(Kind.IDX, f"{place}.idx", "it is missing; its pack is there")
            continue
        _check_pair(report, objects, packs[stem], idxs[stem])
    helpers = [file for pattern in _HELPERS for file in sorted(report.path.glob(pattern))]
    for file in helpers:
        _check_trailer(report, file, Kind.HELPER)


def _is_leftover(report: Report, place: str) -> bool:
    return any(f.kind == Kind.LEFTOVER and f.place == place for f in report.findings)


def _check_pair(report: Report, objects: ObjectReader, pack: Path, idx: Path) -> None:
    sound = _check_trailer(report, pack, Kind.PACK)
    try:
        reader_of_pack = PackReader(pack, read_idx(idx))
    except BadFile as error:
        kind = Kind.IDX if sound else Kind.PACK
        place = idx if sound else pack
        report.add(kind, place.relative_to(report.path).as_posix(), str(error))
    except FileNotFoundError:
        if pack.exists():
            raise
        # A repack dropped it meanwhile; its objects are in another pack.
    else:
        objects.add(reader_of_pack)


def _check_trailer(report: Report, file: Path, kind: Kind) -> bool:
    try:
        check_trailer(file)
    except BadFile as error:
        report.add(kind, file.relative_to(report.path).as_posix(), str(error))
        return False
    except FileNotFoundError:
        return True
    return True


def check_ids(report: Report, objects: ObjectReader) -> None:
    """The map of rewritten ids can be read, and leads to commits that are there."""
    file = report.path / id_map.FILE_NAME
    if not file.exists():
        return
    try:
        with contextlib.closing(id_map.IdMap(file)) as ids:
            damage = ids.damage()
            lost = 0 if damage else sum(id_ not in objects for id_ in ids.current_ids())
    except RepositoryDamaged as error:
        damage, lost = str(error), 0
    if damage:
        report.add(Kind.IDS, file.name, damage)
    if lost:
        report.add(Kind.IDS, file.name, f"it leads to {lost} commits that git has not")
