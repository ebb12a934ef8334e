"""The store against a model of its contract: random batches, then every answer is compared.

The model is a list of commits in memory. It shares no code with the store: line counts come from
a longest common subsequence, the history of a device from comparing neighbours, and real git
gives a second opinion on both.
"""

from __future__ import annotations

import datetime as dt
import itertools
import tempfile
import uuid
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from confkeep.errors import NotInStore
from tests.judge import git, judged, log_of_device
from worker.store.repository import reader
from worker.store.repository.backup import Backup, Committed
from worker.store.repository.tenant_repository import create_repository, open_repository
from worker.store.writing.commit import Writer

DEVICES = [f"00000000-0000-4000-8000-{number:012x}" for number in (1, 2, 3, 0xABCDEF)]
UNKNOWN_DEVICE = "ffffffff-0000-4000-8000-000000000000"
DATED = [b"# jan/17/2022 10:00:00 by RouterOS 6.49", b"# 2025-09-30 10:00:00 by RouterOS 7.16"]
#: No line stands twice in a text: then the smallest edit is the only one that git may find.
LINES = [b"/interface bridge", b"add name=lan", b"", b"\xff\xfe\x80", "é €".encode(), b"\0", b"\\"]


@dataclass(frozen=True)
class Step:
    """One backup to commit; `again` names an earlier one whose id is used once more."""

    device: str
    export: bytes
    binary: bytes | None
    message: str
    captured_at: dt.datetime | None
    again: int | None


_exports = st.builds(
    lambda dated, lines, end, last: end.join([*dated, *lines]) + last,
    st.lists(st.sampled_from(DATED), max_size=1),
    st.lists(st.sampled_from(LINES), min_size=1, max_size=5, unique=True),
    st.sampled_from([b"\n", b"\r\n"]),
    st.sampled_from([b"", b"\n", b"\r\n"]),
)
_steps = st.builds(
    Step,
    device=st.sampled_from(DEVICES),
    export=st.sampled_from([b"a\n", b"a\r\n", b"a"]) | _exports,
    binary=st.sampled_from([None, b"", b"\x88\xac\xa1\xb1", bytes(range(256))]),
    message=st.sampled_from(["poll", "", "\n\nthird line", "caf\udce9 \udcff", "a\r\nb\n\n"])
    | st.text(
        st.characters(codec="utf-8", exclude_characters="\0"),
        max_size=20,
    ),
    captured_at=st.none()
    | st.datetimes(
        dt.datetime(1971, 1, 1),  # noqa: DTZ001
        dt.datetime(2100, 1, 1),  # noqa: DTZ001
        timezones=st.sampled_from(
            [dt.UTC, dt.timezone(dt.timedelta(hours=-9, minutes=-30)), dt.timezone.max]
        ),
    ),
    again=st.none() | st.none() | st.none() | st.integers(0, 20),
)
#: Batches, each with the seconds that the clock goes on, or back, before it.
_batches = st.lists(
    st.tuples(st.integers(-2, 3), st.lists(_steps, min_size=1, max_size=6)), max_size=5
)


@dataclass
class Entry:
    """What the model knows of one commit."""

    sha: str
    backup_id: str
    device: str
    export: bytes
    binary: bytes | None
    message: str
    committed_s: int
    unchanged: bool
    #: All devices as they are after this commit.
    state: dict[str, tuple[bytes, bytes | None]]


@dataclass
class Model:
    commits: list[Entry] = field(default_factory=list)
    answers: dict[str, Committed] = field(default_factory=dict)

    def history(self, device: str) -> list[Entry]:
        """The commits that changed the device, newest first."""
        return [c for c in reversed(self.commits) if c.device == device and not c.unchanged]


def lines_of(data: bytes) -> list[str]:
    return data.decode("utf-8", "surrogateescape").splitlines()


def delta_of(old: list[str], new: list[str]) -> tuple[int, int]:
    """Lines added and removed by the smallest edit, from the longest common subsequence."""
    row = [0] * (len(new) + 1)
    for line in old:
        before = row[:]
        for at, other in enumerate(new):
            row[at + 1] = before[at] + 1 if line == other else max(row[at], before[at + 1])
    return len(new) - row[-1], len(old) - row[-1]


def configuration(export: bytes) -> bytes:
    for line in DATED:
        for end in (b"\r\n", b"\n", b""):
            if export.startswith(line + end):
                return export[len(line + end) :]
    return export


