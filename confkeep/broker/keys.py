"""Every Redis key, and the shard function.

All keys begin with `confkeep:`, but for the results, whose names Celery gives. A key's type never
changes between releases: a later one that needs another takes another name. What is of another type is
therefore nobody's of ours, and workers set it aside (`worker.queue.oddities`).

    key                                  type    holds
    confkeep:inbox:<tenant>              stream  accepted and not yet committed backups, in
                                                 order; field `entry` = confkeep.queue.entry.Entry as
                                                 JSON, `at` = ms of its enqueue, and with a
                                                 signing key `signature`. Stays when empty, so
                                                 that no id is given twice
    confkeep:waiting                     zset    tenant -> ms since its inbox is non-empty
    confkeep:staged:<tenant>:<backup>    string  export, deflated or not, then binary; gone
                                                 with the entry (staging `redis` only)
    confkeep:handoff:<tenant>:<uuid>     string  bytes that a client staged itself for
                                                 `backups.receive`; gone when accepted
    confkeep:wake:<tenant>               string  ms at which a wake-up was sent, and its priority
                                                 (confkeep.queue.wakeups); gone when a turn ends,
                                                 expires after a minute
    confkeep:lock:<tenant>               string  tenant lock: its owner's token; expires
    confkeep:backoff:<tenant>            hash    `tries`, `since_ms`, `next_ms`, `reason` of a
                                                 tenant whose last commit failed; `told` if an
                                                 event said that it is stalled
    confkeep:replies:<tenant>            hash    backup -> further result ids (JSON list) that
                                                 wait for that backup's receipt
    confkeep:attempts:<tenant>           string  batches begun since one was last settled;
                                                 gone when one is
    confkeep:load                        hash    `entries` and `bytes` in all inboxes, and under
                                                 each tenant's id its bytes; gone when all are
                                                 empty
    confkeep:room                        string  most bytes that may wait in the server's memory, a
                                                 part of its `maxmemory`; none when it has none
    confkeep:dead                        hash    backup -> worker.queue.dead_letters.DeadLetter as
                                                 JSON; its staged bytes are kept
    confkeep:refused                     stream  messages that no worker acts on, set aside whole:
                                                 worker.queue.refused.Refused; bounded. Gone when empty
    confkeep:workers                     hash    worker name -> JSON: its shards, last sweep
    confkeep:sweep:<shards>              string  token of the one worker that sweeps these shards; expires
    confkeep:stores                      hash    shard -> id of the store that its workers commit to
                                                 (worker.process.own_store)
    confkeep:totals                      hash    counters of the whole deployment that only grow:
                                                 `enqueued`, `committed`, `unchanged`, `suspect`,
                                                 `dead`, `retried`, `refused`, `committed_bytes`,
                                                 `latency_ms` (the sum from enqueue to receipt) and
                                                 `latency_ms:<most ms>` (backups of each bucket, the
                                                 last one `latency_ms:inf`). Holds no id; stays
    confkeep:recent                      list    the last 20 commits, newest first:
                                                 confkeep.models.Receipt as JSON
    confkeep:events                      stream  what happened, oldest first; field `event` =
                                                 confkeep.queue.events.Event as JSON. Bounded by
                                                 count and age; its last entry stays
    confkeep:hooks                       hash    name -> worker.hooks.hook.Hook as JSON, with its secret
    confkeep:hook-states                 hash    name of a hook -> worker.hooks.progress.Progress as JSON:
                                                 up to where it has come
    confkeep:hook-log                    stream  the last deliveries of all hooks: field `delivery` =
                                                 worker.hooks.progress.Delivery as JSON; bounded
    confkeep:hooks-lease                 string  token of the one process that sends hooks; expires
    confkeep:stale:<tenant>              hash    device -> seconds since 1970 of its newest backup, of
                                                 each that an event said to be stale
    confkeep:repack:<tenant>             string  a repack was asked for and has not run yet; expires
    confkeep:tidy                        string  a worker tidies the staging; expires
    confkeep:tokens                      hash    SHA-256 of an HTTP token, or `person:` and that of the
                                                 name that a proxy gives -> worker.http.tokens.Token as
                                                 JSON; stays until it is revoked
    confkeep:spent:<token>:<minute>      hash    `requests` and `bytes` of an HTTP token in a minute,
                                                 counted from 1970; expires
    confkeep:odd                         hash    key -> type and ms of what was set aside since it
                                                 was of another type than here; expires
    confkeep:odd:<key>                   any     the same itself, for a person; expires
    celery-task-meta-<backup>            string  a backup's one record: Celery's result with the
                                                 extra field `accepted` (the digest of what was
                                                 accepted). PENDING from the enqueue, SUCCESS
                                                 with the receipt, or FAILURE; expires. While it
                                                 waits, `tenant` and `entry` (its stream id) say
                                                 where
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Final

PREFIX = "confkeep:"
WAITING = PREFIX + "waiting"
DEAD = PREFIX + "dead"
REFUSED = PREFIX + "refused"
WORKERS = PREFIX + "workers"
STORES = PREFIX + "stores"
LOAD = PREFIX + "load"
TIDY = PREFIX + "tidy"
ROOM = PREFIX + "room"
TOTALS = PREFIX + "totals"
RECENT = PREFIX + "recent"
EVENTS = PREFIX + "events"
HOOKS = PREFIX + "hooks"
HOOK_STATES = PREFIX + "hook-states"
HOOK_LOG = PREFIX + "hook-log"
HOOKS_LEASE = PREFIX + "hooks-lease"
ODD = PREFIX + "odd"
TOKENS = PREFIX + "tokens"

#: In `TYPES` and `types_of`: a string that expires. One that does not is nobody's of ours.
EXPIRING: Final = "expiring"
#: Type of each key of the whole deployment.
TYPES: Final[Mapping[str, str]] = {
    WAITING: "zset",
    DEAD: "hash",
    WORKERS: "hash",
    STORES: "hash",
    LOAD: "hash",
    TIDY: EXPIRING,
    ROOM: "string",
    TOTALS: "hash",
    RECENT: "list",
    REFUSED: "stream",
    TOKENS: "hash",
    EVENTS: "stream",
    HOOKS: "hash",
    HOOK_STATES: "hash",
    HOOK_LOG: "stream",
    HOOKS_LEASE: EXPIRING,
}

#: A channel that nobody listens to: what is published there only lets replicas be waited for.
MARK = PREFIX + "mark"

#: The pattern of all shards' queues.
SHARD_QUEUES = "backups.shard.*"
#: The queue that any Celery client may send `backups.receive` to.
RECEIVE_QUEUE = "backups.receive"
#: Where kombu's clients put those to which they give a priority, and look for them.
RECEIVE_QUEUES = (RECEIVE_QUEUE, *(f"{RECEIVE_QUEUE}\x06\x16{step}" for step in (3, 6, 9)))

#: Where Celery sends what names no queue: another program's, in which we only look.
DEFAULT_QUEUE = "celery"

#: Where kombu keeps the messages of all queues that a worker took and did not acknowledge.
UNACKED = "unacked"
#: Where it keeps since when.
UNACKED_INDEX = "unacked_index"


# What each of these holds stands in the table above.


def inbox(tenant_id: str) -> str:
    return f"{PREFIX}inbox:{tenant_id}"


def staged(tenant_id: str, backup_id: str) -> str:
    return f"{PREFIX}staged:{tenant_id}:{backup_id}"


def handoff(tenant_id: str, name: str) -> str:
    return f"{PREFIX}handoff:{tenant_id}:{name}"


def wake(tenant_id: str) -> str:
    return f"{PREFIX}wake:{tenant_id}"


def lock(tenant_id: str) -> str:
    return f"{PREFIX}lock:{tenant_id}"


def backoff(tenant_id: str) -> str:
    return f"{PREFIX}backoff:{tenant_id}"


def sweep(name: str) -> str:
    """The lease of the one worker that sweeps the shards of this name: `first-end-step`."""
    return f"{PREFIX}sweep:{name}"


def repack(tenant_id: str) -> str:
    return f"{PREFIX}repack:{tenant_id}"


def stale(tenant_id: str) -> str:
    return f"{PREFIX}stale:{tenant_id}"


def attempts(tenant_id: str) -> str:
    return f"{PREFIX}attempts:{tenant_id}"


def replies(tenant_id: str) -> str:
    return f"{PREFIX}replies:{tenant_id}"


def spent(name: str) -> str:
    return f"{PREFIX}spent:{name}"


def odd(key: str) -> str:
    """What stood under a key and was set aside."""
    return f"{ODD}:{key}"


def types_of(tenant_id: str) -> dict[str, str]:
    """Type of each key that is a tenant's as a whole."""
    return {
        inbox(tenant_id): "stream",
        wake(tenant_id): "string",
        lock(tenant_id): EXPIRING,
        backoff(tenant_id): "hash",
        replies(tenant_id): "hash",
        stale(tenant_id): "hash",
        attempts(tenant_id): "string",
        repack(tenant_id): EXPIRING,
    }


