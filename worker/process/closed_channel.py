"""Tells Celery when a worker answers late, on a connection that is gone, so that the worker goes on.

A task that ends after the connection to the broker was lost, or whose process was killed then, is
acknowledged or rejected on the old channel. kombu's Redis channel (5.7) then looks for the address of a
connection that is closed, and raises an AttributeError. Celery takes that for a fault of its own and
ends the worker, with whatever else it was doing. What the channel means is a lost connection, which
Celery answers by making a new one; the broker gives the message to somebody else.
"""

from __future__ import annotations

import functools
from typing import Any, Final

import redis
from kombu.transport.redis import Channel


class ChannelClosed(redis.ConnectionError):
    """The connection of this channel is closed; what was taken from it is in the queue again."""


#: The method that looks for the address; kombu offers no other place.
_NAME: Final = "_connparams"


def install() -> None:
    """Let all Redis channels of this process raise it. Calling it again does no harm."""
    if not hasattr(getattr(Channel, _NAME), "__wrapped__"):
        setattr(Channel, _NAME, _telling(getattr(Channel, _NAME)))


def _telling(parameters: Any) -> Any:
    @functools.wraps(parameters)
    def told(channel: Any, *arguments: Any, **options: Any) -> Any:
        if channel.connection is None or channel.connection.client is None:
            raise ChannelClosed("the connection of this channel is closed")
        return parameters(channel, *arguments, **options)

    return told
