"""Palo Alto's PAN-OS: its XML, and `set` commands."""

from __future__ import annotations

from typing import Final

from confkeep.vendors.rules import Family, Secret, Volatile

PANOS: Final = Family(
    "PAN-OS",
    frozenset({"panos", "paloalto", "paloaltopanos", "panosapi"}),
    r"<config [^>]*\b(?:urldb|detail-version)=|<phash>|^set deviceconfig system |^[ \t]*deviceconfig \{",
    (
        Volatile(
            "time: ",
            r"[!#] ?(?:up)?time: .*",
            "Oxidized, lib/oxidized/model/panos.rb: show system info",
        ),
        Volatile(
            "-version: ",
            r"[!#] ?(?:app|av|threat|wildfire|wf-private|url-filtering|global-protect[\w-]*)-version: .*",
            "Oxidized, lib/oxidized/model/panos.rb: show system info",
        ),
        Volatile(
            "-release-date: ",
            r"[!#] ?(?:app|av|threat|wildfire|wf-private|global-protect[\w-]*)-release-date: .*",
            "Oxidized, lib/oxidized/model/panos.rb: show system info",
        ),
    ),
    (
        Secret(
            r"""<(?:phash|private-key|key|secret|password|passphrase|pre-shared-key|bind-password|auth-password|priv-password|authpwd|privpwd"""
            r"""|snmp-community-string|certificate-passphrase|shared-secret|api-key|community|master-key|pin|otp)>([^<]+)""",
            "Palo Alto Networks, PAN-OS XML: device configuration",
        ),
        Secret(
            r"""(?:^|[ \t])(?:phash|private-key|key|secret|password|passphrase|bind-password|authpwd|privpwd|snmp-community-string"""
            r"""|shared-secret|community)[ \t]+("[^"\n]*"|[^\s;{]+)""",
            "Palo Alto Networks, PAN-OS CLI: set commands",
        ),
    ),
)
