"""What a durable commit costs, against the baselines and against itself."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from tests.bench import fast_import, plain
from tests.bench.fleet import Fleet, disk_bytes, folder
from tests.bench.table import Row, alternate, at_most, median_costs, timed
from worker.store.repository.backup import Backup
from worker.store.repository.tenant_repository import TenantRepository, create_repository
from worker.store.writing.commit import Writer

_Commit = Callable[[Sequence[Backup]], object]

#: Devices of the tenants; at least and aim against plain, then against fast-import.
_BATCH_100 = {10: (12, 22, 3, 6), 1_000: (14, 22, 4, 7), 10_000: (20, 30, 6, 9)}
#: At least and aim of batch 1, against plain.
_BATCH_1 = {10: (1.3, 1.5), 1_000: (1.5, 2.0), 10_000: (2.5, 4.0)}


class Tenant:
    """Contenders that go on from the same repository, each in a copy of its own."""

    def __init__(self, where: Path, devices: int) -> None:
        self.fleet = Fleet(devices)
        self._where = where
        self._first = where / f"{self.fleet.uuid()}.git"
        self.fleet.found(self._first)

    def copy(self) -> TenantRepository:
        """A repository of its own, as it was at first."""
        path = self._where / f"{self.fleet.uuid()}.git"
        shutil.copytree(self._first, path)
        return create_repository(path)

    def contender(
        self, size: int, contender: Callable[[TenantRepository], _Commit]
    ) -> Callable[[], float]:
        """Seconds per commit of a contender, given a new batch of `size` in each round."""
        commit = contender(self.copy())
        commit(self.fleet.batch(size))
        return _batches(commit, self.fleet, size)


def _ours(repository: TenantRepository) -> _Commit:
    return Writer(repository).commit_backups


def _plain(repository: TenantRepository) -> _Commit:
    def commit(backups: Sequence[Backup]) -> None:
        for backup in backups:
            plain.commit_backup(repository, backup)

    return commit


def _fast_import(repository: TenantRepository) -> _Commit:
    return lambda backups: fast_import.commit_batch(repository.path, backups)


def _one_by_one(repository: TenantRepository) -> _Commit:
    writer = Writer(repository)

    def commit(backups: Sequence[Backup]) -> None:
        for backup in backups:
            writer.commit_backups([backup])

    return commit


def rows() -> Iterator[Row]:
    """The rows about commits."""
    with folder() as where:
        ours: dict[int, Callable[[], float]] = {}
        for devices, (plain_bound, plain_aim, import_bound, import_aim) in _BATCH_100.items():
            tenant = Tenant(where, devices)
            ours[devices] = tenant.contender(100, _ours)
            costs = median_costs(
                alternate(
                    (
                        ours[devices],
                        tenant.contender(20, _plain),
                        tenant.contender(100, _fast_import),
                    )
                )
            )
            name = f"durable commits/s, batch 100, {devices:,} devices, against"
            mine, one, imported = costs
            yield Row(
                f"{name} plain",
                one / mine,
                plain_bound,
                plain_aim,
                detail=f"{mine * 1e3:.3f} ms and {one * 1e3:.2f} ms a commit",
            )
            yield Row(
                f"{name} fast-import",
                imported / mine,
                import_bound,
                import_aim,
                detail=f"{mine * 1e3:.3f} ms and {imported * 1e3:.2f} ms a commit",
            )
            bound, aim = _BATCH_1[devices]
            mine, one = median_costs(
                alternate((tenant.contender(20, _one_by_one), tenant.contender(20, _plain)))
            )
            yield Row(
                f"durable commits/s, batch 1, {devices:,} devices, against plain",
                one / mine,
                bound,
                aim,
                detail=f"{mine * 1e3:.2f} ms and {one * 1e3:.2f} ms a commit",
            )
        few, many = median_costs(alternate((ours[10], ours[10_000]), 15))
        yield at_most(
            "cost of a commit, batch 100, 10,000 devices over 10",
            many / few,
            2.5,
            1.8,
            detail=f"{many * 1e3:.3f} ms and {few * 1e3:.3f} ms",
        )
    yield _bytes_on_disk()
    yield _after_a_long_history()


def _bytes_on_disk() -> Row:
    with folder() as where:
        tenant = Tenant(where, 1_000)
        grown = []
        for contender in (_ours, _plain):
            repository = tenant.copy()
            before, commit = disk_bytes(repository.path), contender(repository)
            for _ in range(3):
                commit(tenant.fleet.batch(100))
            grown.append((disk_bytes(repository.path) - before) / 300)
        mine, one = grown
        return at_most(
            "bytes on disk per version, batch 100, 1,000 devices, against plain",
            mine / one,
            0.6,
            0.55,
            detail=f"{mine / 1000:.1f} kB and {one / 1000:.1f} kB, in blocks of the disk",
        )


def _after_a_long_history() -> Row:
    """Batches of 100 into a repository of 100,000 commits that nothing has repacked: 1,000 packs."""
    with folder() as where:
        tenant = Tenant(where, 1_000)
        long, short = tenant.copy(), tenant.copy()
        fleet = tenant.fleet
        commit = _ours(long)
        for _ in range(1_000):
            commit(
                [
                    Backup(fleet.uuid(), fleet.random.choice(fleet.device_ids), export, None, "m")
                    for export in (b"%d\n" % number for number in range(100))
                ],
            )
        runs = []
        for repository in (long, short):
            # Opened anew, as by a worker that comes to this tenant.
            commit = _ours(create_repository(repository.path))
            # All have a full version again, so that both count the same lines.
            commit([fleet.backup(device_id) for device_id in fleet.device_ids])
            runs.append(_batches(commit, fleet, 100))
        many, few = median_costs(alternate(runs, 15))
        return at_most(
            "cost of a commit after 100,000 commits over after 100",
            many / few,
            1.2,
            1.05,
            detail=f"{many * 1e3:.3f} ms and {few * 1e3:.3f} ms",
        )


def _batches(commit: _Commit, fleet: Fleet, size: int) -> Callable[[], float]:
    def run() -> float:
        backups = fleet.batch(size)
        return timed(lambda: commit(backups)) / size

    return run
