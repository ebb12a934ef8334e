"""Folders as people have them: what a path says, where two readings remain, and what a person may say."""

from __future__ import annotations

from pathlib import PurePath

import pytest

from confkeep.errors import InvalidInput
from worker.cli.sources.layouts import Place, guess, parse


@pytest.mark.parametrize(
    ("names", "texts", "first"),
    [
        (["core1.rsc", "edge1.rsc"], ["{device}"], Place(None, "core1", None)),
        (["core1.rsc"], ["{device}"], Place(None, "core1", None)),
        (
            ["core1_2026-10-01.rsc", "edge1_2026-10-01.rsc"],
            ["{device}_{date}"],
            Place(None, "core1", "2026-10-01"),
        ),
        (
            ["core1-20261001-0400.cfg", "edge1.cfg"],
            ["{device}_{date}"],
            Place(None, "core1", "20261001-0400"),
        ),
        (
            ["2026-10-01_core-1.rsc"],
            ["{device}_{date}"],
            Place(None, "core-1", "2026-10-01"),
        ),
        (["2026-10-01.rsc", "2026-10-02.rsc"], ["{date}"], Place(None, None, "2026-10-01")),
        (
            ["2026-10-01/core1.rsc", "2026-10-02/core1.rsc"],
            ["{date}/{device}"],
            Place(None, "core1", "2026-10-01"),
        ),
        (
            ["core1/2026-10-01.rsc", "edge1/2026-10-02.txt"],
            ["{device}/{any}"],
            Place(None, "core1", "2026-10-01"),
        ),
        (
            ["core1/core1_2026-10-01.rsc", "edge1/edge1.rsc"],
            ["{device}/{any}"],
            Place(None, "core1", "core1_2026-10-01"),
        ),
        (
            ["acme/core1_2026-10-01.rsc"],
            ["{tenant}/{device}_{date}"],
            Place("acme", "core1", "2026-10-01"),
        ),
        (
            ["acme/core1.rsc", "acme/edge1.rsc"],
            ["{tenant}/{device}", "{device}/{any}"],
            Place("acme", "core1", None),
        ),
        (
            ["2026-10-01/acme/core1.rsc"],
            ["{date}/{tenant}/{device}"],
            Place("acme", "core1", "2026-10-01"),
        ),
        (
            ["acme/2026-10-01/core1.rsc"],
            ["{tenant}/{date}/{device}"],
            Place("acme", "core1", "2026-10-01"),
        ),
        (
            ["acme/core1/2026-10-01.rsc", "acme/core1/b.rsc"],
            ["{tenant}/{device}/{any}"],
            Place("acme", "core1", "2026-10-01"),
        ),
        (["a/b/c/d.rsc"], [], None),
        (["core1.rsc", "acme/edge1.rsc"], [], None),
    ],
)
def test_the_layout_that_fits(names: list[str], texts: list[str], first: Place | None) -> None:
    paths = [PurePath(name) for name in names]
    found = guess(paths, with_tenant=False)
    assert [layout.text for layout in found] == texts
    if first is not None:
        assert found[0].read(paths[0]) == first


def test_a_known_tenant_leaves_one_reading() -> None:
    paths = [PurePath("core1/a.rsc"), PurePath("core1/b.rsc")]
    [layout] = guess(paths, with_tenant=True)
    assert layout.text == "{device}/{any}"


@pytest.mark.parametrize(
    ("layout", "path", "expected"),
    [
        ("{device}_{date}.rsc", "core1_2026-10-01.rsc", Place(None, "core1", "2026-10-01")),
        (
            "{date}/{tenant}-{device}",
            "2026-10-01/acme-core1.txt",
            Place("acme", "core1", "2026-10-01"),
        ),
        ("{any}/{device}", "x/core1", Place(None, "core1", None)),
        ("{device}_{date}", "core1_today.rsc", None),
        ("{device}_{date}", "a/core1_2026-10-01.rsc", None),
    ],
)
def test_a_layout_that_a_person_says(layout: str, path: str, expected: Place | None) -> None:
    assert parse(layout).read(PurePath(path)) == expected


@pytest.mark.parametrize(
    ("layout", "problem"),
    [
        ("{date}.rsc", "must have {device}"),
        ("{device}{date}", "something between"),
        ("{host}_{date}", "it knows {tenant}, {device}, {date}, {any}"),
        ("{device}/{device}", "once at most"),
    ],
)
def test_a_layout_that_is_none(layout: str, problem: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        parse(layout)
    assert problem in str(caught.value)
