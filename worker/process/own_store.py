"""Whether this worker's store is the one that the other workers of its shards commit to.

Redis notes for each shard the id of the store that its workers commit to; the store has it in a file. Where they
differ, a commit would split a tenant's history in two. So such a worker does not start, one that runs ends, and
no turn commits to a folder that is not the store that its process began with: a volume that is not mounted any
more is one. What a worker does in each case stands in docs/design.md, under "One store".
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import redis
from celery import bootsteps

from confkeep import modes
from confkeep.broker import keys, redis_values, scripts
from confkeep.broker.connections import broker_errors, open_client
from confkeep.errors import BrokerUnavailable, StoreNotShared, StoreUnavailable
from confkeep.observe.logs import get_logger
from confkeep.settings import Settings, get_settings
from worker.process.broker_check import BrokerCheckStep, refuse
from worker.process.workers import reports
from worker.store.git import durable
from worker.store.repository import store_id

log = get_logger("store")

#: The id of each store that this process has found to be right.
_settled: dict[Path, str] = {}


def shards_of(settings: Settings) -> range:
    return keys.shards_of_worker(settings.worker_index, settings.worker_count, settings.shards)


def known_id(settings: Settings) -> str | None:
    """The id of this process's store; None if `settle` has not passed yet."""
    return _settled.get(settings.git_store_path)


def settle(client: redis.Redis, settings: Settings, name: str | None = None) -> str:
    """Find that the store is the right one, or make it so where that is safe; returns its id.

    Args:
        name: this worker's, whose own report of before does not count; None for a process of its pool.

    Raises:
        StoreNotShared: it is another one.
        StoreUnavailable: the file system refused.
        BrokerUnavailable: Redis did not answer.
    """
    store, shards = settings.git_store_path, shards_of(settings)
    with durable.file_system_errors(str(store)):
        modes.make_folders(store)
    # In this order: a worker that starts at the same time writes the file before it notes the id.
    known = noted_ids(client, shards)
    own = store_id.read(store)
    if own is None:
        own = store_id.write(store, _lacking(client, store, known, name))
    with broker_errors():
        script = scripts.load("note_store")
        other = script.run(client, [keys.STORES], [own, *shards]).decode("ascii", "replace")
    if other:
        raise StoreNotShared(
            f"{store} has the id {own[:8]}, and other workers of its shards commit to the store {other[:8]}"
        )
    _settled[store] = own
    return own


def check(client: redis.Redis, settings: Settings) -> None:
    """Find that the folder is still the store that this process began with; before each turn's first commit.

    Raises:
        as `settle`.
    """
    known = known_id(settings)
    if known is None:
        settle(client, settings)
    elif store_id.read(settings.git_store_path) != known:
        raise StoreNotShared(
            f"{settings.git_store_path} is not the store {known[:8]} any more that this worker began with"
        )


def use(client: redis.Redis, settings: Settings) -> str:
    """Make this store the one of its shards, whatever Redis notes; returns its id.

    Raises:
        StoreUnavailable, BrokerUnavailable: nothing changed, or only some shards; repeat it.
    """
    store = settings.git_store_path
    own = store_id.write(store, store_id.new())
    with broker_errors():
        client.hset(keys.STORES, mapping=dict.fromkeys(map(str, shards_of(settings)), own))
    return own


def noted_ids(client: redis.Redis, shards: range) -> set[str]:
    """The ids that Redis notes for these shards: one, if all is well.

    Raises:
        BrokerUnavailable: Redis did not answer.
    """
    pipe = client.pipeline(transaction=False)
    pipe.hmget(keys.STORES, [str(shard) for shard in shards])
    (found,) = redis_values.answers(pipe)
    texts = {redis_values.name_of(text) for text in found or () if text is not None}
    return {text for text in texts if store_id.is_id(text)}


def _lacking(client: redis.Redis, store: Path, known: set[str], name: str | None) -> str:
    """The id that a store without one is to get."""
    if not known:
        return store_id.new()
    runs = _runs_with(client, known, name)
    if len(known) > 1 or runs or not store_id.has_tenants(store):
        why = f"worker {runs} commits to it" if runs else "it is not this one"
        raise StoreNotShared(
            f"{store} has no id, and Redis knows the store {min(known)[:8]} of its shards: {why}"
        )
    [adopted] = known
    log.warning("gave the store its id again", action="store.adopted", store_id=adopted[:8])
    return adopted


def _runs_with(client: redis.Redis, known: set[str], name: str | None) -> str | None:
    """The name of another worker that runs with one of these stores."""
    for report, age_s in reports(client):
        if report.name != name and report.store in known and age_s < report.silent_after_s:
            return report.name
    return None


class StoreStep(bootsteps.StartStopStep):  # type: ignore[misc]
    """Ends the worker before it takes its first task, where its store is not the right one."""

    requires = (BrokerCheckStep,)

    def start(self, parent: Any) -> None:
        """Look once. Where Redis or the store is away, the sweep and the first turn look again."""
        settings = get_settings()
        client = open_client(settings)
        try:
            settle(client, settings, parent.hostname)
        except StoreNotShared as error:
            refuse(parent, error)
        except StoreUnavailable as error:
            log.warning(str(error), action="store.away", hint=error.hint)
        except BrokerUnavailable:
            # The consumer waits for it.
            return
        finally:
            client.close()
