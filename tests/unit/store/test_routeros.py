"""What in an export is configuration: everything but the dated line of the opening comment."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from confkeep.routeros.export import same_configuration, without_volatile_header

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
        # Pollers put there what other commands print, a list of packages for one.
        assert line not in without_volatile_header(b"# c\n" * 100 + line + b"\n")
        assert line in without_volatile_header(b"# c\n" * 1000 + line + b"\n")
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


BODY = b"/interface ethernet\n%sset [ find default-name=ether5 ] name=wan\n%s/ip dhcp-client\n%s"
STATES = [
    b"# inactive time\n",
    b"# ether5 not ready\n",
    b"# poe-out status: short_circuit\n",
    b"# Firmware upgraded successfully, please reboot for changes to take effect!\n",
    b'# received packet from 192.0.2.1 "bad" format\r\n',
]


@pytest.mark.parametrize("state", STATES)
def test_what_routeros_says_of_an_items_state_is_no_configuration(state: bytes) -> None:
    head = DATED[0] + b'\n# model = RB750 with a 19" rack\n'
    none = head + BODY % (b"", b"", b"")
    for places in [
        (state, b"", b""),
        (b"", state, b""),
        (b"", b"", state),
        (state * 2, state, state),
    ]:
        some = head.replace(DATED[0], DATED[2]) + BODY % places
        assert same_configuration(none, some)
        assert same_configuration(some, none)
        assert not same_configuration(none, some.replace(b"name=wan", b"name=lan"))
    assert same_configuration(none, (none + state).rstrip(b"\n") + b"\n")


def test_a_comment_that_is_configuration_is_told() -> None:
    head = DATED[0] + b"\n# model = RB750\n"
    for one, other in [
        # The device was replaced.
        (head + REST[2], head.replace(b"RB750", b"RB4011") + REST[2]),
        # Within a script, of which a person may have written the lines.
        (head + b'/system script\nadd source="\n# one\n:put 1\n"\n',
         head + b'/system script\nadd source="\n# two\n:put 1\n"\n'),
        (head + b'/system script\nadd name="a\\"b" source="\n# \"one\n:put 1\n"\n',
         head + b'/system script\nadd name="a\\"b" source="\n# \"two\n:put 1\n"\n'),
        (head + b"/ip address\nadd comment=\\\n#1\n", head + b"/ip address\nadd comment=\\\n#2\n"),
        # Another maker's, of whose comments nothing is known.
        (b"hostname a\n# one\n", b"hostname a\n# two\n"),
    ]:  # fmt: skip
        assert not same_configuration(one, other)
        assert not same_configuration(other, one)


def test_a_terminals_colours_are_no_configuration() -> None:
    plain = _export([DATED[0]])
    coloured = b"\x1b[m\x1b[32m" + plain.replace(b"/interface", b"\x1b[36m/interface\x1b[m")
    assert same_configuration(coloured, coloured.replace(DATED[0], DATED[2]))
    assert same_configuration(coloured, _export([DATED[2]]))
    assert not same_configuration(coloured, coloured.replace(b"name=lan", b"name=\x1b[1;33mwan"))


@settings(max_examples=200, deadline=None)
@given(
    lines=st.lists(
        st.sampled_from([b"/ip", b"add a=1", b"add a=2", b"# up", b"# down"]), max_size=8
    ),
    others=st.lists(st.sampled_from([b"/ip", b"add a=1", b"# up", b"# down"]), max_size=8),
)
def test_comments_alone_never_make_a_difference(lines: list[bytes], others: list[bytes]) -> None:
    one, other = ([DATED[0], b"/ip", *some, b""] for some in (lines, others))
    commands = [[line for line in some if not line.startswith(b"#")] for some in (one, other)]
    assert same_configuration(b"\n".join(one), b"\n".join(other)) == (commands[0] == commands[1])
