"""The Celery task `backups.drill`: proves restores where the repository is; for beat."""

from __future__ import annotations

import random
from typing import Any, Final

from confkeep.errors import InvalidInput, NotInStore
from confkeep.settings import get_settings
from worker.app import app
from worker.engine.reports import drill_json
from worker.process import shutdown
from worker.store.repository.tenant_repository import repository_path, require_store, tenants_of
from worker.store.upkeep.drill import SAMPLE, drill_repository

#: Most versions that one task restores.
MOST_SAMPLED: Final = 1_000
#: Most devices in a result whose age is told: those that were backed up the longest ago.
MOST_DEVICES: Final = 1_000


# Acknowledged before it runs: one that takes longer than the visibility timeout would run twice.
@app.task(name="backups.drill", ignore_result=False, acks_late=False)  # type: ignore[untyped-decorator]
def drill(
    tenant_id: str | None = None, sample: int = SAMPLE, seed: int | None = None
) -> dict[str, Any]:
    """Restore a random sample of a tenant's versions, as `confkeep drill --json` reports it.

    A restore that fails is a result and not a failure: look at `outcome`. A worker that is asked to
    end stops; the report then is not `complete`.

    Args:
        tenant_id: None: one of the tenants of this worker's store, at random.
        sample: how many versions, at most 1,000.
        seed: chooses the sample; None: any.

    Raises:
        InvalidInput: an argument is not of its kind.
        StoreMissing: the store is not there.
        NotInStore: there is no such repository, or none at all.
        StoreUnavailable: too little free space for the clone, or the file system refused.
    """
    if not _is_whole(sample) or not 1 <= sample <= MOST_SAMPLED:
        raise InvalidInput("sample", f"must be a whole number from 1 to {MOST_SAMPLED}")
    if seed is not None and not _is_whole(seed):
        raise InvalidInput("seed", "must be a whole number")
    store = get_settings().git_store_path
    if tenant_id is None:
        require_store(store)
        tenants = tenants_of(store)
        if not tenants:
            raise NotInStore("no tenant has a repository here")
        tenant_id = random.choice(tenants)  # noqa: S311 - a sample, and no secret
    path = repository_path(store, tenant_id)
    report = drill_repository(path, sample=sample, seed=seed, stop=shutdown.requested)
    return drill_json(path, report, MOST_DEVICES)


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
