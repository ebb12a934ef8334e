"""Fortinet's FortiOS."""

from __future__ import annotations

from typing import Final

from confkeep.vendors.rules import Family, Secret, Volatile

FORTIOS: Final = Family(
    "FortiOS",
    frozenset({"fortios", "fortinet", "fortigate", "fortiosssh"}),
    r"^#config-version=|^#conf_file_ver=|^config system global\b",
    (
        Volatile(
            r"^#? ?(?:#conf_file_ver|conf_file_ver)=[^\n]*\n?",
            "Oxidized, lib/oxidized/model/fortios.rb",
        ),
        Volatile(
            r"^# ?(?:System time|Cluster uptime|Last Update[^\n:]*):[^\n]*\n?",
            "Oxidized, lib/oxidized/model/fortios.rb",
        ),
        Volatile(
            r"(?<= )ENC [A-Za-z0-9+/=]{8,}",
            "RANCID, lib/fortigate.pm: each display encrypts the passwords anew",
        ),
        Volatile(
            r"-----BEGIN ENCRYPTED PRIVATE KEY-----[A-Za-z0-9+/=\s]*-----END ENCRYPTED PRIVATE KEY-----",
            "Oxidized, lib/oxidized/model/fortios.rb: private-key",
        ),
    ),
    (
        Secret(
            r"""^[ \t]*set[ \t]+[\w-]*(?:passwd|password|secret|passphrase|psk|token|md5-key|auth-key|priv-pwd|auth-pwd|passcode|keyword"""
            r"""|api-key|enc-key|authkey|enckey|private-key|login-passwd|auth-password|key)[0-9]?[ \t]+(?:ENC[ \t]+)?("(?:[^"\\]|\\.)*"|\S+)""",
            "Oxidized, lib/oxidized/model/fortios.rb",
        ),
        Secret(r"(?:^|[ \t])ENC[ \t]+(\S+)", "Fortinet, CLI Reference: encrypted values"),
        Secret(
            r"""(?s)config system snmp community\n(?:[ \t]+edit [0-9]+\n)[^\n]*?set name[ \t]+("[^"\n]*"|\S+)""",
            "Fortinet, CLI Reference: config system snmp community",
        ),
    ),
)
