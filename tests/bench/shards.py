"""`python -m tests.bench.shards`: how shards fill and drain, simulated; touches no server.

Tenants have sizes by Zipf's law. Their devices are polled once an hour, all at the full hour or
spread over it. Each worker is one process that serves the tenants of its shards in the order of
their wake-ups, a turn each, as `worker.engine.drain` does: batches until the inbox is empty or the slice is
over. A batch takes what `costs.py` measured. `--validate` compares with a real run of two workers.
"""

from __future__ import annotations

import argparse
import math
import random
import statistics
import uuid
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from heapq import heappop, heappush
from itertools import count
from typing import Any

from confkeep.broker import keys
from tests.bench.costs import drain, values_of
from tests.bench.fleet import Fleet
from tests.bench.producing import producing

HOUR_S = 3_600.0
#: Of the comparison with a real run.
_ROUNDS = 3


@dataclass(frozen=True, slots=True)
class Costs:
    """What a worker's process needs, in seconds."""

    #: A turn, whatever it finds: message, lock, repository.
    turn_s: float
    #: Each batch of a turn: syncs, round trips.
    batch_s: float
    #: Each backup of a tenant of ten devices.
    backup_s: float
    #: Added to it for each tenfold of the tenant's devices: its root tree is larger.
    tenfold_s: float = 0.0
    #: Each batch, for each device of the tenant: the first root tree of a turn is read whole.
    device_s: float = 0.0
    #: The settings' defaults.
    batch_max: int = 256
    slice_s: float = 5.0

    def batch(self, backups: int, devices: int) -> float:
        """Seconds for one batch."""
        larger = self.tenfold_s * math.log10(max(devices, 10) / 10)
        return self.batch_s + backups * (self.backup_s + larger) + devices * self.device_s


#: As measured for docs/scale.md, with 18 kB exports and 50 kB binaries.
MEASURED = Costs(turn_s=0.0075, batch_s=0.0075, backup_s=0.0016, tenfold_s=0.0003, device_s=2e-6)


@dataclass(frozen=True, slots=True)
class Tenant:
    """A tenant of the simulated fleet."""

    tenant_id: str
    devices: int


def zipf_sizes(tenants: int, devices: int, exponent: float) -> list[int]:
    """How many devices each tenant has, the largest first; at least one each, together `devices`.

    Tenant k has a share of 1 / k ** exponent. What rounding leaves goes to the largest.
    """
    weights = [(rank + 1) ** -exponent for rank in range(tenants)]
    spare = devices - tenants
    total = sum(weights)
    sizes = [1 + int(spare * weight / total) for weight in weights]
    for rank in range(devices - sum(sizes)):
        sizes[rank % tenants] += 1
    return sizes


def fleet(tenants: int, devices: int, exponent: float, seed: int) -> list[Tenant]:
    """Tenants with random ids."""
    rng = random.Random(seed)
    return [
        Tenant(str(uuid.UUID(int=rng.getrandbits(128), version=4)), size)
        for size in zipf_sizes(tenants, devices, exponent)
    ]


def arrivals(tenants: Sequence[Tenant], polls: str, seed: int) -> list[tuple[float, int]]:
    """When each backup arrives and of which tenant, in order.

    Args:
        polls: `bunched`: all at once; `spread`: each device at a time of its own; `by tenant`: all
            devices of a tenant at once, the tenants at times of their own.
    """
    rng = random.Random(seed)
    found: list[tuple[float, int]] = []
    for number, tenant in enumerate(tenants):
        at = rng.uniform(0, HOUR_S)
        for _ in range(tenant.devices):
            when = {"bunched": 0.0, "by tenant": at}.get(polls)
            found.append((rng.uniform(0, HOUR_S) if when is None else when, number))
    if polls == "bunched":
        # The producers poll in any order.
        rng.shuffle(found)
    else:
        found.sort()
    return found


@dataclass(slots=True)
class Served:
    """What became of the backups that one worker served."""

    #: Seconds from arrival to receipt, of each backup.
    latencies_s: list[float] = field(default_factory=list)
    turns: int = 0
    #: Of all its processes.
    busy_s: float = 0.0
    #: When the last was done.
    end_s: float = 0.0


