"""Store the bytes of waiting backups in Redis or in files on a shared volume.

Staged bytes are the export, deflated or not (`confkeep.queue.staged_bytes`), followed by the binary. Sizes and
SHA-256 of the two files stand in the inbox entry and are checked on reading.

    redis    key  confkeep:staged:<tenant>:<backup>
    volume   file <path>/<tenant>/<backup>-<first 16 digits of confkeep.queue.entry.Entry.digest>

A file's name depends on content and device, so that reusing an id can neither overwrite nor remove an
accepted backup. Bytes that a client staged itself are stored beside, under ids of the client's choice:

    redis    key  confkeep:handoff:<tenant>:<id>
    volume   file <path>/handoff/<tenant>/<id>
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import redis

from confkeep import modes
from confkeep.broker import keys, redis_values
from confkeep.broker.connections import broker_errors
from confkeep.errors import (
    InvalidBackup,
    StagedBytesDamaged,
    StagedBytesMissing,
    StagingUnavailable,
)
from confkeep.models import MAX_BINARY_BYTES
from confkeep.queue.entry import Entry
from confkeep.queue.staged_bytes import (
    LARGEST_DEFLATED,
    Contents,
    Staged,
    contents_of,
    staged_export,
)
from confkeep.settings import Settings


def checked(entry: Entry, contents: Contents | None) -> Contents:
    """The two files of an entry, checked against its sizes and SHA-256s.

    Raises:
        StagedBytesMissing: `contents` is None.
        StagedBytesDamaged: a size or a SHA-256 differs.
    """
    if contents is None:
        raise StagedBytesMissing(f"the staged bytes of backup {entry.backup_id} are gone")
    for part, size, digest in (
        (contents.export, entry.export_bytes, entry.export_sha256),
        (contents.binary or b"", entry.binary_bytes or 0, entry.binary_sha256),
    ):
        if len(part) != size:
            raise StagedBytesDamaged(
                f"backup {entry.backup_id} has {len(part):,} bytes in staging, not {size:,}"
            )
        if digest is not None and hashlib.sha256(part).hexdigest() != digest:
            raise StagedBytesDamaged(
                f"the staged bytes of backup {entry.backup_id} have another SHA-256"
            )
    return contents


def split(entry: Entry, data: bytes | None) -> Contents | None:
    """The two files of an entry in its staged bytes, not checked yet; None if there are none."""
    return None if data is None else contents_of(data, entry.export_bytes, entry.binary_bytes)


class RedisStaging:
    """Staging in Redis: the inbox's scripts write and delete the bytes together with the entry.

    Raises:
        BrokerUnavailable, of each method that reads or deletes: Redis did not answer.
    """

    def __init__(self, client: redis.Redis) -> None:
        self._client = client

    def stage(self, tenant_id: str, entry: Entry, contents: Contents) -> Staged | None:  # noqa: ARG002
        """The bytes to send along with the entry; of a large backup in two parts, so that nothing is copied."""
        export, binary = staged_export(contents), contents.binary or b""
        return (export, binary) if entry.size_bytes > LARGEST_DEFLATED else export + binary

    def read(self, tenant_id: str, entries: Sequence[Entry]) -> list[Contents | None]:
        """The staged bytes of each entry; None if there are none."""
        small = [entry for entry in entries if entry.size_bytes <= LARGEST_DEFLATED]
        pipe = self._client.pipeline(transaction=False)
        for entry in small:
            # One byte more than expected shows that a value is too long.
            pipe.getrange(keys.staged(tenant_id, entry.backup_id), 0, entry.size_bytes)
        found = {
            entry.backup_id: split(entry, data or None)
            for entry, data in zip(small, redis_values.answers(pipe), strict=True)
        }
        for entry in entries:
            if entry.size_bytes > LARGEST_DEFLATED:
                found[entry.backup_id] = self._read_large(tenant_id, entry)
        return [found[entry.backup_id] for entry in entries]

    def _read_large(self, tenant_id: str, entry: Entry) -> Contents | None:
        """Read in pieces: redis-py holds each reply twice, and splitting it would copy it again."""
        name = keys.staged(tenant_id, entry.backup_id)
        length = redis_values.answer(self._client.strlen, name) or 0
        size = min(length, entry.size_bytes + 1)
        if not size:
            return None
        with broker_errors():
            if entry.binary_bytes is None:
                return Contents(self._read_range(name, 0, size), None)
            export = self._read_range(name, 0, min(size, entry.export_bytes))
            return Contents(export, self._read_range(name, entry.export_bytes, size))

    def _read_range(self, name: str, start: int, end: int) -> bytes:
        # `getvalue` returns the buffer without a copy.
        gathered = io.BytesIO()
        for at in range(start, end, LARGEST_DEFLATED):
            piece: Any = self._client.getrange(name, at, min(end, at + LARGEST_DEFLATED) - 1)
            gathered.write(piece)
        return gathered.getvalue()

    def discard(self, tenant_id: str, entries: Sequence[Entry]) -> None:
        """Do nothing: the script that settled the entries deleted their bytes."""

    def read_handoff(self, tenant_id: str, name: str) -> bytes | None:
        """The bytes that a client staged itself; None if there are none."""
        key = keys.handoff(tenant_id, name)
        return redis_values.answer(self._client.getrange, key, 0, MAX_BINARY_BYTES) or None

    def discard_handoff(self, tenant_id: str, name: str) -> None:
        """Delete the bytes that a client staged itself."""
        with broker_errors():
            self._client.delete(keys.handoff(tenant_id, name))


@contextlib.contextmanager
def volume_errors() -> Iterator[None]:
    """Turn what the volume's file system refuses into `StagingUnavailable`."""
    try:
        yield
    except OSError as error:
        raise StagingUnavailable(f"staging: {os.strerror(error.errno or 0)}") from error


