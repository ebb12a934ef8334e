"""What passes for a RouterOS script, and what does not."""

from __future__ import annotations

import pytest

from confkeep.routeros.script import binary_kind, parse_script

EXPORT = rb"""# 2025-09-30 10:00:00 by RouterOS 7.16
# software id = AAAA-BBBB

/interface bridge
add name=bridge1
/ip address
add address=10.0.0.1/24 comment="a \"quoted\" \\" \
    interface=bridge1 network=\
    10.0.0.0
set [ find default-name=ether1 ] comment="two
lines of it" disabled=no
/system script
add name=x source=":local a 1\r\
    \n:if (\$a = 1) do={}"
:global y 1
/ip dns set servers=1.1.1.1
remove [find]
"""


@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
def test_an_export_is_recognised_to_its_last_line(end: bytes) -> None:
    script = parse_script(b"\xef\xbb\xbf" + EXPORT.replace(b"\n", end))
    assert (script.lines, script.recognised) == (16, 16)
    assert script.unrecognised_share == 0


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b" \r\n",
        b"Bus error\n",
        b"bad command name export (line 1 column 1)\n",
        b"Login: admin\nPassword:\n",
        b"!\nversion 15.2\nhostname x\ninterface Gi0/1\n ip address 10.0.0.1 255.0.0.0\n",
        b"address=10.0.0.1\n",
    ],
)
def test_what_is_no_export_is_not_recognised(text: bytes) -> None:
    assert parse_script(text).recognised == 0
    assert parse_script(text).unrecognised_share == 1


def test_a_banner_before_the_export_is_counted() -> None:
    script = parse_script(b"It's 5\" tall, welcome\nno way in\n" + EXPORT)
    assert script.lines - script.recognised == 2
    assert script.unrecognised_share == pytest.approx(2 / 18)


def test_binaries_are_told_by_their_first_bytes() -> None:
    kinds = [
        binary_kind(bytes.fromhex(data)) for data in ("88aca1b100", "efa8917200", "88aca1", "")
    ]
    assert kinds == ["plain", "encrypted", "unknown", "unknown"]
