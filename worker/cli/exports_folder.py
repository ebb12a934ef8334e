"""A folder of exports as a list of captures in the order to commit them.

How its paths are read: `worker.cli.sources.layouts`. Beside an export may be its binary: the same name
with `.backup`. Which tenant and device a name stands for: `worker.cli.sources.names`. What the layout does
not say is listed as left out.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath

from confkeep.errors import InvalidInput
from worker.cli import capture_order
from worker.cli.capture_dates import CERTAIN
from worker.cli.capture_order import Export, order_of, read_export, readings_of
from worker.cli.sources import layouts
from worker.cli.sources.asking import Asker, Nobody
from worker.cli.sources.captures import Capture, FileCapture
from worker.cli.sources.found import Found, interleaved
from worker.cli.sources.layouts import Layout
from worker.cli.sources.names import Names, Row


def scan(
    folder: Path,
    *,
    order: str | None = None,
    tenant: str | None = None,
    names: Names | None = None,
    layout: Layout | None = None,
    asker: Asker | None = None,
) -> Found:
    """Look through a folder; reads no more than the start of each export.

    Args:
        order: one of `capture_order.ORDERS` for all devices; None: the first that fits a device.
        tenant: all devices are this tenant's, and no part of a path names one.
        names: whose each device is; None: as its names say.
        layout: how the paths are to be read; None: as they look.
        asker: who says what the paths leave open; None: nobody.

    Raises:
        InvalidInput: no export is where one belongs, the paths can be read in no way or in two, nobody
            says whose the devices are, or nothing tells a device's newest export.
    """
    names = names or Names()
    files = _below(folder)
    exports = layouts.exports_among([path for path in files if (folder / path).is_file()])
    paths = layouts.of_one_depth(exports)
    if not paths:
        raise InvalidInput(
            "DIR",
            f"no export in {folder}: {_instead(files)}",
            hint="Name the folder that holds the exports, or say with --from what it is.",
        )
    chosen, tenant = decide(
        layouts.guess, paths, tenant=tenant, layout=layout, asker=asker or Nobody()
    )
    devices: dict[str, dict[str, _Device]] = {}
    taken: set[Path] = set()
    for path in paths:
        place = chosen.read(path)
        if place is None:
            continue
        whose = tenant or place.tenant or ""
        row = names.find(whose, place.name(folder.resolve().name))
        taken.add(path)
        if not row.skip:
            device = devices.setdefault(whose, {}).setdefault(row.source, _Device(row, []))
            device.exports.append(read_export(folder / path, place.date))
    every = [device for each in devices.values() for device in each.values()]
    known, notes = _known_readings(every) if order is None else (set(), [])
    captures: list[Capture] = []
    for each in devices.values():
        captures += interleaved([device.captures(order, known) for device in each.values()])
    notes.insert(0, f"the paths are read as {chosen.text}")
    return Found(captures, names.made, _left_out(files, taken, chosen.text), notes)


def decide(
    guess: Callable[..., list[Layout]],
    paths: Sequence[PurePath],
    *,
    tenant: str | None,
    layout: Layout | None,
    asker: Asker,
) -> tuple[Layout, str | None]:
    """How paths are read, and the tenant of all devices; None if the paths name it.

    Args:
        guess: finds the ways in which the paths can be read.

    Raises:
        InvalidInput: there is no way, the given layout reads none of the paths, or nobody can say which of
            two ways is right, or whose the devices are.
    """
    with_tenant = tenant is not None
    found = guess(paths, with_tenant=with_tenant)
    if layout is not None:
        if not any(layout.read(path) for path in paths):
            nearest = " or ".join(f"'{other.text}'" for other in found)
            without = f"; without --layout they are read as {nearest}" if nearest else ""
            raise InvalidInput(
                "--layout", f"{layout.text} fits none of the paths, such as {paths[0]}{without}"
            )
    elif not found:
        between = "/".join(["{any}"] * (len(paths[0].parts) - 2))
        such_as = "{group}/{device}" if with_tenant else f"{{tenant}}/{between}/{{device}}"
        raise InvalidInput(
            "DIR",
            f"{paths[0]} is in too many folders to tell what each means: say it, as in "
            f"--layout '{such_as}'",
        )
    else:
        one = len(found) == 1
        layout = found[0] if one else asker.layout(found, paths, with_tenant=with_tenant)
    if tenant is None and not layout.has_tenant:
        tenant = asker.tenant(layout)
    return layout, tenant


def _below(folder: Path) -> list[Path]:
    """The files below a folder, relative to it, in order and without hidden ones."""
    found: list[Path] = []
    for below, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        place = Path(below).relative_to(folder)
        found += [place / name for name in sorted(names) if not name.startswith(".")]
    return found


def _instead(files: Iterable[Path]) -> str:
    """What is in a folder without exports, and what would work."""
    endings = Counter(path.suffix.lower() or "no ending" for path in files)
    if not endings:
        return "it holds no file"
    held = ", ".join(f"{number} with {ending}" for ending, number in endings.most_common(5))
    if endings.keys() & {".gz", ".zip", ".xz", ".bz2", ".tar", ".tgz", ".7z"}:
        step = "unpack them first"
    elif ".backup" in endings:
        step = "a .backup needs its export beside it, of the same name with .rsc"
    else:
        step = "rename them if they are exports"
    return (
        f"they are looked for as .rsc, or else as .cfg, .conf, .txt and files without an ending, and it "
        f"holds {held}: {step}"
    )


@dataclass(frozen=True, slots=True)
class _Device:
    row: Row
    exports: list[Export]

    def captures(self, order: str | None, known: Collection[str]) -> list[FileCapture]:
        order = order or order_of(self.exports, known)
        found = capture_order.sort(self.exports, order)
        captures = []
        for export, when in zip(found, capture_order.captured_at(found, order), strict=True):
            binary = export.path.with_suffix(".backup")
            captures.append(
                FileCapture(
                    self.row,
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


def _left_out(files: Iterable[Path], taken: Collection[Path], layout: str) -> list[str]:
    """A line for each file that is neither a capture nor beside one."""
    known = {*taken, *(path.with_suffix(".backup") for path in taken)}
    why = {
        ".backup": "has no export beside it and was left out",
        ".rsc": f"was left out: the paths are read as {layout}",
    }
    return [
        f"{path} {why.get(path.suffix.lower(), 'was left out: it is no export')}"
        for path in files
        if path not in known
    ]
