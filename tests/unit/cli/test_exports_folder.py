"""In which order a folder of exports is taken, and what its captures are called."""

from __future__ import annotations

import datetime as dt
import os
import uuid
from pathlib import Path

import pytest

from confkeep.errors import InvalidInput
from worker.cli import capture_order
from worker.cli.capture_dates import CERTAIN, DAY_FIRST, MONTH_FIRST, date_in_header, dates_in_name
from worker.cli.exports_folder import scan
from worker.cli.sources.asking import Guess
from worker.cli.sources.layouts import parse
from worker.cli.sources.names import NAMESPACE

TENANT = "aaaa1111-0000-4000-8000-000000000001"
DEVICE = "beef0001-0000-4000-8000-000000000001"
UTC = dt.UTC


def put(path: Path, content: bytes = b"x\n", mtime: int = 1_700_000_000) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    os.utime(path, (mtime, mtime))
    return path


def names(folder: Path, order: str | None = None) -> list[str]:
    return [Path(capture.place).name for capture in scan(folder, order=order).captures]


@pytest.mark.parametrize(
    ("stem", "date"),
    [
        ("20240131", dt.datetime(2024, 1, 31, tzinfo=UTC)),
        ("router-2024-01-31", dt.datetime(2024, 1, 31, tzinfo=UTC)),
        ("lavelon-20250131-1608", dt.datetime(2025, 1, 31, 16, 8, tzinfo=UTC)),
        ("r1_2024-01-31_23-59-58_daily", dt.datetime(2024, 1, 31, 23, 59, 58, tzinfo=UTC)),
        ("20240131T235958", dt.datetime(2024, 1, 31, 23, 59, 58, tzinfo=UTC)),
        ("2024.01.31 10.30", dt.datetime(2024, 1, 31, 10, 30, tzinfo=UTC)),
        ("20241331", None),
        ("2024-01-311", None),
        ("120240131", None),
        ("0001", None),
        ("router", None),
        ("19700102", None),
    ],
)
def test_dates_in_names(stem: str, date: dt.datetime | None) -> None:
    assert dates_in_name(stem) == ({} if date is None else {CERTAIN: date})


@pytest.mark.parametrize(
    ("stem", "day_first", "month_first"),
    [
        ("rtr1_30012024", "2024-01-30", None),
        ("01302024", None, "2024-01-30"),
        ("01022024-0301", "2024-02-01T03:01", "2024-01-02T03:01"),
        ("30-01-2024", "2024-01-30", None),
        ("1.2.2024", "2024-02-01", "2024-01-02"),
        ("5_5_2024 23-59-58", "2024-05-05T23:59:58", "2024-05-05T23:59:58"),
        ("31-04-2024", None, None),
        ("32012024", None, None),
        ("130012024", None, None),
    ],
)
def test_names_that_may_mean_two_dates(
    stem: str, day_first: str | None, month_first: str | None
) -> None:
    expected = {
        reading: dt.datetime.fromisoformat(date).replace(tzinfo=UTC)
        for reading, date in ((DAY_FIRST, day_first), (MONTH_FIRST, month_first))
        if date is not None
    }
    assert dates_in_name(stem) == expected


@pytest.mark.parametrize(
    "stem",
    [
        "2021.feb.28",
        "28feb2021",
        "rtr1-Feb-28-2021",
        "28-february-2021",
        "2021-FEB-28",
        "Feb_28_2021",
    ],
)
def test_months_by_their_names(stem: str) -> None:
    assert dates_in_name(stem) == {CERTAIN: dt.datetime(2021, 2, 28, tzinfo=UTC)}


@pytest.mark.parametrize(
    ("header", "date"),
    [
        (
            b"# 2026-09-30 10:00:01 by RouterOS 7.16\n",
            dt.datetime(2026, 9, 30, 10, 0, 1, tzinfo=UTC),
        ),
        (b"# jan/17/2022 10:00:00 by RouterOS 6.49\r\n", dt.datetime(2022, 1, 17, 10, tzinfo=UTC)),
        (
            b"#\n# SEP/01/2023 01:02:03 by RouterOS 7.1\n",
            dt.datetime(2023, 9, 1, 1, 2, 3, tzinfo=UTC),
        ),
        (b"# jan/02/1970 00:00:31 by RouterOS 7.2.1\n", None),
        (b"# ____-__-__ __:__:__ by RouterOS 7.16\n", None),
        (b"# 2026-02-30 10:00:01 by RouterOS 7.16\n", None),
        (b"# xyz/01/2023 01:02:03 by RouterOS 7.1\n", None),
        (b"/ip address\n", None),
    ],
)
def test_dates_in_headers(header: bytes, date: dt.datetime | None) -> None:
    assert date_in_header(header) == date


