"""repack and stale: what they print, for people, for cron and for programs."""

from __future__ import annotations

import json

import pytest
import redis
from click.testing import Result

from confkeep.errors import GitUnavailable, NotInStore, RepositoryBusy, StoreUnavailable
from confkeep.settings import get_settings
from tests.judge import git
from tests.unit.cli.conftest import ROUTER, SWITCH, TENANT, Confkeep, Store, hours_ago
from worker.store.git import flock
from worker.store.history.index import INDEX_NAME
from worker.store.repository.tenant_repository import repository_path
from worker.store.upkeep import repack_state

OTHER = "aaaa2222-0000-4000-8000-000000000002"


def test_repack_of_one_tenant(filled: Store, confkeep: Confkeep) -> None:
    done = confkeep("repack", TENANT[:8])
    assert done.exit_code == 0, done.output
    assert f"{TENANT}  5 packs -> 1 (small ones together)" in done.stdout
    (said,) = json.loads(confkeep("repack", "--full", "--json").stdout)["tenants"]
    assert (said["full"], said["no_full"], said["error"]) == (True, None, None)
    assert (said["packs_before"], said["packs_after"]) == (1, 1)


def test_one_that_cannot_be_repacked_keeps_no_other_from_it(
    filled: Store, confkeep: Confkeep
) -> None:
    filled.add(ROUTER, b"/ip\n", tenant_id=OTHER)
    filled.add(ROUTER, b"/ip a\n", tenant_id=OTHER)
    with flock.maintenance(repository_path(filled.path, TENANT)):
        done = confkeep("repack")
        said = json.loads(confkeep("repack", "--json").stdout)["tenants"]
    assert done.exit_code == RepositoryBusy.exit_code
    assert f"{TENANT}  not repacked: {TENANT}.git is being repacked" in done.stdout
    assert f"{OTHER}  2 packs -> 1" in done.stdout
    assert ["error" in one and one["error"] is not None for one in said] == [True, False]


def test_repack_says_when_git_is_missing(
    filled: Store, confkeep: Confkeep, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(filled.path))
    done = confkeep("repack")
    monkeypatch.undo()
    assert done.exit_code == GitUnavailable.exit_code
    assert "there is no git on PATH" in done.stderr


def test_stale_devices(store: Store, confkeep: Confkeep) -> None:
    store.add_at(hours_ago(50), SWITCH)
    store.add_at(hours_ago(30), ROUTER)
    assert confkeep("stale", "--older-than", "60h").exit_code == 0
    # An unchanged backup counts, though it is no version.
    store.add_at(hours_ago(2), ROUTER)
    done = confkeep("stale", "--older-than", "26h")
    assert done.exit_code == 3
    assert SWITCH in done.stdout
    assert ROUTER not in done.stdout
    assert "1 of 2 devices stale" in done.stderr
    said = json.loads(confkeep("stale", "--older-than", "1h", "--json").stdout)
    assert (said["older_than_s"], said["devices"]) == (3_600, 2)
    assert [one["device_id"] for one in said["stale"]] == [SWITCH, ROUTER], "the oldest first"
    assert said["stale"][0]["age_s"] == pytest.approx(50 * 3_600, abs=60)


def test_stale_takes_the_age_of_the_events(
    store: Store, confkeep: Confkeep, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.add_at(hours_ago(30), SWITCH)

    def stale_of(hours: str, *more: str) -> Result:
        monkeypatch.setenv("CONFKEEP_STALE_HOURS", hours)
        get_settings.cache_clear()
        return confkeep("stale", *more)

    assert confkeep("stale").exit_code == 3, "26 hours, the default"
    assert stale_of("40").exit_code == 0
    assert stale_of("40", "--older-than", "20h").exit_code == 3
    never = stale_of("0")
    assert never.exit_code == 2
    assert "--older-than: CONFKEEP_STALE_HOURS=0" in never.stderr


@pytest.mark.parametrize("state", ["absent", "behind", "merged"])
def test_stale_without_a_complete_index(state: str, store: Store, confkeep: Confkeep) -> None:
    store.add_at(hours_ago(50), SWITCH)
    store.add_at(hours_ago(30), ROUTER)
    path = repository_path(store.path, TENANT)
    index = path / INDEX_NAME
    if state == "behind":
        kept = index.read_bytes()
        store.add_at(hours_ago(2), ROUTER)
        index.write_bytes(kept)
    else:
        store.add_at(hours_ago(2), ROUTER)
        index.unlink()
    if state == "merged":
        merge = git(path, "commit-tree", "main^{tree}", "-p", "main", "-p", "main~1", "-m", "x")
        git(path, "update-ref", "refs/heads/main", merge.decode().strip())
    said = json.loads(confkeep("stale", "--older-than", "26h", "--json").stdout)
    assert [one["device_id"] for one in said["stale"]] == [SWITCH]


def test_stale_of_one_tenant_and_of_none(filled: Store, confkeep: Confkeep) -> None:
    assert confkeep("stale", "--older-than", "1d", "--tenant", TENANT[:8]).exit_code == 0
    assert confkeep("stale", "--older-than", "1d", "--tenant", OTHER).exit_code == (
        NotInStore.exit_code
    )
    wrong = confkeep("stale", "--older-than", "26")
    assert wrong.exit_code == 2
    assert "such as 26h" in wrong.stderr


def test_history_marks_suspect_versions(store: Store, confkeep: Confkeep) -> None:
    store.add(ROUTER, b"/ip address\nadd a\n", None, "good")
    store.add(ROUTER, b"Bus error\n", None, "bad")
    done = confkeep("history", TENANT, ROUTER)
    assert "[suspect: the export holds an error: Bus error] bad" in done.stdout
    said = json.loads(confkeep("history", TENANT, ROUTER, "--json").stdout)["versions"]
    assert [one["suspect"] for one in said] == ["the export holds an error: Bus error", None]
    listed = json.loads(confkeep("devices", TENANT, "--json").stdout)["devices"]
    assert [one["suspect"] for one in listed] == ["the export holds an error: Bus error"]


def test_status_says_what_keeps_maintenance_away(
    filled: Store, confkeep: Confkeep, client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "Maintenance" not in confkeep("status").stdout
    monkeypatch.setattr(repack_state, "free_bytes", lambda _path: 0)
    assert confkeep("repack", TENANT).exit_code == StoreUnavailable.exit_code
    assert f"{TENANT}: not repacked: {TENANT}.git: a repack needs" in confkeep("status").stdout
    with monkeypatch.context() as without:
        without.setenv("PATH", str(filled.path))
        assert "  there is no git on PATH" in confkeep("status").stdout
    said = json.loads(confkeep("status", "--json").stdout)["maintenance"]
    assert said["git"] is None
    assert "free space" in said["skipped"][TENANT]
