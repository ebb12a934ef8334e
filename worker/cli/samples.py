"""Makes up realistic captures of RouterOS devices, the same ones for the same seed.

The exports look like `/export` of RouterOS 7: a header with date, version, software id, model and
serial number, then sections with `add` and `set` lines, long ones continued behind a backslash.
About 4 to 20 KB. The binaries look like `.backup` files: the magic 88 AC A1 B1, the file's length
as 4 bytes little-endian, and a body of which 7 bytes differ between two captures of the same
configuration (counters and a checksum, as seen in real ones).
"""

from __future__ import annotations

import datetime as dt
import random
import uuid
from typing import Final

_MODELS: Final = ("RB760iGS", "RB5009UG+S+", "CCR2004-16G-2S+", "hAP ax3", "CRS326-24G-2S+")
_VERSIONS: Final = ("7.12.1", "7.14.3", "7.15", "7.16", "7.16.2")
_SITES: Final = ("cowshed", "gorras", "harbour", "mill", "north", "quarry", "school", "tower")
_ROLES: Final = ("ap", "core", "edge", "gw", "sw")
_FOLKS: Final = ("accounting", "camera", "desk", "lobby", "printer", "till", "tv", "warehouse")
_SERVICES: Final = (("http", 80), ("https", 443), ("ssh", 22), ("sip", 5060), ("winbox", 8291))
#: RouterOS breaks lines so that none is longer than this.
_WIDTH: Final = 80
_MAGIC: Final = bytes.fromhex("88aca1b1")
_BODY_BYTES: Final = (15_000, 33_000)
#: Bytes that differ between two captures of one configuration.
_VOLATILE_BYTES: Final = 7