def play(model: Model, path: Path, now_s: int, steps: list[Step]) -> None:
    """Commit one batch in the store and in the model, and compare the answers."""
    repository = create_repository(path)
    backups: list[Backup] = []
    keep: list[Entry] = []
    for step in steps:
        earlier = [*model.commits, *keep]
        backup_id = str(uuid.uuid4())
        if step.again is not None and step.again < len(model.commits):
            entry = model.commits[step.again]
            backups.append(
                Backup(entry.backup_id, entry.device, entry.export, entry.binary, entry.message)
            )
            continue
        state = dict(earlier[-1].state) if earlier else {}
        unchanged = state.get(step.device) == (step.export, step.binary)
        state[step.device] = (step.export, step.binary)
        keep.append(
            Entry("", backup_id, step.device, step.export, step.binary, step.message, now_s,
                  unchanged, state)
        )  # fmt: skip
        backups.append(
            Backup(backup_id, step.device, step.export, step.binary, step.message, step.captured_at)
        )
    answers = Writer(repository).commit_backups(backups, now_s=now_s)
    assert [answer.backup_id for answer in answers] == [backup.backup_id for backup in backups]

    new = {entry.backup_id: entry for entry in keep}
    for answer in answers:
        if answer.backup_id not in new:
            first = model.answers[answer.backup_id]
            assert answer.replayed
            assert (answer.sha, answer.device_id) == (first.sha, first.device_id)
            assert (answer.detail.lines_added, answer.detail.lines_removed, answer.unchanged) == (
                first.detail.lines_added, first.detail.lines_removed, first.unchanged
            )  # fmt: skip
            assert answer.detail.export_changed == first.detail.export_changed
            assert answer.committed_at == first.committed_at
            continue
        entry = new[answer.backup_id]
        before = model.commits[-1].state.get(entry.device) if model.commits else None
        old_export = None if before is None else before[0]
        entry.sha = answer.sha
        model.commits.append(entry)
        model.answers[entry.backup_id] = answer
        assert not answer.replayed
        assert answer.device_id == entry.device
        assert answer.unchanged == entry.unchanged
        assert answer.committed_at == dt.datetime.fromtimestamp(now_s, dt.UTC)
        assert (answer.detail.lines_added, answer.detail.lines_removed) == delta_of(
            lines_of(old_export or b""), lines_of(entry.export)
        )
        assert answer.detail.export_changed == (
            old_export is None or configuration(old_export) != configuration(entry.export)
        )


def compare(model: Model, path: Path) -> None:
    """Every answer of a reader that opens the repository now."""
    repository = open_repository(path)
    assert (str(repository.tip()) if model.commits else repository.tip()) == (
        model.commits[-1].sha if model.commits else None
    )
    expected_devices = sorted(model.commits[-1].state) if model.commits else []
    assert reader.devices_of(repository) == expected_devices
    assert len({entry.sha for entry in model.commits}) == len(model.commits)

    for device in [*DEVICES, UNKNOWN_DEVICE]:
        history = model.history(device)
        versions = list(reader.walk_versions(repository, device))
        assert [
            (v.sha, v.message, int(v.committed_at.timestamp()), v.backup_id) for v in versions
        ] == [(e.sha, e.message, e.committed_s, e.backup_id) for e in history]
        if model.commits:
            assert [v.sha for v in versions] == log_of_device(path, device)

    for entry in model.commits:
        for device in [*DEVICES, UNKNOWN_DEVICE]:
            export, binary = entry.state.get(device, (None, None))
            for name, data in (("export.rsc", export), ("backup.bin", binary)):
                if data is None:
                    with pytest.raises(NotInStore):
                        reader.read_file(repository, entry.sha, device, name)
                else:
                    assert reader.read_file(repository, entry.sha, device, name) == data

    tip = repository.tip()
    assert (tip is not None) == bool(model.commits)
    if tip is not None:
        ids = frozenset([e.backup_id for e in model.commits] + [str(uuid.uuid4())])
        found = reader.find_backup_ids(repository, ids, tip=tip)
        assert {backup_id: str(commit.id) for backup_id, commit in found.items()} == {
            e.backup_id: e.sha for e in model.commits
        }
        compare_abbreviated(model, path)


def compare_abbreviated(model: Model, path: Path) -> None:
    """Each id, cut to the fewest digits that no other object begins with, and to one less."""
    repository = open_repository(path)
    listed = git(path, "cat-file", "--batch-all-objects", "--batch-check=%(objectname)")
    every = listed.decode().split()
    for entry in model.commits[:6]:
        for digits in itertools.count(4):
            prefix = entry.sha[:digits]
            if sum(other.startswith(prefix) for other in every) == 1:
                assert str(reader.find_commit(repository, prefix).id) == entry.sha
                assert str(reader.find_commit(repository, prefix.upper()).id) == entry.sha
                break
            with pytest.raises(NotInStore, match="ambiguous"):
                reader.find_commit(repository, prefix)


@settings(max_examples=60, deadline=None)
@given(batches=_batches)
def test_the_store_answers_as_the_model_does(batches: list[tuple[int, list[Step]]]) -> None:
    with (
        tempfile.TemporaryDirectory() as folder,
        judged(Path(folder), all_judges=True) as store,
    ):
        path = store / f"{uuid.uuid4()}.git"
        model, now_s = Model(), 1_700_000_000
        create_repository(path)
        for seconds, steps in batches:
            now_s += seconds
            play(model, path, now_s, steps)
        compare(model, path)


def test_many_devices_in_one_second() -> None:
    """Names that sort closely, inserted in random order, each changed twice in one batch."""
    devices = [str(uuid.UUID(int=number * 0x9E3779B97F4A7C15 % 2**128)) for number in range(60)]
    steps = [
        Step(device, b"round %d\n" % round_number, None, "poll", None, None)
        for round_number in (1, 2, 2)
        for device in devices
    ]
    with tempfile.TemporaryDirectory() as folder, judged(Path(folder)) as store:
        path, model = store / f"{uuid.uuid4()}.git", Model()
        for start in range(0, len(steps), 50):
            play(model, path, 1_700_000_000, steps[start : start + 50])
        repository = open_repository(path)
        assert reader.devices_of(repository) == sorted(devices)
        for device in devices:
            versions = [v.sha for v in reader.walk_versions(repository, device)]
            assert versions == [e.sha for e in model.history(device)]
            assert len(versions) == 2
        assert versions == log_of_device(path, device)
