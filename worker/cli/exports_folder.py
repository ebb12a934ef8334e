"""A folder of exports as a list of captures in the order to commit them; it sends nothing.

    TENANT/DEVICE/*.rsc      and beside an export its binary: the same name with `.backup`

Which tenant and device a folder's name stands for: `worker.cli.sources.names`.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import heapq
import re
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Protocol, TypeVar

from worker.cli.sources.names import NAMESPACE as NAMESPACE
from worker.cli.sources.names import Names
from worker.errors import InvalidBackup, InvalidInput

#: How captures of one device may be ordered; see `order_of`.
ORDERS: Final = ("date", "number", "mtime", "name")

#: Bytes at the start of an export among which its header is looked for.
_HEADER_BYTES: Final = 1024
#: Dates before this are of a device without a clock.
_EARLIEST: Final = dt.datetime(2000, 1, 1, tzinfo=dt.UTC)
_LATEST: Final = dt.datetime(2100, 1, 1, tzinfo=dt.UTC)

_NAME_DATE = re.compile(
    r"(?<!\d)((?:19|20)\d\d)([-_.]?)(\d\d)\2(\d\d)"
    r"(?:[-_. T]*([01]\d|2[0-3])[-_.:hH]?([0-5]\d)(?:[-_.:mM]?([0-5]\d))?)?(?!\d)"
)
_HEADER_DATE = re.compile(
    rb"^#[ \t]+(?:(\d{4})-(\d\d)-(\d\d)|([a-z]{3})/(\d\d)/(\d{4}))[ \t]+(\d\d):(\d\d):(\d\d)"
    rb"[ \t]+by RouterOS\b",
    re.IGNORECASE | re.MULTILINE,
)
_MONTHS: Final = {
    name: number
    for number, name in enumerate(
        b"jan feb mar apr may jun jul aug sep oct nov dec".split(), start=1
    )
}


@dataclass(frozen=True, slots=True)
class Capture:
    """One export in the folder, with its binary."""

    tenant_id: str
    device_id: str
    export_path: Path
    #: None: there is none beside the export.
    binary_path: Path | None
    captured_at: dt.datetime
    #: The backup_id is made from the bytes.
    known_id: str | None = None

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


def backup_id_of(capture: Capture, export: bytes, binary: bytes | None) -> str:
    """The backup_id: the same device, file name and bytes always give the same."""
    parts = [hashlib.sha256(export).hexdigest()]
    if binary is not None:
        parts.append(hashlib.sha256(binary).hexdigest())
    name = "/".join([capture.tenant_id, capture.device_id, capture.export_path.name, *parts])
    return str(uuid.uuid5(NAMESPACE, name))


def _read(path: Path, field_name: str, limit_bytes: int) -> bytes:
    size = path.stat().st_size
    if size > limit_bytes:
        raise InvalidBackup(field_name, f"must be at most {limit_bytes} bytes, is {size}")
    return path.read_bytes()


def scan(
    folder: Path,
    *,
    order: str | None = None,
    tenant: str | None = None,
    names: Names | None = None,
) -> ExportsFolder:
    """Look through a folder; reads no more than the start of each export.

    Args:
        order: one of `ORDERS` for all devices; None: the first that fits a device, see `order_of`.
        tenant: `folder` holds DEVICE/*.rsc, all of this tenant.
        names: whose each device is; None: as its names say.

    Raises:
        InvalidInput: no export is where one belongs.
    """
    tenants = [(tenant, folder)] if tenant is not None else _folders(folder)
    names = names or Names()
    captures: list[Capture] = []
    for tenant_name, tenant_folder in tenants:
        devices = []
        for device_name, device_folder in _folders(tenant_folder):
            exports = exports_in(device_folder)
            row = names.find(tenant_name, device_name) if exports else None
            if row is not None and not row.skip:
                devices.append(_captures(row.tenant_id, row.device_id, exports, order))
        captures += interleaved(devices)
    if not names.rows:
        layout = "DEVICE/*.rsc" if tenant is not None else "TENANT/DEVICE/*.rsc"
        raise InvalidInput("DIR", f"no export in {folder}: they are looked for as {layout}")
    return ExportsFolder(captures, names.made)


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
    if len(flat) > 1 and order_of(flat) in ("date", "number"):
        groups = {folder.resolve().name: flat}
    else:
        groups = {path.stem: [path] for path in flat}
    devices = [
        _captures(row.tenant_id, row.device_id, paths, None)
        for row, paths in ((names.find(tenant, name), paths) for name, paths in groups.items())
    ]
    return ExportsFolder(list(interleaved(devices)), names.made)


def exports_in(folder: Path) -> list[Path]:
    """The exports directly in a folder, by name."""
    return sorted(p for p in folder.iterdir() if p.suffix.lower() == ".rsc" and p.is_file())


def order_of(exports: Sequence[Path]) -> str:
    """The order that fits a device's exports.

    `date` when all names carry one (20240131, 2024-01-31, with or without a time), else `number`
    when all names are numbers, else `mtime`: when the file was changed, to the second, and by
    name among those of one second.
    """
    if all(date_in_name(path.stem) for path in exports):
        return "date"
    if all(path.stem.isdecimal() for path in exports):
        return "number"
    return "mtime"


def date_in_name(stem: str) -> dt.datetime | None:
    """The date that a file's name carries, taken as UTC."""
    match = _NAME_DATE.search(stem)
    if match is None:
        return None
    year, _separator, month, day, hour, minute, second = match.groups()
    return _date(year, month, day, hour or 0, minute or 0, second or 0)


def date_in_header(export: bytes) -> dt.datetime | None:
    """The date in an export's header line, taken as UTC; None for that of an unset clock."""
    match = _HEADER_DATE.search(export[:_HEADER_BYTES])
    if match is None:
        return None
    year, month, day, month_name, day_2, year_2, *time = match.groups()
    if month_name is None:
        return _date(year, month, day, *time)
    return _date(year_2, _MONTHS.get(month_name.lower(), 0), day_2, *time)


def _date(*parts: str | bytes | int) -> dt.datetime | None:
    year, month, day, hour, minute, second = (int(part) for part in parts)
    try:
        found = dt.datetime(year, month, day, hour, minute, second, tzinfo=dt.UTC)
    except ValueError:
        return None
    return found if _EARLIEST < found < _LATEST else None


def _captures(
    tenant_id: str, device_id: str, exports: Iterable[Path], order: str | None
) -> list[Capture]:
    """One device's captures in their order."""
    found = list(exports)
    order = order or order_of(found)
    found.sort(key=_SORT_KEYS[order])
    captures: list[Capture] = []
    for path in reversed(found):
        binary = path.with_suffix(".backup")
        when = _stated_date(path)
        if when is None:
            # A file's time may be that of a copy; no capture is later than the one after it.
            when = _file_date(path)
            if captures:
                when = min(when, captures[-1].captured_at)
        captures.append(
            Capture(tenant_id, device_id, path, binary if binary.is_file() else None, when)
        )
    return captures[::-1]


def _stated_date(export: Path) -> dt.datetime | None:
    """The date in the file's name, else in its header."""
    found = date_in_name(export.stem)
    if found is None:
        with export.open("rb") as file:
            found = date_in_header(file.read(_HEADER_BYTES))
    return found


def _file_date(export: Path) -> dt.datetime:
    changed = dt.datetime.fromtimestamp(int(export.stat().st_mtime), dt.UTC)
    return min(max(changed, _EARLIEST), _LATEST)


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


def _natural(stem: str) -> list[tuple[int, str]]:
    """`router10` behind `router9`."""
    parts = re.findall(r"\d+|\D+", stem)
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in parts]


def _folders(folder: Path) -> list[tuple[str, Path]]:
    return sorted((path.name, path) for path in folder.iterdir() if path.is_dir())


#: What a device's exports are sorted by.
_SORT_KEYS: Final[dict[str, Callable[[Path], Any]]] = {
    "date": lambda path: (date_in_name(path.stem) or _EARLIEST, _natural(path.stem)),
    "number": lambda path: _natural(path.stem),
    "mtime": lambda path: (int(path.stat().st_mtime), _natural(path.stem)),
    "name": lambda path: _natural(path.stem),
}