def serve(
    coming: Iterable[tuple[float, int]],
    devices: Sequence[int],
    costs: Costs,
    processes: int = 1,
) -> Served:
    """One worker: its processes take turns in the order of the wake-ups, never two for one tenant.

    Args:
        coming: arrivals (seconds, tenant), in order.
        devices: the devices of each tenant, by its number.
    """
    served = Served()
    # The arrivals of the tenants that wait or have a turn. A tenant is queued once: the wake flag.
    inboxes: dict[int, deque[float]] = {}
    queue: deque[int] = deque()
    idle = processes
    # When a process is done with what it does, a number that tells equal times apart, the tenant of
    # its turn and when that began.
    working: list[tuple[float, int, int, float]] = []
    numbers = count()

    def begin(now: float) -> None:
        tenant = queue.popleft()
        heappush(working, (now + costs.turn_s, next(numbers), tenant, now))

    events = iter(coming)
    upcoming = next(events, None)
    while upcoming is not None or working:
        if upcoming is not None and (not working or upcoming[0] <= working[0][0]):
            when, tenant = upcoming
            upcoming = next(events, None)
            if tenant in inboxes:
                inboxes[tenant].append(when)
                continue
            inboxes[tenant] = deque([when])
            queue.append(tenant)
            if idle:
                idle -= 1
                begin(when)
            continue
        now, _, tenant, began = heappop(working)
        inbox = inboxes[tenant]
        if inbox and now - began < costs.slice_s:
            batch = min(len(inbox), costs.batch_max)
            done = now + costs.batch(batch, devices[tenant])
            served.latencies_s += [done - inbox.popleft() for _ in range(batch)]
            heappush(working, (done, next(numbers), tenant, began))
            continue
        served.turns += 1
        served.busy_s += now - began
        served.end_s = max(served.end_s, now)
        if inbox:
            queue.append(tenant)
        else:
            del inboxes[tenant]
        if queue:
            begin(now)
        else:
            idle += 1
    return served


@dataclass(frozen=True, slots=True)
class Outcome:
    """A simulated hour."""

    #: The busiest shard's backups over the mean of all, and the same of workers.
    shard_skew: float
    worker_skew: float
    #: When each worker was done, in order.
    ends_s: list[float]
    latencies_s: list[float]
    turns: int
    #: The part of the time, at least an hour, for which the busiest worker's processes worked.
    utilisation: float


def simulate(
    tenants: Sequence[Tenant],
    shards: int,
    workers: int,
    polls: str,
    costs: Costs,
    seed: int,
    processes: int = 1,
) -> Outcome:
    """An hour's polls of all tenants, drained by workers of so many processes each."""
    shard_of = [keys.shard_of(tenant.tenant_id, shards) for tenant in tenants]
    owners = _owners(shards, workers)
    load = [0] * shards
    for tenant, shard in zip(tenants, shard_of, strict=True):
        load[shard] += tenant.devices
    coming: list[list[tuple[float, int]]] = [[] for _ in range(min(workers, shards))]
    for arrival in arrivals(tenants, polls, seed):
        coming[owners[shard_of[arrival[1]]]].append(arrival)
    devices = [tenant.devices for tenant in tenants]
    # Workers beyond the shards share: what they do together is that of one with more processes.
    pools = [processes * len(range(index, workers, len(coming))) for index in range(len(coming))]
    served = [serve(own, devices, costs, pool) for own, pool in zip(coming, pools, strict=True)]
    done = [len(own.latencies_s) / pool for own, pool in zip(served, pools, strict=True)]
    ends_s = sorted(own.end_s for own in served)
    return Outcome(
        max(load) / statistics.mean(load),
        max(done) / statistics.mean(done),
        ends_s,
        sorted(latency for own in served for latency in own.latencies_s),
        sum(own.turns for own in served),
        max(own.busy_s / pool for own, pool in zip(served, pools, strict=True))
        / max(HOUR_S, ends_s[-1]),
    )


def _owners(shards: int, workers: int) -> dict[int, int]:
    """The worker of each shard; of several that share one, the first stands for all."""
    return {
        shard: index
        for index in range(min(workers, shards))
        for shard in keys.shards_of_worker(index, workers, shards)
    }


def quantile(ordered: Sequence[float], part: float) -> float:
    """The value below which `part` of the ordered ones lie."""
    return ordered[min(len(ordered) - 1, int(part * len(ordered)))]


def _time(seconds: float) -> str:
    if seconds < 1:
        return f"{seconds * 1e3:.0f} ms"
    return f"{seconds:.1f} s" if seconds < 120 else f"{seconds / 60:.1f} min"


def table(options: argparse.Namespace) -> Iterator[tuple[str, ...]]:
    """The rows of the table, its head first."""
    yield (
        "polls",
        "shards",
        "workers",
        "shard max/mean",
        "worker max/mean",
        "p50",
        "p99",
        "all done",
        "backups a turn",
        "busiest worker",
    )
    tenants = fleet(options.tenants, options.devices, options.exponent, options.seed)
    for polls in options.polls:
        for shards in options.shards:
            for workers in options.workers:
                found = simulate(
                    tenants, shards, workers, polls, MEASURED, options.seed, options.processes
                )
                full = found.ends_s[-1] >= 1.5 * HOUR_S
                yield (
                    polls,
                    str(shards),
                    str(workers),
                    f"{found.shard_skew:.2f}",
                    f"{found.worker_skew:.2f}",
                    _time(quantile(found.latencies_s, 0.5)),
                    _time(quantile(found.latencies_s, 0.99)),
                    _time(found.ends_s[-1]) + (" (falls behind)" if full else ""),
                    f"{len(found.latencies_s) / found.turns:.1f}",
                    f"{100 * found.utilisation:.0f} %",
                )


