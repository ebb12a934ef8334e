"""Puts the gate into a worker's connections: messages pass it when they leave a queue or come back to it.

kombu's Redis channel (5.7) takes a message's bytes from a queue, decodes them and hands them to Celery. It
notes them in `unacked` until they are acknowledged, and puts them back from there when their worker died.
Both are read here before anything is decoded. What is refused is set aside durably; where it lay in
`unacked`, it goes from there in the same step. Wake-ups are noted in memory alone. Only what
goes on in a process that runs a worker changes: producers, Flower and remote control have kombu's own channels.
"""

from __future__ import annotations

import contextlib
import json
import threading
import time
from queue import Empty
from typing import Any, Final

import redis
from celery import Celery
from kombu.transport import redis as kombu_redis
from kombu.transport import virtual
from kombu.utils.json import loads as kombu_loads

from confkeep.broker import keys
from confkeep.broker.connections import get_client
from confkeep.errors import MessageRefused
from confkeep.observe.logs import get_logger
from confkeep.queue import wakeups
from confkeep.settings import get_settings
from worker.broker import gate
from worker.broker.gate import Gate, Refusal
from worker.observe import measure, metrics
from worker.process.closed_channel import TellsClosed
from worker.queue import refused

log = get_logger("gate")

#: Log so many refused messages a minute; the next line says how many were left out.
_MOST_LINES: Final = 20
_MINUTE_S: Final = 60.0

_gate: Gate | None = None


def install(app: Celery) -> None:
    """Put the gate into the connections that this process opens from now on. Call it once.

    Args:
        app: must know all of its tasks already.
    """
    global _gate
    _gate = gate_of(app)
    kombu_redis.Transport.Channel = GatedChannel
    kombu_redis.SentinelTransport.Channel = GatedSentinelChannel


def gate_of(app: Celery) -> Gate:
    """The gate that lets through what the tasks of ours take."""
    return Gate({name: task.run for name, task in app.tasks.items() if name.startswith("backups.")})


class GatedQoS(kombu_redis.QoS):
    """Notes what was taken, and judges what comes back from `unacked`, where Redis may hold anything.

    A wake-up is noted in memory alone: it may get lost, and the sweep sends another, long before
    `unacked` would give it back. In Redis its note and the end of that are two syncs of the server's file
    in each turn.
    """

    def append(self, message: Any, delivery_tag: Any) -> None:
        if _is_wakeup(message):
            virtual.QoS.append(self, message, delivery_tag)  # type: ignore[no-untyped-call]
        else:
            super().append(message, delivery_tag)  # type: ignore[no-untyped-call]

    def ack(self, delivery_tag: Any) -> None:
        if self._wakeup(delivery_tag) is None:
            super().ack(delivery_tag)  # type: ignore[no-untyped-call]
        else:
            self._quick_ack(delivery_tag)

    def _wakeup(self, tag: Any) -> Any:
        message = self._delivered.get(tag)
        return message if message is not None and _is_wakeup(message) else None

    def restore_by_tag(self, tag: Any, client: Any = None, leftmost: bool = False) -> None:
        """Put a message back, or set it aside when no worker may act on it."""
        wakeup = self._wakeup(tag)
        with self.channel.conn_or_acquire(client) as opened:
            if wakeup is not None:
                queue = wakeup.delivery_info["routing_key"]
                self.channel._do_restore_message(wakeup._raw, "", queue, opened, leftmost)  # noqa: SLF001 - its own
                return
            text = opened.hget(self.unacked_key, tag)
            if text is not None and not _may_come_back(text, tag):
                return
            super().restore_by_tag(tag, opened, leftmost)  # type: ignore[no-untyped-call]


