"""Aruba's ArubaOS of wireless controllers, with AOS-CX and AOS-S, which write much alike."""

from __future__ import annotations

from typing import Final

from confkeep.vendors.rules import Family, Secret, Volatile

_OXIDIZED: Final = "Oxidized, lib/oxidized/model/aosw.rb"
_INSTANT: Final = "Oxidized, lib/oxidized/model/arubainstant.rb"

ARUBAOS: Final = Family(
    "ArubaOS",
    frozenset(
        {
            "arubaos",
            "aosw",
            "aruba",
            "arubaosssh",
            "arubainstant",
            "aoscx",
            "aoss",
            "procurve",
            "hpprocurve",
        }
    ),
    r"^(?:masterip |controller-ip |ip access-list session |wlan ssid-profile |aaa authentication-server |!Version ArubaOS|virtual-controller-key )",
    (
        Volatile("Switch uptime", r"[!#] ?.*Switch uptime.*", _OXIDIZED),
        Volatile("Temperature", r"[!#] ?.*(?:Temperatures|(?:Card|CPU) Temperature).*", _OXIDIZED),
        Volatile("Chassis Fan", r"[!#] ?.*Chassis Fan.*", _OXIDIZED),
        Volatile("RPM", r"[!#] ?.*\d RPM\s*", _OXIDIZED),
        Volatile("mV", r"[!#] ?.*\d mV\s*", _OXIDIZED),
        Volatile("Up Time", r"[!;#] ?Up Time *: .*", _OXIDIZED),
    ),
    (
        Secret(
            r"""(?:^|[ \t])(?:wpa-passphrase|wpa-hexkey|wepkey[0-9]?|ap-password|bkup-passwords|lms-psk|virtual-controller-key|key|secret"""
            r"""|password|passphrase|shared-secret|enable[ \t]+secret|enable[ \t]+bypass|rf-band-key)[ \t]+"""
            r"""(?:(?:ciphertext|plaintext|sha1|sha256|encrypted|type|hash)[ \t]+)*("[^"\n]*"|[^\s{]+)""",
            "HPE Aruba, ArubaOS CLI Reference; " + _INSTANT,
        ),
        Secret(
            r"""^[ \t]*mgmt-user[ \t]+\S+[ \t]+\S+[ \t]+([0-9a-f]{16,})""",
            "HPE Aruba, ArubaOS CLI Reference: mgmt-user",
        ),
        Secret(
            r"""^[ \t]*mgmt-user[ \t]+\S+[ \t]+(\S+)(?:[ \t]+(?:read-only|guest-mgmt))?[ \t\r]*$""",
            _INSTANT + ": mgmt-user",
        ),
        Secret(
            r"""^[ \t]*user[ \t]+\S+[ \t]+(\S+)[ \t]+(?:portal|radius)[ \t\r]*$""",
            _INSTANT + ": user",
        ),
        Secret(
            r"""^[ \t]*(?:local-userdb[^\n]*|ipsec|localip[ \t]+\S+[ \t]+ipsec|masterip[ \t]+\S+[ \t]+ipsec)[ \t]+([^\s]+)""",
            "HPE Aruba, ArubaOS CLI Reference: localip, masterip",
        ),
        Secret(
            r"""^[ \t]*crypto(?:-local)?[ \t]+isakmp[ \t]+key[ \t]+("[^"\n]*"|\S+)""",
            "HPE Aruba, ArubaOS CLI Reference: crypto-local isakmp key",
        ),
        Secret(
            r"""^[ \t]*snmp-server[ \t]+(?:community|host[ \t]+\S+[ \t]+(?:community|version[ \t]+\S+)|trap-community)[ \t]+("[^"\n]*"|\S+)""",
            "HPE Aruba, ArubaOS CLI Reference: snmp-server",
        ),
        Secret(
            r"""^[ \t]*snmp-server[ \t]+user[ \t]+\S+[ \t]+auth-prot[ \t]+\S+[ \t]+(\S+)(?:[ \t]+priv-prot[ \t]+\S+[ \t]+(\S+))?""",
            "HPE Aruba, ArubaOS CLI Reference: snmp-server user",
        ),
        Secret(
            r"""^[ \t]+authentication[ \t]+([^\s"]\S*)[ \t]*$""",
            "HPE Aruba, ArubaOS CLI Reference: vrrp",
        ),
        Secret(
            r"""^password[ \t]+(?:manager|operator|all|port-access)[ \t](?:[^\n]*[ \t])?(?:sha1|sha256|plaintext)[ \t]+("[^"\n]*"|\S+)""",
            "HPE Aruba, AOS-S Access Security Guide: password",
        ),
        Secret(
            r"""^[ \t]*snmpv3?[^\n]*[ \t](?:auth|auth-prot|auth-pass)[ \t]+(?:(?:md5|sha)[ \t]+)?(?:(?:ciphertext|plaintext|auth-pass)[ \t]+)*(\S+)"""
            r"""(?:[ \t]+priv[ \t]+(?:(?:des|aes)[ \t]+)?(?:(?:ciphertext|plaintext|priv-pass)[ \t]+)*(\S+))?""",
            "HPE Aruba, AOS-CX Command Reference: snmpv3 user",
        ),
    ),
)
