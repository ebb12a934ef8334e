"""Made-up devices for the benchmarks: exports that deflate like RouterOS's, binaries that do not."""

from __future__ import annotations

import random
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from worker.store.repository.backup import Backup
from worker.store.repository.tenant_repository import TenantRepository, create_repository
from worker.store.writing.commit import Writer

EXPORT_BYTES = 18_000
BINARY_BYTES = 50_000


class Fleet:
    """Devices of one tenant, their exports as they change, always the same for a seed."""

    def __init__(self, devices: int, seed: int = 1) -> None:
        self.random = random.Random(seed)
        self.device_ids = [self.uuid() for _ in range(devices)]
        self.first_export = self.export()

    def uuid(self) -> str:
        """A random UUID."""
        return str(uuid.UUID(int=self.random.getrandbits(128), version=4))

    def export(self, size: int = EXPORT_BYTES) -> bytes:
        """A whole export."""
        lines = ["# 2025-09-30 10:00:00 by RouterOS 7.16", "# model = RB5009UG+S+"]
        length = 0
        while length < size:
            lines.append(self.line())
            length += len(lines[-1]) + 1
        return "\n".join(lines).encode() + b"\n"

    def line(self) -> str:
        """One line of an export."""
        r = self.random
        return r.choice(
            (
                f"add address=10.{r.randrange(256)}.{r.randrange(256)}.1/24 interface=vlan{r.randrange(400)}",
                f"add action=accept chain=forward comment=customer-{r.randrange(9000)} dst-port={r.randrange(65536)} protocol=tcp",
                f"add chain=srcnat out-interface=ether{r.randrange(8)} src-address=192.168.{r.randrange(256)}.0/24 action=masquerade",
                f"set [ find default-name=ether{r.randrange(24)} ] comment=uplink-{r.getrandbits(32):08x} l2mtu=1592",
                f'add dont-require-permissions=no name=script{r.randrange(90)} policy=read,write,test source=":log info {r.randrange(900)}"',
            )
        )

    def next_export(self, old: bytes) -> bytes:
        """The export some days later: a new date and a few changed lines."""
        lines = old.split(b"\n")
        lines[0] = b"# 2025-10-%02d 10:%02d:00 by RouterOS 7.16" % (
            self.random.randrange(1, 29),
            self.random.randrange(60),
        )
        for _ in range(5):
            lines[self.random.randrange(2, len(lines) - 1)] = self.line().encode()
        return b"\n".join(lines)

    def backup(self, device_id: str) -> Backup:
        """A capture of full size."""
        return Backup(
            backup_id=self.uuid(),
            device_id=device_id,
            export=self.next_export(self.first_export),
            binary=self.random.randbytes(BINARY_BYTES),
            message=f"Config snapshot {self.random.randrange(10**9)}",
        )

    def batch(self, size: int) -> list[Backup]:
        """Captures of random devices, as a poller hands them over."""
        return [self.backup(self.random.choice(self.device_ids)) for _ in range(size)]

    def found(self, path: Path) -> TenantRepository:
        """A repository in which each device has one version; all have the same, to be quick."""
        writer = Writer(create_repository(path))
        binary = self.random.randbytes(BINARY_BYTES)
        backups = [
            Backup(self.uuid(), device_id, self.first_export, binary, "first")
            for device_id in self.device_ids
        ]
        for start in range(0, len(backups), 2500):
            writer.commit_backups(backups[start : start + 2500])
        return writer.repository


def disk_bytes(path: Path) -> int:
    """Bytes of all that is below a folder, in blocks of the disk."""
    return sum(entry.stat().st_blocks * 512 for entry in path.rglob("*"))


@contextmanager
def folder() -> Iterator[Path]:
    """A folder on the disk (not in memory: syncs must cost what they cost)."""
    path = Path(tempfile.mkdtemp(prefix="confkeep-bench-"))
    try:
        yield path
    finally:
        shutil.rmtree(path)
