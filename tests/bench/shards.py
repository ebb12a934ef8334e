"""`python -m tests.bench.shards`: how inboxes fill and drain, simulated; touches no server.

Tenants have sizes by Zipf's law. Their devices are polled once an hour, all at the full hour or
spread over it. Each worker serves every shard, so any free process takes the next wake-up, and has a turn of that
tenant as `worker.engine.drain` does: batches until the inbox is empty or the slice is over. A tenant has one
turn at a time. A batch takes what `costs.py` measured. `--validate` compares with a real run of two workers.
"""

from __future__ import annotations

import argparse
import math
import random
import statistics
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from heapq import heappop, heappush
from itertools import count

from tests.bench.costs import Tenants, drain, values_of
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
MEASURED = Costs(turn_s=0.006, batch_s=0.006, backup_s=0.0007, tenfold_s=0.0001, device_s=5e-7)


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


def arrivals(devices: Sequence[int], polls: str, seed: int) -> list[tuple[float, int]]:
    """When each backup arrives and of which tenant, in order.

    Args:
        devices: of each tenant, by its number.
        polls: `bunched`: all at once; `spread`: each device at a time of its own; `by tenant`: all
            devices of a tenant at once, the tenants at times of their own.
    """
    rng = random.Random(seed)
    found: list[tuple[float, int]] = []
    for number, count_of_it in enumerate(devices):
        at = rng.uniform(0, HOUR_S)
        for _ in range(count_of_it):
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
    """What became of the backups."""

    #: Seconds from arrival to receipt, of each backup.
    latencies_s: list[float] = field(default_factory=list)
    turns: int = 0
    #: Of all processes.
    busy_s: float = 0.0
    #: When the last was done.
    end_s: float = 0.0


def serve(
    coming: Iterable[tuple[float, int]],
    devices: Sequence[int],
    costs: Costs,
    processes: int = 1,
) -> Served:
    """All workers' processes take turns in the order of the wake-ups, never two for one tenant.

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


def quantile(ordered: Sequence[float], part: float) -> float:
    """The value below which `part` of the ordered ones lie."""
    return ordered[min(len(ordered) - 1, int(part * len(ordered)))]


def _time(seconds: float) -> str:
    if seconds < 1:
        return f"{seconds * 1e3:.0f} ms"
    return f"{seconds:.1f} s" if seconds < 120 else f"{seconds / 60:.1f} min"


def table(options: argparse.Namespace) -> Iterator[tuple[str, ...]]:
    """The rows of the table, its head first."""
    yield ("Zipf", "polls", "processes", "p50", "p99", "all done", "backups a turn", "busy")
    for exponent in options.exponents:
        devices = zipf_sizes(options.tenants, options.devices, exponent)
        for polls in options.polls:
            coming = arrivals(devices, polls, options.seed)
            for processes in options.processes:
                served = serve(coming, devices, MEASURED, processes)
                latencies_s, end_s = sorted(served.latencies_s), served.end_s
                behind = " (falls behind)" if end_s >= 1.5 * HOUR_S else ""
                yield (
                    f"{exponent:g}",
                    polls,
                    str(processes),
                    _time(quantile(latencies_s, 0.5)),
                    _time(quantile(latencies_s, 0.99)),
                    _time(end_s) + behind,
                    f"{len(latencies_s) / served.turns:.1f}",
                    f"{100 * served.busy_s / processes / max(HOUR_S, end_s):.0f} %",
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
    workers, devices = 2, zipf_sizes(60, 1_500, 1.0)
    with producing(CONFKEEP_SHARDS="8", CONFKEEP_REPACK_PACKS="0") as deployed:
        tenants = Tenants(len(devices), max(devices), seed)
        fleet = tenants.fleet
        for number in range(workers):
            deployed.start_worker(f"w{number}")

        def drained(sizes: Sequence[int]) -> float:
            """Seconds in which so many backups of each tenant are committed, each of another device, in any order."""
            waiting = [
                values_of(tenant_id, fleet.backup(device_id))
                for tenant_id, size in zip(tenants.ids, sizes, strict=True)
                for device_id in fleet.device_ids[:size]
            ]
            fleet.random.shuffle(waiting)
            return drain(deployed, waiting).wall_s * sum(sizes)

        def cost(size: int) -> tuple[int, float]:
            """A worker's seconds for each backup, if each tenant has so many."""
            return size, drained([size] * len(devices)) * workers / len(devices) / size

        drained([2] * len(devices))
        rounds = []
        for _ in range(_ROUNDS):
            costs = fit(cost(1), cost(30))
            coming = arrivals(devices, "bunched", seed)
            simulated = serve(coming, devices, costs, workers).end_s
            measured = drained(devices)
            rounds.append(simulated / measured)
            print(
                f"{1e3 * (costs.turn_s + costs.batch_s):.1f} ms a turn and {1e3 * costs.backup_s:.2f} ms "
                f"a backup: simulated {simulated:.2f} s, measured {measured:.2f} s"
            )
    print(f"simulated over measured, median of {_ROUNDS}: {statistics.median(rounds):.2f}")


def main() -> None:
    """Print the table, or the comparison."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tenants", type=int, default=20_000)
    parser.add_argument("--devices", type=int, default=1_000_000)
    parser.add_argument("--exponents", type=float, nargs="+", default=[1.0, 0.5])
    parser.add_argument(
        "--processes", type=int, nargs="+", default=[4, 8, 16, 64], help="of all workers together"
    )
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
