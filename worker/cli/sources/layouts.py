"""Finds out how a folder of exports is laid out: which part of each path is tenant, device or date.

A layout is a path with words in braces, such as `{tenant}/{device}_{date}`: `{tenant}`, `{device}` and
`{date}` once at most, `{any}` for what says nothing. The file's ending is left out.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Final

from confkeep.errors import InvalidInput
from worker.cli.capture_dates import date_and_rest

TENANT: Final = "tenant"
DEVICE: Final = "device"
DATE: Final = "date"
ANY: Final = "any"

_WORD: Final = re.compile(r"\{(\w+)\}")
#: Most folders and names of a path that are told apart without `--layout`.
DEEPEST: Final = 3
#: A number that is a place in a series, such as `7` or `003`.
_NUMBER: Final = re.compile(r"\d{1,5}")


@dataclass(frozen=True, slots=True)
class Place:
    """What a path says."""

    #: None if the layout has none.
    tenant: str | None
    #: None if the path has only a date.
    device: str | None
    #: The text that holds the date; None if there is none.
    date: str | None


@dataclass(frozen=True, slots=True)
class Layout:
    """One way to read all paths."""

    text: str
    read: Callable[[PurePath], Place | None]

    @property
    def has_tenant(self) -> bool:
        """Whether the paths name tenants."""
        return f"{{{TENANT}}}" in self.text


def parse(text: str) -> Layout:
    """A layout that a person gives, such as `{device}_{date}.rsc`.

    Raises:
        InvalidInput: it has an unknown word, one twice, no `{device}`, or two side by side.
    """
    pattern = re.sub(r"\.\w+$", "", text.strip().strip("/"))
    words = _WORD.findall(pattern)
    known = (TENANT, DEVICE, DATE, ANY)
    if wrong := [word for word in words if word not in known]:
        raise InvalidInput(
            "--layout",
            f"has {{{wrong[0]}}}; it knows {', '.join(f'{{{word}}}' for word in known)}",
        )
    once = [word for word in words if word != ANY]
    if DEVICE not in words or len(set(once)) < len(once):
        raise InvalidInput("--layout", "must have {device}, and each word but {any} once at most")
    if "}{" in pattern:
        raise InvalidInput("--layout", "must have something between two words, such as _ or /")
    expression = re.compile(
        "".join(
            f"(?P<{piece}>[^/]+?)" if number % 2 and piece != ANY
            else "[^/]+?" if number % 2
            else re.escape(piece)
            for number, piece in enumerate(_WORD.split(pattern))
        )
    )  # fmt: skip

    def read(path: PurePath) -> Place | None:
        found = expression.fullmatch(path.with_suffix("").as_posix())
        if found is None:
            return None
        parts = found.groupdict()
        if parts.get(DATE) is not None and date_and_rest(parts[DATE]) is None:
            return None
        return Place(parts.get(TENANT), parts[DEVICE], parts.get(DATE))

    return Layout(text, read)


def guess(paths: Sequence[PurePath], *, with_tenant: bool) -> list[Layout]:
    """The ways in which all these paths, relative to the folder, can be read; none if there is no such way.

    Args:
        with_tenant: whether the tenant is known from elsewhere, so that no part of a path is one.
    """
    depths = {len(path.parts) for path in paths}
    if len(depths) != 1:
        return []
    by_depth = {1: _flat, 2: _one_folder, 3: _two_folders}
    found = by_depth.get(depths.pop())
    if found is None:
        return []
    return [layout for layout in found(paths) if not (with_tenant and layout.has_tenant)]


def _flat(paths: Sequence[PurePath]) -> list[Layout]:
    stems = [path.stem for path in paths]
    if any(_is_dated(stem) for stem in stems):
        return [_DEVICE_AND_DATE]
    if len(stems) > 1 and all(_is_moment(stem) for stem in stems):
        return [_DATES]
    return [_DEVICES]


def _one_folder(paths: Sequence[PurePath]) -> list[Layout]:
    folders, stems = {path.parts[0] for path in paths}, [path.stem for path in paths]
    if all(_is_date(folder) for folder in folders):
        return [_DATE_THEN_DEVICE]
    if all(
        _is_moment(stem) or _names_its_folder(path) for stem, path in zip(stems, paths, strict=True)
    ):
        return [_DEVICE_THEN_ANY]
    if all(_is_dated(stem) for stem in stems):
        return [_TENANT_THEN_DEVICE_AND_DATE]
    return [_TENANT_THEN_DEVICE, _DEVICE_THEN_ANY]


def _two_folders(paths: Sequence[PurePath]) -> list[Layout]:
    if all(_is_date(path.parts[0]) for path in paths):
        return [_DATE_THEN_TENANT]
    if all(_is_date(path.parts[1]) for path in paths):
        return [_TENANT_THEN_DATE]
    return [_TENANT_THEN_DEVICE_THEN_ANY]


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


def _dated(stem: str) -> tuple[str | None, str | None]:
    """Device and date in a name."""
    found = date_and_rest(stem)
    return (stem, None) if found is None else (found[1] or None, found[0])


def _layout(text: str, read: Callable[[tuple[str, ...], str], Place]) -> Layout:
    return Layout(text, lambda path: read(path.parts[:-1], path.stem))


_DEVICES: Final = _layout("{device}", lambda _folders, stem: Place(None, stem, None))
_DATES: Final = _layout("{date}", lambda _folders, stem: Place(None, None, stem))
_DEVICE_AND_DATE: Final = _layout(
    "{device}_{date}", lambda _folders, stem: Place(None, *_dated(stem))
)
_DATE_THEN_DEVICE: Final = _layout(
    "{date}/{device}", lambda folders, stem: Place(None, stem, folders[0])
)
_DEVICE_THEN_ANY: Final = _layout(
    "{device}/{any}", lambda folders, stem: Place(None, folders[0], stem)
)
_TENANT_THEN_DEVICE: Final = _layout(
    "{tenant}/{device}", lambda folders, stem: Place(folders[0], stem, None)
)
_TENANT_THEN_DEVICE_AND_DATE: Final = _layout(
    "{tenant}/{device}_{date}", lambda folders, stem: Place(folders[0], *_dated(stem))
)
_DATE_THEN_TENANT: Final = _layout(
    "{date}/{tenant}/{device}", lambda folders, stem: Place(folders[1], stem, folders[0])
)
_TENANT_THEN_DATE: Final = _layout(
    "{tenant}/{date}/{device}", lambda folders, stem: Place(folders[0], stem, folders[1])
)
_TENANT_THEN_DEVICE_THEN_ANY: Final = _layout(
    "{tenant}/{device}/{any}", lambda folders, stem: Place(folders[0], folders[1], stem)
)
