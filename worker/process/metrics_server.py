"""Serves a worker's metrics at CONFKEEP_METRICS_PORT.

Off unless the port is set. One folder of a worker's own takes the files of its processes; the main
process adds them up at each scrape. What goes wrong here is logged and the worker works on: a port
that is taken (an earlier worker that is just ending) is tried again until it is free.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from celery import bootsteps, signals

from confkeep.observe.logs import get_logger
from confkeep.settings import get_settings, variable_of
from worker.observe import measure, metrics, unforeseen

if TYPE_CHECKING:
    from prometheus_client.core import Metric

log = get_logger("metrics")

#: Seconds between two tries to get a port that is taken.
_RETRY_S: Final = 2.0
_PREFIX: Final = "confkeep-metrics-"
_OPEN: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
#: Seconds for which a new folder may be without its lock.
_BEGINNING_S: Final = 60.0


class MetricsStep(bootsteps.StartStopStep):  # type: ignore[misc]
    """Prepares before the pool forks, serves once it has, whether or not the broker is there."""

    requires = ("celery.worker.components:Pool",)

    def __init__(self, parent: Any, **options: Any) -> None:
        super().__init__(parent, **options)
        self._folder: _Folder | None = None
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._server: Any = None
        settings = get_settings()
        self._port, self._address = settings.metrics_port, settings.metrics_address
        if not self._port:
            return
        try:
            self._folder = _Folder()
            measure.start(self._folder.path)
            signals.worker_shutdown.connect(self._remove_folder)
        except OSError as error:
            measure.stop()
            log.warning(
                "this worker serves no metrics: it cannot make their folder",
                action="metrics.off",
                error=error.strerror,
                folder=tempfile.gettempdir(),
            )

    def start(self, parent: Any) -> None:  # noqa: ARG002 - Celery's signature
        """Begin to serve; in a thread, since the port may have to be waited for."""
        if self._folder is None:
            return
        self._stop.clear()
        self._thread = threading.Thread(
            target=self._serve, args=(self._folder.path,), name="metrics", daemon=True
        )
        self._thread.start()

    def stop(self, parent: Any) -> None:  # noqa: ARG002 - Celery's signature
        """Give the port back. The folder stays, since children may still write."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(timeout=_RETRY_S)
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    terminate = stop

    def _remove_folder(self, **_: Any) -> None:
        """Remove the folder when the pool has ended too."""
        if self._folder is not None:
            shutil.rmtree(self._folder.path, ignore_errors=True)

    def _serve(self, folder: Path) -> None:
        from prometheus_client import CollectorRegistry, start_http_server
        from prometheus_client.multiprocess import MultiProcessCollector

        registry = CollectorRegistry()
        MultiProcessCollector(registry, str(folder))  # type: ignore[no-untyped-call]
        registry.register(_SweepAge())
        where = f"{self._address}:{self._port}"
        told = False
        while not self._stop.is_set():
            try:
                assert self._port is not None
                self._server, _thread = start_http_server(
                    self._port, self._address, registry=registry
                )
            except OSError as error:
                if not told:
                    log.warning(
                        f"this worker serves no metrics yet: it cannot listen on {where}, and tries again",
                        action="metrics.port_taken",
                        error=error.strerror,
                        hint=f"Give each worker of a machine a {variable_of('metrics_port')} of "
                        "its own.",
                    )
                told = True
                self._stop.wait(_RETRY_S)
            except Exception as error:  # noqa: BLE001 - else this worker would never have metrics
                unforeseen.note(log, "metrics", "listen", error)
                self._stop.wait(_RETRY_S)
            else:
                log.info("serving metrics", action="metrics.serving", address=where)
                return


class _SweepAge:
    """The age of the last sweep: computed at each scrape, and so in no file."""

    def collect(self) -> Iterator[Metric]:
        from prometheus_client.core import GaugeMetricFamily

        age = metrics.WORKER_SWEEP_AGE
        yield GaugeMetricFamily(age.name, age.help, value=measure.sweep_age_s())


class _Folder:
    """A new private folder for the files of this worker's processes.

    A lock on it, which the kernel gives back however the processes end, tells the folders of living
    workers from those that killed ones left; the latter are removed here.
    """

    def __init__(self) -> None:
        _remove_abandoned(Path(tempfile.gettempdir()))
        self.path = Path(tempfile.mkdtemp(prefix=_PREFIX))
        self._lock = os.open(self.path, _OPEN)
        fcntl.flock(self._lock, fcntl.LOCK_EX)


def _remove_abandoned(parent: Path) -> None:
    for folder in parent.glob(f"{_PREFIX}*"):
        try:
            found = folder.lstat()
            if found.st_uid != os.getuid() or found.st_mtime > time.time() - _BEGINNING_S:
                continue
            lock = os.open(folder, _OPEN)
        except OSError:
            # Just removed, or no folder.
            continue
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            continue
        else:
            shutil.rmtree(folder, ignore_errors=True)
        finally:
            os.close(lock)
