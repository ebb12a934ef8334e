"""`python -m tests.chaos`: the long form. Prints counts, complaints and recovery times."""

from __future__ import annotations

import argparse
import math
import sys
import tempfile
import time
from pathlib import Path

from tests.chaos import recovery
from tests.chaos.machine import Machine
from tests.chaos.run import Report, run_round

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
    parser.add_argument("option", nargs="*", help="options of tests.chaos.worker")
    arguments = parser.parse_args()
    report = Report()
    rounds = math.ceil(arguments.seconds / _ROUND_S)
    folder = Path(tempfile.mkdtemp(prefix="confkeep-chaos-"))
    machine = Machine(folder, arguments.seed, options=tuple(arguments.option))
    started = time.monotonic()
    print(f"seed {arguments.seed}, {rounds} rounds, logs in {folder}", flush=True)
    with machine.running():
        if not machine.has_disk:
            print("SKIPPED: the full disk, which needs root to mount a tmpfs", flush=True)
        for number in range(rounds):
            before = len(report.complaints)
            run_round(
                machine,
                folder / f"round{number}",
                report,
                seconds=arguments.seconds / rounds,
                kills=arguments.kills * (number + 1) // rounds - arguments.kills * number // rounds,
                staging=("redis", "volume")[number % 2],
            )
            print(
                f"round {number + 1}: {report.kills} kills, {report.commits} commits, "
                f"{len(report.complaints)} complaints, {time.monotonic() - started:.0f} s",
                flush=True,
            )
            print("\n".join(report.complaints[before:]), end="", flush=True)
    print(report)
    slow = False
    if arguments.recoveries:
        print("recovery times with the default settings:")
        for kind in recovery.measure(folder / "recovery", arguments.recoveries):
            print(kind, flush=True)
            slow = slow or max(kind.seconds) > recovery.MOST_S
    return 1 if report.complaints or slow else 0


if __name__ == "__main__":
    sys.exit(main())
