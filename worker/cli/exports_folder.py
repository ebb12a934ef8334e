"""A folder of exports as a list of captures in the order to commit them.

How its paths are read: `worker.cli.sources.layouts`. Beside an export may be its binary: the same name
with `.backup`. Which tenant and device a name stands for: `worker.cli.sources.names`. What the layout does
not say is listed as left out.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import heapq
import os
import re
import uuid
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Protocol, TypeVar

from confkeep.errors import InvalidBackup, InvalidInput
from worker.cli import capture_order
from worker.cli.capture_dates import CERTAIN, DAY_FIRST, MONTH_FIRST
from worker.cli.capture_order import Export, order_of, read_export, readings_of
from worker.cli.sources import layouts
from worker.cli.sources.layouts import Layout
from worker.cli.sources.names import NAMESPACE as NAMESPACE
from worker.cli.sources.names import Names, Row

#: If one of these orders fits a flat folder, all its files are captures of one device.
_SERIES: Final = (CERTAIN, DAY_FIRST, MONTH_FIRST, "number")


#: Endings that exports have where no file is a .rsc.
_OTHER_ENDINGS: Final = (".cfg", ".conf", ".txt", "")
#: Files beside exports that are none, by their names.
_NO_EXPORT: Final = re.compile(
    r"readme|license|licence|makefile|changelog|router\.db", re.IGNORECASE
)


@dataclass(frozen=True, slots=True)
class Capture:
    """One export in the folder, with its binary."""

    tenant_id: str
    device_id: str
    #: What the device is called; None if its folder's name is its UUID.
    device_name: str | None
    export_path: Path
    #: The binary's path; None if there is none beside the export.
    binary_path: Path | None
    captured_at: dt.datetime
    #: The backup_id is made from the bytes.
    known_id: str | None = None
    #: The folder that says its date; None if its name does. Other files of that name are of other dates.
    dated_folder: str | None = None

    @property
    def place(self) -> str:
        """Where it is, for a person."""
        return str(self.export_path)

    @property
    def message(self) -> str:
        """The commit's message."""
        return f"Import {self.export_path.name}"

    @property
    def has_binary(self) -> bool:
        """Whether a binary is beside the export."""
        return self.binary_path is not None

    def read(self, max_export_bytes: int, max_binary_bytes: int) -> tuple[bytes, bytes | None]:
        """Both files.

        Raises:
            InvalidBackup: one is larger; it is not read then.
            OSError: the file system refused.
        """
        export = _read(self.export_path, "export_text", max_export_bytes)
        if self.binary_path is None:
            return export, None
        return export, _read(self.binary_path, "binary_backup", max_binary_bytes)

    def backup_id(self, export: bytes, binary: bytes | None) -> str:
        """The backup_id: the same device, file name and bytes always give the same."""
        return backup_id_of(self, export, binary)


@dataclass(frozen=True, slots=True)
class ExportsFolder:
    """What a folder holds."""

    #: In the order to commit: each device's own, the devices of a tenant by date of capture.
    captures: list[Capture]
    #: Names that are no UUIDs -> the tenant's id; a device stands as `TENANT/DEVICE`.
    named_ids: dict[str, str] = field(default_factory=dict)
    #: Files that were left out, and why; a line each.
    left_out: list[str] = field(default_factory=list)
    #: What else a person should know; a line each.
    notes: list[str] = field(default_factory=list)


def backup_id_of(capture: Capture, export: bytes, binary: bytes | None) -> str:
    """The backup_id: the same device, file name and bytes always give the same."""
    parts = [hashlib.sha256(export).hexdigest()]
    if binary is not None:
        parts.append(hashlib.sha256(binary).hexdigest())
    file = capture.export_path.name
    if capture.dated_folder is not None:
        file = f"{capture.dated_folder}/{file}"
    name = "/".join([capture.tenant_id, capture.device_id, file, *parts])
    return str(uuid.uuid5(NAMESPACE, name))


def _read(path: Path, field_name: str, limit_bytes: int) -> bytes:
    size = path.stat().st_size
    if size > limit_bytes:
        raise InvalidBackup(field_name, f"must be at most {limit_bytes:,} bytes, is {size:,}")
    return path.read_bytes()


