"""Turns what Celery and Python write past the logging into lines of the log, where those are JSON.

A collector that reads a container's output line by line finds nothing else in it.
"""

from __future__ import annotations

import datetime as dt
import json
import logging
import os
import sys
import threading
from types import TracebackType
from typing import Any

from confkeep.observe.logs import get_logger
from confkeep.wording import utc_text

log = get_logger("process")


def catch() -> None:
    """Catch Python's warnings, and the errors that end a thread or the process."""
    logging.captureWarnings(True)
    sys.excepthook = _process_ended
    threading.excepthook = _thread_ended
    sys.unraisablehook = _passed_over


def catch_celerys() -> None:
    """Catch what the signal handlers of a Celery worker say; in a process that runs one."""
    from celery.apps import worker

    worker.safe_say = _say


def _process_ended(
    kind: type[BaseException], error: BaseException, traceback: TracebackType | None
) -> None:
    if not issubclass(kind, Exception):
        sys.__excepthook__(kind, error, traceback)
        return
    log.critical(
        "an unforeseen error ended the process",
        action="process.failed",
        exc_info=(kind, error, traceback),
    )


def _thread_ended(ended: threading.ExceptHookArgs) -> None:
    if ended.exc_value is None or not issubclass(ended.exc_type, Exception):
        return
    log.critical(
        "an unforeseen error ended a thread",
        action="thread.failed",
        exc_info=(ended.exc_type, ended.exc_value, ended.exc_traceback),
        thread_name=ended.thread.name if ended.thread else None,
    )


def _passed_over(args: sys.UnraisableHookArgs) -> None:
    """An error where nobody could be told of it, such as in a destructor."""
    if args.exc_value is not None:
        log.error(
            "an unforeseen error was raised where nothing can catch it",
            action="process.error",
            exc_info=(args.exc_type, args.exc_value, args.exc_traceback),
        )


def _say(msg: str, f: Any = None) -> None:  # noqa: ARG001 - Celery's signature
    """What a signal handler of Celery's says; one write, since the logging may be in mid-line."""
    line = {
        "event": msg.strip(),
        "level": "info",
        "logger": "celery.apps.worker",
        "timestamp": utc_text(dt.datetime.now(dt.UTC)),
    }
    os.write(2, json.dumps(line).encode() + b"\n")
