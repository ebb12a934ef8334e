"""What the exporter reads from Redis at each scrape, in a few round trips."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Mapping

import redis

from confkeep.broker import keys, redis_values
from confkeep.errors import BrokerUnavailable
from confkeep.observe.logs import get_logger
from confkeep.settings import Settings
from worker.figures.metric_families import Sample
from worker.hooks.hook_store import all_progress
from worker.hooks.progress import Progress
from worker.observe import metrics, unforeseen
from worker.process.broker_check import find_problems
from worker.process.workers import list_workers, unserved
from worker.queue import backoff
from worker.queue.inboxes import InboxStatus, Load, list_inboxes, queue_depths, read_load
from worker.queue.totals import Totals, read_totals

log = get_logger("exporter")


class DeploymentFigures:
    """Reads with a client of its own; safe to share between threads."""

    def __init__(self, client: redis.Redis, settings: Settings, *, worst: int) -> None:
        self._client = client
        self._settings = settings
        self._worst = worst

    def samples(self) -> list[Sample]:
        """All of `metrics.OF_REDIS`; only `metrics.UP` as 0 if Redis does not answer or cannot be read."""
        try:
            return list(self._read())
        except BrokerUnavailable:
            return [Sample(metrics.UP, 0)]
        except Exception as error:  # noqa: BLE001
            # If the whole scrape failed, nobody would learn why, nor see the store's figures.
            unforeseen.note(log, "exporter", "read Redis", error)
            return [Sample(metrics.UP, 0)]

    def _read(self) -> Iterator[Sample]:
        began = time.perf_counter()
        client, settings = self._client, self._settings
        totals = read_totals(client)
        inboxes = list_inboxes(client)
        load = read_load(client)
        waits = backoff.get_many(client, [box.tenant_id for box in inboxes])
        depths = queue_depths(client, settings)
        pipe = client.pipeline(transaction=False)
        pipe.llen(keys.RECEIVE_QUEUE)
        pipe.hlen(keys.DEAD)
        pipe.exists(keys.HOOKS_LEASE)
        received, dead, sends = redis_values.answers(pipe)
        hooks = all_progress(client)
        workers = list_workers(client)
        volatile = bool(find_problems(client, ask_all=False))
        yield Sample(metrics.UP, 1)
        yield Sample(metrics.VOLATILE, int(volatile))
        yield from _totals(totals)
        yield from _by_shard(inboxes, load, settings.shards)
        yield Sample(metrics.INBOX_FULL, load.full(settings))
        for box in inboxes[: self._worst]:
            labels = (box.tenant_id,)
            yield Sample(metrics.TENANT_BACKUPS, box.entries, labels)
            yield Sample(metrics.TENANT_BYTES, load.tenant_bytes.get(box.tenant_id, 0), labels)
            yield Sample(metrics.TENANT_AGE, box.oldest_age_s, labels)
        yield Sample(metrics.WAITING, len(inboxes))
        yield Sample(metrics.FAILING, len(waits))
        yield Sample(metrics.STALLED, sum(wait.stalled for wait in waits.values()))
        yield Sample(metrics.DEAD_LETTERS, int(dead or 0))
        for shard, depth in depths.items():
            yield Sample(metrics.QUEUE, depth, (keys.shard_queue(shard),))
        yield Sample(metrics.QUEUE, int(received or 0), (keys.RECEIVE_QUEUE,))
        for worker in workers:
            yield Sample(metrics.SWEEP_AGE, worker.last_sweep_age_s, (worker.name,))
        yield Sample(metrics.UNSERVED, len(unserved(workers, settings.shards)))
        yield from _hooks(hooks, is_sent=bool(sends))
        yield Sample(metrics.SCRAPE, time.perf_counter() - began)


def _hooks(hooks: Mapping[str, Progress], *, is_sent: bool) -> Iterator[Sample]:
    now_ms = time.time() * 1000
    for name, progress in sorted(hooks.items()):
        failing_s = (now_ms - progress.failing_since_ms) / 1000 if progress.tries else 0.0
        yield Sample(metrics.HOOK_OFF, int(progress.off), (name,))
        yield Sample(metrics.HOOK_FAILING, max(0.0, failing_s), (name,))
    yield Sample(metrics.HOOKS_UNSERVED, 0 if is_sent else len(hooks))


def _totals(totals: Totals) -> Iterator[Sample]:
    yield Sample(metrics.ENQUEUED, totals.enqueued)
    yield Sample(metrics.COMMITTED, totals.committed)
    yield Sample(metrics.UNCHANGED, totals.unchanged)
    yield Sample(metrics.SUSPECT, totals.suspect)
    yield Sample(metrics.DEAD, totals.dead)
    yield Sample(metrics.RETRIED, totals.retried)
    yield Sample(metrics.REFUSED, totals.refused)
    yield Sample(metrics.COMMITTED_BYTES, totals.committed_bytes)
    yield Sample(metrics.LATENCY, totals.latency)


def _by_shard(inboxes: list[InboxStatus], load: Load, shards: int) -> Iterator[Sample]:
    entries: Counter[int] = Counter()
    size: Counter[int] = Counter()
    oldest_s: dict[int, float] = {}
    for box in inboxes:
        shard = keys.shard_of(box.tenant_id, shards)
        entries[shard] += box.entries
        size[shard] += load.tenant_bytes.get(box.tenant_id, 0)
        oldest_s[shard] = max(oldest_s.get(shard, 0.0), box.oldest_age_s)
    for shard in range(shards):
        labels = (f"{shard:02d}",)
        yield Sample(metrics.INBOX_BACKUPS, entries[shard], labels)
        yield Sample(metrics.INBOX_BYTES, size[shard], labels)
        yield Sample(metrics.INBOX_AGE, oldest_s.get(shard, 0.0), labels)
