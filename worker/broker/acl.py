"""The server's rules for users: who may run which commands on which keys.

The rules follow `confkeep.broker.keys`. Each rule in parentheses gives some commands on some keys, and a command
must be allowed by one of them whole. A script runs with its caller's permissions, so whoever enqueues by
`accept.lua` could also change and remove what waits: a producer that is not trusted with that belongs at the
HTTP door, and no rule here is for it.

Made for Redis 7 and Valkey 7.2 and later: older ones know no such rules.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from confkeep.broker import keys
from confkeep.errors import InvalidInput

_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_SHA256 = re.compile(r"[0-9a-f]{64}")

#: What every client sends when it connects, and pipelines. Of CLIENT what is about the connection itself:
#: Redis 7.0 does not start with a file that names `client|setinfo`, which came with 7.2. TRACKING
#: would reveal the names of other users' keys.
_CONNECTION: Final = (
    "+client -@admin -@dangerous -client|tracking"
    " +auth +hello +ping +quit +reset +select +multi +exec +discard +command"
)

#: Hashes that say how a deployment is.
_WATCHED: Final = (
    keys.WORKERS,
    keys.LOAD,
    keys.DEAD,
    keys.TOTALS,
    keys.HOOK_STATES,
    keys.backoff("*"),
)

#: With the lists of each priority: kombu's clients ask for the length of all of them.
_RECEIVE: Final = keys.RECEIVE_QUEUE + "*"


@dataclass(frozen=True, slots=True)
class User:
    """A user of the server: a name and the SHA-256 of its password; None if it is switched off."""

    name: str
    password_sha256: str | None = None

    def __post_init__(self) -> None:
        """Refuse names and hashes that would be read as further rules.

        Raises:
            InvalidInput: names what is wrong.
        """
        if not _NAME.fullmatch(self.name):
            raise InvalidInput("name", "must be 1 to 64 letters, digits, dots, dashes, underscores")
        if self.password_sha256 is not None and not _SHA256.fullmatch(self.password_sha256):
            raise InvalidInput("password", "must be given as its SHA-256: 64 hexadecimal digits")

    def line(self, *rules: str) -> str:
        """The user's line in a file of rules, with nothing allowed but `rules`."""
        state = f"on #{self.password_sha256}" if self.password_sha256 else "off"
        return " ".join((f"user {self.name} reset {state} resetchannels -@all", *rules))


def worker(user: User) -> str:
    """A user for workers, trusted producers, and the commands that operators run: all of confkeep, no
    other key, and nothing that changes the server."""
    return user.line(
        "+@all -@admin -@dangerous +info",
        f"~{keys.PREFIX}* ~{keys.result('*')} ~{keys.SHARD_QUEUES} ~{_RECEIVE}",
        # Backups that were sent without naming a queue end up here.
        f"%R~{keys.DEFAULT_QUEUE}",
        # Celery's bookkeeping: messages that are being worked on, bindings, remote control.
        "~_kombu.* ~unacked* ~*.pidbox ~*.reply.celery.pidbox ~celeryev*",
        # Remote control and events subscribe to patterns, which must be named letter by letter and
        # hold the number of the database.
        "allchannels",
    )


def monitor(user: User) -> str:
    """A user that may look at what `confkeep status` and exporters show, and change nothing.

    It reads the entries of what waits and of dead letters (ids, sizes, messages), but no staged bytes.
    """
    return user.line(
        _CONNECTION,
        "+info +time",
        f"(+zrange +zcard +zmscore %R~{keys.WAITING})",
        f"(+xlen +xrange %R~{keys.inbox('*')})",
        f"(+hgetall +hget +hmget +hlen +hvals +hkeys {' '.join(f'%R~{key}' for key in _WATCHED)})",
        f"(+get +exists +ttl %R~{keys.wake('*')} %R~{keys.lock('*')} %R~{keys.repack('*')})",
        f"(+llen %R~{keys.SHARD_QUEUES} %R~{keys.RECEIVE_QUEUE})",
        f"(+xlen %R~{keys.REFUSED})",
        f"(+xlen +xrange +xrevrange +xread %R~{keys.EVENTS})",
        f"(+llen +lindex %R~{keys.DEFAULT_QUEUE})",
        f"(+lrange %R~{keys.RECENT})",
        f"(+get %R~{keys.ROOM})",
        f"(+hgetall %R~{keys.ODD})",
        # To find keys of a wrong type; reveals nothing of what they hold.
        f"(+type +pttl +exists %R~{keys.PREFIX}*)",
        f"(+get +mget %R~{keys.result('*')})",
    )


def admin(user: User) -> str:
    """A user for the server's owner, who may do everything; switched off without a password."""
    return user.line("+@all ~* allchannels")


#: Role -> what writes its line of rules.
ROLES: Final = {
    "admin": admin,
    "worker": worker,
    "monitor": monitor,
}

#: Switches off the server's user that needs neither name nor password.
DEFAULT_OFF: Final = "user default reset off"
