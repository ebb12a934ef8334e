"""What in an export is configuration: everything but the dated line of the opening comment."""

from __future__ import annotations

import pytest

from worker.store.routeros import same_configuration, without_volatile_header

DATED = [
    b"# jan/17/2022 10:00:00 by RouterOS 6.49",
    b"# Sep/01/2019 23:59:59 by RouterOS 6.45.9",
    b"# 2025-09-30 10:00:00 by RouterOS 7.16",
    b"# 2024-02-29 00:00:00 by RouterOS 7.14beta9",
    b"# 2025-01-01 00:00:00 by RouterOS 7.20rc1",
    b"# jan/02/1970 00:00:31 by RouterOS 7.2.1",
    b"# 1970-01-02 00:14:05 by RouterOS 7.15.3",
    b"# ____-__-__ __:__:__ by RouterOS 7.16.1",
    b"# ---/--/---- --:--:-- by RouterOS 6.4",
    b"# ___/__/____ __:__:__ by RouterOS 6.49",
    b"#  jan/17/2022 10:00:00  by RouterOS 6.49",
    b"#\tjan/17/2022 10:00:00 by RouterOS 6.49",
]
REST = [b"# software id = ABCD-EFGH", b"#", b"/interface bridge", b"add name=lan"]


def _export(first: list[bytes], end: bytes = b"\n", bom: bytes = b"") -> bytes:
    return bom + end.join([*first, *REST, b""])


@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
@pytest.mark.parametrize("bom", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("dated", DATED)
def test_the_dated_line_is_no_configuration(dated: bytes, bom: bytes, end: bytes) -> None:
    export = _export([dated], end, bom)
    assert without_volatile_header(export) == _export([], end, bom)
    for other in DATED:
        assert same_configuration(export, _export([other], end, bom))
    changed = export.replace(b"name=lan", b"name=wan")
    assert not same_configuration(export, changed)


@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
def test_other_comments_and_blank_lines_may_come_first(end: bytes) -> None:
    for before in ([b""], [b"#"], [b"# model = RB750"], [b"", b"# a", b" ", b"#"]):
        one = _export([*before, DATED[0]], end)
        assert same_configuration(one, _export([*before, DATED[2]], end))
        assert not same_configuration(one, _export([*before, b"# x", DATED[0]], end))


def test_only_the_opening_comment_is_looked_at() -> None:
    for line in DATED:
        inside = b"/system script\nadd source=x\n" + line + b"\n"
        assert without_volatile_header(inside) == inside
        assert without_volatile_header(b"# c\n" * 20 + line + b"\n").count(line) == 1
        # A second dated line is someone's comment.
        assert without_volatile_header(_export([line, line])) == _export([line])


@pytest.mark.parametrize(
    "line",
    [
        b"# by RouterOS 6.49",
        b"# 2025-09-30 by RouterOS 7.16",
        b"# jan/17/2022 10:00:00 by RouterOSes 6.49",
        b"# made at jan/17/2022 10:00:00 by RouterOS 6.49",
        b"jan/17/2022 10:00:00 by RouterOS 6.49",
        b"# jan/17/2022 10:00 by RouterOS 6.49",
        b"! Last configuration change at 10:00:00",
    ],
)
def test_what_only_resembles_the_dated_line_stays(line: bytes) -> None:
    assert without_volatile_header(_export([line])) == _export([line])


def test_line_ends_and_final_newlines_are_bytes_of_the_configuration() -> None:
    export = _export([DATED[0]])
    assert not same_configuration(export, _export([DATED[0]], b"\r\n"))
    assert not same_configuration(export, export[:-1])
    assert not same_configuration(export, b"\xef\xbb\xbf" + export)


def test_small_and_odd_exports() -> None:
    assert without_volatile_header(b"") == b""
    assert without_volatile_header(DATED[0]) == b""
    assert without_volatile_header(b"\xef\xbb\xbf" + DATED[0]) == b"\xef\xbb\xbf"
    assert without_volatile_header(b"\xff\xfe\x00#") == b"\xff\xfe\x00#"
    assert without_volatile_header(b"#" * 100_000) == b"#" * 100_000
    assert same_configuration(DATED[0], DATED[1] + b"\n")