def test_dates_in_names_come_first(tmp_path: Path) -> None:
    device = tmp_path / TENANT / DEVICE
    put(device / "b-20240102.rsc", mtime=1)
    put(device / "a-20240103.rsc", mtime=2)
    put(device / "c-20231231.rsc", mtime=3)

    assert names(tmp_path) == ["c-20231231.rsc", "b-20240102.rsc", "a-20240103.rsc"]


def test_numbers_are_compared_as_numbers(tmp_path: Path) -> None:
    device = tmp_path / TENANT / DEVICE
    for number, mtime in (("10", 1), ("9", 2), ("0011", 3)):
        put(device / f"{number}.rsc", mtime=mtime)

    assert names(tmp_path) == ["9.rsc", "10.rsc", "0011.rsc"]


HEADER = "# {} 03:00:00 by RouterOS 7.16\n".format


@pytest.mark.parametrize(
    "stems",
    [
        ("30012024", "31012024", "01022024", "02022024"),
        ("r1_30-01-2024", "r1_31-01-2024", "r1_01-02-2024", "r1_02-02-2024"),
        ("30.1.2024", "31.1.2024", "1.2.2024", "2.2.2024"),
        ("2024.jan.30", "2024.jan.31", "2024.feb.01", "2024.feb.02"),
        ("30Jan2024", "31Jan2024", "01Feb2024", "02Feb2024"),
        ("01302024", "01312024", "02012024", "02022024"),
    ],
)
def test_dates_in_names_of_any_form(tmp_path: Path, stems: tuple[str, ...]) -> None:
    for stem in stems:
        put(tmp_path / TENANT / DEVICE / f"{stem}.rsc")
    found = scan(tmp_path).captures
    assert [Path(capture.place).stem for capture in found] == list(stems)
    assert [f"{capture.captured_at:%m-%d}" for capture in found] == [
        "01-30", "01-31", "02-01", "02-02",
    ]  # fmt: skip


def test_the_headers_tell_what_day_and_month_are(tmp_path: Path) -> None:
    device = tmp_path / TENANT / DEVICE
    put(device / "01022024.rsc", HEADER("2024-02-01").encode())
    put(device / "02012024.rsc", HEADER("2024-01-02").encode())
    assert names(tmp_path) == ["02012024.rsc", "01022024.rsc"]
    put(device / "02012024.rsc", HEADER("2024-02-01").encode())
    put(device / "01022024.rsc", HEADER("2024-01-02").encode())
    assert names(tmp_path) == ["01022024.rsc", "02012024.rsc"]


def test_other_devices_tell_what_day_and_month_are(tmp_path: Path) -> None:
    put(tmp_path / TENANT / "one" / "01022024.rsc")
    put(tmp_path / TENANT / "one" / "02012024.rsc")
    put(tmp_path / "other" / "two" / "31012024.rsc")
    found = scan(tmp_path)
    its = [Path(c.place).name for c in found.captures if Path(c.place).parent.name == "one"]
    assert its == ["02012024.rsc", "01022024.rsc"]
    assert found.notes == [
        "the paths are read as {tenant}/{device}/{any}",
        "dates in names are read day-first, as 31012024.rsc says",
    ]


@pytest.mark.parametrize(
    ("files", "problem"),
    [
        # Nothing tells day from month.
        ({"01022024": "", "02012024": ""}, "--order day-first or --order month-first"),
        ({"01-02-2024": ""}, "of 2024-02-01 or of 2024-01-02"),
        # Two devices of a source were named in two ways.
        ({"../two/31012024": "", "../three/01312024": "", "01022024": ""}, "--order day-first"),
        # Numbers that the headers say are dates with a year of two digits.
        (
            {"300124": HEADER("2024-01-30"), "010224": HEADER("2024-02-01")},
            "--order number or --order header",
        ),
        # Files of one time, such as of a copy.
        ({"before": "", "after": ""}, "--order name"),
    ],
)
def test_where_two_orders_remain_nothing_is_guessed(
    tmp_path: Path, files: dict[str, str], problem: str
) -> None:
    for stem, header in files.items():
        put(tmp_path / TENANT / "one" / f"{stem}.rsc", f"{header}{stem}\n".encode())
    with pytest.raises(InvalidInput, match=problem):
        scan(tmp_path)
    for order in capture_order.ORDERS:
        assert len(scan(tmp_path, order=order).captures) == len(files)


def test_headers_come_before_the_files_times(tmp_path: Path) -> None:
    device = tmp_path / TENANT / DEVICE
    put(device / "a.rsc", HEADER("2024-01-30").encode(), mtime=2_000)
    put(device / "b.rsc", HEADER("jan/29/2024").encode(), mtime=2_000)
    put(device / "c.rsc", b"# model = x\n" * 40 + HEADER("2024-01-28").encode(), mtime=3_000)
    assert names(tmp_path) == ["c.rsc", "b.rsc", "a.rsc"]