def scan(
    folder: Path,
    *,
    order: str | None = None,
    tenant: str | None = None,
    names: Names | None = None,
    layout: Layout | None = None,
) -> ExportsFolder:
    """Look through a folder; reads no more than the start of each export.

    Args:
        order: one of `capture_order.ORDERS` for all devices; None: the first that fits a device.
        tenant: all devices are this tenant's, and no part of a path names one.
        names: whose each device is; None: as its names say.
        layout: how the paths are to be read; None: as they look.

    Raises:
        InvalidInput: no export is where one belongs, the paths can be read in no way or in two, nobody
            says whose the devices are, or nothing tells a device's newest export.
    """
    names = names or Names()
    files = _candidates(folder)
    paths = [file.relative_to(folder) for file in files]
    chosen = layout or _the_layout(folder, paths, tenant)
    if tenant is None and not chosen.has_tenant:
        raise InvalidInput(
            "--tenant",
            f"NAME is needed: the paths ({chosen.text}) do not say whose the devices are",
            hint="Any name does: --tenant acme makes all devices acme's. A folder for each tenant, "
            "DIR/TENANT/DEVICE, says it too.",
        )
    devices: dict[str, dict[str, _Device]] = {}
    taken: set[Path] = set()
    for file, path in zip(files, paths, strict=True):
        place = chosen.read(path)
        if place is None:
            continue
        whose = tenant or place.tenant or ""
        row = names.find(whose, place.device or folder.resolve().name)
        taken.add(file)
        if not row.skip:
            device = devices.setdefault(whose, {}).setdefault(row.source, _Device(row, []))
            device.exports.append(read_export(file, place.date))
    if not taken:
        raise InvalidInput(
            "DIR",
            f"no export in {folder} is as {chosen.text} says",
            hint="Leave --layout out, and --dry-run shows how the paths are read.",
        )
    every = [device for each in devices.values() for device in each.values()]
    known, notes = _known_readings(every) if order is None else (set(), [])
    captures: list[Capture] = []
    for each in devices.values():
        captures += interleaved([device.captures(order, known) for device in each.values()])
    notes.insert(0, f"the paths are read as {chosen.text}")
    return ExportsFolder(captures, names.made, _left_out(folder, taken, chosen.text), notes)


def _the_layout(folder: Path, paths: Sequence[Path], tenant: str | None) -> Layout:
    """The one way in which the paths can be read.

    Raises:
        InvalidInput: there are no exports, no way or two.
    """
    if not paths:
        raise InvalidInput(
            "DIR",
            f"no export in {folder}: they are looked for as .rsc, or else as .cfg, .conf, .txt and "
            "files without an ending",
            hint="Name the folder that holds the exports, or say with --from what it is.",
        )
    found = layouts.guess(paths, with_tenant=tenant is not None)
    if len(found) == 1:
        return found[0]
    if not found:
        raise InvalidInput(
            "DIR",
            f"{paths[0]} is in too many folders to tell what each means: say it, as in "
            "--layout '{tenant}/{any}/{device}_{date}'",
        )
    readings = " or ".join(_reading(layout, paths[0]) for layout in found)
    raise InvalidInput("DIR", f"{paths[0]} may be read as {readings}: say which with --layout")


def _reading(layout: Layout, path: Path) -> str:
    place = layout.read(path)
    assert place is not None
    whose = "" if place.tenant is None else f" of tenant {place.tenant}"
    return f"{layout.text} (device {place.device}{whose})"


def _candidates(folder: Path) -> list[Path]:
    """The exports below a folder: the .rsc files, or without any the other texts; those that lie as deep
    as most of them."""
    by_ending: dict[bool, list[Path]] = {True: [], False: []}
    for below, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            path = Path(below, name)
            ending = path.suffix.lower()
            if name.startswith(".") or not path.is_file():
                continue
            if ending == ".rsc" or (ending in _OTHER_ENDINGS and not _NO_EXPORT.match(name)):
                by_ending[ending == ".rsc"].append(path)
    found = by_ending[True] or by_ending[False]
    depth_of = {path: len(path.relative_to(folder).parts) for path in found}
    depths = Counter(depth_of.values())
    # Of as many in several depths, those that the most is known of.
    most = max(depths, key=lambda n: (depths[n], n <= layouts.DEEPEST, n), default=0)
    return [path for path in found if depth_of[path] == most]