def fit(small: tuple[int, float], large: tuple[int, float]) -> Costs:
    """The costs of turns that find one batch, from two sizes and the seconds of each backup."""
    (few, few_s), (many, many_s) = small, large
    backup_s = max(0.0, (many * many_s - few * few_s) / (many - few))
    fixed_s = max(0.0, few * (few_s - backup_s))
    # The sum is what counts; that they are about equal was seen in the store's own benchmark.
    return Costs(turn_s=fixed_s / 2, batch_s=fixed_s / 2, backup_s=backup_s)


def validate(seed: int) -> None:
    """Measure what a turn costs, then drain a bunch with two workers, beside the simulated one.

    Both workers run while the costs are measured, as in the drain: they share processors and disk
    with each other and with the server.
    """
    shards, workers = 8, 2
    tenants = fleet(60, 1_500, 1.0, seed)
    variables = {"CONFKEEP_SHARDS": str(shards), "CONFKEEP_REPACK_PACKS": "0"}
    with producing(**variables) as deployed:
        waiting = Waiting(tenants)
        for index in range(workers):
            deployed.start_worker(
                f"w{index}",
                CONFKEEP_WORKER_INDEX=str(index),
                CONFKEEP_WORKER_COUNT=str(workers),
            )

        def drained(sizes: Sequence[int]) -> float:
            """Seconds in which so many backups of each tenant are committed."""
            return drain(deployed, waiting.backups(sizes)).wall_s * sum(sizes)

        drained([2] * len(tenants))
        rounds = []
        for _ in range(_ROUNDS):
            # A worker's costs: the time of the one that was done last, over what it did.
            costs = fit(
                *(
                    (
                        size,
                        drained([size] * len(tenants))
                        / _most_of_one(tenants, shards, workers)
                        / size,
                    )
                    for size in (1, 30)
                )
            )
            simulated = simulate(tenants, shards, workers, "bunched", costs, seed).ends_s[-1]
            measured = drained([tenant.devices for tenant in tenants])
            rounds.append(simulated / measured)
            print(
                f"{1e3 * (costs.turn_s + costs.batch_s):.1f} ms a turn and {1e3 * costs.backup_s:.2f} ms "
                f"a backup: simulated {simulated:.2f} s, measured {measured:.2f} s"
            )
    print(f"simulated over measured, median of {_ROUNDS}: {statistics.median(rounds):.2f}")


class Waiting:
    """Makes backups for simulated tenants."""

    def __init__(self, tenants: Sequence[Tenant]) -> None:
        self._tenants = tenants
        self._fleet = Fleet(max(tenant.devices for tenant in tenants))

    def backups(self, sizes: Sequence[int]) -> list[dict[str, Any]]:
        """So many of each tenant, each of another device, in any order."""
        made = [
            values_of(tenant.tenant_id, self._fleet.backup(device_id))
            for tenant, size in zip(self._tenants, sizes, strict=True)
            for device_id in self._fleet.device_ids[:size]
        ]
        self._fleet.random.shuffle(made)
        return made


def _most_of_one(tenants: Sequence[Tenant], shards: int, workers: int) -> int:
    """The tenants of the worker that has most of them."""
    owners = _owners(shards, workers)
    owned = Counter(owners[keys.shard_of(tenant.tenant_id, shards)] for tenant in tenants)
    return max(owned.values())


def main() -> None:
    """Print the table, or the comparison."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tenants", type=int, default=20_000)
    parser.add_argument("--devices", type=int, default=1_000_000)
    parser.add_argument("--exponent", type=float, default=1.0)
    parser.add_argument("--shards", type=int, nargs="+", default=[16, 64, 256])
    parser.add_argument("--workers", type=int, nargs="+", default=[4, 16, 64])
    parser.add_argument("--processes", type=int, default=1, help="of each worker (--concurrency)")
    parser.add_argument("--polls", nargs="+", default=["bunched", "by tenant", "spread"])
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--validate", action="store_true")
    options = parser.parse_args()
    if options.validate:
        validate(options.seed)
        return
    for number, cells in enumerate(table(options)):
        print("| " + " | ".join(cells) + " |", flush=True)
        if not number:
            print("|" + " --- |" * len(cells))


if __name__ == "__main__":
    main()
