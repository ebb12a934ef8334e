"""Cisco's IOS and IOS XE, NX-OS and IOS XR."""

from __future__ import annotations

from typing import Final

from confkeep.vendors.rules import OTHER_WORDS, Family, Secret, Volatile

_OXIDIZED: Final = "Oxidized, lib/oxidized/model/"
_RANCID: Final = "RANCID, lib/ios.pm"

#: Of all of Cisco's systems. A type's number, such as the 7 of `password 7`, may stand before a secret.
_SECRETS: Final = (
    Secret(
        r"(?:^|[ \t])(?:enable|username[ \t]+\S+[^\n]*)[ \t](?:secret|password)[ \t]+(?:(?:level|role)[ \t]+\S+[ \t]+)?"
        r"""(?:(?:[0-9]|sha512)[ \t]+)?("[^"\n]*"|\S+)""",
        "Cisco, Security Command Reference: enable secret, username",
    ),
    Secret(
        r"""^[ \t]*snmp-server[ \t]+community[ \t]+(?:[0-9][ \t]+|(?:clear|encrypted)[ \t]+)?("[^"\n]*"|\S+)""",
        _OXIDIZED + "ios.rb: snmp-server community",
    ),
    Secret(
        r"^[ \t]*(?:snmp-server[ \t]+)?host[ \t]+\S+(?:[ \t]+(?:vrf[ \t]+\S+|use-vrf[ \t]+\S+|traps|informs"
        r"""|version[ \t]+(?:1|2c|3)(?:[ \t]+(?:auth|noauth|priv))?|clear|encrypted))*[ \t]+("[^"\n]*"|\S+)""",
        _OXIDIZED + "ios.rb: snmp-server host",
        unless="use-vrf|filter-vrf|vrf|traps|informs|version|source-interface",
    ),
    Secret(
        r"""^[ \t]*snmp-server[ \t]+mib[ \t]+community-map[ \t]+("[^"\n]*"|\S+)""",
        _OXIDIZED + "nxos.rb: snmp-server mib community-map",
    ),
    Secret(
        r"""^[ \t]*snmp-server[ \t]+user[ \t]+[^\n]*?[ \t]auth[ \t]+(?:md5|sha[\w-]*)[ \t]+(?:(?:clear|encrypted)[ \t]+)?("[^"\n]*"|\S+)"""
        r"(?:[ \t]+priv[ \t]+(?:(?:des|3des|des56|aes-?[0-9]*)(?:[ \t]+(?:128|192|256))?[ \t]+)?"
        r"""(?:(?:clear|encrypted)[ \t]+)?("[^"\n]*"|\S+))?""",
        _OXIDIZED + "nxos.rb: snmp-server user",
    ),
    Secret(
        r"""[ \t]key[ \t]+[05-9][ \t]+("[^"\n]*"|\S+)""",
        "Cisco, Security Command Reference: server-private",
    ),
    Secret(
        r"""(?:^|[ \t])(?:tacacs|radius)(?:-server)?[ \t](?:[^\n]*[ \t])?key[ \t]+(?:[0-9][ \t]+)?("[^"\n]*"|\S+)""",
        _OXIDIZED + "ios.rb: tacacs-server key",
    ),
    Secret(
        r"""^[ \t]*(?:server-)?key[ \t]+[0-9]+[ \t]+("[^"\n]*"|\S+)""", _OXIDIZED + "ios.rb: key 7"
    ),
    Secret(
        # A server of `tacacs server NAME`; `key 1` of a key chain is a number alone.
        r"^[ \t]+key[ \t]+([^\s0-9]\S*|[0-9]+[^\s0-9]\S*)[ \t]*$",
        "Cisco, Security Command Reference: key (tacacs server)",
    ),
    Secret(
        r"""^[ \t]*(?:crypto[ \t]+isakmp|isakmp)[ \t]+key[ \t]+(?:[0-9][ \t]+)?("[^"\n]*"|\S+)""",
        _OXIDIZED + "ios.rb: crypto isakmp key",
    ),
    Secret(
        r"""(?:^|[ \t])pre-shared-key[ \t](?:[^\n]*[ \t]key[ \t]+|(?:local[ \t]+|remote[ \t]+)?)(?:(?:0|6|hex)[ \t]+)?("[^"\n]*"|\S+)""",
        "Cisco, Security Command Reference: pre-shared-key",
        unless="address|hostname",
    ),
    Secret(
        r"(?:^|[ \t])key-string[ \t]+(?:(?:[0-9]|clear|password)[ \t]+)?([^\n]+)",
        "Cisco, IP Routing Command Reference: key-string",
    ),
    Secret(
        r"(?:^|[ \t])(?:message-digest-key|authentication-key)[ \t]+(?:[0-9]+[ \t]+)?(?:(?:md5|sha[0-9]*|cmac\S*|hmac\S*|ascii)[ \t]+)?"
        r"(?:(?:[0-9]|encrypted|clear)[ \t]+)?([^\s]+)",
        "Cisco, IP Routing Command Reference: ip ospf message-digest-key, ntp authentication-key",
    ),
    Secret(
        r"(?:^|[ \t])(?:hot-standby|standby|vrrp|glbp)[ \t](?:[^\n]*[ \t])?authentication[ \t]+(?:text[ \t]+|md5[ \t]+key-string[ \t]+)?"
        r"""(?:[0-9][ \t]+)?("[^"\n]*"|\S+)""",
        "Cisco, First Hop Redundancy Command Reference: standby authentication",
        unless="md5|key-chain|key-string|text|mode",
    ),
    Secret(
        r"""^[ \t]+authentication[ \t]+text[ \t]+("[^"\n]*"|\S+)""",
        "Cisco, First Hop Redundancy Command Reference: authentication text",
    ),
    Secret(
        r"""^[ \t]*(?:server-private|client|failover|aaa[ \t]+server)[ \t](?:[^\n]*[ \t])?(?:server-)?key[ \t]+(?:[0-9][ \t]+)?("[^"\n]*"|\S+)""",
        "Cisco, Security Command Reference: server-private, client, failover key",
    ),
    Secret(
        r"^event[ \t]+manager[ \t]+environment[ \t]+\S*(?:pw|pass|secret|key|token)\S*[ \t]+([^\n]+)",
        "Cisco, Embedded Event Manager Command Reference: event manager environment",
    ),
    Secret(
        r"(?:^|[ \t])(?:neighbor[ \t]+\S+[ \t]+|ppp[ \t]+chap[ \t]+|ppp[ \t]+pap[ \t]+[^\n]*|isis[ \t]+|lsp-|hello-|area-|domain-)?"
        r"""password[ \t]+(?:(?:[0-9]|encrypted|clear|hmac-md5|text)[ \t]+)*("[^"\n]*"|\S+)""",
        "Cisco, IP Routing Command Reference: neighbor password, isis password",
        unless=OTHER_WORDS,
    ),
    Secret(
        r"""(?:^|[ \t])wpa-psk[ \t]+(?:ascii|hex)[ \t]+(?:[0-9][ \t]+)?("[^"\n]*"|\S+)""",
        _OXIDIZED + "ios.rb: wpa-psk",
    ),
    Secret(
        r"""(?:^|[ \t])session-key[ \t]+\S+[ \t]+(?:ah|esp)[ \t]+[0-9]+[ \t]+(?:cipher[ \t]+)?("[^"\n]*"|\S+)(?:[ \t]+authenticator[ \t]+("[^"\n]*"|\S+))?""",
        "Cisco, Security Command Reference: set session-key",
    ),
    Secret(
        r"(?:^|[ \t])(?:nhrp[ \t]+authentication|shared-secret|private-key|digest[ \t]+secret|cts[ \t]+[^\n]*password)"
        r"""[ \t]+(?:[0-9][ \t]+)?("[^"\n]*"|\S+)""",
        "Cisco, IP Addressing Command Reference: ip nhrp authentication",
    ),
)
#: `show running-config` and its like say when the configuration changed, and how long it is.
_CHANGED: Final = (
    Volatile("Last configuration change at", r"!{1,2} ?Last configuration change at .*", _RANCID),
    Volatile("NVRAM config last updated", r"! ?NVRAM config last updated at .*", _RANCID),
    Volatile(
        "No configuration change since",
        r"!{1,2} ?No configuration change since last restart.*",
        _RANCID,
    ),
    Volatile("Building configuration", r"(?:! )?Building configuration\.\.\.\s*", _RANCID),
    Volatile("Current configuration", r"(?:! )?Current configuration ?: ?\d+ bytes\s*", _RANCID),
    Volatile("bytes", r"(?:! )?Using \d+ out of \d+ bytes.*", _RANCID),
    Volatile("ntp clock-period", r"ntp clock-period \d+\s*", _OXIDIZED + "ios.rb"),
    Volatile("uptime is", r"! ?.*\buptime is .*", _OXIDIZED + "nxos.rb: show version"),
)

