"""A chaos run's figures as rows of a Markdown table."""

from __future__ import annotations

from tests.chaos.broker import REFUSALS
from tests.chaos.maintenance import COMMANDS
from tests.chaos.report import Report

#: What a row counts, in words, and the names of the faults in a report.
_ROWS = (
    (
        "of these: pool children, workers, brokers, brokers with a torn file, producers, git's commands",
        [
            f"kill {what}"
            for what in ("pool child", "worker", "broker", "torn file", "producer", "git")
        ],
    ),
    ("and senders, receivers of webhooks", ["kill sender", "kill receiver"]),
    (
        "files torn within a transaction, between its commands, anywhere",
        [f"torn: {what}" for what in ("within a transaction", "between its commands", "anywhere")],
    ),
    ("orderly restarts of the broker after those", ["orderly restart"]),
    (
        "cuts, stalls, delays, pauses, times a full disk, changes of shards, of the number of workers",
        ["cut", "stall", "delay", "pause", "disk full", "shards", "scale"],
    ),
    (
        "runs of " + ", ".join(f"`git {command}`" for command in COMMANDS),
        [f"git {command}" for command in COMMANDS],
    ),
    ("windows of " + ", ".join(map(str.upper, REFUSALS)), list(REFUSALS)),
    ("bad messages, times garbage under keys", ["message", "garbage"]),
)


def table(report: Report, seed: int, seconds: float) -> str:
    """The rows of one run, to stand in docs/reliability.md."""
    rows = [
        ("", "the long run"),
        ("---", "---"),
        ("seed", str(seed)),
        ("kills", f"{report.kills:,} in {seconds / 60:.1f} minutes of faults"),
    ]
    for title, names in _ROWS:
        rows.append((title, ", ".join(f"{report.faults[name]:,}" for name in names)))
    unknown = f"{report.unknown:,} with an unknown outcome"
    verdict = f"{len(report.complaints)} complaints" if report.complaints else "none"
    rows += [
        ("backups accepted", f"{report.accepted:,}, and {unknown}"),
        ("committed", f"{report.commits:,}"),
        ("deliveries that receivers of webhooks took", f"{report.deliveries:,}"),
        (
            "of these told to a reader that " + ", ".join(report.told),
            ", ".join(f"{number:,}" for number in report.told.values()),
        ),
        ("told again to readers that were killed, with the same id", f"{report.repeated:,}"),
        ("lost, doubled, out of order, untold, wrong receipts, foreign keys", verdict),
    ]
    rows.append(("workers that ended by themselves, and were started again", f"{report.ended:,}"))
    if report.drained_s:
        drained = f"{min(report.drained_s):.1f} to {max(report.drained_s):.1f} s"
        rows.append(("from the end of the faults until nothing waited", drained))
    return "\n".join(f"| {title} | {figure} |" for title, figure in rows)
