"""Retention of one repository: plans what the rules remove, and removes it.

`docs/retention.md` explains the rules and the protocol.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from confkeep.errors import MaintenanceFailed, RepositoryDamaged
from worker.store.git import refs
from worker.store.git.git_objects import GitObjects, git_for_objects
from worker.store.repository.tenant_repository import TenantRepository
from worker.store.rewriting import prune
from worker.store.rewriting.history_scan import Scan, chain_of
from worker.store.rewriting.retention_rules import Capture, Policy, decide
from worker.store.rewriting.rewrite import replace_history, rewriting
from worker.store.rewriting.rewrite_selection import Selection, write_selection


@dataclass(frozen=True, slots=True)
class DevicePlan:
    """What retention would remove of one device."""

    device_id: str
    captures: int
    captures_removed: int
    binaries: int
    #: Does not count the binaries of captures that go.
    binaries_removed: int


@dataclass(frozen=True, slots=True)
class Plan:
    """What retention would remove of one repository."""

    #: The tip of `main` for which the plan was made; None if the repository is empty.
    tip: str | None
    devices: list[DevicePlan]
    #: Bytes that the commits and files that would go now take on disk, packed.
    freed_bytes: int
    selection: Selection

    @property
    def captures_removed(self) -> int:
        """How many captures would go, over all devices."""
        return sum(device.captures_removed for device in self.devices)

    @property
    def binaries_removed(self) -> int:
        """How many binaries would go while their captures stay, over all devices."""
        return sum(device.binaries_removed for device in self.devices)

    @property
    def merge(self) -> str | None:
        """The newest merge; it and all commits below it stay. None if there is no merge."""
        return self.selection.base

    def __bool__(self) -> bool:
        return self.captures_removed > 0 or self.binaries_removed > 0


@dataclass(frozen=True, slots=True)
class Applied:
    """What a run of retention did."""

    plan: Plan
    #: The new tip; None if nothing was rewritten.
    tip: str | None
    #: How many histories that earlier rewrites had replaced were dropped.
    pruned: int


def plan_retention(repository: TenantRepository, policy: Policy, now_s: int) -> Plan:
    """Plan what the rules would remove now; changes nothing. Reads the whole history.

    The rules look at the commits above the newest merge; what is below it stays as it is.

    Raises:
        RepositoryDamaged: an object that is needed is missing, or git meets damage.
        GitUnavailable: there is no usable git.
    """
    tip = refs.read_main(repository.path)
    if tip is None or not policy:
        return Plan(tip, [], 0, Selection([], [], []))
    chain = chain_of(repository, tip)
    commits = list(Scan(repository, chain))
    captures: dict[bytes, dict[int, Capture]] = defaultdict(dict)
    for number, commit in enumerate(commits):
        if commit.device is not None and commit.capture is not None:
            captures[commit.device][number] = commit.capture
    keep, drop = [True] * len(commits), [False] * len(commits)
    devices = []
    for name, own in sorted(captures.items()):
        decision = decide([*own.values()], policy, now_s)
        there = [capture.binary is not None for capture in own.values()]
        for at, number in enumerate(own):
            keep[number] = decision.keep[at]
            drop[number] = decision.keep[at] and there[at] and not decision.keep_binary[at]
        devices.append(
            DevicePlan(
                device_id=name.decode(),
                captures=len(own),
                captures_removed=decision.keep.count(False),
                binaries=sum(there),
                binaries_removed=sum(drop[number] for number in own),
            )
        )
    for number, commit in enumerate(commits[1:], start=1):
        if commit.device is None and not commit.changes and not commit.naming:
            # It has the same files as the commit before: mostly another program's unchanged capture.
            keep[number] = keep[number - 1]
    selection = Selection(commits, keep, drop, chain.merge)
    return Plan(tip, devices, _freed_bytes(repository.path, selection), selection)


def _freed_bytes(path: Path, selection: Selection) -> int:
    kept: set[bytes] = set()
    gone: set[bytes] = set()
    for commit, keep, drop in zip(
        selection.commits, selection.keep, selection.drop_binary, strict=True
    ):
        if not keep:
            gone.add(commit.id)
        if commit.folder is not None:
            files = kept if keep else gone
            if commit.folder.export_id is not None:
                files.add(commit.folder.export_id)
            if commit.folder.binary_id is not None:
                (gone if drop else files).add(commit.folder.binary_id)
    try:
        with git_for_objects(path) as git:
            return GitObjects(git).disk_bytes(gone - kept)
    except MaintenanceFailed as error:
        raise RepositoryDamaged(str(error)) from error


def apply_retention(
    repository: TenantRepository,
    policy: Policy,
    *,
    now_s: int,
    grace_s: int,
    before: Callable[[Plan, str], object] = lambda _plan, _tip: None,
) -> Applied:
    """Remove what the rules do not keep; drop histories replaced over `grace_s` seconds ago.

    The caller holds the tenant lock, but not the flock.

    Args:
        before: called with the plan and the new tip before `main` moves to it.

    Raises:
        RepositoryBusy: another process writes; nothing was changed.
        RepositoryDamaged, GitUnavailable: as `plan_retention`; nothing was changed.
        MaintenanceFailed: the prune failed; the rewrite is done, and the next call prunes.
        StoreUnavailable: the file system refused; whether anything was done is unknown.
    """
    path = repository.path
    with rewriting(path) as held:
        plan = plan_retention(repository, policy, now_s)
        tip = None
        if plan:
            assert plan.tip is not None
            # Else the rewrite would be done, and each prune fail.
            prune.require_refs(path, held)
            with prune.history_writer(repository, plan.tip) as writer:
                made = write_selection(repository, writer, plan.selection)
                assert made.tip is not None
                before(plan, made.tip)
                replace_history(repository, plan.tip, made, now_s=now_s, keep_old=True)
            tip = made.tip
        pruned = prune.prune_expired(repository, held, oldest_s=now_s - grace_s)
    return Applied(plan, tip, pruned)
