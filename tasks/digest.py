"""The Celery task `backups.digest`: sends each tenant's digest where the repositories are; for beat."""

from __future__ import annotations

import datetime as dt
from typing import Any, Final

from confkeep.broker.connections import get_client
from confkeep.errors import ConfkeepError, InvalidInput, InvalidSettings, NotInStore
from confkeep.observe.logs import get_logger
from confkeep.settings import get_settings, variable_of
from worker.app import app
from worker.hooks import notify
from worker.hooks.digest import digest_of
from worker.process import shutdown
from worker.store.repository.tenant_repository import repository_path, require_store, tenants_of

log = get_logger("digest")

#: The same as the command's.
_SINCE_S: Final = 86_400.0
_MOST_S: Final = 366 * 86_400.0


# Acknowledged before it runs: one that takes longer than the visibility timeout would send twice.
@app.task(name="backups.digest", ignore_result=False, acks_late=False)  # type: ignore[untyped-decorator]
def digest(
    tenant_id: str | None = None, since_s: float = _SINCE_S, stale_after_s: float | None = None
) -> dict[str, Any]:
    """Send a tenant's digest to the addresses of CONFKEEP_DIGEST_URLS, if there is anything to say.

    Args:
        tenant_id: None: all tenants of this worker's store, one message each.
        since_s: of how many seconds to tell.
        stale_after_s: the age of its newest backup from which a device is stale; None: as
            CONFKEEP_STALE_HOURS says.

    Returns:
        How many messages were `sent`, how many tenants had `nothing` to say, and of how many it `failed`.

    Raises:
        InvalidInput: an argument is not of its kind.
        InvalidSettings: CONFKEEP_DIGEST_URLS is missing or wrong.
        StoreMissing: the store is not there.
        ExtraMissing: apprise is not installed.
    """
    for field, value in (("since_s", since_s), ("stale_after_s", stale_after_s)):
        if not _is_span(value) and not (field == "stale_after_s" and value is None):
            raise InvalidInput(field, "must be a number of seconds up to a year")
    settings = get_settings()
    if stale_after_s is None:
        stale_after_s = settings.stale_hours * 3_600
    variable = variable_of("digest_urls")
    urls = settings.digest_urls.get_secret_value().split() if settings.digest_urls else []
    if not urls:
        raise InvalidSettings(variable, "must say where to send to")
    store = settings.git_store_path
    require_store(store)
    now = dt.datetime.now(dt.UTC)
    done = {"sent": 0, "nothing": 0, "failed": 0}
    for each in tenants_of(store) if tenant_id is None else [tenant_id]:
        if shutdown.requested():
            break
        path = repository_path(store, each)
        since = now - dt.timedelta(seconds=since_s)
        try:
            found = digest_of(
                get_client(settings), path, since, stale_after_s=stale_after_s, now=now
            )
            if found.says_something:
                notify.send(found, urls, field=variable, public_url=settings.public_url)
            done["sent" if found.says_something else "nothing"] += 1
        except (InvalidInput, NotInStore) as error:
            if tenant_id is not None or isinstance(error, InvalidInput):
                raise
            done["nothing"] += 1
        except ConfkeepError as error:
            # The other tenants' messages must go out.
            log.warning(
                "a digest was not sent", action="digest.failed", tenant_id=each, error=str(error)
            )
            done["failed"] += 1
    return done


def _is_span(value: object) -> bool:
    return isinstance(value, int | float) and value is not True and 0 < value <= _MOST_S