def test_a_header_gives_the_time_to_the_date_in_a_name(tmp_path: Path) -> None:
    device = tmp_path / TENANT / DEVICE
    put(device / "2024-01-30-b.rsc", b"# 2024-01-30 03:00:00 by RouterOS 7.16\n")
    put(device / "2024-01-30-a.rsc", b"# 2024-01-30 09:00:00 by RouterOS 7.16\n")
    put(device / "2024-01-29.rsc", b"# 2024-06-30 09:00:00 by RouterOS 7.16\n")
    found = scan(tmp_path).captures
    assert [Path(c.place).stem[-2:] for c in found] == ["29", "-b", "-a"]
    assert [c.captured_at.hour for c in found] == [0, 3, 9]


def test_else_the_files_times(tmp_path: Path) -> None:
    device = tmp_path / TENANT / DEVICE
    put(device / "r10.rsc", mtime=1_001)
    put(device / "r9.rsc", mtime=1_000)
    put(device / "a.rsc", mtime=2_000)

    assert names(tmp_path) == ["r9.rsc", "r10.rsc", "a.rsc"]
    assert names(tmp_path, "name") == ["a.rsc", "r9.rsc", "r10.rsc"]


def test_what_is_no_capture_is_told(tmp_path: Path) -> None:
    for name in (
        "acme/rtr1/rtr1-20240130.rsc", "acme/rtr1/rtr1-20240130.backup", "acme/rtr1/.hidden",
        "acme/.git/config", "acme/rtr1/old/rtr1-20230130.rsc", "acme/rtr1/x.rsc.gz",
        "acme/rtr2.rsc", "acme/sw1/sw1.cfg", "acme/rtr3/rtr3.backup",
    ):  # fmt: skip
        put(tmp_path / name)
    found = scan(tmp_path)
    assert len(found.captures) == 1
    assert found.left_out == [
        "acme/rtr2.rsc was left out: the paths are read as {tenant}/{device}/{any}",
        "acme/rtr1/x.rsc.gz was left out: it is no export",
        "acme/rtr1/old/rtr1-20230130.rsc was left out: the paths are read as {tenant}/{device}/{any}",
        "acme/rtr3/rtr3.backup has no export beside it and was left out",
        "acme/sw1/sw1.cfg was left out: it is no export",
    ]


def test_an_order_can_be_forced(tmp_path: Path) -> None:
    device = tmp_path / TENANT / DEVICE
    put(device / "1.rsc", mtime=2_000)
    put(device / "2.rsc", mtime=1_000)

    assert names(tmp_path, "number") == ["1.rsc", "2.rsc"]
    assert names(tmp_path, "mtime") == ["2.rsc", "1.rsc"]


def test_devices_interleave_by_date_and_keep_their_own_order(tmp_path: Path) -> None:
    header = "# 2024-01-{:02d} 00:00:00 by RouterOS 7.1\n".format
    one, two = tmp_path / TENANT / "one", tmp_path / TENANT / "two"
    put(one / "1.rsc", header(1).encode())
    put(one / "2.rsc", header(9).encode())
    put(one / "3.rsc", header(4).encode())  # a clock that was set back
    put(two / "1.rsc", header(2).encode())
    put(two / "2.rsc", header(10).encode())

    found = [f"{Path(c.place).parent.name}/{Path(c.place).stem}" for c in scan(tmp_path).captures]

    assert found == ["one/1", "two/1", "one/2", "one/3", "two/2"]


def test_the_date_of_a_capture(tmp_path: Path) -> None:
    device = tmp_path / TENANT / DEVICE
    put(device / "1.rsc", b"no header\n", mtime=1_600_000_000)
    put(device / "2.rsc", b"no header, copied later\n", mtime=1_900_000_000)
    put(device / "3.rsc", b"# 2024-01-02 03:04:05 by RouterOS 7.1\n", mtime=1_900_000_000)

    dates = [capture.captured_at for capture in scan(tmp_path).captures]

    header = dt.datetime(2024, 1, 2, 3, 4, 5, tzinfo=UTC)
    assert dates == [dt.datetime.fromtimestamp(1_600_000_000, UTC), header, header]


def test_a_binary_of_the_same_name_belongs_to_the_export(tmp_path: Path) -> None:
    device = tmp_path / TENANT / DEVICE
    put(device / "1.rsc")
    put(device / "1.backup", b"one")
    put(device / "2.rsc")
    put(device / "3.backup", b"three")

    assert [capture.read()[1] for capture in scan(tmp_path).captures] == [b"one", None]


