"""The made-up captures look like real ones, and are the same for the same seed."""

from __future__ import annotations

import datetime as dt
from itertools import pairwise

from confkeep.routeros.export import same_configuration
from worker.cli.samples import SampleDevice
from worker.store.repository.line_delta import compute_line_delta

NOON = dt.datetime(2026, 9, 30, 12, tzinfo=dt.UTC)


def test_the_same_seed_gives_the_same_bytes() -> None:
    one, two, other = SampleDevice("a"), SampleDevice("a"), SampleDevice("b")
    assert one.mutate() == two.mutate()

    assert one.export(NOON) == two.export(NOON)
    assert one.binary() == two.binary()
    assert one.export(NOON) != other.export(NOON)
    assert one.device_id != other.device_id


def test_exports_have_the_size_and_form_of_real_ones() -> None:
    for seed in range(50):
        export = SampleDevice(str(seed)).export(NOON)
        lines = export.decode("ascii").splitlines()

        assert 4_000 <= len(export) <= 20_000
        assert lines[0].startswith("# 2026-09-30 12:00:00 by RouterOS 7.")
        assert lines[1].startswith("# software id = ")
        assert max(map(len, lines)) <= 80
        assert any(line.endswith("\\") for line in lines)
        sections = [line for line in lines if line.startswith("/")]
        assert sections == list(dict.fromkeys(sections))


def test_only_the_header_differs_between_captures_of_one_configuration() -> None:
    device = SampleDevice("a")
    first, second = device.export(NOON), device.export(NOON + dt.timedelta(hours=6))

    assert first != second
    assert same_configuration(first, second)


def test_a_mutation_changes_a_few_lines() -> None:
    device = SampleDevice("a")
    for _ in range(100):
        before = device.export(NOON).decode()
        device.mutate()
        added, removed = compute_line_delta(before, device.export(NOON).decode())
        assert 0 <= added + removed <= 20


def test_binaries_of_one_configuration_differ_in_seven_bytes() -> None:
    device = SampleDevice("a")
    captures = [device.binary() for _ in range(300)]

    for one, two in pairwise(captures):
        assert sum(a != b for a, b in zip(one, two, strict=True)) == 7


def test_a_binary_says_its_length() -> None:
    device = SampleDevice("a")
    for _ in range(20):
        binary = device.binary()
        assert binary[:4] == bytes.fromhex("88aca1b1")
        assert int.from_bytes(binary[4:8], "little") == len(binary)
        device.mutate()
