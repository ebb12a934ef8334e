"""Sends one event to one receiver, signed by Standard Webhooks, within bounds.

The request, and what the answer means, follow https://www.standardwebhooks.com: `webhook-id` is the event's
id and the same at every repeat; 2xx is a success, 410 means "no more", all else is tried again.
"""

from __future__ import annotations

import datetime as dt
import ssl
import time
from dataclasses import dataclass
from typing import Final, Self
from urllib.parse import urlsplit

from confkeep.errors import ExtraMissing
from confkeep.queue.events import Event
from confkeep.settings import Settings
from worker.hooks.hook import Hook
from worker.hooks.payload import payload_of

try:
    import httpcore
    import standardwebhooks

    from worker.hooks.networks import BoundedBackend, Bounds, Networks, NotReachable
except ImportError as error:
    raise ExtraMissing("sending webhooks", "http") from error

#: Seconds for a delivery in all: to resolve, connect, send and read the answer.
DELIVERY_S: Final = 15.0
#: Most bytes of an answer with its headers; what a receiver says beside the status is not looked at.
_MOST_ANSWER_BYTES: Final = 64 * 1024
#: Seconds for which an idle connection is kept: the events of a busy tenant follow one another.
_KEEP_S: Final = 5.0
_GONE: Final = 410
#: Statuses with which a receiver may say when to come again.
_LATER: Final = (429, 503)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a try."""

    #: The status of the answer; 0: there was none.
    status: int
    #: What went wrong, without anything that the receiver said; empty: it was delivered.
    problem: str
    took_s: float
    #: Seconds that the receiver asked us to wait.
    retry_after_s: float = 0.0

    @property
    def delivered(self) -> bool:
        return not self.problem

    @property
    def gone(self) -> bool:
        return self.status == _GONE


class Receiver:
    """Sends to one hook's receiver. Not thread-safe."""

    def __init__(self, hook: Hook, settings: Settings) -> None:
        self._hook = hook
        self._public_url = settings.public_url
        self._webhook = standardwebhooks.Webhook(hook.secret.get_secret_value())
        self._bounds = Bounds(DELIVERY_S, _MOST_ANSWER_BYTES)
        # No redirects, no proxies and no cookies: httpcore alone knows none.
        self._pool = httpcore.ConnectionPool(
            ssl_context=ssl.create_default_context(),
            max_connections=1,
            keepalive_expiry=_KEEP_S,
            network_backend=BoundedBackend(Networks(settings.hooks_networks), self._bounds),
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.close()

    def send(self, event: Event) -> Outcome:
        """Try once to deliver an event. Never raises for what the network or the receiver does."""
        began = time.monotonic()
        body = payload_of(event, self._public_url)
        url = self._hook.url.partition("#")[0]
        now = dt.datetime.now(dt.UTC)
        headers = [
            # httpcore itself sends none.
            ("Host", urlsplit(url).netloc),
            ("Content-Type", "application/json"),
            ("User-Agent", "confkeep"),
            ("webhook-id", event.id),
            ("webhook-timestamp", str(int(now.timestamp()))),
            ("webhook-signature", self._webhook.sign(event.id, now, body)),
        ]
        self._bounds.begin()
        status, asked_s, problem = 0, 0.0, ""
        try:
            with self._pool.stream("POST", url, headers=headers, content=body.encode()) as answer:
                status = answer.status
                asked_s = _asked_s(answer) if status in _LATER else 0.0
                for _ in answer.iter_stream():
                    pass
        except (httpcore.NetworkError, httpcore.ProtocolError, httpcore.TimeoutException) as error:
            problem = _problem(error)
        if status:
            # What came behind the status decides nothing.
            problem = "" if 200 <= status < 300 else f"it answered {status}"
        return Outcome(status, problem, time.monotonic() - began, asked_s)


def _problem(error: Exception) -> str:
    """What went wrong, without anything that the receiver said."""
    if isinstance(error, NotReachable):
        return str(error)
    if isinstance(error, httpcore.TimeoutException):
        return "it did not answer in time"
    if isinstance(error.__context__, ssl.SSLError):
        return "its certificate is not accepted"
    if isinstance(error, httpcore.ConnectError):
        return "nobody answers there"
    return "the connection broke, or what it answered is no HTTP"


def _asked_s(answer: httpcore.Response) -> float:
    """Seconds in `Retry-After`; 0 for a date, or what is no number."""
    for name, value in answer.headers:
        if name.lower() == b"retry-after" and value.isdigit() and len(value) <= 6:
            return float(value)
    return 0.0