def test_uuids_stand_for_themselves_and_names_for_made_ones(tmp_path: Path) -> None:
    put(tmp_path / TENANT.upper() / DEVICE / "1.rsc")
    put(tmp_path / "acme" / "r1" / "1.rsc")
    put(tmp_path / "other" / "r1" / "1.rsc")

    found = scan(tmp_path)

    made = {name: str(uuid.uuid5(NAMESPACE, name)) for name in found.named_ids}
    assert found.named_ids == made
    assert list(made) == ["acme", "acme/r1", "other", "other/r1"]
    assert {(c.row.tenant_id, c.row.device_id) for c in found.captures} == {
        (TENANT, DEVICE),
        (made["acme"], made["acme/r1"]),
        (made["other"], made["other/r1"]),
    }
    # Part of every id that was ever made from a name: it must never change.
    assert str(NAMESPACE) == "1a9acc08-a5a0-5fba-b63e-13d7c20ce832"


def test_the_backup_id_depends_on_place_name_and_bytes_alone(tmp_path: Path) -> None:
    put(tmp_path / "t" / "d" / "1.rsc", mtime=1)
    first = scan(tmp_path).captures[0]
    put(tmp_path / "t" / "d" / "1.rsc", mtime=2)
    copied = scan(tmp_path).captures[0]
    put(tmp_path / "t" / "e" / "1.rsc")
    other = scan(tmp_path).captures[1]

    same = first.backup_id(b"x", b"y")
    assert copied.backup_id(b"x", b"y") == same
    ids = {
        same,
        first.backup_id(b"x", None),
        first.backup_id(b"x", b"z"),
        first.backup_id(b"xy", None),
        other.backup_id(b"x", b"y"),
    }
    assert len(ids) == 5


def test_two_readings_are_both_named(tmp_path: Path) -> None:
    put(tmp_path / "acme" / "core1.rsc")
    with pytest.raises(InvalidInput) as caught:
        scan(tmp_path)
    assert "{tenant}/{device} (device core1 of tenant acme)" in str(caught.value)
    assert "{device}/{any} (device acme)" in str(caught.value)
    [capture] = scan(tmp_path, layout=parse("{tenant}/{device}.rsc")).captures
    assert capture.row.label == "core1"


def test_hosts_in_dated_folders(tmp_path: Path) -> None:
    for day in ("2026-10-01", "2026-10-02"):
        put(tmp_path / day / "core1.cfg")
        put(tmp_path / day / "edge1.cfg")
    put(tmp_path / "README")
    found = scan(tmp_path, tenant="acme").captures
    assert [(c.row.label, c.captured_at.day) for c in found if c.row.label == "core1"] == [
        ("core1", 1),
        ("core1", 2),
    ]
    # The same bytes and file name, but two captures.
    assert len({c.backup_id(b"x", None) for c in found}) == 4


def test_hosts_with_dates_in_one_folder(tmp_path: Path) -> None:
    put(tmp_path / "core1-20261001-0400.rsc")
    put(tmp_path / "core1-20261002-0400.rsc")
    put(tmp_path / "edge1_2026-10-01.rsc")
    found = scan(tmp_path, tenant="acme").captures
    assert [(c.row.label, f"{c.captured_at:%d %H:%M}") for c in found] == [
        ("edge1", "01 00:00"),
        ("core1", "01 04:00"),
        ("core1", "02 04:00"),
    ]


@pytest.mark.parametrize(
    ("files", "devices"),
    [
        (["d/1.rsc", "d/2.rsc", "e/1.rsc"], 2),
        (["1.rsc", "2.rsc"], 1),
        (["r-20240101.rsc", "r-20240102.rsc"], 1),
        (["office.rsc", "home.rsc"], 2),
    ],
)
def test_any_shape_of_folder(tmp_path: Path, files: list[str], devices: int) -> None:
    for name in files:
        put(tmp_path / name)

    found = scan(tmp_path, tenant="demo")

    assert len(found.captures) == len(files)
    assert len({capture.row.device_id for capture in found.captures}) == devices


@pytest.mark.parametrize(
    ("files", "tenant", "names"),
    [
        (["2024-01-01.rsc", "core1.rsc"], "demo", {"2024-01-01", "core1"}),
        (["north/core1.rsc", "south/edge1.rsc", "south/edge2.rsc"], "demo", {"core1", "edge1", "edge2"}),
        (["core1.cfg", "edge1.cfg"], None, {"core1", "edge1"}),
    ],
)  # fmt: skip
def test_a_demo_has_no_option_that_decides_so_it_plays_any_folder(
    tmp_path: Path, files: list[str], tenant: str | None, names: set[str]
) -> None:
    for name in files:
        put(tmp_path / name)
    with pytest.raises(InvalidInput):
        scan(tmp_path, tenant=tenant)

    found = scan(tmp_path, tenant=tenant, asker=Guess())

    assert {c.row.label for c in found.captures} == names
    assert len(found.captures) == len(files)
