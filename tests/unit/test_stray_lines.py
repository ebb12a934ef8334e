"""What Python and Celery write past the logging becomes JSON, and tells no values."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

SECRET = "add address=10.9.8.7"


def lines_of(code: str) -> list[dict[str, Any]]:
    """The lines that a process writes, in which everything is caught."""
    begin = (
        "import os, signal, sys, threading, warnings\n"
        "from confkeep.observe import logs; from worker.observe import stray_lines\n"
        "logs.install('json', 'info')\n"
        "stray_lines.catch()\n"
        f"SECRET = {SECRET!r}\n"
    )
    command = [sys.executable, "-c", begin + code]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
    assert SECRET not in done.stdout.decode()
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_a_warning_is_one_line() -> None:
    [line] = lines_of("warnings.warn('two\\nlines', UserWarning)")
    assert (line["level"], line["logger"]) == ("warning", "py.warnings")
    assert "two\nlines" in line["event"]


def test_an_error_that_ends_a_thread_is_told_without_its_values() -> None:
    code = (
        "def fail(): raise ValueError(SECRET)\n"
        "thread = threading.Thread(target=fail, name='the sweep')\n"
        "thread.start(); thread.join()"
    )
    [line] = lines_of(code)
    assert (line["action"], line["thread_name"]) == ("thread.failed", "the sweep")
    assert "in fail" in line["exception"]
    assert line["exception"].endswith("ValueError")


def test_an_error_that_ends_the_process_is_told_without_its_values() -> None:
    [line] = lines_of("raise ValueError(SECRET)")
    assert (line["action"], line["level"]) == ("process.failed", "critical")
    assert line["exception"].endswith("ValueError")


def test_an_error_of_a_destructor_is_told_without_its_values() -> None:
    code = "class Held:\n    def __del__(self): raise ValueError(SECRET)\nHeld()"
    [line] = lines_of(code)
    assert line["action"] == "process.error"


def test_what_celery_says_in_a_signal_handler_is_one_line() -> None:
    code = (
        "from celery.apps import worker\n"
        "stray_lines.catch_celerys()\n"
        "worker.safe_say('worker: Warm shutdown\\n(MainProcess)', sys.__stdout__)"
    )
    [line] = lines_of(code)
    assert line["event"] == "worker: Warm shutdown\n(MainProcess)"
    assert line["timestamp"].endswith("Z")
