"""The Celery task `backups.verify`, routed like commits."""

from __future__ import annotations

from typing import Any, Final

from confkeep.errors import InvalidInput
from confkeep.settings import get_settings
from worker.app import app
from worker.engine.reports import verify_json
from worker.process import shutdown
from worker.store.git.durable import file_system_errors
from worker.store.repository.tenant_repository import repository_path
from worker.store.upkeep.verify import verify_repository
from worker.store.upkeep.verify_report import parse_subset

#: Most findings in a result; `finding_count` says how many there are.
MOST_FINDINGS: Final = 1_000


# Acknowledged before it runs: one that takes longer than the visibility timeout would run twice.
@app.task(name="backups.verify", ignore_result=False, acks_late=False)  # type: ignore[untyped-decorator]
def verify(
    tenant_id: str, subset: str | None = None, max_duration_s: float | None = None
) -> dict[str, Any]:
    """Verify a tenant's repository, as `confkeep verify --json` reports it.

    Damage is a result and not a failure. A worker that is asked to end stops looking: then, and
    when the time is over, the report is not `complete`.

    Args:
        subset: `N/T`: of the objects only the N-th of T parts.
        max_duration_s: most seconds to look; None: as long as it takes.

    Raises:
        InvalidInput: an argument is not of its kind.
        StoreUnavailable: the file system refused to let a file be read.
    """
    path = repository_path(get_settings().git_store_path, tenant_id)
    if max_duration_s is not None and (
        isinstance(max_duration_s, bool)
        or not isinstance(max_duration_s, int | float)
        or not max_duration_s > 0
    ):
        raise InvalidInput("max_duration_s", "must be a number of seconds above 0")
    if subset is not None and not isinstance(subset, str):
        raise InvalidInput("subset", "must be N/T, such as 1/7")
    with file_system_errors(path.name):
        report = verify_repository(
            path,
            subset=None if subset is None else parse_subset(subset),
            max_duration_s=max_duration_s,
            stop=shutdown.requested,
        )
    return verify_json(path, report, MOST_FINDINGS)