class _Gated(TellsClosed):
    """What is changed in both of kombu's kinds of channel."""

    QoS = GatedQoS

    def _brpop_start(self: Any, timeout: float | None = None) -> None:
        """As kombu's own, but with the queues first that go first, and all lists of messages with a priority."""
        queues = self._queue_cycle.consume(len(self.active_queues))
        if not queues:
            return
        names: list[str] = []
        # The order of the others rotates.
        for queue in sorted(queues, key=lambda name: not keys.is_high(name)):
            names += keys.RECEIVE_QUEUES if queue == keys.RECEIVE_QUEUE else [queue]
        self._in_poll = self.client.connection
        self._brpop_sent_at = time.monotonic()
        wait_s = self.brpop_timeout if timeout is None else timeout
        self.client.connection.send_command("BRPOP", *names, wait_s or 0)

    def _brpop_read(self: Any, **options: Any) -> bool:
        """As kombu's own, with the gate in front of its decoder."""
        try:
            try:
                reply = self.client.parse_response(self.client.connection, "BRPOP", **options)
            except self.connection_errors:
                self.client.connection.disconnect()
                raise
            if not reply:
                raise Empty
            queue = reply[0].decode().rsplit(self.sep, 1)[0]
            self._queue_cycle.rotate(queue)
            message = _passed(reply[1], queue)
            if message is None:
                raise Empty
            self.connection._deliver(message, queue)  # noqa: SLF001 - its own
            return True
        finally:
            self._in_poll = None
            self._flush_brpop_reauth()

    def _do_restore_message(
        self: Any, payload: Any, exchange: str, routing_key: str, pipe: Any, leftmost: bool = False
    ) -> None:
        """Put a message of ours straight into its queue: the table of bindings may be forged."""
        if gate.is_ours(routing_key):
            exchange, payload["properties"]["priority"] = "", 0
        super()._do_restore_message(payload, exchange, routing_key, pipe, leftmost)  # type: ignore[misc]

    def get_table(self: Any, exchange: str) -> list[tuple[str, ...]]:
        """The bindings, without malformed ones: whoever may send messages may write those."""
        with self.conn_or_acquire() as client:
            members = client.smembers(self.keyprefix_queue % exchange)
        table: list[tuple[str, ...]] = []
        for member in members:
            with contextlib.suppress(UnicodeDecodeError):
                parts = tuple(member.decode().split(self.sep))
                if len(parts) == 3:
                    table.append(parts)
        return table


class GatedChannel(_Gated, kombu_redis.Channel):  # type: ignore[misc]
    """The gate and kombu's channel."""


class GatedSentinelChannel(_Gated, kombu_redis.SentinelChannel):  # type: ignore[misc]
    """The gate and kombu's channel to a server that sentinels name."""


def _is_wakeup(message: Any) -> bool:
    return bool(message.headers.get("task") == wakeups.COMMIT_TASK)


def _passed(raw: bytes, queue: str) -> Any:
    """The message for Celery; None if it was set aside."""
    assert _gate is not None
    if not gate.is_ours(queue):
        # An operator made this worker serve a foreign queue too.
        return kombu_loads(raw)  # type: ignore[no-untyped-call]
    found = _gate.judge(raw, queue)
    if not isinstance(found, Refusal):
        return found
    _set_aside(raw, queue, found, None)
    return None


def _may_come_back(text: bytes, tag: bytes) -> bool:
    """Whether kombu may put this back into its queue; if not, sets it aside."""
    assert _gate is not None
    taken = gate.parse_unacked(text)
    if taken is None:
        refusal = Refusal(MessageRefused("message", "is none that a worker took"))
        _set_aside(text, keys.UNACKED, refusal, tag)
        return False
    message, _exchange, routing_key = taken
    if not gate.is_ours(routing_key):
        # Another program's in this database: restored as by its own workers.
        return True
    found = _gate.judge(json.dumps(message).encode(), routing_key)
    if isinstance(found, Refusal):
        _set_aside(text, routing_key, found, tag)
        return False
    return True


def _set_aside(raw: bytes, queue: str, refusal: Refusal, tag: bytes | None) -> None:
    settings = get_settings()
    kept: str | None = None
    reason = None
    try:
        kept = refused.set_aside(
            get_client(settings), raw, queue, refusal, settings.receipt_ttl_s, unacked_tag=tag
        )
    except redis.ResponseError as error:
        # Redis has no room, or another type under that key: drop the message and go on.
        reason = str(error).split(" ", 1)[0][:40]
    measure.count(metrics.WORKER_REFUSED)
    _lines.tell(queue, refusal, len(raw), kept, reason)


class _Lines:
    """Logs so many refused messages a minute, and counts the others."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._since_s = float("-inf")
        self._told = self._untold = 0

    def tell(
        self, queue: str, refusal: Refusal, size: int, kept: str | None, problem: str | None
    ) -> None:
        """Log a refused message, without anything that its sender wrote."""
        with self._lock:
            now_s = time.monotonic()
            if now_s - self._since_s > _MINUTE_S:
                self._since_s, self._told = now_s, 0
            if self._told >= _MOST_LINES:
                self._untold += 1
                return
            self._told, untold, self._untold = self._told + 1, self._untold, 0
        log.warning(
            "no worker acts on this message; it was set aside"
            if problem is None
            else "no worker acts on this message; it was dropped, since it could not be set aside",
            action="message.refused",
            queue=queue,
            reason=str(refusal.error),
            bytes=size,
            refused_id=kept,
            problem=problem,
            untold=untold,
        )


_lines: Final = _Lines()
