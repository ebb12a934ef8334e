"""What this process counts and times, if metrics are on.

While off (the default, and always in producers), a call costs a look-up and nothing of Prometheus
is imported. While on, each process writes its values to a file of its own, and the worker's main
process reads them all (prometheus-client's multi-process mode), so that they outlive a killed
child.

No metric may cost a backup. A file that cannot be written ends the counting in its process, with a
line in the log; its blocks are reserved before, since a mapped file without room on the disk kills
the process that writes to it.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from confkeep.observe.logs import get_logger
from worker.observe import metrics
from worker.observe.metrics import Metric

if TYPE_CHECKING:
    from prometheus_client import Counter, Histogram

log = get_logger("metrics")

#: Bytes that are reserved for each file; what is declared takes less than half of it.
_RESERVED_BYTES: Final = 256 * 1024
#: The files that a process writes, as prometheus-client names them.
_FILES: Final = ("counter", "histogram")
#: The variable that prometheus-client reads.
_FOLDER_VARIABLE: Final = "PROMETHEUS_MULTIPROC_DIR"

_on: dict[str, Counter | Histogram] = {}
_folder: Path | None = None
_swept_s: float | None = None


def start(folder: Path) -> None:
    """Count from now on; in the main process, before it forks.

    Raises:
        OSError: there is no room in `folder`, which must exist.
    """
    global _folder, _swept_s
    _reserve(folder)
    os.environ[_FOLDER_VARIABLE] = str(folder)
    from prometheus_client import Counter, Histogram, values

    if not values.ValueClass._multiprocess:  # noqa: SLF001
        # prometheus-client chooses memory or files at its import, and Celery imports it before us
        # where Flower is installed.
        values.ValueClass = values.MultiProcessValue()  # type: ignore[no-untyped-call]

    _folder, _swept_s = folder, time.monotonic()
    for metric in metrics.OF_WORKER:
        # No registry: the collector reads the files.
        if metric.kind == "counter":
            _on[metric.name] = Counter(metric.name, metric.help, metric.labels, registry=None)
        elif metric.kind == "histogram":
            _on[metric.name] = Histogram(
                metric.name, metric.help, metric.labels, registry=None, buckets=metric.bounds
            )
    for step in metrics.STEPS:
        _on[metrics.WORKER_STEP.name].labels(step)


def after_fork() -> None:
    """Make room for this child's files."""
    if _folder is None or not _on:
        return
    try:
        _reserve(_folder)
    except OSError as error:
        _give_up(error)


def stop() -> None:
    """Stop counting in this process."""
    global _folder
    _folder = None
    _on.clear()


def count(metric: Metric, number: int = 1) -> None:
    """Add to a counter."""
    found: Any = _on.get(metric.name)
    if found is None or not number:
        return
    try:
        found.inc(number)
    except OSError as error:
        _give_up(error)


def observe(metric: Metric, values: Iterable[float], *labels: str) -> None:
    """Add values, in seconds, to a histogram."""
    found: Any = _on.get(metric.name)
    if found is None:
        return
    try:
        if labels:
            found = found.labels(*labels)
        for value in values:
            found.observe(value)
    except OSError as error:
        _give_up(error)


def note_sweep() -> None:
    global _swept_s
    _swept_s = time.monotonic()


def sweep_age_s() -> float:
    """Seconds since the last successful sweep, or since `start`."""
    return 0.0 if _swept_s is None else time.monotonic() - _swept_s


def _reserve(folder: Path) -> None:
    for kind in _FILES:
        descriptor = os.open(
            folder / f"{kind}_{os.getpid()}.db", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600
        )
        try:
            os.posix_fallocate(descriptor, 0, _RESERVED_BYTES)
        finally:
            os.close(descriptor)


def _give_up(error: OSError) -> None:
    stop()
    log.error(
        "this process no longer counts: it cannot write its file of metrics",
        action="metrics.lost",
        error=error.strerror,
    )
