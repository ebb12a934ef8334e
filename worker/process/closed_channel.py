"""Tells Celery when a worker answers late, on a connection that is gone, so that the worker goes on.

A task that ends after the connection to the broker was lost, or whose process was killed then, is
acknowledged or rejected on the old channel. kombu's Redis channel (5.7) then looks for the address of a
connection that is closed, and raises an AttributeError. Celery takes that for a fault of its own and
ends the worker, with whatever else it was doing. What the channel means is a lost connection, which
Celery answers by making a new one; the broker gives the message to somebody else.
"""

from __future__ import annotations

from typing import Any

import redis


class ChannelClosed(redis.ConnectionError):
    """The connection of this channel is closed; what was taken from it is in the queue again."""


class TellsClosed:
    """What is changed in kombu's Redis channels: the method that looks for the address."""

    def _connparams(self: Any, *arguments: Any, **options: Any) -> Any:
        if self.connection is None or self.connection.client is None:
            raise ChannelClosed("the connection of this channel is closed")
        return super()._connparams(*arguments, **options)  # type: ignore[misc]
