"""Starts Sentry and OpenTelemetry in a worker's processes, where the settings ask for them."""

from __future__ import annotations

from typing import Any

from celery import bootsteps

from confkeep.errors import InvalidSettings
from confkeep.observe.logs import get_logger
from confkeep.settings import Settings, get_settings
from worker.observe import error_reports, tracing

log = get_logger("telemetry")


def start(settings: Settings) -> None:
    """Start what the settings ask for, in this process.

    Raises:
        InvalidSettings: an extra is not installed, or a value is wrong.
    """
    error_reports.start(settings)
    tracing.start(settings)


def stop(**_: Any) -> None:
    """Send what was gathered; as a receiver of Celery's signal too."""
    tracing.stop()


class TelemetryStep(bootsteps.StartStopStep):  # type: ignore[misc]
    """Ends the worker if the settings ask for a package that is not installed."""

    def start(self, parent: Any) -> None:
        """Start it in the main process, where tasks of threads and of the solo pool run."""
        try:
            start(get_settings())
        except InvalidSettings as error:
            _refuse(parent, error)

    def stop(self, parent: Any) -> None:  # noqa: ARG002 - Celery's signature
        """Send what was gathered."""
        stop()

    terminate = stop


def _refuse(parent: Any, error: InvalidSettings) -> None:
    log.error(str(error), action="telemetry.refused", hint=error.hint)
    parent.exitcode = error.exit_code
    raise SystemExit(error.exit_code)