class SampleDevice:
    """One device whose configuration changes when `mutate` is called. Not thread-safe.

    Args:
        seed: the same seed and the same calls give the same bytes.
    """

    def __init__(self, seed: str) -> None:
        self._random = random.Random(f"confkeep-sample-{seed}")  # noqa: S311 - no secret
        pick = self._random
        self.device_id = str(uuid.UUID(int=pick.getrandbits(128), version=4))
        self.identity = f"{pick.choice(_ROLES)}{pick.randint(1, 9)}-{pick.choice(_SITES)}"
        self._model = pick.choice(_MODELS)
        self._version = pick.choice(_VERSIONS)
        self._software_id = f"{self._letters(4)}-{self._letters(4)}"
        self._serial = f"{pick.getrandbits(48):012X}"
        self._net = pick.randint(1, 250)
        self._captures = 0
        self._vlans: list[int] = sorted(pick.sample(range(10, 400), pick.randint(2, 8)))
        self._leases: list[str] = [self._lease() for _ in range(pick.randint(6, 70))]
        self._blocked: list[str] = [self._blocked_address() for _ in range(pick.randint(4, 50))]
        self._queues: list[str] = [self._queue() for _ in range(pick.randint(0, 15))]
        self._rules: list[str] = [self._rule() for _ in range(pick.randint(3, 16))]
        self._body = self._records(pick.randint(*_BODY_BYTES))

    def export(self, captured_at: dt.datetime) -> bytes:
        """The text export as of that time, which its header line names."""
        lines = [
            f"# {captured_at:%Y-%m-%d %H:%M:%S} by RouterOS {self._version}",
            f"# software id = {self._software_id}",
            "#",
            f"# model = {self._model}",
            f"# serial number = {self._serial}",
        ]
        for section, entries in self._sections():
            lines.append(section)
            for entry in entries:
                lines += _continued(entry)
        return ("\n".join(lines) + "\n").encode()

    def binary(self) -> bytes:
        """A binary backup: this configuration's body, with the few bytes that differ in each capture."""
        self._captures += 1
        body = bytearray(self._body)
        for i in range(_VOLATILE_BYTES):
            at = (i + 1) * len(body) // (_VOLATILE_BYTES + 1)
            body[at] ^= self._captures * (2 * i + 1) % 255 + 1
        return _MAGIC + (len(body) + 8).to_bytes(4, "little") + body

    def mutate(self) -> str:
        """Change a line, as an administrator or the DHCP server does; returns what, in words."""
        pick = self._random
        kinds = {
            "a DHCP lease": (self._leases, self._lease),
            "a blocked address": (self._blocked, self._blocked_address),
            "a firewall rule": (self._rules, self._rule),
            "a customer's queue": (self._queues, self._queue),
        }
        what = pick.choice(list(kinds))
        entries, make = kinds[what]
        verb = pick.choice(("Add", "Change", "Remove")) if len(entries) > 2 else "Add"
        at = pick.randrange(len(entries) or 1)
        entries[at : at + (verb != "Add")] = [] if verb == "Remove" else [make()]
        self._mutate_body()
        return f"{verb} {what}"

    def _records(self, size: int) -> bytes:
        """Bytes that compress to about a third, as real ones do: short records in zeros."""
        pick = self._random
        parts = []
        while size > 0:
            record = pick.choice(_FOLKS).encode() + pick.randbytes(8) + bytes(pick.randint(8, 24))
            parts.append(record[:size])
            size -= len(record)
        return b"".join(parts)

    def _mutate_body(self) -> None:
        """A changed configuration keeps nearly all of the body and moves part of it."""
        at = self._random.randrange(len(self._body) // 2)
        end = at + self._random.randint(20, 200)
        self._body = (
            self._body[:at] + self._records(self._random.randint(20, 200)) + self._body[end:]
        )

    def _letters(self, count: int) -> str:
        return "".join(self._random.choices("0123456789ABCDEFGHIJKLMNPQRSTUVWXYZ", k=count))

    def _lease(self) -> str:
        pick = self._random
        mac = ":".join(f"{pick.getrandbits(8):02X}" for _ in range(6))
        host = f"{pick.choice(_FOLKS)}-{pick.randint(1, 99)}"
        address = f"10.{self._net}.{pick.randint(0, 9)}.{pick.randint(2, 250)}"
        return f'add address={address} client-id=1:{mac.lower()} comment="{host}" mac-address={mac} server=lan'

    def _blocked_address(self) -> str:
        pick = self._random
        address = ".".join(str(pick.randint(1, 223)) for _ in range(4))
        return f"add address={address} list=blocked"

    def _queue(self) -> str:
        pick = self._random
        speed = pick.choice((10, 20, 50, 100, 200))
        customer = f"customer-{pick.randint(100, 999)}"
        return (
            f"add comment={customer} max-limit={speed // 2}M/{speed}M name={customer} "
            f"target=10.{self._net}.{pick.randint(10, 99)}.{pick.randint(2, 250)}/32"
        )

    def _rule(self) -> str:
        name, port = self._random.choice(_SERVICES)
        source = f"10.{self._random.randint(0, 250)}.0.0/16"
        chain = self._random.choice(("forward", "input"))
        return (
            f'add action=accept chain={chain} comment="{name} from {source}" '
            f"dst-port={port} protocol=tcp src-address={source}"
        )

    def _sections(self) -> list[tuple[str, list[str]]]:
        net = self._net
        return [
            ("/interface bridge", ["add name=bridge1 protocol-mode=rstp vlan-filtering=yes"]),
            (
                "/interface ethernet",
                [
                    f"set [ find default-name=ether{port} ] comment=port-{port} rx-flow-control=auto "
                    "tx-flow-control=auto"
                    for port in range(1, 6)
                ],
            ),
            (
                "/interface vlan",
                [f"add interface=bridge1 name=vlan{v} vlan-id={v}" for v in self._vlans],
            ),
            ("/ip pool", [f"add name=lan ranges=10.{net}.0.100-10.{net}.9.250"]),
            ("/ip dhcp-server", ["add address-pool=lan interface=bridge1 lease-time=1d name=lan"]),
            ("/queue simple", self._queues),
            (
                "/ip address",
                [f"add address=10.{net}.0.1/20 interface=bridge1 network=10.{net}.0.0"]
                + [
                    f"add address=172.16.{v % 250}.1/24 interface=vlan{v} network=172.16.{v % 250}.0"
                    for v in self._vlans
                ],
            ),
            ("/ip dhcp-client", ["add comment=uplink interface=ether1"]),
            ("/ip dhcp-server lease", self._leases),
            ("/ip dns", ["set allow-remote-requests=yes servers=1.1.1.1,9.9.9.9"]),
            ("/ip firewall address-list", self._blocked),
            (
                "/ip firewall filter",
                [
                    "add action=accept chain=input connection-state=established,related,untracked",
                    "add action=drop chain=input comment=invalid connection-state=invalid",
                    *self._rules,
                    "add action=drop chain=input in-interface=ether1 src-address-list=blocked",
                    "add action=drop chain=input comment=rest in-interface=ether1",
                ],
            ),
            ("/ip firewall nat", ["add action=masquerade chain=srcnat out-interface=ether1"]),
            ("/ip service", ["set telnet disabled=yes", "set ftp disabled=yes"]),
            ("/system clock", ["set time-zone-name=Europe/London"]),
            ("/system identity", [f"set name={self.identity}"]),
            ("/system ntp client", ["set enabled=yes"]),
            (
                "/system scheduler",
                ["add interval=1d name=backup on-event=daily-backup start-time=03:00:00"],
            ),
        ]


def _continued(entry: str) -> list[str]:
    """The lines of an entry: broken behind a space with a backslash, continued with 4 spaces."""
    lines = []
    indent = ""
    while len(indent) + len(entry) > _WIDTH:
        end = entry.rfind(" ", 0, _WIDTH - len(indent) - 1) + 1
        if end <= 0:
            break
        lines.append(f"{indent}{entry[:end]}\\")
        entry, indent = entry[end:], "    "
    return [*lines, indent + entry]
