"""Juniper's Junos, in braces and as `set` commands."""

from __future__ import annotations

from typing import Final

from confkeep.vendors.rules import BGP_COMMUNITIES, Family, Secret, Volatile

JUNOS: Final = Family(
    "Junos",
    frozenset({"junos", "juniper", "juniperjunos", "junossrx", "srx"}),
    r"^(?:## Last (?:commit|changed): |set version [0-9]|system \{|set system root-authentication )",
    (
        Volatile("## Last commit:", r"## Last commit: .*", "RANCID, lib/junos.pm"),
        Volatile("## Last changed:", r"\s*## Last changed: .*", "RANCID, lib/junos.pm"),
    ),
    (
        Secret(
            r"""\bauthentication-key[ \t]+[0-9]+[ \t]+(?:type[ \t]+\S+[ \t]+)?value[ \t]+("[^"\n]*"|[^\s;]+)""",
            "Juniper, CLI Reference: ntp authentication-key",
        ),
        Secret(
            r"""\b(?:encrypted-password|plain-text-password-value|authentication-key|hello-authentication-key|simple-password|secret"""
            r"""|shared-secret|chap-secret|pap-password|local-password|default-chap-secret|default-password|password"""
            r"""|authentication-password|privacy-password|authentication-key|privacy-key|encryption-password"""
            r"""|ascii-text|hexadecimal|mka-key|cak)[ \t]+("[^"\n]*"|[^\s;]+)""",
            "Juniper, CLI Reference: permission `secret`",
            unless=r"[0-9]{1,5}",
        ),
        Secret(
            r"""\bkey[ \t]+("\$9\$[^"\n]*"|\$9\$[^\s;]+)""",
            "Juniper, CLI Reference: md5 key",
        ),
        Secret(
            r"""\bmd5[ \t]+[0-9]+[ \t]+key[ \t]+("[^"\n]*"|[^\s;]+)""",
            "Juniper, CLI Reference: authentication md5",
        ),
        Secret(
            r"""^set[ \t]+(?:[^\n]*[ \t])?snmp[ \t]+community[ \t]+("[^"\n]*"|[^\s;]+)""",
            "RANCID, lib/junos.pm: FILTER_COMMSTR",
        ),
        Secret(
            r"""^[ \t]+community[ \t]+("[^"\n]*"|[^\s;]+)[ \t]+\{""",
            "Oxidized, lib/oxidized/model/junos.rb: community",
            BGP_COMMUNITIES,
        ),
        Secret(
            r"""^[ \t]+community[ \t]+("[^"\n]*"|[^\s;]+);""",
            "Juniper, CLI Reference: snmp community",
            BGP_COMMUNITIES,
        ),
        Secret(
            r"""\bcommunity-name[ \t]+("[^"\n]*"|[^\s;]+)""",
            "Juniper, CLI Reference: snmp v3 snmp-community",
        ),
    ),
)
