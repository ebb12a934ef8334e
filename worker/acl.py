"""Rules for the server's users: who may do what there; it talks to no server.

The rules follow `worker.keys` and the scripts in `worker/lua`. A script runs with its caller's
permissions, so a producer needs each command of `accept.lua`, but only on the keys that it is for:
each rule in parentheses gives some commands on some keys, and a command must be allowed by one of
them whole. `EVALSHA` asks for all rights on the keys that it is given; that rule allows no other
command, and what the script then does is checked against the other rules.

Made for Redis 7 and Valkey 7.2 and later: older ones know no such rules.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from worker import keys
from worker.errors import InvalidInput
from worker.ids import checked_uuid

_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_SHA256 = re.compile(r"[0-9a-f]{64}")

#: What every client sends when it connects, and pipelines.
_CONNECTION: Final = (
    "+auth +hello +ping +quit +reset +select +client|setinfo +client|setname +client|id"
    " +multi +exec +discard +command"
)

#: Hashes that say how a deployment is.
_WATCHED: Final = (keys.WORKERS, keys.LOAD, keys.DEAD, keys.TOTALS, keys.backoff("*"))

#: Where kombu notes which queue gets a message.
_BINDINGS: Final = ("_kombu.binding.backups.*", "_kombu.binding_permanent.backups.*")

#: What `AsyncResult.get()` waits on.
_RESULTS: Final = ("+subscribe +unsubscribe", f"&{keys.result('*')}")


@dataclass(frozen=True, slots=True)
class User:
    """A user of the server: a name and the SHA-256 of its password; None: switched off."""

    name: str
    password_sha256: str | None = None

    def __post_init__(self) -> None:
        """Refuse what would be another rule.

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


def sender(user: User, tenants: Sequence[str] = ()) -> str:
    """A user that may send `backups.receive` and ask for what became of it: it reaches no inbox.

    Args:
        tenants: the only ones for which it may stage bytes itself; none: all. Whom a message is for
            the server cannot tell: that is what a signing key is for.

    Raises:
        InvalidId: a tenant is no UUID.
    """
    handoffs = [keys.handoff(name, "*") for name in _names(tenants)]
    return user.line(
        _CONNECTION,
        *_RESULTS,
        f"(+get +mget ~{keys.result('*')})",
        f"(+set {on('%W~', *handoffs)})",
        *_messages(keys.RECEIVE_QUEUE),
    )


def producer(user: User, tenants: Sequence[str] = ()) -> str:
    """A user that may enqueue, ask for what became of it, and read or take out nothing that waits.

    It may write to inboxes, as `accept.lua` does for it: a program that lies to it can spoil what
    waits there (`XADD` may trim, `SET` may overwrite). A `sender` cannot.

    Args:
        tenants: the only ones for which it may; none: all.

    Raises:
        InvalidId: a tenant is no UUID.
    """
    names = _names(tenants)
    inboxes = [keys.inbox(name) for name in names]
    wakes = [keys.wake(name) for name in names]
    replies = [keys.replies(name) for name in names]
    backoffs = [keys.backoff(name) for name in names]
    staged = [keys.staged(name, "*") for name in names]
    handoffs = [keys.handoff(name, "*") for name in names]
    records = keys.result("*")
    shared = [keys.WAITING, keys.DEAD, keys.LOAD, keys.TOTALS]
    script = [records, *inboxes, *wakes, *replies, *backoffs, *staged, *shared]
    return user.line(
        _CONNECTION,
        *_RESULTS,
        f"(+evalsha +eval {on('~', *script)})",
        f"(+get +mget +set ~{records})",
        f"(+xlen +xadd {on('%W~', *inboxes)})",
        f"(+set {on('%W~', *wakes, *staged, *handoffs)})",
        f"(+exists {on('%W~', *backoffs)})",
        f"(+hget +hset {on('~', *replies)})",
        f"(+hget +hmget +hincrby ~{keys.LOAD})",
        f"(+hincrby ~{keys.TOTALS})",
        f"(+zadd %W~{keys.WAITING})",
        f"(+hdel %W~{keys.DEAD})",
        *_messages(keys.shard_queues(), keys.RECEIVE_QUEUE),
    )


def _names(tenants: Sequence[str]) -> list[str]:
    return [checked_uuid("tenant", tenant) for tenant in tenants] or ["*"]


def _messages(*queues: str) -> tuple[str, ...]:
    """Celery's messages: to a queue's tail, and no reading of it."""
    return (
        f"(+lpush +llen {on('%W~', *queues)})",
        f"(+sadd +smembers {on('~', *_BINDINGS)})",
    )


def worker(user: User) -> str:
    """A user for workers and for the commands that operators run: all of confkeep, no other key,
    and nothing that changes the server."""
    return user.line(
        "+@all -@admin -@dangerous +info",
        f"~{keys.PREFIX}* ~{keys.result('*')} ~{keys.shard_queues()} ~{keys.RECEIVE_QUEUE}",
        # Celery's bookkeeping: messages that are being worked on, bindings, remote control.
        "~_kombu.* ~unacked* ~*.pidbox ~*.reply.celery.pidbox ~celeryev*",
        # Remote control and events subscribe to patterns, which must be named letter by letter and
        # hold the number of the database.
        "allchannels",
    )


def monitor(user: User) -> str:
    """A user that may look at what `confkeep status` and exporters show, and change nothing.

    It reads the entries of dead letters (ids, sizes, messages), but no staged bytes.
    """
    return user.line(
        _CONNECTION,
        "+info +time",
        f"(+zrange +zcard %R~{keys.WAITING})",
        f"(+xlen +xrange %R~{keys.inbox('*')})",
        f"(+hgetall +hget +hmget +hlen +hvals +hkeys {on('%R~', *_WATCHED)})",
        f"(+get +exists +ttl %R~{keys.wake('*')} %R~{keys.lock('*')} %R~{keys.repack('*')})",
        f"(+llen %R~{keys.shard_queues()} %R~{keys.RECEIVE_QUEUE})",
        f"(+lrange %R~{keys.RECENT})",
        f"(+get +mget %R~{keys.result('*')})",
    )


def admin(user: User) -> str:
    """A user for the server's owner: everything. The one that has no password is switched off."""
    return user.line("+@all ~* allchannels")


#: What a user can be, and the rules that make it so.
ROLES: Final = {
    "admin": admin,
    "sender": sender,
    "producer": producer,
    "worker": worker,
    "monitor": monitor,
}

#: Closes the user that needs neither name nor password.
DEFAULT_OFF: Final = "user default reset off"


def on(kind: str, *patterns: str) -> str:
    """The patterns, each with what it allows in front: `~`, `%R~` or `%W~`."""
    return " ".join(f"{kind}{pattern}" for pattern in patterns)