IOS: Final = Family(
    "IOS, IOS XE",
    frozenset({"ios", "iosxe", "ciscoios", "ciscoxe", "cisco", "ciscosmb", "catalyst"}),
    r"^(?:! Last configuration change at |! NVRAM config |Current configuration : |boot-start-marker|service timestamps |! Cisco IOS )",
    _CHANGED,
    _SECRETS,
)
NXOS: Final = Family(
    "NX-OS",
    frozenset({"nxos", "nxosssh", "cisconxos", "cisconx", "nexus"}),
    r"^(?:!Command: show |!Running configuration last done at: |version [^\n]*\bBios:version|vdc \S+ id \d)",
    (
        Volatile("!Time:", r"!Time: .*", _OXIDIZED + "nxos.rb"),
        Volatile(
            "!Running configuration last done",
            r"!Running configuration last done at: .*",
            "Cisco, NX-OS Command Reference: show running-config",
        ),
        Volatile(
            "!Startup config saved",
            r"!Startup config saved at: .*",
            "Cisco, NX-OS Command Reference: show startup-config",
        ),
    ),
    _SECRETS,
)
IOSXR: Final = Family(
    "IOS XR",
    frozenset({"iosxr", "ciscoxr", "ciscoiosxr", "xr"}),
    r"^!! IOS XR Configuration",
    (
        *_CHANGED,
        *(
            Volatile(
                day,
                rf"{day}[A-Z][a-z]{{2}} +\d{{1,2}} \d\d:\d\d:\d\d\.\d+ [A-Z]{{1,5}}\s*",
                "RANCID, lib/iosxr.pm: the date that each command prints first",
            )
            for day in ("Mon ", "Tue ", "Wed ", "Thu ", "Fri ", "Sat ", "Sun ")
        ),
    ),
    _SECRETS,
)
