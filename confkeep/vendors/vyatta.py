"""Vyatta's children, VyOS and EdgeOS: in braces and as `set` commands."""

from __future__ import annotations

from typing import Final

from confkeep.vendors.rules import BGP_COMMUNITIES, Family, Secret, Volatile

_SECRETS: Final = (
    Secret(
        r"""\benvironment[ \t]+\S+[ \t]+(?:\{\s+)?value[ \t]+("[^"\n]*"|'[^'\n]*'|[^\s{]+)""",
        "VyOS, User Guide: container environment",
    ),
    Secret(
        r"""(?:^|[ \t])[\w-]*(?:password|secret|passphrase|private-key|preshared-key|pre-shared-key|psk|cak|key|md5-key|authkey)[ \t]+"""
        r"""(?:(?:md5|sha[0-9]*|key)[ \t]+)*("[^"\n]*"|'[^'\n]*'|[^\s{]+)[ \t\r]*$""",
        "Oxidized, lib/oxidized/model/vyos.rb, edgeos.rb",
        unless="[\"']?AAAA.*",
    ),
    Secret(
        r"""\bmd5-key[ \t]+("[^"\n]*"|'[^'\n]*'|[^\s{]+)""",
        "VyOS, User Guide: ospf authentication md5",
    ),
    Secret(
        r"""\bsnmp[ \t]+(?:[^\n]*[ \t])?community[ \t]+("[^"\n]*"|'[^'\n]*'|[^\s{]+)""",
        "Oxidized, lib/oxidized/model/vyos.rb: snmp community",
    ),
    Secret(
        r"""^[ \t]+community[ \t]+("[^"\n]*"|'[^'\n]*'|[^\s{]+)(?:[ \t]+\{|[ \t\r]*$)""",
        "Oxidized, lib/oxidized/model/edgeos.rb: community",
        BGP_COMMUNITIES,
    ),
    Secret(
        r"""\b(?:private[ \t]+key|shared-secret-key|plaintext-key|encrypted-key|auth-password|privacy-password)[ \t]+("[^"\n]*"|'[^'\n]*'|[^\s{]+)""",
        "Oxidized, lib/oxidized/model/vyos.rb: private key",
    ),
)
_UPTIME: Final = Volatile(
    "ptime:",
    r"[#/!*]{1,2} ?(?:System u|U)ptime: .*",
    "VyOS, EdgeOS: show version, which Oxidized puts before the configuration",
)

VYOS: Final = Family(
    "VyOS",
    frozenset({"vyos", "vyatta"}),
    r"^// (?:vyos-config-version|Release version):|=== vyatta-config-version|^set [a-z][^\n]* '[^'\n]*'[ \t\r]*$",
    (_UPTIME,),
    _SECRETS,
)
EDGEOS: Final = Family(
    "EdgeOS",
    frozenset({"edgeos", "edgerouter", "ubiquitiedge", "ubiquitiedgerouter"}),
    r"^/\* === vyatta-config-version|^/\* Release version: v\d[^\n]*EdgeRouter|^firewall \{\n[ \t]+all-ping |^set firewall all-ping ",
    (_UPTIME,),
    _SECRETS,
)
