"""Finds out how a folder of exports is laid out: which part of each path is tenant, group, device or date.

A layout is a path with words in braces, such as `{tenant}/{device}_{date}`: `{tenant}`, `{group}`,
`{device}` and `{date}` once at most, `{any}` for what says nothing. The file's ending is left out.
`{group}` may be several folders. Without `{device}` all files are of one device, named as the folder.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Final, TypeVar

from confkeep.errors import InvalidInput
from worker.cli.capture_dates import date_and_rest

TENANT: Final = "tenant"
GROUP: Final = "group"
DEVICE: Final = "device"
DATE: Final = "date"
ANY: Final = "any"

_WORD: Final = re.compile(r"\{(\w+)\}")
#: Most folders and names of a path that are told apart without `--layout`.
DEEPEST: Final = 3
#: A number that is a place in a series, such as `7` or `003`.
_NUMBER: Final = re.compile(r"\d{1,5}")
#: What a `_` beside `{date}` stands for.
_SIGNS: Final = r"[-_. @()\[\]]+"
#: Stands for the date while a path is compared with a layout; no path has it.
_MARK: Final = "\0"

#: Endings that exports have where no file is a .rsc.
_OTHER_ENDINGS: Final = (".cfg", ".conf", ".txt", "")
#: Files beside exports that are none, by their names.
_NO_EXPORT: Final = re.compile(
    r"readme|license|licence|makefile|changelog|router\.db", re.IGNORECASE
)

_PathT = TypeVar("_PathT", bound=PurePath)


@dataclass(frozen=True, slots=True)
class Place:
    """What a path says."""

    #: None if the layout has none.
    tenant: str | None
    #: None if the path has only a date.
    device: str | None
    #: The text that holds the date; None if there is none.
    date: str | None
    #: None if the layout has none.
    group: str | None = None

    def name(self, folder: str) -> str:
        """The device's name, `GROUP/DEVICE` in a group; the folder's where the path has none."""
        device = self.device or folder
        return device if self.group is None else f"{self.group}/{device}"


@dataclass(frozen=True, slots=True)
class Layout:
    """One way to read all paths."""

    text: str
    read: Callable[[PurePath], Place | None]

    @property
    def has_tenant(self) -> bool:
        return f"{{{TENANT}}}" in self.text


def parse(text: str) -> Layout:
    """A layout that a person gives, such as `{device}_{date}.rsc`.

    Raises:
        InvalidInput: it has an unknown word, one twice, no `{device}` and no `{date}`, or two side by side.
    """
    pattern = re.sub(r"\.\w+$", "", text.strip().strip("/"))
    words = _WORD.findall(pattern)
    known = (TENANT, DEVICE, DATE, ANY, GROUP)
    if wrong := [word for word in words if word not in known]:
        raise InvalidInput(
            "--layout",
            f"has {{{wrong[0]}}}; it knows {', '.join(f'{{{word}}}' for word in known)}",
        )
    once = [word for word in words if word != ANY]
    if not {DEVICE, DATE} & set(words) or len(set(once)) < len(once):
        raise InvalidInput(
            "--layout", "must have {device} or {date}, and each word but {any} once at most"
        )
    if "}{" in pattern:
        raise InvalidInput("--layout", "must have something between two words, such as _ or /")
    pieces = _WORD.split(pattern)
    expression = re.compile("".join(_expression(pieces, number) for number in range(len(pieces))))

    def read(path: PurePath) -> Place | None:
        path = path.with_suffix("")
        # A name that says nothing else may still say the date.
        otherwise = path.name if pattern.endswith(f"{{{ANY}}}") else None
        for marked, date in (
            _dates_marked(path) if DATE in words else [(path.as_posix(), otherwise)]
        ):
            found = expression.fullmatch(marked)
            if found is not None:
                parts = found.groupdict()
                return Place(parts.get(TENANT), parts.get(DEVICE), date, parts.get(GROUP))
        return None

    return Layout(text, read)


def _expression(pieces: Sequence[str], number: int) -> str:
    """The regular expression for a piece of a layout: every second one is a word."""
    piece = pieces[number]
    if number % 2:
        most = ".+?" if piece == GROUP else "[^/]+?"
        return _MARK if piece == DATE else most if piece == ANY else f"(?P<{piece}>{most})"
    before, after = "", ""
    if number and pieces[number - 1] == DATE and piece.startswith("_"):
        before, piece = _SIGNS, piece[1:]
    if pieces[number + 1 : number + 2] == [DATE] and piece.endswith("_"):
        after, piece = _SIGNS, piece[:-1]
    return before + re.escape(piece) + after


def _dates_marked(path: PurePath) -> Iterable[tuple[str, str]]:
    """The path with a date in it replaced by the mark, and that date; for each part that has one."""
    for number, part in enumerate(path.parts):
        found = date_and_rest(part)
        if found is not None:
            marked = [*path.parts]
            marked[number] = part.replace(found[0], _MARK, 1)
            yield "/".join(marked), found[0]


def exports_among(paths: Iterable[_PathT]) -> list[_PathT]:
    """The paths that are exports by their names: the .rsc, or without any the other texts."""
    found = [
        path
        for path in paths
        if path.suffix.lower() == ".rsc"
        or (path.suffix.lower() in _OTHER_ENDINGS and not _NO_EXPORT.match(path.name))
    ]
    return [path for path in found if path.suffix.lower() == ".rsc"] or found


def of_one_depth(paths: Sequence[_PathT]) -> list[_PathT]:
    """Those of the paths, relative to one folder, that lie as deep as most of them."""
    depths = Counter(len(path.parts) for path in paths)
    # Of as many in several depths, those that the most is known of.
    most = max(depths, key=lambda n: (depths[n], n <= DEEPEST, n), default=0)
    return [path for path in paths if len(path.parts) == most]


def guess(paths: Sequence[PurePath], *, with_tenant: bool) -> list[Layout]:
    """The ways in which all these paths, relative to the folder, can be read; none if there is no such way.

    Two ways remain also where some names are dates and others are not: one that leaves the others out, and
    one in which a date is a name.

    Args:
        with_tenant: whether the tenant is known from elsewhere, so that no part of a path is one.
    """
    depths = {len(path.parts) for path in paths}
    by_depth = {1: _flat, 2: _one_folder, 3: _two_folders}
    find = by_depth.get(depths.pop()) if len(depths) == 1 else None
    return [] if find is None else find(paths, "{group}" if with_tenant else "{tenant}")


def guess_in_git(paths: Sequence[PurePath], *, with_tenant: bool) -> list[Layout]:
    """As `guess`, for the files of a git history, which keeps the versions of each.

    A file is a device, and the folders above it, of any depth, are tenant and group.
    """
    if are_dated(paths):
        return guess(of_one_depth(paths), with_tenant=with_tenant)
    depths = sorted({len(path.parts) for path in paths})
    if depths[0] == 1:
        with_tenant = True  # Some path names no tenant, so none does.
    above = ["", "{group}/", "{group}/"] if with_tenant else ["", "{tenant}/", "{tenant}/{group}/"]
    texts = [f"{above[min(depth, 3) - 1]}{{device}}" for depth in depths]
    found = [_any_of([parse(text) for text in dict.fromkeys(texts)])]
    if len(depths) > 1 or depths[0] == 1:
        return found
    if not with_tenant and len({path.parts[0] for path in paths}) == 1:
        # The only folder may as well be called for what it holds: `configs`.
        found.append(parse("{any}/{device}" if depths[0] == 2 else "{any}/{group}/{device}"))
    if len({path.parent for path in paths}) > 1 == len({path.stem for path in paths}):
        found.append(parse(f"{above[min(depths[0] - 1, 3) - 1]}{{device}}/{{any}}"))
    return found


def are_dated(paths: Iterable[PurePath]) -> bool:
    """Whether each capture has a file of its own: dates stand in names, or all names are numbers."""
    found = [path.with_suffix("") for path in paths]
    return any(date_and_rest(part) is not None for path in found for part in path.parts) or all(
        _is_moment(path.name) for path in found
    )


def _any_of(found: Sequence[Layout]) -> Layout:
    """The first of the layouts that reads a path."""
    if len(found) == 1:
        return found[0]

    def read(path: PurePath) -> Place | None:
        return next((place for layout in found if (place := layout.read(path)) is not None), None)

    return Layout(" and ".join(layout.text for layout in found), read)


def _flat(paths: Sequence[PurePath], _above: str) -> list[Layout]:
    stems = [path.stem for path in paths]
    if any(_is_dated(stem) for stem in stems):
        return [_device_and_date("")]
    if len(stems) > 1 and all(_is_moment(stem) for stem in stems):
        return [Layout("{date}", lambda path: Place(None, None, path.stem))]
    devices = parse("{device}")
    return [devices, parse("{date}")] if any(_is_date(stem) for stem in stems) else [devices]


def _one_folder(paths: Sequence[PurePath], above: str) -> list[Layout]:
    folders, stems = {path.parts[0] for path in paths}, [path.stem for path in paths]
    dated = [parse("{date}/{device}")] if any(_is_date(folder) for folder in folders) else []
    if dated and all(_is_date(folder) for folder in folders):
        return dated
    if all(_is_moment(path.stem) or _names_its_folder(path) for path in paths):
        return [*dated, parse("{device}/{any}")]
    if all(_is_dated(stem) for stem in stems):
        return [*dated, _device_and_date(f"{above}/")]
    if above == "{tenant}":
        return [*dated, parse("{tenant}/{device}"), parse("{device}/{any}")]
    if len(paths) > len(folders) > 1 and len(set(stems)) == len(stems):
        # No two folders have a name in common: as one device, hosts of a group would be mixed.
        return [*dated, parse("{group}/{device}"), parse("{device}/{any}")]
    return [*dated, parse("{device}/{any}")]


def _two_folders(paths: Sequence[PurePath], above: str) -> list[Layout]:
    in_folders = all(_is_moment(path.stem) or _names_its_folder(path) for path in paths)
    for number, folders in ((0, "{date}/%s"), (1, "%s/{date}")):
        if all(_is_date(path.parts[number]) for path in paths):
            hosts = parse(f"{folders % above}/{{device}}")
            series = parse(f"{folders % '{device}'}/{{any}}")
            if number == 0 and in_folders:
                return [series]
            return [hosts] if above == "{tenant}" else [hosts, series]
    return [parse(f"{above}/{{device}}/{{any}}")]


def _is_date(name: str) -> bool:
    """Whether a name is a date and nothing else."""
    found = date_and_rest(name)
    return found is not None and not found[1]


def _is_dated(name: str) -> bool:
    """Whether a name is a date and something else."""
    found = date_and_rest(name)
    return found is not None and bool(found[1])


def _is_moment(name: str) -> bool:
    return _is_date(name) or _NUMBER.fullmatch(name) is not None


def _names_its_folder(path: PurePath) -> bool:
    """Whether a file repeats its folder's name: `core1/core1_2026-10-01`."""
    return path.stem.casefold().startswith(path.parts[-2].casefold())


def _device_and_date(above: str) -> Layout:
    """Names with a date at any place, or without one.

    Args:
        above: the folder's word and a slash, or nothing.
    """

    def read(path: PurePath) -> Place | None:
        found = date_and_rest(path.stem)
        date, device = (None, path.stem) if found is None else (found[0], found[1] or None)
        folder = path.parts[0] if above else None
        if above == "{group}/":
            return Place(None, device, date, folder)
        return Place(folder, device, date)

    return Layout(f"{above}{{device}}_{{date}}", read)
