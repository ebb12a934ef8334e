"""Celery's consumer: waits for a server that is away or refuses, and shows that its loop turns.

Celery's configuration names it (`worker_consumer`).

A server refuses writes for a while now and then: a failover, a full disk or memory, a user whose
rights were taken away. To Celery that is a fault of its own, which ends the worker. Here it is an
outage: the consumer gives up its connection, and connects anew when the server takes writes again.
"""

from __future__ import annotations

import time
import warnings
from typing import Any, Final

import redis
from celery.exceptions import CPendingDeprecationWarning
from celery.worker.consumer import Consumer as CeleryConsumer
from celery.worker.state import maybe_shutdown
from kombu.exceptions import OperationalError
from kombu.transport.redis import Transport
from kombu.utils.functional import retry_over_time

from confkeep.broker import keys
from confkeep.broker.connections import broker_errors, open_client
from confkeep.errors import BrokerUnavailable
from confkeep.settings import get_settings
from worker.process.closed_channel import ChannelClosed
from worker.process.health import LOOP_INTERVAL_S
from worker.process.heartbeat import Mark
from worker.process.outage import CONSUMER, outage, quiet_celery

#: Seconds between two tries to connect, and from one loss of the connection to the next try.
RETRY_S: Final = 1.0
#: Most seconds to wait for an answer while the server is away, so that its return is noticed soon.
_PROBE_TIMEOUT_S: Final = 2.0


class Consumer(CeleryConsumer):  # type: ignore[misc]
    """Reconnects within seconds of an outage's end, however long it was."""

    #: The errors that Celery takes for a lost connection; Celery sets it.
    connection_errors: tuple[type[BaseException], ...]
    _connected_at = 0.0

    def __init__(self, *arguments: Any, **options: Any) -> None:
        _take_refusals_for_outages()
        quiet_celery()
        super().__init__(*arguments, **options)

    def update_strategies(self) -> None:
        """Raise what goes wrong when a task is acknowledged, instead of logging it.

        If Celery logged the error and went on, this connection could take one message less: a
        worker with a pool of one would never take any again. Raised in the loop, the error makes
        Celery reconnect. An acknowledgement that comes too late for an old connection
        (`ChannelClosed`) may be ignored: its message is back in the queue.
        """
        errors, self.connection_errors = self.connection_errors, (ChannelClosed,)
        try:
            super().update_strategies()
        finally:
            self.connection_errors = errors

    def connect(self) -> Any:
        """Connect for consuming. Wait a moment if the last connection did not hold."""
        if time.monotonic() - self._connected_at < RETRY_S:
            maybe_shutdown()
            time.sleep(RETRY_S)
        connection = super().connect()
        self._connected_at = time.monotonic()
        return connection

    def ensure_connected(self, conn: Any) -> Any:
        """Wait, for as long as it takes, until the server answers and takes writes."""
        retry_over_time(  # type: ignore[no-untyped-call]
            _reach,
            # kombu's own: the server went away between our probe and kombu's connecting.
            (BrokerUnavailable, OperationalError, *conn.recoverable_connection_errors),
            (conn,),
            errback=_told,
            interval_max=RETRY_S,
            callback=maybe_shutdown,
        )
        self.first_connection_attempt = False
        return conn

    def on_connection_error_before_connected(self, exc: BaseException) -> None:
        """Celery calls this when it cannot connect."""
        outage.met(CONSUMER, exc)

    def on_connection_error_after_connected(self, exc: BaseException) -> None:
        """Celery calls this when it lost the connection."""
        outage.met(CONSUMER, exc)
        with warnings.catch_warnings():
            # At each loss Celery warns of a default of Celery 6, even where the option is set.
            warnings.simplefilter("ignore", CPendingDeprecationWarning)
            super().on_connection_error_after_connected(exc)

    def register_with_event_loop(self, hub: Any) -> None:
        """Celery calls this for each connection, and cancels the timer when that is lost."""
        super().register_with_event_loop(hub)
        hub.call_repeatedly(LOOP_INTERVAL_S, self._turned)

    def _turned(self) -> None:
        outage.passed(CONSUMER)
        heartbeat = getattr(self.controller, "heartbeat", None)
        if heartbeat is not None:
            heartbeat.mark(Mark.LOOP)


def _told(error: BaseException, _intervals: Any, _retries: int) -> float:
    outage.met(CONSUMER, error)
    return RETRY_S


def _reach(connection: Any) -> None:
    settings = get_settings()
    timeout_s = min(_PROBE_TIMEOUT_S, settings.redis_timeout_s)
    with open_client(settings, timeout_s=timeout_s) as client, broker_errors():
        # Changes nothing, but is refused when the server refuses writes.
        client.zadd(keys.UNACKED_INDEX, {"": 0}, xx=True)
    connection.ensure_connection(max_retries=0)


def _take_refusals_for_outages() -> None:
    """Let kombu and Celery treat a command that the server refuses like a lost connection.

    And what kombu raises when it cannot connect, which Celery takes for a fault of the worker's own.
    """
    known = Transport.connection_errors
    if redis.ResponseError not in known:
        Transport.connection_errors = (*known, redis.ResponseError, OperationalError)
