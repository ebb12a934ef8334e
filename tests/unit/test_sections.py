"""Which section of an export a line belongs to, and that each hunk of a diff names it."""

from __future__ import annotations

import pytest

from confkeep.routeros.export import configuration_of
from confkeep.routeros.sections import Sections
from worker.engine.diff import hunks

EXPORT = b"""# 2026-10-01 10:00:00 by RouterOS 7.16
/interface bridge
add name=bridge1
/ip firewall filter
add action=accept chain=input comment="a \\
    long one" \\
    dst-port=22
add action=drop chain=input
/system script
add name=x source="/ip address\\r\\n\\
/ip route add\\r\\n\\
    print"
/system identity set name=core1
"""


@pytest.mark.parametrize(
    ("line", "section"),
    [
        (b"# 2026", None),
        (b"add name=bridge1", "/interface bridge"),
        (b"/ip firewall filter\n", "/ip firewall filter"),
        (b"    dst-port=22", "/ip firewall filter"),
        (b"add action=drop", "/ip firewall filter"),
        (b"/ip route add", "/system script"),
        (b"    print", "/system script"),
        (b"/system identity", "/system identity"),
    ],
)
def test_the_section_of_a_line(line: bytes, section: str | None) -> None:
    for export in (EXPORT, EXPORT.replace(b"\n", b"\r\n")):
        at = export.replace(b"\r\n", b"\n").index(line)
        at += EXPORT.count(b"\n", 0, at) if b"\r" in export else 0
        assert Sections(export).at(at) == section


@pytest.mark.parametrize(
    ("old", "new", "head"),
    [
        (b"    dst-port=22", b"    dst-port=23", b"@@ -4,7 +4,7 @@ /ip firewall filter"),
        (b"core1", b"core2", b"@@ -10,4 +10,4 @@ /system identity"),
        (b"add name=bridge1\n", b"", b"@@ -1,6 +1,5 @@ /interface bridge"),
        (b"    print", b"    print\\r\\n\\\n/x", b"@@ -9,5 +9,6 @@ /system script"),
    ],
)
def test_each_hunk_names_its_section(old: bytes, new: bytes, head: bytes) -> None:
    found = hunks(EXPORT, EXPORT.replace(old, new))
    assert [line for line in found.split(b"\n") if line.startswith(b"@@")] == [head]


def test_a_hunk_that_begins_with_the_exports_date_names_its_first_section() -> None:
    old = b"# 2026-10-01 by RouterOS 7.16\n/ip address\nadd address=10.0.0.1\n"
    new = b"# 2026-10-02 by RouterOS 7.16\n/ip address\nadd address=10.0.0.2\n"
    assert hunks(old, new).startswith(b"@@ -1,3 +1,3 @@ /ip address\n")
    assert hunks(old, new.replace(b"0.2\n", b"0.1\n")).startswith(b"@@ -1,3 +1,3 @@\n")


def test_another_makers_text_has_no_sections() -> None:
    old = b"hostname sw1\ninterface Gi0/1\n description a\n"
    found = hunks(old, old.replace(b"description a", b"description b"))
    assert found.startswith(b"@@ -1,3 +1,3 @@\n")


def test_hunks_without_context() -> None:
    found = hunks(EXPORT, EXPORT.replace(b"add name=bridge1\n", b""), 0)
    assert found == b"@@ -3,1 +2,0 @@ /interface bridge\n-add name=bridge1\n".replace(
        b"-3,1", b"-3"
    )


def test_the_configuration_alone() -> None:
    later = EXPORT.replace(b"10:00:00", b"11:00:00").replace(
        b"add action=drop", b"# no such interface\nadd action=drop"
    )
    assert configuration_of(EXPORT) == configuration_of(later)
    assert b"/ip firewall filter" in configuration_of(EXPORT)
    assert configuration_of(b"! a comment\nhostname x\n") == b"! a comment\nhostname x\n"