class VolumeStaging:
    """Staging in files of a folder that producers and workers share.

    Raises:
        StagingUnavailable, of each method: the file system refused.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    @volume_errors()
    def stage(self, tenant_id: str, entry: Entry, contents: Contents) -> None:
        """Write the bytes durably; the entry must follow only then. Repeating it is safe."""
        target = self._file(tenant_id, entry)
        self._make_folder(target.parent)
        descriptor, temporary = tempfile.mkstemp(prefix=".tmp-", dir=target.parent)
        try:
            with os.fdopen(descriptor, "wb") as file:
                modes.widen(file.fileno(), target.parent)
                file.write(staged_export(contents))
                file.write(contents.binary or b"")
                file.flush()
                os.fsync(file.fileno())
            os.rename(temporary, target)
        except BaseException:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(temporary)
            raise
        _sync_folder(target.parent)

    def _make_folder(self, folder: Path) -> None:
        """Create a folder and its parents durably."""
        if folder.is_dir():
            return
        self._make_folder(folder.parent)
        with contextlib.suppress(FileExistsError):
            modes.make_folder(folder)
        _sync_folder(folder.parent)

    @volume_errors()
    def read(self, tenant_id: str, entries: Sequence[Entry]) -> list[Contents | None]:
        """The staged bytes of each entry; None if there are none."""
        return [self._read(self._file(tenant_id, entry), entry) for entry in entries]

    def _read(self, path: Path, entry: Entry) -> Contents | None:
        try:
            with path.open("rb") as file:
                if os.fstat(file.fileno()).st_size < entry.size_bytes:
                    return split(entry, file.read())
                if entry.binary_bytes is None:
                    return Contents(file.read(), None)
                return Contents(file.read(entry.export_bytes), file.read())
        except FileNotFoundError:
            return None

    @volume_errors()
    def discard(self, tenant_id: str, entries: Sequence[Entry]) -> None:
        """Delete the bytes of settled entries."""
        for entry in entries:
            self._file(tenant_id, entry).unlink(missing_ok=True)

    @volume_errors()
    def read_handoff(self, tenant_id: str, name: str) -> bytes | None:
        """The bytes that a client staged itself; None if there are none."""
        with contextlib.suppress(FileNotFoundError):
            return self._handoff(tenant_id, name).read_bytes()
        return None

    @volume_errors()
    def discard_handoff(self, tenant_id: str, name: str) -> None:
        """Delete the bytes that a client staged itself."""
        self._handoff(tenant_id, name).unlink(missing_ok=True)

    def _file(self, tenant_id: str, entry: Entry) -> Path:
        return self._path / tenant_id / f"{entry.backup_id}-{entry.digest(tenant_id)[:16]}"

    def _handoff(self, tenant_id: str, name: str) -> Path:
        return self._path / "handoff" / tenant_id / name


Staging = RedisStaging | VolumeStaging


def of_settings(settings: Settings, client: redis.Redis) -> Staging:
    """The staging for new backups."""
    return _of(settings.staging, settings, client)


def of_entry(entry: Entry, settings: Settings, client: redis.Redis) -> Staging:
    """The staging that holds an entry's bytes."""
    return _of(entry.staging, settings, client)


def _of(where: str, settings: Settings, client: redis.Redis) -> Staging:
    return VolumeStaging(settings.staging_path) if where == "volume" else RedisStaging(client)


def checked_handoff(field: str, data: bytes | None, size_bytes: int, sha256: str) -> bytes:
    """The bytes that a client staged itself, checked against their reference.

    Raises:
        InvalidBackup: they are missing, or differ in size or SHA-256.
    """
    if data is None:
        raise InvalidBackup(field, "nothing is staged under that id for that tenant")
    if len(data) != size_bytes:
        raise InvalidBackup(field, f"{len(data):,} bytes are staged, not {size_bytes:,}")
    if hashlib.sha256(data).hexdigest() != sha256:
        raise InvalidBackup(field, "the staged bytes have another SHA-256")
    return data


def _sync_folder(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