def scan_any(folder: Path, *, tenant: str) -> ExportsFolder:
    """As `scan`, for a folder of any shape: TENANT/DEVICE/*.rsc, DEVICE/*.rsc or *.rsc.

    Of a flat folder each file is a device of its own, unless all names carry dates or are
    numbers: then they are the captures of one device.

    Args:
        tenant: the tenant's name where the folder does not give one.
    """
    flat = exports_in(folder)
    if not flat:
        has_devices = any(exports_in(path) for _name, path in _folders(folder))
        return scan(folder, tenant=tenant if has_devices else None)
    names = Names()
    exports = [read_export(path) for path in flat]
    if len(flat) > 1 and _is_series(exports):
        groups = {folder.resolve().name: exports}
    else:
        groups = {export.path.stem: [export] for export in exports}
    devices = [_Device(names.find(tenant, name), group) for name, group in groups.items()]
    captures = interleaved([device.captures(None, set()) for device in devices])
    return ExportsFolder(list(captures), names.made)


def _is_series(exports: Sequence[Export]) -> bool:
    return bool(readings_of(exports)) or all(export.path.stem.isdecimal() for export in exports)


def exports_in(folder: Path) -> list[Path]:
    """The exports directly in a folder, by name."""
    return sorted(p for p in folder.iterdir() if p.suffix.lower() == ".rsc" and p.is_file())


@dataclass(frozen=True, slots=True)
class _Device:
    row: Row
    exports: list[Export]

    def captures(self, order: str | None, known: Collection[str]) -> list[Capture]:
        """A device's captures in their order."""
        order = order or order_of(self.exports, known)
        found = capture_order.sort(self.exports, order)
        captures = []
        for export, when in zip(found, capture_order.captured_at(found, order), strict=True):
            binary = export.path.with_suffix(".backup")
            captures.append(
                Capture(
                    self.row.tenant_id,
                    self.row.device_id,
                    self.row.label,
                    export.path,
                    binary if binary.is_file() else None,
                    when,
                    dated_folder=None if export.said in export.path.stem else export.said,
                )
            )
        return captures


def _known_readings(devices: Iterable[_Device]) -> tuple[set[str], list[str]]:
    """The readings that some device's names settle, and a line about them."""
    known: dict[str, Path] = {}
    for device in devices:
        readings = readings_of(device.exports)
        if len(readings) == 1 and readings != [CERTAIN]:
            for export in device.exports:
                # Name a file whose day cannot be a month: it settles the reading.
                if len(export.named) == 1 and CERTAIN not in export.named:
                    known.setdefault(readings[0], export.path)
    notes = [
        f"dates in names are read {reading}, as {known[reading].name} says" for reading in known
    ]
    return set(known), notes


def _left_out(folder: Path, taken: Collection[Path], layout: str) -> list[str]:
    """A line for each file below the folder that is neither a capture nor beside one."""
    beside = {path.with_suffix(".backup") for path in taken}
    found = []
    for below, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            path = Path(below, name)
            if name.startswith(".") or path in taken or path in beside:
                continue
            place = path.relative_to(folder)
            if path.suffix.lower() == ".backup":
                found.append(f"{place} has no export beside it and was left out")
            elif path.suffix.lower() == ".rsc":
                found.append(f"{place} was left out: the paths are read as {layout}")
            else:
                found.append(f"{place} was left out: it is no export")
    return found


class _Dated(Protocol):
    @property
    def captured_at(self) -> dt.datetime: ...
    @property
    def device_id(self) -> str: ...


_DatedT = TypeVar("_DatedT", bound=_Dated)


def interleaved(devices: Iterable[Sequence[_DatedT]]) -> Iterator[_DatedT]:
    """All captures by date; each device's own order is kept also where its dates go backwards."""
    # A merge never reorders what comes from one of its inputs.
    return heapq.merge(*devices, key=lambda capture: (capture.captured_at, capture.device_id))


def _folders(folder: Path) -> list[tuple[str, Path]]:
    return sorted((path.name, path) for path in folder.iterdir() if path.is_dir())
