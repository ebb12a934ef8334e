"""Arista's EOS."""

from __future__ import annotations

from typing import Final

from confkeep.vendors.rules import Family, Secret, Volatile

EOS: Final = Family(
    "EOS",
    frozenset({"eos", "arista", "aristaeos"}),
    r"^! device: [^\n]*\bEOS-|^! Startup-config last modified at ",
    (
        Volatile(
            "Startup-config last modified",
            r"! Startup-config last modified at .*",
            "Arista, EOS User Manual: show startup-config",
        ),
        Volatile("! Time:", r"! Time: .*", "Arista, EOS User Manual: show running-config"),
    ),
    (
        Secret(
            r"""^[ \t]*(?:enable|username[ \t]+[^\n]*|aaa root)[ \t](?:secret|password)[ \t]+(?:(?:[0-9*]|sha512)[ \t]+)?("[^"\n]*"|\S+)""",
            "Arista, EOS User Manual: username, enable password",
        ),
        Secret(
            r"""^[ \t]*snmp-server[ \t]+community[ \t]+(?:[0-9][ \t]+)?("[^"\n]*"|\S+)""",
            "Arista, EOS User Manual: snmp-server community",
        ),
        Secret(
            r"""^[ \t]*snmp-server[ \t]+host[ \t]+\S+(?:[ \t]+(?:vrf[ \t]+\S+|traps|informs|version[ \t]+(?:1|2c|3)(?:[ \t]+(?:auth|noauth|priv))?))*[ \t]+("[^"\n]*"|\S+)""",
            "Arista, EOS User Manual: snmp-server host",
        ),
        Secret(
            r"""^[ \t]*snmp-server[ \t]+user[ \t]+[^\n]*?[ \t]auth[ \t]+\S+[ \t]+("[^"\n]*"|\S+)(?:[ \t]+priv[ \t]+\S+[ \t]+("[^"\n]*"|\S+))?""",
            "Arista, EOS User Manual: snmp-server user",
        ),
        Secret(
            r"""(?:^|[ \t])(?:tacacs-server|radius-server)[ \t](?:[^\n]*[ \t])?key[ \t]+(?:[0-9]{1,2}[ \t]+|8a[ \t]+)?("[^"\n]*"|\S+)""",
            "Arista, EOS User Manual: tacacs-server key",
        ),
        Secret(
            r"""^[ \t]*vrrp[ \t]+[0-9]+[ \t]+(?:peer[ \t]+)?authentication[ \t]+(?:(?:text|ietf-md5|key-string|[07])[ \t]+)*("[^"\n]*"|\S+)""",
            "Arista, EOS User Manual: vrrp authentication",
        ),
        Secret(
            r"(?:^|[ \t])(?:message-digest-key[ \t]+[0-9]+[ \t]+\S+|authentication-key|neighbor[ \t]+\S+[ \t]+password|"
            r"ntp[ \t]+authentication-key[ \t]+[0-9]+[ \t]+\S+|shared-secret[ \t]+profile|vrrp[ \t]+[0-9]+[ \t]+(?:peer[ \t]+)?authentication"
            r"""(?:[ \t]+(?:text|ietf-md5[ \t]+key-string))?|isis[ \t]+authentication[ \t]+key|key|secret)[ \t]+(?:0|7|8a)[ \t]+("[^"\n]*"|\S+)""",
            "Arista, EOS User Manual: the types 0, 7 and 8a",
        ),
    ),
)
