"""Wakes a tenant's workers from the command line."""

from __future__ import annotations

from kombu.exceptions import OperationalError

from confkeep.app import app
from confkeep.queue import wakeups
from confkeep.settings import Settings
from worker.cli.terminal import Terminal


def wake(terminal: Terminal, settings: Settings, tenant_id: str) -> None:
    """Send a wake-up now, whether or not one is on its way."""
    try:
        wakeups.send(app, settings, tenant_id)
    except OperationalError:
        terminal.note("the wake-up was not sent; a worker's sweep wakes the tenant in seconds")
