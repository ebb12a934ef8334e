"""Turns a source's names into ids, by a rule or by a person's mapping file.

The rule is `worker.engine.made_ids`.

A mapping file holds one row for each device, as JSON (a list of objects) or CSV:

    source      the device's name in the source, `TENANT/DEVICE`; what a row is found by
    tenant      the tenant's name
    tenant_id   its UUID; blank: made from `tenant`
    device      the device's name
    device_id   its UUID; blank: made from `tenant` and `device`
    skip        `true`: the device is not imported

Two rows may name one device, such as one that was renamed.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Final

from confkeep.errors import InvalidId, InvalidInput
from confkeep.ids import checked_uuid
from worker.engine.made_ids import NAMESPACE as NAMESPACE
from worker.engine.made_ids import is_uuid, made_device_id, made_id
from worker.store.git.durable import file_system_errors, replace_file

_TRUE: Final = ("true", "yes", "1")
_FALSE: Final = ("false", "no", "0", "")


@dataclass(frozen=True, slots=True)
class Row:
    """One device of the source, and the tenant and device ids that it gets."""

    source: str
    tenant: str
    tenant_id: str
    device: str
    device_id: str
    skip: bool = False

    @property
    def label(self) -> str | None:
        """What the device is called within its group; None if the source has its UUID."""
        name = self.device.rpartition("/")[2]
        return None if is_uuid(name) else name

    @property
    def group(self) -> str | None:
        """The device's group, of a device that is called `GROUP/DEVICE`."""
        return self.device.rpartition("/")[0] or None


class Names:
    """The devices that a source holds, by name; a mapping file's rows take precedence.

    Args:
        mapping: a mapping file; it need not exist yet.

    Raises:
        InvalidInput: the mapping file cannot be read, or a row of it is wrong.
    """

    def __init__(self, mapping: Path | None = None) -> None:
        self._mapping = mapping
        self._kept = {} if mapping is None else _read(mapping)
        self._found: dict[str, Row] = {}

    def find(self, tenant: str, device: str, *, skip: bool = False) -> Row:
        """The row of a device: the mapping file's, or a new one.

        Args:
            skip: `skip` of a new row; a row of the mapping file keeps its own.
        """
        source = f"{tenant}/{device}"
        row = self._kept.get(source) or self._found.get(source)
        if row is None:
            row = _complete(Row(source, tenant, "", device, "", skip))
        self._found[source] = row
        return row

    @property
    def rows(self) -> list[Row]:
        """The rows that `find` returned, in the order of the calls."""
        return list(self._found.values())

    @property
    def made(self) -> dict[str, str]:
        """Name -> id for each name that is no UUID; a device stands as `TENANT/DEVICE`."""
        ids: dict[str, str] = {}
        for row in self._found.values():
            if row.skip:
                continue
            if not is_uuid(row.tenant):
                ids[row.tenant] = row.tenant_id
            if not is_uuid(row.device):
                ids[f"{row.tenant}/{row.device}"] = row.device_id
        return ids

    @property
    def tenants(self) -> dict[str, str]:
        """What the tenants are called, by id, but for those of which the source has the UUIDs."""
        return {
            row.tenant_id: row.tenant
            for row in self._found.values()
            if not row.skip and not is_uuid(row.tenant)
        }

    def write(self) -> bool:
        """Add the devices that the mapping file lacks; its own rows stay. False if there are none.

        Raises:
            StoreUnavailable: the file system refused.
        """
        if self._mapping is None or self._found.keys() <= self._kept.keys():
            return False
        rows = list({**self._kept, **self._found}.values())
        with file_system_errors(self._mapping.name):
            replace_file(self._mapping, _encoded(rows, self._mapping.suffix.lower() == ".csv"))
        return True


def _complete(row: Row) -> Row:
    """The row, with blank ids filled in."""
    return replace(
        row,
        tenant_id=row.tenant_id or made_id(row.tenant),
        device_id=row.device_id or made_device_id(row.tenant, row.device),
    )


def _read(mapping: Path) -> dict[str, Row]:
    try:
        text = mapping.read_text("utf-8-sig")
    except FileNotFoundError:
        return {}
    except UnicodeDecodeError:
        raise InvalidInput("--mapping", f"{mapping.name} is not UTF-8 text") from None
    rows: dict[str, Row] = {}
    for number, given in enumerate(_parsed(mapping, text), start=1):
        row = _checked(f"--mapping {mapping.name}, row {number}", given)
        if row.source in rows:
            raise InvalidInput("--mapping", f"{mapping.name}, row {number}: source stands twice")
        rows[row.source] = row
    return rows


def _parsed(mapping: Path, text: str) -> Iterable[object]:
    if mapping.suffix.lower() == ".csv":
        return csv.DictReader(io.StringIO(text, newline=""))
    try:
        found = json.loads(text)
    except json.JSONDecodeError as error:
        raise InvalidInput("--mapping", f"{mapping.name} is no JSON: {error}") from None
    if not isinstance(found, list):
        raise InvalidInput("--mapping", f"{mapping.name} must hold a list of objects")
    return found


def _checked(place: str, given: object) -> Row:
    if not isinstance(given, dict):
        raise InvalidInput(place, "must be an object")
    columns = [field.name for field in fields(Row)]
    if set(given) - set(columns):
        raise InvalidInput(place, f"must have no columns but {', '.join(columns)}")
    skip = str(given.get("skip") or "").strip().lower()
    if skip not in (*_TRUE, *_FALSE):
        raise InvalidInput(place, "skip must be true or false")
    values = {name: _text(place, name, given.get(name)) for name in columns if name != "skip"}
    return _complete(Row(**values, skip=skip in _TRUE))


def _text(place: str, name: str, given: object) -> str:
    value = "" if given is None else given
    if not isinstance(value, str):
        raise InvalidInput(place, f"{name} must be text")
    if name.endswith("_id"):
        try:
            return checked_uuid(name, value) if value else ""
        except InvalidId as error:
            raise InvalidInput(place, f"{name} {error.problem}") from None
    if not value:
        raise InvalidInput(place, f"{name} must not be blank")
    return value


def _encoded(rows: list[Row], as_csv: bool) -> bytes:
    if not as_csv:
        return (json.dumps([asdict(row) for row in rows], indent=2) + "\n").encode()
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, [field.name for field in fields(Row)])
    writer.writeheader()
    for row in rows:
        writer.writerow({**asdict(row), "skip": "true" if row.skip else "false"})
    return text.getvalue().encode()
