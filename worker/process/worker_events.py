"""What a worker tells monitors such as Flower: Celery's events and answers, each tried once.

Celery asks kombu to retry a heartbeat and the answer to a `ping` until they get through. While the server is away,
the main process would hang in that, deaf to SIGTERM, and notice the server's return up to half a minute late. Tried
once, an event goes to Celery's buffer, an answer is dropped, and the consumer meets the outage itself and waits for
its end.
"""

from __future__ import annotations

from collections import deque
from typing import Any, Final

from celery.app.control import Control as CeleryControl
from celery.app.events import Events as CeleryEvents
from celery.events.dispatcher import EventDispatcher
from kombu.exceptions import OperationalError
from kombu.pidbox import Mailbox as KombuMailbox

from confkeep.broker.broker_faults import explain
from confkeep.observe.logs import get_logger

log = get_logger("control")

#: Most events to keep for the server's return: a user who may not publish them has one more every two seconds.
KEPT_EVENTS: Final = 1_000


class Dispatcher(EventDispatcher):  # type: ignore[misc]
    """Sends events without a retry, whoever asks for one."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._outbound_buffer: deque[Any] = deque(maxlen=KEPT_EVENTS)

    def _publish(self, event: Any, producer: Any, routing_key: str, **_retry: Any) -> None:
        super()._publish(event, producer, routing_key)


class Events(CeleryEvents):  # type: ignore[misc]
    """What the app names as its events."""

    dispatcher_cls = f"{Dispatcher.__module__}:{Dispatcher.__name__}"


class Mailbox(KombuMailbox):
    """Answers remote control without a retry."""

    def _publish_reply(self, *arguments: Any, **options: Any) -> None:
        try:
            super()._publish_reply(  # type: ignore[no-untyped-call]
                *arguments, retry_policy={"max_retries": 0}, **options
            )
        except OperationalError as error:
            log.warning(
                "an answer to remote control was not taken",
                action="control.unanswered",
                error=str(explain(error)),
            )


class Control(CeleryControl):  # type: ignore[misc]
    """What the app names as its remote control."""

    Mailbox = Mailbox
