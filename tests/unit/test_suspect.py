"""Suspect captures: what is wrong is named, and nothing else is called wrong."""

from __future__ import annotations

import random

import pytest

from confkeep.routeros.suspect import why_suspect
from tests.bench.fleet import Fleet
from tests.unit.masking.test_vendors import real
from tests.unit.masking.vendor_texts import TEXTS

HEADER = b"# 2026-01-02 03:04:05 by RouterOS 7.16\n# software id = AB\n"
GOOD = HEADER + b'/ip address\nadd address=10.0.0.1/24 comment="say \\"no\\"" interface=ether1\n'
#: Wrapped as RouterOS wraps a script: quotes and backslashes of its own are escaped.
SCRIPT = (
    HEADER
    + b'/system script\nadd name=a source="# a \\"b\\"\\r\\\n    \\n:put \\"x\\" \\\\\\r\\\n'
    + b"    \\n:put 1\\r\\\n" * 400
    + b'    \\n"\n'
)


def plain(size: int, says: int | None = None) -> bytes:
    """A binary that says how long it is."""
    said = (size if says is None else says).to_bytes(4, "little")
    return b"\x88\xac\xa1\xb1" + said + random.Random(1).randbytes(size - 8)


@pytest.mark.parametrize(
    "export",
    [
        GOOD,
        GOOD.replace(b"\n", b"\r\n"),
        GOOD.rstrip(),
        GOOD + b'add comment="and so on"',
        GOOD + b"/system reboot\n",
        SCRIPT,
        b"\xef\xbb\xbf" + GOOD,
        GOOD + b"# don't ask \\\n",
        GOOD + b"#error exporting /interface bridge calea\n",
        GOOD + b"# error exporting the flag is what the next rule is for\n",
        GOOD + b"# interrupted\n" + GOOD,
        GOOD + b'add comment="\\\n    #error exporting /ip"\n',
        GOOD + b'/system note\nset note="Login: nobody\\r\\\n    \\nfailure: not here"\n',
        GOOD + b'/ip hotspot\nadd comment="<html>" name="no such item (4)"\n',
        b"! Cisco IOS Software\nhostname sw1\n!\nend\n",
        b"firewall {\n    all-ping enable\n}\n",
        b'set x="open\n',
    ],
)
def test_real_exports_are_not_suspect(export: bytes) -> None:
    assert why_suspect(export, plain(100)) is None


def test_generated_exports_are_not_suspect() -> None:
    fleet = Fleet(1)
    for _ in range(20):
        assert why_suspect(fleet.export(), fleet.random.randbytes(5_000)) is None


@pytest.mark.parametrize(
    ("export", "reason"),
    [
        (b"", "empty"),
        (b" \r\n", "empty"),
        (b"Bus error\n", "an error: Bus error"),
        (b"failure: not enough permissions (9)\n", "an error: failure: not enough"),
        (GOOD + b"#error exporting /ip (timeout)\n", "not whole: #error exporting /ip (timeout)"),
        (
            GOOD + b"#error exporting /ip address\n" + GOOD,
            "not whole: #error exporting /ip address",
        ),
        (
            GOOD + b'#error exporting "/interface/wifi" (timeout)\r\n' + GOOD * 900,
            "/interface/wifi",
        ),
        (GOOD + b'#error exporting "/system/routerboard/mode-button"', "mode-button"),
        (GOOD * 900 + b"#Error exporting\n" + GOOD * 900, "not whole: #Error exporting"),
        (GOOD + b"#interrupted\n", "not whole: #interrupted"),
        (GOOD + b"#interrupted (timeout)\n" + GOOD, "not whole: #interrupted (timeout)"),
        (b"\x1b[m\x1b[32m" + GOOD, "a terminal shows: colours"),
        (GOOD.replace(b"/ip", b"\x1b[36m/ip\x1b[m"), "a terminal shows: colours"),
        (b"Login: \nPassword: \n", "a terminal shows: Login:"),
        (
            b"\n  MMM      MMM       KKK\n  MikroTik RouterOS 6.49.7 (c) 1999-2022  http://x/\n",
            "a terminal shows: MMM",
        ),
        (b"[admin@MikroTik] > /export\n" + GOOD, "a terminal shows: [admin@MikroTik] >"),
        (b"<!DOCTYPE html>\n<title>Sign in</title>", "an HTML page"),
        (b' {"detail":"no","error":401,"message":"Unauthorized"}', "an error of an HTTP"),
        (plain(100), "is a binary backup"),
        (GOOD + b"\0\0\0", "NUL"),
        (GOOD + b"add address=10.0.0.2/24 \\\n", "within a line"),
        (GOOD + b"add address=10.0.0.2/24 \\", "within a line"),
        (SCRIPT[:-2] + b"\n", "within quotes"),
        (GOOD + b'add comment="half a sent', "within quotes"),
        (GOOD + b"add address=10.0.0.2/24 inter", "within an argument"),
        (GOOD + b'add comment="a b=c" interface=', "within an argument"),
        (GOOD + b"/ip firewall fil", "its last section holds nothing"),
        (GOOD + b"/ip firewall filter\r\n", "its last section holds nothing"),
        (HEADER, "nothing but its header"),
    ],
)
def test_what_is_wrong_with_an_export_is_named(export: bytes, reason: str) -> None:
    assert reason in (why_suspect(export, None) or "")


