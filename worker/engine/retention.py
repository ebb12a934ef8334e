"""What a tenant's retention rules remove: planned, applied and undone under the tenant lock."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, Final

from confkeep.errors import BrokerUnavailable
from confkeep.observe.logs import get_logger
from confkeep.queue import events
from confkeep.queue.events import Event
from confkeep.settings import Settings
from worker.engine.directory import Called, names_at
from worker.engine.hold import hold_tenant
from worker.engine.untold import Untold
from worker.store.repository.backup import Signature
from worker.store.repository.description import read_name
from worker.store.repository.tenant_repository import (
    create_repository,
    open_repository,
    repository_path,
)
from worker.store.rewriting.retention import (
    Applied,
    Plan,
    apply_retention,
    plan_retention,
)
from worker.store.rewriting.retention_file import load_rules
from worker.store.rewriting.retention_rules import RULE_NAMES, policy_of
from worker.store.rewriting.retention_undo import Undone, undo_retention

log = get_logger("retention")

_DAY_S: Final = 86_400


def rules_of(settings: Settings, path: Path) -> dict[str, int | None]:
    """The rules that count for a tenant: its own before those of the settings, rule by rule.

    Raises:
        SideFileDamaged: the tenant's file holds other rules than were set.
    """
    own = load_rules(path)
    return {name: own.get(name, getattr(settings, name)) for name in RULE_NAMES}


def plan(settings: Settings, tenant_id: str) -> Plan:
    """What would go of a tenant now.

    Raises:
        NotInStore, RepositoryDamaged: as `rules_of` and `plan_retention`.
    """
    path = repository_path(settings.git_store_path, tenant_id)
    policy = policy_of(rules_of(settings, path))
    return plan_retention(open_repository(path), policy, int(time.time()))


def apply(settings: Settings, tenant_id: str) -> Applied:
    """Remove it, under the tenant lock.

    Raises:
        TenantLocked: another process commits for the tenant all the time.
        BrokerUnavailable: Redis, which holds the lock, did not answer.
        NotInStore, StoreError: as `rules_of` and `apply_retention`.
    """
    path = repository_path(settings.git_store_path, tenant_id)
    policy = policy_of(rules_of(settings, path))
    open_repository(path)  # creating one would be wrong here
    with hold_tenant(settings, tenant_id):
        untold, now_s = Untold(settings, tenant_id), int(time.time())

        def expect(plan: Plan, tip: str) -> None:
            counts = {
                "captures_removed": plan.captures_removed,
                "binaries_removed": plan.binaries_removed,
            }
            untold.expect(_event(tenant_id, tip, now_s, undone=False, **counts))

        applied = apply_retention(
            create_repository(path, Signature(*settings.author)),
            policy,
            now_s=now_s,
            grace_s=int(settings.retention_grace_days * _DAY_S),
            before=expect,
        )
        if applied.tip is not None:
            _tell(untold, tenant_id)
        return applied


def undo(settings: Settings, tenant_id: str) -> Undone:
    """Undo the newest rewrite, under the tenant lock.

    Raises:
        TenantLocked, BrokerUnavailable: as `apply`.
        NotInStore, StoreError: as `undo_retention`.
    """
    path = repository_path(settings.git_store_path, tenant_id)
    open_repository(path)  # creating one would be wrong here
    with hold_tenant(settings, tenant_id):
        untold, now_s = Untold(settings, tenant_id), int(time.time())
        undone = undo_retention(
            create_repository(path, Signature(*settings.author)),
            now_s=now_s,
            before=lambda tip: untold.expect(_event(tenant_id, tip, now_s, undone=True)),
        )
        _tell(untold, tenant_id)
        return undone


def _event(tenant_id: str, tip: str, now_s: int, *, undone: bool, **more: int) -> Event:
    """The event of a rewrite that makes `tip` the newest commit."""
    return events.new(
        events.RETENTION,
        tenant_id,
        data={"undone": undone, "tip": tip, **more},
        about=(tenant_id, tip, undone, now_s),
    )


def _tell(untold: Untold, tenant_id: str) -> None:
    """Write the event of a rewrite. That is done, whether or not Redis answers."""
    try:
        untold.tell(events.RETENTION, None)
    except BrokerUnavailable as error:
        log.warning(
            "retention rewrote a history, and the event that tells of it has to wait",
            action="events.untold",
            tenant_id=tenant_id,
            error=str(error),
        )


def plan_json(settings: Settings, tenant_id: str, plan: Plan) -> dict[str, Any]:
    """A plan as JSON values, with names as they are now."""
    path = repository_path(settings.git_store_path, tenant_id)
    names = names_at(path)
    return {
        "tenant_id": tenant_id,
        "tenant_name": read_name(path),
        "captures_removed": plan.captures_removed,
        "binaries_removed": plan.binaries_removed,
        "freed_bytes": plan.freed_bytes,
        "merge": plan.merge,
        "devices": [
            {
                "device_id": device.device_id,
                "device_name": names.get(device.device_id, Called(device.device_id)).name,
                "captures": device.captures,
                "captures_removed": device.captures_removed,
                "binaries": device.binaries,
                "binaries_removed": device.binaries_removed,
            }
            for device in plan.devices
            if device.captures_removed or device.binaries_removed
        ],
    }


def to_json(settings: Settings, tenant_id: str, applied: Applied) -> dict[str, Any]:
    """What was done as JSON values."""
    return {
        **plan_json(settings, tenant_id, applied.plan),
        "outcome": "nothing to do" if applied.tip is None else "rewritten",
        "tip": applied.tip,
        "histories_pruned": applied.pruned,
    }