def result(task_id: str) -> str:
    """Where Celery's Redis backend keeps a result; also the channel that wakes its waiters."""
    return f"celery-task-meta-{task_id}"


def shard_of(tenant_id: str, shards: int) -> int:
    """The shard, 0 to `shards` - 1, of a tenant: the same in every process and release.

    The first 8 bytes of SHA-1 of the id's text, big-endian, modulo `shards`.
    """
    digest = hashlib.sha1(tenant_id.encode("ascii"), usedforsecurity=False).digest()
    return int.from_bytes(digest[:8], "big") % shards


def shard_queue(shard: int) -> str:
    """The Celery queue of a shard."""
    return f"backups.shard.{shard:02d}"


def high_queue(shard: int) -> str:
    """The shard's queue that each process asks first."""
    return f"{shard_queue(shard)}.high"


def is_high(queue: str) -> bool:
    """Whether a queue is one of those that each process asks first."""
    return queue.startswith("backups.shard.") and queue.endswith(".high")


def queue_of(tenant_id: str, shards: int, *, high: bool = False) -> str:
    """The Celery queue that a tenant's wake-ups go to; if `high`, the one that goes first."""
    shard = shard_of(tenant_id, shards)
    return high_queue(shard) if high else shard_queue(shard)


def shards_of_worker(index: int, count: int, shards: int) -> range:
    """The shards that worker `index` of `count` consumes: shard s belongs to worker s mod count.

    With more workers than shards, those beyond the shards share: worker w then takes the shard
    w mod `shards`, so that no worker idles and no shard is left alone.
    """
    if index >= shards:
        return range(index % shards, index % shards + 1)
    return range(index, shards, count)
