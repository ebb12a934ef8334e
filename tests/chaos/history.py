"""The judge of a chaos run: what a producer was promised against what is there; pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

#: Most complaints of a kind that are spelled out.
_MOST = 5


@dataclass(frozen=True, slots=True)
class Commit:
    """A commit in a tenant's git."""

    sha: str
    backup_id: str


@dataclass(frozen=True, slots=True)
class Record:
    """What a backup's result says."""

    status: str
    sha: str | None


@dataclass(frozen=True, slots=True)
class History:
    """One tenant's run."""

    tenant_id: str
    #: Ids whose enqueue returned, in the producer's order.
    accepted: Sequence[str]
    #: All ids that were ever sent. Whether those that are not in `accepted` came through is unknown.
    sent: AbstractSet[str]
    #: Along `main`, oldest first.
    commits: Sequence[Commit]
    records: Mapping[str, Record]
    #: Ids that the producer gave up and sent again later: what came in between may be before or behind.
    late: AbstractSet[str] = frozenset()


def complaints(history: History) -> list[str]:
    """Each broken promise as a sentence; none: the history is what was promised."""
    committed = [commit.backup_id for commit in history.commits]
    known = set(committed)
    accepted = set(history.accepted)
    found = listed("lost", [i for i in history.accepted if i not in known])
    found += listed("committed twice", [i for i, n in Counter(committed).items() if n > 1])
    found += listed("never sent", [i for i in committed if i not in history.sent])

    # Where what is there came in another order than it was accepted.
    in_order = accepted - history.late
    there = [i for i in dict.fromkeys(committed) if i in in_order]
    expected = [i for i in history.accepted if i in known and i in in_order]
    found += listed("out of order", [a for a, b in zip(there, expected, strict=True) if a != b])

    wrong = []
    for commit in history.commits:
        record = history.records.get(commit.backup_id)
        if record is None or record.status != "SUCCESS" or record.sha != commit.sha:
            wrong.append(f"{commit.backup_id} ({record} for commit {commit.sha})")
    found += listed("wrong receipt", wrong)
    early = [
        f"{i} ({record.status})"
        for i, record in history.records.items()
        if i not in known and i in accepted
    ]
    found += listed("record without commit", early)
    return [f"tenant {history.tenant_id}: {complaint}" for complaint in found]


def listed(what: str, ids: Sequence[str]) -> list[str]:
    """A complaint of some ids, none if there are none."""
    if not ids:
        return []
    more = f" and {len(ids) - _MOST} more" if len(ids) > _MOST else ""
    return [f"{what}: {', '.join(ids[:_MOST])}{more}"]
