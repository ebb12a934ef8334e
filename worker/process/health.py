"""What a worker shows of itself to probes: marks of its loop and of its store.

The loop's mark comes from a timer of the consumer's loop. While that rests, since the main thread
waits for a broker that is away, runs a task (solo pool) or waits for the last ones, a thread marks
in its place: such a worker is alive. The store's comes from a thread, which writes a few bytes
every few seconds; when the volume hangs, that thread hangs and nothing else. The sweep marks for
itself (`worker.process.sweep_step`).
"""

from __future__ import annotations

import contextlib
import errno
import os
import sys
import threading
from pathlib import Path
from typing import Any, Final

from celery import bootsteps, signals
from kombu.utils.functional import retry_over_time

from confkeep import modes
from confkeep.observe.logs import get_logger
from confkeep.settings import Settings, get_settings
from worker.observe import unforeseen
from worker.process.heartbeat import Heartbeat, Mark, State, run_folder

log = get_logger("health")

#: Seconds between two marks of the loop.
LOOP_INTERVAL_S: Final = 1.0
#: Seconds between two writes to the store.
STORE_INTERVAL_S: Final = 5.0

_PROBE_BYTES: Final = bytes(4096)
#: Errors of a file system without unnamed files.
_NO_UNNAMED: Final = (errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL, errno.ENOENT)


class HeartbeatStep(bootsteps.StartStopStep):  # type: ignore[misc]
    """Makes the worker's file when the pool runs, and removes it at the end. A worker that cannot
    make the file works all the same, but no probe finds it.
    """

    requires = ("celery.worker.components:Pool",)

    def __init__(self, parent: Any, **options: Any) -> None:
        super().__init__(parent, **options)
        parent.heartbeat = None
        self._heartbeat: Heartbeat | None = None
        self._stop = threading.Event()
        #: The main thread runs a task (solo pool), or waits for the last ones: the loop rests.
        self._busy = threading.Event()
        self._pid = 0

    def start(self, parent: Any) -> None:
        """Make the file and begin to mark."""
        settings = get_settings()
        folder = run_folder(settings.run_path, settings.redis_url)
        try:
            heartbeat = Heartbeat(
                folder, parent.hostname, settings.worker_index, settings.sweep_interval_s
            )
        except OSError as error:
            log.warning(
                "cannot make the file for probes; `confkeep health` will not see this worker",
                action="health.no_file",
                folder=str(folder),
                error=error.strerror or str(error),
            )
            return
        self._heartbeat = parent.heartbeat = heartbeat
        self._pid = os.getpid()
        heartbeat.mark(Mark.LOOP)
        for target, name in ((self._rest, "heartbeat"), (self._write_to_store, "store-probe")):
            threading.Thread(target=target, args=(settings,), name=name, daemon=True).start()
        unforeseen.listen(lambda text: heartbeat.mark(Mark.TROUBLE, text))
        signals.task_prerun.connect(self._task_begins)
        signals.task_postrun.connect(self._task_ends)
        signals.worker_ready.connect(self._ready)
        signals.worker_shutting_down.connect(self._ending)
        signals.worker_shutdown.connect(self._ended)

    def stop(self, parent: Any) -> None:  # noqa: ARG002 - Celery's signature
        """Mark the worker as ending; it stays live until its pool has finished the last tasks."""
        self._ending()

    terminate = stop

    def _ready(self, **_: Any) -> None:
        if self._heartbeat is not None:
            self._heartbeat.enter(State.RUNNING)

    def _ending(self, **_: Any) -> None:
        if self._heartbeat is not None:
            self._heartbeat.enter(State.ENDING)
        self._busy.set()

    def _ended(self, **_: Any) -> None:
        """Remove the file. A worker that ends without this leaves it, without its lock."""
        self._stop.set()
        if self._heartbeat is not None:
            self._heartbeat.close()
            self._heartbeat = None

    def _task_begins(self, **_: Any) -> None:
        if os.getpid() == self._pid and threading.current_thread() is threading.main_thread():
            self._busy.set()

    def _task_ends(self, **_: Any) -> None:
        if os.getpid() == self._pid and threading.current_thread() is threading.main_thread():
            self._busy.clear()

    def _rest(self, settings: Settings) -> None:  # noqa: ARG002
        """Mark in the loop's place while the loop rests for a good reason."""
        heartbeat = self._heartbeat
        main = threading.main_thread().ident
        while heartbeat is not None and not self._stop.wait(LOOP_INTERVAL_S):
            try:
                if self._busy.is_set() or waits_for_broker(main):
                    heartbeat.mark(Mark.LOOP)
            except Exception as error:  # noqa: BLE001 - else a probe would have the worker killed
                unforeseen.note(log, "heartbeat", "mark for the loop", error)

    def _write_to_store(self, settings: Settings) -> None:
        heartbeat = self._heartbeat
        while heartbeat is not None:
            try:
                write_probe(settings.git_store_path)
            except OSError as error:
                heartbeat.mark(Mark.STORE_FAILED, error.strerror or type(error).__name__)
            except Exception as error:  # noqa: BLE001 - a worker that is well would count as not ready
                unforeseen.note(log, "store-probe", "write to the store", error)
                heartbeat.mark(Mark.STORE_FAILED, type(error).__name__)
            else:
                heartbeat.mark(Mark.STORE)
            if self._stop.wait(STORE_INTERVAL_S):
                return


def waits_for_broker(thread: int | None) -> bool:
    """Whether a thread is retrying to reach the broker.

    Celery and kombu retry in many places, most without any hook, but all by way of one function.
    """
    frame = sys._current_frames().get(thread or 0)  # noqa: SLF001 - the only way to see it
    while frame is not None:
        if frame.f_code is retry_over_time.__code__:
            return True
        frame = frame.f_back
    return False


def write_probe(store: Path) -> None:
    """Write a page to the store's file system and leave no file; makes the folder, as a commit
    does.

    Raises:
        OSError: the file system refused.
    """
    modes.make_folders(store)
    try:
        descriptor = os.open(store, os.O_TMPFILE | os.O_WRONLY | os.O_CLOEXEC, 0o600)
    except OSError as error:
        if error.errno not in _NO_UNNAMED:
            raise
        _write_named(store / f".confkeep-probe-{os.getpid()}")
        return
    _write_and_close(descriptor)


def _write_named(path: Path) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        _write_and_close(descriptor)
    finally:
        with contextlib.suppress(FileNotFoundError):
            path.unlink()


def _write_and_close(descriptor: int) -> None:
    try:
        os.write(descriptor, _PROBE_BYTES)
    finally:
        # A network file system may refuse only now.
        os.close(descriptor)
