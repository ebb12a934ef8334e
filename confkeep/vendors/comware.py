"""H3C's and HPE's Comware; Huawei's VRP writes much alike."""

from __future__ import annotations

from typing import Final

from confkeep.vendors.rules import Family, Secret, Volatile

COMWARE: Final = Family(
    "Comware",
    frozenset({"comware", "hpcomware", "h3c", "vrp", "huawei", "huaweivrp"}),
    r"^ ?sysname |^!Software Version V|^ ?version [0-9.]+, (?:Release|ESS|Feature) ",
    (
        Volatile(
            "uptime is",
            r"# ?.*\buptime is .*",
            "Oxidized, lib/oxidized/model/comware.rb: display version",
        ),
        Volatile(
            "!Last configuration was",
            r"!Last configuration was (?:updated|saved) at .*",
            "Huawei, Command Reference: display current-configuration",
        ),
    ),
    (
        Secret(
            r"""(?:^|[ \t])(?:password|authentication-mode[ \t]+(?:simple|md5|hmac-\S+)|super[ \t]+password|key|pre-shared-key|shared-key"""
            r"""|secret|preshared-key|auth-password|key-string|sham-link-key|authentication-key|md5|hmac-md5|hmac-sha-?\w*)[ \t]+"""
            r"""(?:(?:level|role|authentication|accounting|authorization|address|[0-9]{1,3}|hash|irreversible-cipher)[ \t]+)*"""
            r"""(?:simple|cipher|hash|irreversible-cipher|plain)[ \t]+("[^"\n]*"|\S+)""",
            "H3C, Command Reference: simple, cipher and hash before a secret",
        ),
        Secret(
            r"""(?:^|[ \t])(?:cipher|hash|irreversible-cipher|simple)[ \t]+(\$c\$[^\s]+|\$h\$[^\s]+|%\^?%#[^\s]+|%@%@[^\s]+|\S{4,})""",
            "H3C, Command Reference: cipher, hash",
            unless="authentication-mode|privacy-mode|cipher|hash|simple",
        ),
        Secret(
            r"""^[ \t]*key[ \t]+(?:authentication|accounting|authorization)[ \t]+(?:(?:cipher|simple)[ \t]+)?("[^"\n]*"|\S+)""",
            "H3C, Command Reference: key (RADIUS scheme view)",
        ),
        Secret(
            r"""^[ \t]*snmp-agent[ \t]+community[ \t]+(?:(?:read|write|simple|cipher)[ \t]+)*("[^"\n]*"|\S+)""",
            "Oxidized, lib/oxidized/model/comware.rb: snmp-agent community",
        ),
        Secret(
            r"""^[ \t]*snmp-agent[ \t]+target-host[ \t][^\n]*securityname[ \t]+(?:cipher[ \t]+)?("[^"\n]*"|\S+)""",
            "H3C, Command Reference: snmp-agent target-host",
        ),
        Secret(
            r"""^[ \t]*snmp-agent[ \t]+usm-user[ \t][^\n]*?authentication-mode[ \t]+\S+[ \t]+(?:(?:cipher|simple)[ \t]+)?(\S+)"""
            r"""(?:[ \t]+privacy-mode[ \t]+\S+[ \t]+(?:(?:cipher|simple)[ \t]+)?(\S+))?""",
            "H3C, Command Reference: snmp-agent usm-user",
        ),
    ),
)
