"""`confkeep retention` on a small store, with a lock that nobody else wants."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from click.testing import CliRunner

from confkeep.errors import NotInStore, RemovedByRetention, TenantLocked, UndoImpossible
from confkeep.observe import logs
from confkeep.queue import events
from confkeep.queue.events import Event
from confkeep.settings import Settings
from tasks import retention
from tests.unit.cli.conftest import ROUTER, TENANT, Confkeep, Store
from worker.cli import cli
from worker.engine import forget, receipt
from worker.engine import retention as engine_retention


@pytest.fixture(autouse=True)
def lock(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    taken: list[str] = []

    @contextmanager
    def hold_tenant(_settings: Settings, tenant_id: str) -> Iterator[None]:
        taken.append(tenant_id)
        yield

    for module in (forget, engine_retention):
        monkeypatch.setattr(module, "hold_tenant", hold_tenant)
    return taken


@pytest.fixture(autouse=True)
def told(monkeypatch: pytest.MonkeyPatch) -> list[Event]:
    """The events that were written."""
    found: list[Event] = []
    monkeypatch.setattr(events, "emit", lambda _client, _settings, *new: found.extend(new))
    return found


def test_without_rules_nothing_goes(filled: Store, confkeep: Confkeep) -> None:
    done = confkeep("retention", "plan")
    assert done.exit_code == 0, done.output
    assert "nothing would go" in done.output
    applied = json.loads(confkeep("retention", "apply", "--json").stdout)
    assert [one["outcome"] for one in applied["tenants"]] == ["nothing to do"]


def test_plan_then_apply_then_read_by_old_ids(
    filled: Store, confkeep: Confkeep, lock: list[str]
) -> None:
    done = confkeep("retention", "set", TENANT, "--keep-last", "1", "--binary-keep-last", "1")
    assert done.exit_code == 0, done.output
    plan = json.loads(confkeep("retention", "plan", "--json", TENANT[:8]).stdout)["tenants"][0]
    assert plan["freed_bytes"] > 0
    assert plan["devices"] == [
        {
            "device_id": ROUTER,
            "device_name": None,
            "captures": 4,
            "captures_removed": 3,
            "binaries": 4,
            "binaries_removed": 0,
        }
    ]
    assert lock == []
    assert "3 captures" in confkeep("retention", "plan").output
    applied = json.loads(confkeep("retention", "apply", "--json").stdout)["tenants"][0]
    assert lock == [TENANT]
    assert {name: applied[name] for name in plan} == plan
    assert applied["outcome"] == "rewritten"
    first, switch, _second, _repeated, third = (commit.sha for commit in filled.commits)
    shown = confkeep("show", TENANT, ROUTER, "--at", third[:10])
    assert (shown.exit_code, shown.stdout) == (0, "/ip address\nadd a\nadd c\n")
    assert confkeep("show", TENANT, ROUTER, "--at", switch).exit_code != 0
    gone = confkeep("show", TENANT, ROUTER, "--at", first)
    assert gone.exit_code == RemovedByRetention.exit_code
    assert "removed by retention on 20" in gone.output


def test_what_apply_removed_is_undone(filled: Store, confkeep: Confkeep, lock: list[str]) -> None:
    assert confkeep("retention", "undo", TENANT).exit_code == UndoImpossible.exit_code
    confkeep("retention", "set", TENANT, "--keep-last", "1")
    confkeep("retention", "apply")
    done = json.loads(confkeep("retention", "undo", TENANT[:8], "--json").stdout)
    assert (done["tenant_id"], done["back"], done["since"]) == (TENANT, 3, 0)
    assert done["tip"] == filled.commits[-1].sha
    assert lock == [TENANT] * 3


def test_rules_of_a_tenant_go_before_the_settings(
    filled: Store, confkeep: Confkeep, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CONFKEEP_KEEP_LAST", "3")
    monkeypatch.setenv("CONFKEEP_KEEP_DAILY", "7")
    confkeep("retention", "set", TENANT, "--keep-daily", "none", "--keep-weekly", "2")
    shown = json.loads(confkeep("retention", "show", TENANT, "--json").stdout)
    assert {name: n for name, n in shown["rules"].items() if n} == {
        "keep_last": 3,
        "keep_weekly": 2,
    }
    assert shown["own"] == {"keep_daily": None, "keep_weekly": 2}
    confkeep("retention", "set", TENANT, "--keep-daily", "default")
    shown = json.loads(confkeep("retention", "show", TENANT, "--json").stdout)
    assert shown["rules"]["keep_daily"] == 7


@pytest.mark.parametrize("value", ["0", "-1", "many", "1000001", ""])
def test_a_rule_out_of_range_is_refused(filled: Store, confkeep: Confkeep, value: str) -> None:
    assert confkeep("retention", "set", TENANT, f"--keep-last={value}").exit_code == 2
    assert json.loads(confkeep("retention", "show", TENANT, "--json").stdout)["own"] == {}


def test_forgetting_wants_the_whole_id_or_yes(
    filled: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    called: list[tuple[str, ...]] = []

    def forget_device(_settings: object, *ids: str, wait_s: float) -> forget.Erased:
        called.append(ids)
        return forget.Erased(4, 0, 2)

    def forget_tenant(_settings: object, *ids: str, wait_s: float) -> forget.Erased:
        called.append(ids)
        return forget.Erased(None, 0, 2)

    monkeypatch.setattr(forget, "forget_device", forget_device)
    monkeypatch.setattr(forget, "forget_tenant", forget_tenant)
    monkeypatch.setattr(logs, "configure", lambda _settings: None)
    device = ["forget-device", TENANT[:8], ROUTER[:8]]
    tenant = ["forget-tenant", TENANT[:8]]
    for arguments in (device, tenant):
        for typed in ("", "yes\n", f"{ROUTER[:8]}\n"):
            refused = CliRunner().invoke(cli, arguments, input=typed)
            assert refused.exit_code == 2
            assert "Not confirmed, so nothing was done. With --yes" in refused.stderr
    assert called == []
    assert CliRunner().invoke(cli, device, input=f"{ROUTER}\n").exit_code == 0
    assert CliRunner().invoke(cli, tenant, input=f"{TENANT}\n").exit_code == 0
    done = CliRunner().invoke(cli, [*device, "--yes", "--json"])
    assert json.loads(done.stdout)["commits"] == 4
    assert "Erased tenant" in CliRunner().invoke(cli, [*tenant, "--yes"]).stdout
    assert called == [(TENANT, ROUTER), (TENANT,)] * 2


def test_the_task_tells_what_the_command_tells(
    filled: Store,
    confkeep: Confkeep,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    told: list[Event],
) -> None:
    confkeep("retention", "set", TENANT, "--keep-last", "2")
    plan = json.loads(confkeep("retention", "plan", "--json").stdout)["tenants"][0]
    with caplog.at_level(logging.INFO, "confkeep"):
        result = retention.retention(TENANT.upper())
    assert json.loads(json.dumps(result)) == result
    assert {name: result[name] for name in plan} == plan
    assert result["captures_removed"] == 2
    assert [vars(line)["action"] for line in caplog.records] == ["retention.applied"]
    assert [(event.type, event.tenant_id) for event in told] == [(events.RETENTION, TENANT)]
    assert told[0].data["captures_removed"] == 2
    with pytest.raises(NotInStore):
        retention.retention(ROUTER)

    def busy(_settings: Settings, tenant_id: str) -> None:
        raise TenantLocked(f"{tenant_id} is busy")

    monkeypatch.setattr(engine_retention, "hold_tenant", busy)
    assert retention.retention(TENANT) == {"tenant_id": TENANT, "outcome": "locked"}


def test_the_receipt_of_a_removed_backup_says_so(
    filled: Store, confkeep: Confkeep, monkeypatch: pytest.MonkeyPatch
) -> None:
    confkeep("retention", "set", TENANT, "--keep-last", "1")
    confkeep("retention", "apply")
    first, last = filled.commits[0], filled.commits[-1]
    path = filled.path / f"{TENANT}.git"
    assert receipt.receipt_in(path, TENANT, last.backup_id) is not None
    with pytest.raises(RemovedByRetention):
        receipt.receipt_in(path, TENANT, first.backup_id)
    assert receipt.receipt_in(path, TENANT, TENANT) is None
