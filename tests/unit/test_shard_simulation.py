"""The simulator behind docs/scale.md: it loses nothing, and a case that was worked out by hand."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from tests.bench.shards import (
    HOUR_S,
    Costs,
    arrivals,
    fit,
    quantile,
    serve,
    zipf_sizes,
)

#: A turn 1 s, a batch 2 s and 0.5 s for each backup.
COSTS = Costs(turn_s=1.0, batch_s=2.0, backup_s=0.5, batch_max=4, slice_s=5.0)


@pytest.mark.parametrize("exponent", [0.0, 0.5, 1.0, 1.5])
def test_sizes_follow_zipf_and_add_up(exponent: float) -> None:
    sizes = zipf_sizes(200, 100_000, exponent)
    assert sum(sizes) == 100_000
    assert min(sizes) >= 1
    assert sizes == sorted(sizes, reverse=True)
    for rank in (2, 10, 50):
        assert sizes[0] / sizes[rank - 1] == pytest.approx(rank**exponent, rel=0.05)


def test_two_tenants_by_hand() -> None:
    # Tenant 0 has two at 0 s and one at 3 s, which its first batch is too late for; tenant 1 one at 1 s.
    served = serve([(0.0, 0), (0.0, 0), (1.0, 1), (3.0, 0)], [1, 1], COSTS)
    # 0: turn to 1, two to 4, and since the slice is not over the third to 6.5. Then 1: 7.5, 10.
    assert served.latencies_s == [4.0, 4.0, 3.5, 9.0]
    assert (served.turns, served.busy_s, served.end_s) == (2, 10.0, 10.0)
    # With two processes tenant 1 need not wait: 1 to 2, to 4.5.
    served = serve([(0.0, 0), (0.0, 0), (1.0, 1), (3.0, 0)], [1, 1], COSTS, processes=2)
    assert sorted(served.latencies_s) == [3.5, 3.5, 4.0, 4.0]


def test_a_slice_that_is_over_lets_the_next_tenant_go_first() -> None:
    # A turn of 1 s and a batch of 4 in 4 s are the slice. Tenant 1: 5 to 8.5. Then 4 more to 13.5,
    # and the last one, in a turn of its own, to 17.
    served = serve([(0.0, 0)] * 9 + [(0.0, 1)], [1, 1], COSTS)
    assert served.latencies_s == [5.0] * 4 + [8.5] + [13.5] * 4 + [17.0]
    assert served.turns == 4


def test_larger_tenants_cost_more() -> None:
    costs = Costs(0.0, 1.0, 0.1, tenfold_s=0.2, device_s=0.01)
    assert costs.batch(2, 10) == pytest.approx(1.0 + 2 * 0.1 + 0.1)
    assert costs.batch(2, 1_000) == pytest.approx(1.0 + 2 * (0.1 + 0.4) + 10)


def test_a_tenant_has_one_turn_at_a_time() -> None:
    # Tenant 0 has 8, two batches of 4 s after a turn's second; tenant 1's go beside it, and no third process helps.
    served = serve([(0.0, 0)] * 8 + [(0.0, 1)] * 4, [1, 1], COSTS, processes=3)
    assert served.latencies_s[:8] == [5.0] * 8
    assert served.latencies_s[8:] == [10.0] * 4


@pytest.mark.parametrize("polls", ["bunched", "spread", "by tenant"])
@pytest.mark.parametrize("processes", [1, 3])
def test_each_backup_is_served_once(polls: str, processes: int) -> None:
    devices = zipf_sizes(80, 3_000, 1.0)
    coming = arrivals(devices, polls, seed=3)
    found = serve(coming, devices, Costs(0.01, 0.01, 0.01), processes)
    assert len(found.latencies_s) == 3_000
    assert min(found.latencies_s) > 0
    again = serve(arrivals(devices, polls, seed=3), devices, Costs(0.01, 0.01, 0.01), processes)
    assert again == found, "the same seed, the same hour"


@pytest.mark.parametrize("polls", ["bunched", "spread", "by tenant"])
def test_each_device_is_polled_once_an_hour(polls: str) -> None:
    devices = zipf_sizes(30, 500, 1.0)
    found = arrivals(devices, polls, seed=5)
    assert Counter(number for _, number in found) == dict(enumerate(devices))
    times = [when for when, _ in found]
    assert times == sorted(times)
    assert 0 <= times[0] <= times[-1] < HOUR_S
    assert len(set(times)) == {"bunched": 1, "by tenant": 30, "spread": 500}[polls]


def test_costs_are_fitted_through_both_sizes() -> None:
    fitted = fit((1, 0.012), (100, 0.0021))
    for size, each in ((1, 0.012), (100, 0.0021)):
        assert fitted.turn_s + fitted.batch(size, 1) == pytest.approx(size * each)


def test_quantiles_are_those_of_the_ordered_values() -> None:
    values = sorted(random.Random(1).random() for _ in range(101))
    assert quantile(values, 0.5) == values[50]
    assert quantile(values, 1.0) == values[-1]
