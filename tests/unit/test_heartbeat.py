"""A worker's file, and what a probe makes of it."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from celery import signals
from kombu.utils.functional import retry_over_time

from confkeep.settings import load_settings
from tests.servers import wait_for
from worker.cli import health as health_module
from worker.cli.health import RECENT_S, why_not_live, why_not_ready
from worker.process import health as worker_health
from worker.process.heartbeat import Heartbeat, State, Vitals, read_all, run_folder

URL = "redis://:planted-secret@localhost:7/3"

#: Stands for a worker: does what each line of its input says, then answers.
WORKER = """
import os, sys
from pathlib import Path
from worker.process.heartbeat import Heartbeat, Mark, State, run_folder
folder = run_folder(Path(sys.argv[1]), sys.argv[2])
beat = Heartbeat(folder, sys.argv[3], int(sys.argv[4]), 2.0)
for mark in (Mark.LOOP, Mark.SWEEP, Mark.STORE): beat.mark(mark)
beat.enter(State.RUNNING)
if "fork" in sys.argv and os.fork() == 0:
    os.close(1); sys.stdin.read(); os._exit(0)
print("there", flush=True)
for line in sys.stdin:
    exec(line)
    print("done", flush=True)
beat.close()
"""


class Worker:
    def __init__(self, run: Path, name: str, index: int = 0, *more: str) -> None:
        command = [sys.executable, "-c", WORKER, str(run), URL, name, str(index), *more]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self.process.stdout
        assert self.process.stdout.readline() == "there\n"

    def do(self, line: str) -> None:
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        assert self.process.stdout.readline() == "done\n"

    def end(self) -> None:
        self.process.communicate()


@pytest.fixture
def worker(tmp_path: Path) -> Iterator[Worker]:
    started = Worker(tmp_path, "worker-0@here")
    yield started
    started.process.kill()
    started.end()


def confkeep_health(run: Path, *options: str, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {name: text for name, text in os.environ.items() if "CONFKEEP" not in name}
    return subprocess.run(
        [sys.executable, "-P", "-m", "confkeep", "health", *options],
        env={
            **environment,
            "CONFKEEP_RUN_PATH": str(run),
            "CONFKEEP_REDIS_URL": URL,
            **variables,
        },
        cwd=run,
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_probe_reads_what_was_marked(tmp_path: Path, worker: Worker) -> None:
    worker.do("beat.mark(Mark.STORE_FAILED, 'No space left on device')")
    [vitals] = read_all(run_folder(tmp_path, URL))
    assert (vitals.name, vitals.index, vitals.pid) == ("worker-0@here", 0, worker.process.pid)
    assert vitals.state is State.RUNNING
    assert vitals.sweep_interval_s == 2.0
    assert vitals.store_error == "No space left on device"
    assert vitals.sweep_error is None
    assert vitals.loop_age_s is not None
    assert 0 <= vitals.loop_age_s < 30
    worker.do("beat.mark(Mark.STORE)")
    assert read_all(run_folder(tmp_path, URL))[0].store_error is None


def test_a_worker_that_ends_in_order_leaves_nothing(tmp_path: Path, worker: Worker) -> None:
    worker.end()
    assert list(tmp_path.iterdir()) == []


def test_a_killed_workers_file_counts_for_nothing_and_the_next_worker_removes_it(
    tmp_path: Path,
) -> None:
    # Its child lives on: a lock that forks inherit would still be held.
    first = Worker(tmp_path, "first", 0, "fork")
    folder = run_folder(tmp_path, URL)
    assert [vitals.name for vitals in read_all(folder)] == ["first"]
    first.process.kill()
    first.process.wait()
    assert read_all(folder) == []
    assert [path.name for path in folder.iterdir()] == ["first"]
    second = Worker(tmp_path, "second")
    assert [path.name for path in folder.iterdir()] == ["second"]
    second.end()
    first.end()


def test_deployments_are_told_apart_but_not_by_a_password() -> None:
    folders = [
        run_folder(Path("/run"), url)
        for url in (
            "redis://host:1/0",
            "redis://:old@host:1/0",
            "redis://user:new@host:1/0",
            "redis://host:2/0",
            "sentinel://:one@a;sentinel://:one@b",
            "sentinel://a;sentinel://:two@b",
            "sentinel://a;sentinel://b?sentinel_password=three",
        )
    ]
    assert len(set(folders[:3])) == 1
    assert len(set(folders)) == 3
    assert folders[4] == folders[5] == folders[6]


def test_a_folder_of_somebody_else_is_refused(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (tmp_path / "run").symlink_to(elsewhere)
    with pytest.raises(PermissionError):
        Heartbeat(tmp_path / "run" / "x", "worker", 0, 2.0)
    assert list(elsewhere.iterdir()) == []


WELL = Vitals("w", 1, 0, State.RUNNING, 2.0, 0.5, 1.0, 3.0, None, None)


def test_a_worker_is_well() -> None:
    assert why_not_live(WELL, 30) is None
    assert why_not_ready(WELL) == []


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"state": State.STARTING}, "it is starting"),
        ({"state": State.ENDING}, "it is ending"),
        ({"sweep_error": "TimeoutError"}, "its last sweep failed (TimeoutError)"),
        ({"sweep_age_s": RECENT_S + 1}, "it has not swept for 21 s"),
        ({"sweep_age_s": None}, "it has not swept for as long as it runs"),
        ({"store_error": "disk full"}, "its store takes no write (disk full)"),
        ({"store_age_s": RECENT_S + 1}, "its store has not answered for 21 s"),
    ],
)
def test_a_worker_is_not_ready(changes: dict[str, Any], said: str) -> None:
    vitals = replace(WELL, **changes)
    assert why_not_ready(vitals) == [said]
    assert why_not_live(vitals, 30) is None


def test_a_long_interval_of_sweeps_is_no_silence() -> None:
    assert why_not_ready(replace(WELL, sweep_interval_s=60.0, sweep_age_s=100)) == []
    assert why_not_ready(replace(WELL, sweep_interval_s=60.0, sweep_age_s=200)) != []


def test_a_loop_that_does_not_turn_is_not_live() -> None:
    assert why_not_live(replace(WELL, loop_age_s=31), 30) == "its loop has not turned for 31 s"
    assert why_not_live(replace(WELL, loop_age_s=None), 30) is not None


def test_the_command_says_it_in_one_line(tmp_path: Path, worker: Worker) -> None:
    done = confkeep_health(tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("live and ready: worker-0@here (loop ")
    worker.do("beat.mark(Mark.SWEEP_FAILED, 'ConnectionError')")
    done = confkeep_health(tmp_path)
    assert done.returncode == 52
    assert "worker-0@here: its last sweep failed (ConnectionError)" in done.stderr
    assert confkeep_health(tmp_path, "--live").returncode == 0
    assert confkeep_health(tmp_path, "--ready").returncode == 52
    done = confkeep_health(tmp_path, "--json")
    report = json.loads(done.stdout)
    assert done.returncode == 52
    assert (report["live"], report["ready"]) == (True, False)
    assert report["workers"][0]["not_ready"] == ["its last sweep failed (ConnectionError)"]


def test_the_command_finds_the_worker_that_is_meant(tmp_path: Path, worker: Worker) -> None:
    other = Worker(tmp_path, "worker-1@here", 1)
    other.do("beat.enter(State.ENDING)")
    assert confkeep_health(tmp_path).returncode == 52, "all of them"
    assert confkeep_health(tmp_path, CONFKEEP_WORKER_INDEX="0").returncode == 0
    assert confkeep_health(tmp_path, "--name", "worker-0").returncode == 0
    assert confkeep_health(tmp_path, "--name", "worker-1@here").returncode == 52
    assert confkeep_health(tmp_path, "--index", "2").returncode == 51, "none"
    assert confkeep_health(tmp_path, CONFKEEP_REDIS_URL="redis://elsewhere").returncode == 51
    other.end()


def test_the_command_answers_in_under_a_second(tmp_path: Path, worker: Worker) -> None:
    def took() -> float:
        began = time.monotonic()
        assert confkeep_health(tmp_path).returncode == 0
        return time.monotonic() - began

    # Other tests run beside this one: once is enough.
    assert any(took() < 1.0 for _ in range(10))


def test_the_command_loads_nothing_that_takes_long() -> None:
    code = (
        "import sys\nfrom confkeep.__main__ import main\n"
        "sys.argv = ['confkeep', 'health', '--help']\n"
        "try:\n    main()\nfinally:\n    print(*sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    slow = {"pydantic", "redis", "celery", "pygit2", "rich", "structlog", "asyncio"}
    assert not slow & {name.split(".")[0] for name in done.stdout.split()}


def test_a_worker_that_ends_lives_until_its_last_task_is_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = load_settings(run_path=tmp_path / "run", git_store_path=tmp_path / "store")
    monkeypatch.setattr(worker_health, "get_settings", lambda: settings)
    parent = SimpleNamespace(hostname="w@here")
    step = worker_health.HeartbeatStep(parent)
    folder = run_folder(settings.run_path, settings.redis_url)
    step.start(parent)
    try:
        file = folder / "w@here"

        def state() -> int:
            return file.read_bytes()[16]

        assert state() == State.STARTING
        signals.worker_ready.send(sender=None)
        assert state() == State.RUNNING
        step.stop(parent)
        assert state() == State.ENDING
        before = file.read_bytes()[64:72]
        wait_for(lambda: file.read_bytes()[64:72] != before, "a mark while the pool works on")
    finally:
        signals.worker_shutdown.send(sender=None)
    assert not folder.exists()


def test_a_thread_that_tries_to_reach_the_broker_is_told_from_one_that_does_not() -> None:
    ended = threading.Event()

    def refused() -> None:
        if not ended.is_set():
            raise ConnectionError

    def connect() -> None:
        retry_over_time(refused, ConnectionError, interval_start=0.01)  # type: ignore[no-untyped-call]

    waiting = threading.Thread(target=connect)
    hanging = threading.Thread(target=ended.wait)
    for thread in (waiting, hanging):
        thread.start()
    try:
        wait_for(lambda: worker_health.waits_for_broker(waiting.ident), "the first try")
        assert not worker_health.waits_for_broker(hanging.ident)
        assert not worker_health.waits_for_broker(threading.get_ident())
    finally:
        ended.set()
        for thread in (waiting, hanging):
            thread.join()
    assert not worker_health.waits_for_broker(waiting.ident)


def test_the_probe_of_the_store_makes_its_folder_and_leaves_nothing(tmp_path: Path) -> None:
    worker_health.write_probe(tmp_path / "a" / "store")
    assert list((tmp_path / "a" / "store").iterdir()) == []
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError):
        worker_health.write_probe(tmp_path / "file" / "store")


def test_the_probe_of_the_store_works_where_all_files_have_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, named = os.open, []

    def without_unnamed(path: Any, flags: int, *more: Any) -> int:
        if flags & os.O_TMPFILE == os.O_TMPFILE:
            raise OSError(errno.EOPNOTSUPP, "not here")
        named.append(Path(path).name)
        return real(path, flags, *more)

    monkeypatch.setattr(os, "open", without_unnamed)
    worker_health.write_probe(tmp_path)
    assert named == [f".confkeep-probe-{os.getpid()}"]
    assert list(tmp_path.iterdir()) == []


def test_the_probe_of_the_store_is_refused_by_a_full_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_descriptor: int, _data: bytes) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(OSError, match="No space"):
        worker_health.write_probe(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_threads_trouble_is_shown_and_costs_no_readiness(tmp_path: Path, worker: Worker) -> None:
    worker.do("beat.mark(Mark.TROUBLE, 'sweeper: tidy: KeyError')")
    [vitals] = read_all(run_folder(tmp_path, URL))
    assert vitals.trouble == "sweeper: tidy: KeyError"
    assert why_not_ready(vitals) == []
    assert health_module._json(vitals, None, [])["trouble"] == "sweeper: tidy: KeyError"
    old = replace(vitals, trouble_age_s=3600.0)
    assert health_module._json(old, None, [])["trouble"] is None


@pytest.mark.parametrize("name", ["_rest", "_write_to_store"])
def test_its_threads_go_on_after_what_nobody_foresaw(
    name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    calls = []

    def fail(*_: object) -> None:
        calls.append(1)
        raise RecursionError("nobody foresaw it")

    monkeypatch.setattr(worker_health, "waits_for_broker", fail)
    monkeypatch.setattr(worker_health, "write_probe", fail)
    for interval in ("LOOP_INTERVAL_S", "STORE_INTERVAL_S"):
        monkeypatch.setattr(worker_health, interval, 0.01)
    step = worker_health.HeartbeatStep(SimpleNamespace())
    step._heartbeat = SimpleNamespace(mark=lambda *_: None)  # type: ignore[assignment]
    target = getattr(step, name)
    thread = threading.Thread(target=target, args=(load_settings(git_store_path=tmp_path),))
    thread.start()
    wait_for(lambda: len(calls) > 2, "the thread to go on")
    step._stop.set()
    thread.join(20)
    assert not thread.is_alive()
