"""Fortinet's FortiOS."""

from __future__ import annotations

from typing import Final

from confkeep.vendors.rules import Family, Secret, Volatile

_OXIDIZED: Final = "Oxidized, lib/oxidized/model/fortios.rb"

FORTIOS: Final = Family(
    "FortiOS",
    frozenset({"fortios", "fortinet", "fortigate", "fortiosssh"}),
    r"^#config-version=|^#conf_file_ver=|^config system global\b",
    (
        Volatile("conf_file_ver=", r"(?:# )?#conf_file_ver=.*", _OXIDIZED),
        Volatile("System time:", r"# ?System time: .*", _OXIDIZED),
        Volatile("Cluster uptime", r"# ?Cluster uptime.*", _OXIDIZED),
        Volatile("Last Update", r"# ?Last Update.*", _OXIDIZED),
        Volatile(
            " ENC ",
            r"\s*set [\w-]+ ENC ([A-Za-z0-9+/=]{8,})\s*",
            "RANCID, lib/fortigate.pm: each display encrypts the passwords anew",
        ),
        Volatile(
            "-----BEGIN ENCRYPTED PRIVATE KEY-----",
            "",
            _OXIDIZED + ": private-key",
            end="-----END ENCRYPTED PRIVATE KEY-----",
        ),
    ),
    (
        Secret(
            r"""^[ \t]*set[ \t]+[\w-]*(?:passwd|password|secret|passphrase|psk|token|md5-key|auth-key|priv-pwd|auth-pwd|passcode|keyword|community"""
            r"""|api-key|enc-key|authkey|enckey|private-key|login-passwd|auth-password|key)[0-9]?[ \t]+(?:ENC[ \t]+)?("(?:[^"\\]|\\.)*"|\S+)""",
            _OXIDIZED,
            unless=r'"?(?:ssh-|ecdsa-).*',
        ),
        Secret(r"(?:^|[ \t])ENC[ \t]+(\S+)", "Fortinet, CLI Reference: encrypted values"),
        Secret(
            r"""(?s)config system snmp community\n(?:[ \t]+edit [0-9]+\n)[^\n]*?set name[ \t]+("[^"\n]*"|\S+)""",
            "Fortinet, CLI Reference: config system snmp community",
        ),
    ),
)