@pytest.mark.parametrize(
    ("binary", "reason"),
    [
        (b"", "0 bytes"),
        (b"Bus error\n", "a message: Bus error"),
        (b"<html>sign in</html>", "an HTML page"),
        (plain(100)[:7], "cut off: it has 7 bytes"),
        (plain(100)[:2], "cut off: it has 2 bytes"),
        (plain(100)[:60], "has 60 bytes and says that it has 100"),
        (plain(100, says=90), "has 100 bytes and says that it has 90"),
    ],
)
def test_what_is_wrong_with_a_binary_is_named(binary: bytes, reason: str) -> None:
    assert reason in (why_suspect(GOOD, binary) or "")


def test_a_capture_without_a_file_is_not_suspect_for_that() -> None:
    assert why_suspect(GOOD, None) is None
    assert why_suspect(None, None) is None
    assert why_suspect(GOOD, b"\xef\xa8\x91\x72" + (20).to_bytes(4, "little") + b"x" * 12) is None


def test_a_large_export_costs_little() -> None:
    export = HEADER + b"/ip firewall\n" + b'add comment="x\\"y" chain=forward \\\n' * 400_000
    assert why_suspect(export, None) is not None


@pytest.mark.parametrize(
    "message",
    [
        b"bus error",
        b"segmentation fault",
        b"killed",
        b"aborted",
        b"interrupted",
        b"action timed out",
        b"failure: no",
        b"expected closing brace (line 3)",
        b"expected end of command (line 1 column 8)",
        b"bad command name a",
        b"no such item",
        b"syntax error (line 1 column 2)",
        b"input does not match any value of interface",
        b"invalid value for argument address",
        b"not enough permissions (9)",
        b"login failure",
        b"login failed",
        b"authentication failed",
        b"too many authentication failures for admin",
        b"permission denied (publickey)",
        b"ssh: no route to host",
        b"kex_exchange_identification: read: reset",
        b"connection refused",
        b"traceback (most recent call last):",
    ],
)
def test_each_failure_is_recognised_in_any_case(message: bytes) -> None:
    for line in (message, message.upper(), b"  " + message + b"\r"):
        reason = why_suspect(GOOD + line + b"\n", None)
        assert reason is not None
        assert reason.startswith("the export holds an error: ")


def test_a_reason_never_steers_a_terminal() -> None:
    reason = why_suspect(b"failure: \x1b]0;evil\x07\xff\n", None)
    assert reason is not None
    assert reason.isprintable()


@pytest.mark.parametrize(("maker", "text"), TEXTS)
def test_exports_of_other_makers_are_not_suspect(maker: str, text: str) -> None:
    assert why_suspect(real(text), None) is None
    assert why_suspect(real(text).replace(b"\n", b"\r\n"), None) is None


def test_what_was_typed_behind_a_prompt_is_not_told() -> None:
    reason = why_suspect(b"[admin@core1] /ppp secret> add name=a password=hunter2\n" + GOOD, None)
    assert reason is not None
    assert "[admin@core1] /ppp secret>" in reason
    assert "hunter2" not in reason
