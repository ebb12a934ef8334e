"""Folders as people have them: what a path says, where two readings remain, and what a person may say."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import PurePath

import pytest

from confkeep.errors import InvalidInput
from worker.cli.sources.layouts import Layout, Place, guess, guess_in_git, parse


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
        # Devices that look like dates.
        (["20261001.rsc"], ["{device}", "{date}"], Place(None, "20261001", None)),
        (["core1.rsc", "2026-10-01.rsc"], ["{device}", "{date}"], Place(None, "core1", None)),
        (
            ["2026-10-01/core1.rsc", "latest/core1.rsc"],
            ["{date}/{device}", "{tenant}/{device}", "{device}/{any}"],
            Place(None, "core1", "2026-10-01"),
        ),
        (
            ["2026-10-01/core1/core1.rsc"],
            ["{date}/{device}/{any}"],
            Place(None, "core1", "2026-10-01"),
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


def test_hosts_of_groups_are_not_taken_for_captures_of_one_device() -> None:
    paths = [PurePath(name) for name in ("north/core1.cfg", "north/core2.cfg", "south/edge1.cfg")]
    found = guess(paths, with_tenant=True)
    assert [layout.text for layout in found] == ["{group}/{device}", "{device}/{any}"]
    same = [PurePath(name) for name in ("core1/a.cfg", "core1/b.cfg", "edge1/a.cfg")]
    assert [layout.text for layout in guess(same, with_tenant=True)] == ["{device}/{any}"]


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        (
            "north/core1_2026-10-01.rsc",
            "{group}/{device}_{date}",
            Place(None, "core1", "2026-10-01", "north"),
        ),
        ("north/core1/1.rsc", "{group}/{device}/{any}", Place(None, "core1", "1", "north")),
    ],
)
def test_with_a_known_tenant_a_folder_above_the_device_is_its_group(
    name: str, text: str, expected: Place
) -> None:
    [layout] = guess([PurePath(name)], with_tenant=True)
    assert layout.text == text
    assert layout.read(PurePath(name)) == expected
    assert expected.name("exports") == "north/core1"


@pytest.mark.parametrize(
    ("names", "with_tenant", "texts", "last"),
    [
        (["core1.rsc", "edge1.rsc"], False, ["{device}"], Place(None, "edge1", None)),
        (
            ["acme/core1.cfg", "other/edge1.cfg"],
            False,
            ["{tenant}/{device}"],
            Place("other", "edge1", None),
        ),
        (
            ["configs/core1.cfg", "configs/edge1.cfg"],
            False,
            ["{tenant}/{device}", "{any}/{device}"],
            Place("configs", "edge1", None),
        ),
        (
            ["configs/north/core1.cfg", "configs/south/edge1.cfg"],
            False,
            ["{tenant}/{group}/{device}", "{any}/{group}/{device}"],
            Place("configs", "edge1", None, "south"),
        ),
        (["north/core1.cfg"], True, ["{group}/{device}"], Place(None, "core1", None, "north")),
        (
            ["acme/core1.cfg", "acme/north/dc1/edge1.cfg"],
            False,
            ["{tenant}/{device} and {tenant}/{group}/{device}"],
            Place("acme", "edge1", None, "north/dc1"),
        ),
        # One file names no tenant: then none does.
        (
            ["core1.cfg", "north/edge1.cfg"],
            False,
            ["{device} and {group}/{device}"],
            Place(None, "edge1", None, "north"),
        ),
        (
            ["core1/running.cfg", "edge1/running.cfg"],
            False,
            ["{tenant}/{device}", "{device}/{any}"],
            Place("edge1", "running", None),
        ),
        (
            ["core1/2026-10-01.rsc", "core1/2026-10-02.rsc", "README.txt"],
            False,
            ["{device}/{any}"],
            None,
        ),
    ],
)
def test_in_git_a_file_is_a_device_at_any_depth(
    names: list[str], with_tenant: bool, texts: list[str], last: Place | None
) -> None:
    paths = [PurePath(name) for name in names]
    found = guess_in_git(paths, with_tenant=with_tenant)
    assert [layout.text for layout in found] == texts
    assert found[0].read(paths[-1]) == last


@pytest.mark.parametrize(
    "names",
    [["a.rsc", "2026-10-01.rsc"], ["core1/run.cfg", "e/run.cfg"], ["all/a.cfg", "all/b.cfg"]],
)
@pytest.mark.parametrize("find", [guess, guess_in_git])
def test_where_two_readings_remain_each_can_be_said(
    find: Callable[..., list[Layout]], names: list[str]
) -> None:
    paths = [PurePath(name) for name in names]
    found = find(paths, with_tenant=False)
    for layout in found:
        assert [parse(layout.text).read(path) for path in paths] == [
            layout.read(path) for path in paths
        ]


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
        ("{date}", "2026-10-01.rsc", Place(None, None, "2026-10-01")),
        ("{date}", "core1.rsc", None),
        # A sign for the date's may be any; one in the device's name stays there.
        ("{device}_{date}.rsc", "core-1-20261001-0400.cfg", Place(None, "core-1", "20261001-0400")),
        ("{device}_{date}", "core_1_2026-10-01.rsc", Place(None, "core_1", "2026-10-01")),
        ("{group}/{device}", "north/dc1/core1.rsc", Place(None, "core1", None, "north/dc1")),
        ("{device}_{date}", "core1_today.rsc", None),
        ("{device}_{date}", "a/core1_2026-10-01.rsc", None),
    ],
)
def test_a_layout_that_a_person_says(layout: str, path: str, expected: Place | None) -> None:
    assert parse(layout).read(PurePath(path)) == expected


@pytest.mark.parametrize(
    ("layout", "problem"),
    [
        ("{tenant}/{any}.rsc", "must have {device} or {date}"),
        ("{device}{date}", "something between"),
        ("{host}_{date}", "it knows {tenant}, {device}, {date}, {any}"),
        ("{device}/{device}", "once at most"),
    ],
)
def test_a_layout_that_is_none(layout: str, problem: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        parse(layout)
    assert problem in str(caught.value)
