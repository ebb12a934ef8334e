"""Begins a command that runs for long: with a JSON log, all its output is that log."""

from __future__ import annotations

import gc
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

from confkeep.observe import logs
from confkeep.settings import Settings, variable_of
from worker.cli import running
from worker.cli.terminal import Terminal
from worker.observe import stray_lines

log = logs.get_logger("command")


def begin(terminal: Terminal) -> Settings:
    """Find a `confkeep up` and read the settings. From here on SIGTERM ends the command with 0.

    A container's first process never hears of a signal for which it has no handler, and what the command
    starts sets one only seconds later.

    Raises:
        InvalidSettings: a setting is wrong. It is reported in JSON too if the log is JSON.
    """
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    if running.probe_variable(variable_of("log_format")) == "json":
        _speak_json(terminal, "info")
    settings = running.settings(terminal)
    if settings.log_format == "json":
        _speak_json(terminal, settings.log_level)
    return settings


@contextmanager
def loading() -> Iterator[None]:
    """Import and set up what stays as long as the process; nobody looks for garbage in it, now or later.

    That is a fifth of what a worker's start costs, and a pool's child would copy the pages.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


def until_asked() -> threading.Event:
    """What is set when SIGTERM or Ctrl-C asks the command to end."""
    asked = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: asked.set())
    return asked


def _speak_json(terminal: Terminal, level: str) -> None:
    logs.install("json", level)
    stray_lines.catch()
    terminal.log = _tell


def _tell(level: Literal["info", "error"], text: str, hint: str | None) -> None:
    if level == "error":
        log.error(text, action="command.failed", hint=hint)
    else:
        log.info(text, action="command.note")
