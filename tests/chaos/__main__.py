"""`python -m tests.chaos`: the long form. Prints counts, complaints, recovery times and a verdict."""

from __future__ import annotations

import argparse
import math
import sys
import tempfile
import time
import traceback
from pathlib import Path

import redis

from confkeep.errors import ConfkeepError
from tests.chaos import recovery
from tests.chaos.faults import FAULTS
from tests.chaos.machine import Machine
from tests.chaos.report import Report
from tests.chaos.run import run_round
from tests.chaos.table import table

#: Seconds of a round; after each all is judged, so that repositories stay small.
_ROUND_S = 60.0


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60, help="length of the faults in all")
    parser.add_argument("--kills", type=int, default=50, help="processes to kill in all")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--recoveries", type=int, default=0, help="rounds in which recoveries are timed"
    )
    for name, effect in (("--only", "play no other fault"), ("--without", "leave this fault out")):
        parser.add_argument(
            name,
            action="append",
            choices=sorted(FAULTS),
            default=[],
            metavar="FAULT",
            help=f"{effect}; may stand several times, with one of: {', '.join(sorted(FAULTS))}",
        )
    parser.add_argument("option", nargs="*", help="options of tests.chaos.worker")
    arguments = parser.parse_args()
    faults = (frozenset(arguments.only) or FAULTS) - frozenset(arguments.without)
    report = Report()
    rounds = math.ceil(arguments.seconds / _ROUND_S)
    folder = Path(tempfile.mkdtemp(prefix="confkeep-chaos-"))
    machine = Machine(folder, arguments.seed, options=tuple(arguments.option))
    started = time.monotonic()
    print(f"seed {arguments.seed}, {rounds} rounds, logs in {folder}", flush=True)
    print(f"faults: {', '.join(sorted(faults))}", flush=True)
    try:
        with machine.running():
            if not machine.has_disk:
                print("SKIPPED: the full disk, which needs root to mount a tmpfs", flush=True)
            for number in range(rounds):
                before = len(report.complaints)
                kills = arguments.kills
                run_round(
                    machine,
                    folder / f"round{number}",
                    report,
                    seconds=arguments.seconds / rounds,
                    kills=kills * (number + 1) // rounds - kills * number // rounds,
                    staging=("redis", "volume")[number % 2],
                    faults=faults,
                )
                print(
                    f"round {number + 1}: {report.kills} kills, {report.commits} commits, "
                    f"{len(report.complaints)} complaints, {time.monotonic() - started:.0f} s",
                    flush=True,
                )
                for complaint in report.complaints[before:]:
                    print(complaint, flush=True)
    except (AssertionError, ConfkeepError, OSError, ValueError, redis.RedisError) as error:
        # What was seen until here is worth its table, and the verdict.
        traceback.print_exc()
        report.complaints.append(f"the run ended before its time: {type(error).__name__}: {error}")
    print(report)
    slow = False
    if arguments.recoveries:
        print("recovery times with the default settings:")
        for kind in recovery.measure(folder / "recovery", arguments.recoveries):
            print(kind, flush=True)
            slow = slow or max(kind.seconds) > recovery.MOST_S
    print(f"\n{table(report, arguments.seed, arguments.seconds)}\n")
    if report.complaints or slow:
        late = f", and a recovery took more than {recovery.MOST_S:.0f} s" if slow else ""
        print(f"VERDICT: broken, {len(report.complaints)} complaints{late}")
        return 1
    print("VERDICT: every promise was kept")
    return 0


if __name__ == "__main__":
    sys.exit(main())
