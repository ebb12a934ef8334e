"""Runs the sweep in a thread of a worker's main process, and marks for probes how it went."""

from __future__ import annotations

import contextlib
import threading
from typing import Any

import redis
from celery import bootsteps
from celery.worker import state
from kombu.exceptions import OperationalError

from confkeep.broker.connections import open_client
from confkeep.errors import BrokerUnavailable, ConfkeepError, StoreNotShared
from confkeep.observe.logs import get_logger
from confkeep.settings import Settings, get_settings
from worker.observe import measure, unforeseen
from worker.process import shutdown
from worker.process.broker_check import BrokerCheckStep, BrokerWatch
from worker.process.health import HeartbeatStep
from worker.process.heartbeat import Heartbeat, Mark
from worker.process.outage import SWEEP, outage
from worker.process.own_store import StoreStep
from worker.process.sweeper import Sweeper

log = get_logger("sweeper")

#: Check whether the server keeps what it acknowledges every so many sweeps, or seconds if sooner.
_SWEEPS_UNCHECKED = 15
_MOST_UNCHECKED_S = 30.0


class SweeperStep(bootsteps.StartStopStep):  # type: ignore[misc]
    """Runs the sweep in a thread of the worker's main process.

    A timer of Celery's consumer would stand still while a solo pool runs a task and while the
    broker is away.
    """

    #: After the check: a worker that it refuses must not touch the server.
    requires = ("celery.worker.components:Pool", BrokerCheckStep, StoreStep, HeartbeatStep)

    def __init__(self, parent: Any, **options: Any) -> None:
        super().__init__(parent, **options)
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self, parent: Any) -> None:
        """Begin to sweep, at once and then at every interval."""
        self._stop.clear()
        self._thread = threading.Thread(
            target=self._run, args=(parent, get_settings()), name="sweeper", daemon=True
        )
        self._thread.start()

    def stop(self, parent: Any) -> None:  # noqa: ARG002 - Celery's signature
        self._stop.set()
        if self._thread is not None:
            self._thread.join(timeout=2)

    terminate = stop

    def _run(self, parent: Any, settings: Settings) -> None:
        heartbeat: Heartbeat | None = parent.heartbeat
        client = open_client(settings, timeout_s=min(2.0, settings.redis_timeout_s))
        sweeper = Sweeper(parent.app, settings, client, parent.hostname)
        interval_s = min(_MOST_UNCHECKED_S, _SWEEPS_UNCHECKED * settings.sweep_interval_s)
        note = (lambda _problem: None) if heartbeat is None else heartbeat.note_broker
        watch = BrokerWatch(client, parent.broker_problems, note, interval_s)
        while True:
            error = _sweep(sweeper, watch)
            if isinstance(error, StoreNotShared):
                log.error(str(error), action="store.refused", hint=error.hint)
                # Let the consumer's loop end this worker in order.
                shutdown.request()
                state.should_stop = error.exit_code
                break
            if heartbeat is not None and error is None:
                heartbeat.mark(Mark.SWEEP)
            elif heartbeat is not None:
                heartbeat.mark(Mark.SWEEP_FAILED, type(error).__name__)
            if self._stop.wait(settings.sweep_interval_s):
                break
        with contextlib.suppress(redis.RedisError):
            sweeper.leave()
        client.close()


def _sweep(sweeper: Sweeper, watch: BrokerWatch) -> Exception | None:
    """Sweep once and tell how it went; returns what it met. After `StoreNotShared` the worker has to end."""
    try:
        sent = sweeper.sweep()
        watch.look_if_due()
    except StoreNotShared as error:
        return error
    except (redis.RedisError, OperationalError, BrokerUnavailable, OSError) as error:
        outage.met(SWEEP, error)
        return error
    except ConfkeepError as error:
        log.warning("the sweep failed", action="sweep.failed", error=type(error).__name__)
        return error
    except Exception as error:  # noqa: BLE001
        # Whoever may write to the server can make the sweep fail in any way. It must go on,
        # since without it no lost wake-up is found until the worker is started again.
        unforeseen.note(log, "sweeper", "sweep", error)
        return error
    outage.passed(SWEEP)
    measure.note_sweep()
    if sent:
        log.info("woke inboxes that nobody worked on", action="sweep.woke", inboxes=sent)
    return None
