"""The form of staged bytes: both forms come back, nothing grows, and damage never looks whole."""

from __future__ import annotations

import dataclasses
import hashlib
import random
import zlib

import pytest
import redis
from hypothesis import given
from hypothesis import strategies as st

from confkeep.errors import StagedBytesDamaged
from confkeep.queue import acceptance, staged_bytes, staging
from confkeep.queue.entry import Entry
from confkeep.queue.staged_bytes import Contents, contents_of, staged_export
from confkeep.queue.staging import RedisStaging, VolumeStaging
from confkeep.settings import Settings
from tests.turns import TENANT, submission

EXPORT = (
    b"# by RouterOS 7.16\r\n" + b"/ip address add address=10.0.0.1/24 interface=ether1\r\n" * 300
)
BINARY = random.Random(1).randbytes(50_000)

exports = st.binary(max_size=2_000) | st.builds(
    lambda line, times: line * times, st.binary(max_size=40), st.integers(0, 200)
)


def staged(contents: Contents) -> bytes:
    return staged_export(contents) + (contents.binary or b"")


def entry_of(contents: Contents) -> Entry:
    binary = contents.binary
    return dataclasses.replace(
        submission(1).entry,
        export_bytes=len(contents.export),
        export_sha256=hashlib.sha256(contents.export).hexdigest(),
        binary_bytes=None if binary is None else len(binary),
        binary_sha256=None if binary is None else hashlib.sha256(binary).hexdigest(),
    )


def sizes(contents: Contents) -> tuple[int, int | None]:
    return len(contents.export), None if contents.binary is None else len(contents.binary)


@given(exports, st.none() | st.binary(max_size=600))
def test_both_forms_come_back_and_nothing_grows(export: bytes, binary: bytes | None) -> None:
    contents = Contents(export, binary)
    data, plain = staged(contents), export + (binary or b"")
    assert len(data) <= len(plain)
    assert contents_of(data, *sizes(contents)) == contents
    assert contents_of(plain, *sizes(contents)) == contents


@given(st.binary(max_size=300), st.integers(0, 400), st.none() | st.integers(0, 400))
def test_no_bytes_raise_and_none_swell_beyond_the_entry(
    data: bytes, export_bytes: int, binary_bytes: int | None
) -> None:
    for tried in (data, zlib.compress(data), zlib.compress(bytes(100_000)) + data):
        found = contents_of(tried, export_bytes, binary_bytes)
        most = export_bytes + (binary_bytes or 0) + len(tried)
        assert len(found.export) + len(found.binary or b"") <= most


def test_an_export_shrinks_to_a_fifth_and_a_large_backup_is_left_as_it_is() -> None:
    assert len(staged_export(Contents(EXPORT, BINARY))) < len(EXPORT) / 5
    large = bytes(staged_bytes.LARGEST_DEFLATED + 1)
    assert staged_export(Contents(large, None)) is large
    assert staged_export(Contents(EXPORT, large)) is EXPORT


@pytest.mark.parametrize("binary", [None, BINARY, b""])
@pytest.mark.parametrize("where", ["redis", "volume"])
def test_what_an_earlier_release_staged_is_read(
    client: redis.Redis, settings: Settings, where: str, binary: bytes | None
) -> None:
    contents = Contents(EXPORT, binary)
    entry = dataclasses.replace(entry_of(contents), staging=where)
    store = staging.of_entry(entry, settings, client)
    data = store.stage(TENANT, entry, contents)
    acceptance.accept(client, settings, [acceptance.Submission(TENANT, entry, data)])

    def found() -> Contents:
        return staging.checked(entry, store.read(TENANT, [entry])[0])

    assert found() == contents
    plain = EXPORT + (binary or b"")
    if where == "redis":
        [name] = client.keys("confkeep:staged:*")
        assert client.strlen(name) < len(plain)
        client.set(name, plain)
    else:
        [file] = (settings.staging_path / TENANT).iterdir()
        assert file.stat().st_size < len(plain)
        file.write_bytes(plain)
    assert found() == contents


def test_damage_in_either_form_is_seen(client: redis.Redis, settings: Settings) -> None:
    contents = Contents(EXPORT, BINARY)
    entry = entry_of(contents)
    data = staged(contents)
    cuts = [data[:-1], data[1:], data[:40], data[: len(data) // 2], data + b"x", b"x", b""]
    flips = [data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :] for at in (0, 1, 9, 300, 5_000)]
    plain = EXPORT + BINARY
    for damaged in (*cuts, *flips, plain[:-1], plain[1:], plain + b"x"):
        with pytest.raises(StagedBytesDamaged):
            staging.checked(entry, contents_of(damaged, *sizes(contents)))


def test_both_stagings_are_the_same_bytes(client: redis.Redis, settings: Settings) -> None:
    contents = Contents(EXPORT, BINARY)
    entry = entry_of(contents)
    VolumeStaging(settings.staging_path).stage(TENANT, entry, contents)
    [file] = (settings.staging_path / TENANT).iterdir()
    assert file.read_bytes() == RedisStaging(client).stage(TENANT, entry, contents)
