"""What other makers' exports tell of a date, a counter or an uptime is no change of the configuration."""

from __future__ import annotations

import pytest

from confkeep.routeros.export import configuration_of, same_configuration
from confkeep.vendors.families import FAMILIES
from confkeep.vendors.volatile import without_volatile
from tests.unit.masking.test_vendors import real
from tests.unit.masking.vendor_texts import (
    ARUBAOS,
    COMWARE,
    EDGEOS,
    EOS,
    FORTIOS,
    IOS,
    IOSXR,
    JUNOS,
    NXOS,
    OPNSENSE,
    PANOS,
    VYOS,
)

#: What changes by itself in each text.
CASES = [
    (IOS, "10:48:40 UTC Thu Feb 16 2017 by nat", "11:00:00 UTC Fri Feb 17 2017 by joe"),
    (IOS, "! NVRAM config last updated at 10:48:41", "! NVRAM config last updated at 10:59:41"),
    (
        IOS,
        "! Last configuration change at 10:48:40 UTC Thu Feb 16 2017 by nat",
        "! No configuration change since last restart",
    ),
    (IOS, "clock-period 17179840", "clock-period 17179999"),
    (IOS, "Current configuration : 4711 bytes", "Current configuration : 4712 bytes"),
    (NXOS, "!Time: Mon Jan 13 15:02:03 2020", "!Time: Tue Jan 14 15:02:03 2020"),
    (NXOS, "done at: Mon Jan 13 14:50:45 2020", "done at: Tue Jan 14 14:50:45 2020"),
    (IOSXR, "Thu Nov 27 05:00:00.123 UTC", "Fri Nov 28 05:00:00.321 UTC"),
    (IOSXR, "Sun Oct 12 07:41:47 2014 by xxx", "Mon Oct 13 07:41:47 2014 by yyy"),
    (
        EOS,
        "modified at Fri Jan 10 09:00:00 2026 by root",
        "modified at Sat Jan 11 09:00:00 2026 by joe",
    ),
    (JUNOS, "2024-01-02 03:04:05 UTC by admin", "2024-01-03 03:04:05 UTC by joe"),
    (FORTIOS, "#conf_file_ver=1234567890", "#conf_file_ver=1234567891"),
    (FORTIOS, "ENC {{SH2abcdefgh", "ENC {{SH2hgfedcba"),
    (FORTIOS, "{{MIIFHDBOBgkqhkiG9w0BBQ0wQTApBgkqhkiG9w0BBQwwHAQI}}", "{{MIIFHDBO}}"),
    (OPNSENSE, "<time>1700000000.1234</time>", "<time>1700000001.1234</time>"),
    (OPNSENSE, "/firewall_rules_edit.php made", "/system.php made"),
    ("! uptime: 1 day\n" + PANOS, "uptime: 1 day", "uptime: 2 days"),
    ("! app-version: 8500-7000\n" + PANOS, "8500-7000", "8501-7001"),
    ("# Uptime: 01:02:03 up 1 day\n" + VYOS, "up 1 day", "up 2 days"),
    ("# Uptime: 01:02:03 up 1 day\n" + EDGEOS, "up 1 day", "up 2 days"),
    ("# Switch uptime is 1 day\n" + ARUBAOS, "1 day", "2 days"),
    ("# Chassis Fan 1: 5000 RPM\n" + ARUBAOS, "5000", "5100"),
    ("# HPE 5130 uptime is 0 weeks, 1 day\n" + COMWARE, "1 day", "2 days"),
]
#: A change of the configuration beside them.
CHANGES = [
    (IOS, "description password", "description pass word"),
    (
        IOS,
        "username joe privilege 1 password 7 {{0822455D0A16544541}}",
        "username joe privilege 1 password 7 {{0822455D0A16}}",
    ),
    (NXOS, "description uplink", "description downlink"),
    (IOSXR, "hostname xr1", "hostname xr2"),
    (EOS, "! device: leaf1", "! device: leaf2"),
    (JUNOS, "host-name edge1", "host-name edge2"),
    (FORTIOS, "set hostname", "set alias"),
    (PANOS, "<hostname>pa1", "<hostname>pa2"),
    (VYOS, "10.0.0.1/24", "10.0.0.2/24"),
    (EDGEOS, "all-ping enable", "all-ping disable"),
    (ARUBAOS, "essid", "ssid"),
    (COMWARE, "sysname sw1", "sysname sw2"),
    (OPNSENSE, "<hostname>fw1", "<hostname>fw2"),
]


def pair(text: str, before: str, after: str) -> tuple[bytes, bytes]:
    assert before in text
    return real(text), real(text.replace(before, after))


@pytest.mark.parametrize(("text", "before", "after"), CASES)
def test_what_changes_by_itself_is_no_change(text: str, before: str, after: str) -> None:
    old, new = pair(text, before, after)
    assert old != new
    assert same_configuration(old, new)
    assert configuration_of(old) == configuration_of(new)


@pytest.mark.parametrize(("text", "before", "after"), CHANGES)
def test_a_change_of_the_configuration_is_one(text: str, before: str, after: str) -> None:
    assert not same_configuration(*pair(text, before, after))


@pytest.mark.parametrize(("text", "before", "after"), CASES)
def test_a_change_beside_is_seen(text: str, before: str, after: str) -> None:
    old, new = pair(text, before, after)
    assert not same_configuration(old, new + b"more\n")


def test_a_line_that_comes_or_goes_is_no_change() -> None:
    text = real(IOS)
    shorter = text.replace(b"ntp clock-period 17179840\n", b"")
    assert same_configuration(text, shorter)
    assert same_configuration(shorter, text)


def test_ends_of_lines_of_a_terminal() -> None:
    text = real(IOS).replace(b"\n", b"\r\n")
    assert same_configuration(text, text.replace(b"17179840", b"17179999"))


def test_configuration_that_only_holds_such_words_counts() -> None:
    for line in (
        b" description uptime is everything",
        b"banner motd Last configuration change at noon",
        b"set comment ENC",
        b"<revisions>1</revisions>",
        b"ntp clock-period 17179840 more",
    ):
        assert without_volatile(b"hostname a\n" + line + b"\n") == b"hostname a\n" + line + b"\n"


def test_a_text_without_any_is_given_back() -> None:
    text = b"hostname a\n"
    assert without_volatile(text) is text


def test_hostile_texts_take_linear_time() -> None:
    """Each would take minutes if it took quadratic time."""
    for rule in {rule for family in FAMILIES for rule in family.volatile}:
        marker = rule.marker.encode()
        without_volatile(marker * (400_000 // len(marker)))
        without_volatile((marker + b"\n") * (400_000 // len(marker)))
