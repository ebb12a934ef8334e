"""What a process counts: it outlives the process, and no fault of it reaches a commit."""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import tempfile
import time
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, values
from prometheus_client.multiprocess import MultiProcessCollector

from worker.observe import measure, metrics
from worker.process import metrics_server


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Metrics that are on, in this process, for one test."""
    monkeypatch.setenv(measure._FOLDER_VARIABLE, "")
    # Imported already, as by Flower: then it would keep its values in memory.
    monkeypatch.setattr(values, "ValueClass", values.MutexValue)
    measure.start(tmp_path)
    yield tmp_path
    measure.stop()


def counted(folder: Path, series: str, labels: dict[str, str] | None = None) -> float | None:
    registry = CollectorRegistry()
    MultiProcessCollector(registry, str(folder))  # type: ignore[no-untyped-call]
    return registry.get_sample_value(series, labels)


def in_child(work: str) -> int:
    """Run a line in a child made by fork; gives its status."""
    with warnings.catch_warnings():
        # Of a fork beside threads; the child does only this.
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if not child:
        try:
            exec(work, {"measure": measure, "metrics": metrics, "os": os, "signal": signal})
        except BaseException:
            os._exit(9)
        os._exit(0)
    return os.waitpid(child, 0)[1]


def test_what_a_killed_child_counted_stays(folder: Path) -> None:
    measure.count(metrics.WORKER_COMMITTED, 2)
    work = (
        "measure.after_fork(); measure.count(metrics.WORKER_COMMITTED, 3); "
        "measure.observe(metrics.WORKER_STEP, [0.3, 7.0], 'pack'); os.kill(os.getpid(), 9)"
    )
    assert in_child(work) == signal.SIGKILL
    assert counted(folder, metrics.WORKER_COMMITTED.name) == 5
    assert counted(folder, "confkeep_worker_step_seconds_sum", {"step": "pack"}) == 7.3
    bucket = "confkeep_worker_step_seconds_bucket"
    assert counted(folder, bucket, {"step": "pack", "le": "1.0"}) == 1
    assert counted(folder, bucket, {"step": "ref", "le": "+Inf"}) == 0, "there from the start"


def test_a_folder_that_is_gone_ends_the_counting_and_nothing_else(folder: Path) -> None:
    shutil.rmtree(folder)
    assert in_child("measure.after_fork(); measure.count(metrics.WORKER_DEAD)") == 0
    # Also when it goes between the two.
    assert in_child("measure.count(metrics.WORKER_DEAD); assert not measure._on") == 0
    assert in_child("measure.observe(metrics.WORKER_LATENCY, [1.0]); assert not measure._on") == 0


def test_blocks_are_there_before_anything_is_mapped(folder: Path) -> None:
    # A mapped page that finds no room on the disk would kill the process.
    assert in_child("measure.after_fork(); measure.count(metrics.WORKER_DEAD)") == 0
    files = sorted(folder.glob("*.db"))
    assert len(files) == 4
    for file in files:
        assert file.stat().st_blocks * 512 >= measure._RESERVED_BYTES == file.stat().st_size
        used = int.from_bytes(file.read_bytes()[:4], "little")
        assert used < measure._RESERVED_BYTES / 2, "it never has to grow"


def test_the_age_of_the_sweep_begins_anew(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert 0 <= measure.sweep_age_s() < 30
    monkeypatch.setattr(measure, "_swept_s", time.monotonic() - 100)
    assert 100 <= measure.sweep_age_s() < 130
    measure.note_sweep()
    assert measure.sweep_age_s() < 30


def test_folders_of_dead_workers_go_and_those_of_living_ones_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    living = metrics_server._Folder()
    dead, young = tmp_path / "confkeep-metrics-dead", tmp_path / "confkeep-metrics-young"
    other = tmp_path / "other"
    for folder in (dead, young, other):
        folder.mkdir()
    (tmp_path / "confkeep-metrics-link").symlink_to(other)
    for folder in (living.path, dead, other):
        os.utime(folder, (1, 1))
    another = metrics_server._Folder()
    assert {path.name for path in tmp_path.iterdir()} == {
        living.path.name,
        another.path.name,
        young.name,
        other.name,
        "confkeep-metrics-link",
    }
    assert living.path.stat().st_mode & 0o777 == 0o700
    with pytest.raises(BlockingIOError):
        fcntl.flock(os.open(living.path, os.O_RDONLY), fcntl.LOCK_EX | fcntl.LOCK_NB)
