"""The server's rules for users: who may run which commands on which keys.

The rules follow `confkeep.broker.keys`, and for producers the commands of `confkeep.queue.handover`. Each rule in
parentheses gives some commands on some keys, and a command must be allowed by one of them whole.
A script runs with its caller's permissions, so a producer that might run `accept.lua` would need
commands that can also take away: XADD trims where it is asked to, SET overwrites. Producers therefore
get no script, and of all commands that write only some that can add and do nothing else.

Made for Redis 7 and Valkey 7.2 and later: older ones know no such rules.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from confkeep.broker import keys
from confkeep.errors import InvalidInput
from confkeep.ids import checked_uuid

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
    keys.ARRIVING,
    keys.DEAD,
    keys.TOTALS,
    keys.backoff("*"),
)

#: With the lists of each priority: kombu's clients ask for the length of all of them.
_RECEIVE: Final = keys.RECEIVE_QUEUE + "*"

#: Where kombu notes which queue gets a message.
_BINDINGS: Final = ("_kombu.binding.backups.*", "_kombu.binding_permanent.backups.*")

#: What `AsyncResult.get()` waits on.
_RESULTS: Final = ("+subscribe +unsubscribe", f"&{keys.result('*')}")


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


def sender(user: User, tenants: Sequence[str] = ()) -> str:
    """A user that may send `backups.receive` for every tenant and read results, but reaches no
    inbox.

    Args:
        tenants: must be empty: the server cannot tell which tenant a message is for.

    Raises:
        InvalidInput: a sender cannot be confined.
    """
    if tenants:
        raise InvalidInput(
            "--tenant",
            "confines no sender, since the server cannot tell whom a message is for: "
            "use the role `producer`, or signatures (docs/security.md)",
        )
    return user.line(
        _CONNECTION,
        *_RESULTS,
        f"(+get +mget %R~{keys.result('*')})",
        f"(+setnx {on('%W~', keys.handoff('*', '*'))})",
        *_messages(_RECEIVE),
    )


def producer(user: User, tenants: Sequence[str] = ()) -> str:
    """A user that may enqueue and read results; it cannot read what waits, change or remove
    anything.

    Args:
        tenants: the only ones it may enqueue for; empty for all. A producer for certain tenants may
        send no wake-ups and no `backups.receive`, since the server cannot tell which tenant a
        message is for; the sweep finds what it hands over.

    Raises:
        InvalidId: a tenant is no UUID.
    """
    names = _names(tenants)
    arrivals = [keys.arrivals(name) for name in names]
    # Only messages refer to bytes that the producer stages itself.
    staged = (keys.arrived,) if tenants else (keys.arrived, keys.handoff)
    bytes_ = [name(tenant, "*") for tenant in names for name in staged]
    inboxes = [keys.inbox(name) for name in names]
    backoffs = [keys.backoff(name) for name in names]
    waits = [*(keys.wake(name) for name in names), *backoffs]
    return user.line(
        _CONNECTION,
        "+time",
        *_RESULTS,
        # Needed for CONFKEEP_REPLICAS.
        f"+wait (resetchannels +publish &{keys.MARK})",
        f"(+get +mget %R~{keys.result('*')})",
        f"(+setnx {on('%W~', *bytes_)})",
        f"(+rpush +llen {on('%W~', *arrivals)})",
        f"(+hmget +hsetnx {on('~', *(keys.arriving(name) for name in names))})",
        f"(+hmget +hincrby ~{keys.ARRIVING})",
        f"(+hmget %R~{keys.LOAD})",
        f"(+get %R~{keys.ROOM})",
        f"(+xlen +exists {on('%R~', *inboxes, *waits)})",
        # Why there is no receipt yet. Once a backup is admitted, its record says so too.
        f"(+hgetall {on('%R~', *backoffs)})",
        *(() if tenants else _messages(keys.shard_queues(), _RECEIVE)),
    )


def _names(tenants: Sequence[str]) -> list[str]:
    return [checked_uuid("tenant", tenant) for tenant in tenants] or ["*"]


def _messages(*queues: str) -> tuple[str, ...]:
    """Rules to append Celery's messages to queues, not to read them."""
    return (
        f"(+lpush +llen {on('%W~', *queues)})",
        f"(+sadd +smembers {on('~', *_BINDINGS)})",
    )


def worker(user: User) -> str:
    """A user for workers and for the commands that operators run: all of confkeep, no other key,
    and nothing that changes the server."""
    return user.line(
        "+@all -@admin -@dangerous +info",
        f"~{keys.PREFIX}* ~{keys.result('*')} ~{keys.shard_queues()} ~{_RECEIVE}",
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
        f"(+llen +lindex %R~{keys.arrivals('*')})",
        f"(+hgetall +hget +hmget +hlen +hvals +hkeys {on('%R~', *_WATCHED)})",
        f"(+get +exists +ttl %R~{keys.wake('*')} %R~{keys.lock('*')} %R~{keys.repack('*')})",
        f"(+llen %R~{keys.shard_queues()} %R~{keys.RECEIVE_QUEUE})",
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
    "sender": sender,
    "producer": producer,
    "worker": worker,
    "monitor": monitor,
}

#: Switches off the server's user that needs neither name nor password.
DEFAULT_OFF: Final = "user default reset off"


def on(kind: str, *patterns: str) -> str:
    """The patterns, each behind `kind`: `~` (read and write), `%R~` or `%W~`."""
    return " ".join(f"{kind}{pattern}" for pattern in patterns)
