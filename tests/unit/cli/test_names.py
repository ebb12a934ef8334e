"""People type names, and see them: devices and tenants by name, ambiguity, the directory."""

from __future__ import annotations

import datetime as dt
import json
import shutil
import subprocess
import time
import uuid
from pathlib import Path

import pytest
from click.shell_completion import ShellComplete

from confkeep.labels import Labels
from tests.judge import git
from tests.unit.cli.conftest import Confkeep, Store
from worker.cli import cli
from worker.engine.directory import directory_of
from worker.store.repository.backup import Backup, Naming
from worker.store.repository.description import read_name
from worker.store.repository.tenant_repository import open_repository, repository_path
from worker.store.writing.commit import open_for_writing

ACME = "aaaa1111-0000-4000-8000-000000000001"
OTHER = "bbbb1111-0000-4000-8000-000000000002"
CORE = "cafe0001-0000-4000-8000-000000000001"
EDGE = "beef0002-0000-4000-8000-000000000002"
TWIN = "beef0003-0000-4000-8000-000000000003"
NIGHTLY = "feed0005-0000-4000-8000-000000000005"
BARE = "dead0004-0000-4000-8000-000000000004"


def backup(device_id: str, text: str, **labels: str) -> Backup:
    return Backup(
        str(uuid.uuid4()), device_id, text.encode(), None, "poll", labels=Labels(**labels)
    )


@pytest.fixture
def named(store: Store) -> Path:
    """A tenant called acme with devices: one labelled, two of one name, one named by its export."""
    path = repository_path(store.path, ACME)
    with open_for_writing(path) as writer:
        writer.commit_backups(
            [
                backup(CORE, "a\n", name="core1", group="core", address="10.0.0.1"),
                backup(EDGE, "b\n", name="office", group="north"),
                backup(TWIN, "c\n", name="office", group="south"),
                backup(BARE, "/system identity\nset name=Cellar\n"),
            ]
        )
        writer.commit_backups([Naming(str(uuid.uuid4()), ACME, Labels("acme"), "m")])
    return store.path


@pytest.mark.parametrize(
    ("typed", "found"),
    [
        ("core1", CORE),
        ("CORE1", CORE),
        ("core/core1", CORE),
        ("north/office", EDGE),
        ("south/office", TWIN),
        ("Cellar", BARE),
        ("cafe", CORE),
        (CORE.upper(), CORE),
        (CORE.replace("-", ""), CORE),
    ],
)
def test_a_device_by_what_people_type(
    named: Path, confkeep: Confkeep, typed: str, found: str
) -> None:
    for tenant in ("acme", "ACME", ACME, "aaaa"):
        done = confkeep("show", tenant, typed, "--json")
        assert done.exit_code == 0, done.stderr
        assert json.loads(done.stdout)["device_id"] == found


def test_a_device_alone_where_one_is_called_so(named: Path, confkeep: Confkeep) -> None:
    assert confkeep("show", "core1").stdout == "a\n"
    assert "+a" in confkeep("diff", "core/core1").stdout
    assert json.loads(confkeep("show", "cafe0001", "--json").stdout)["tenant_name"] == "acme"
    two = confkeep("show", "office")
    assert two.exit_code == 2
    assert "office (beef0002) of tenant acme (aaaa1111), office (beef0003) of" in two.stderr
    assert "Type the tenant before the device" in two.stderr
    assert "acme is a tenant: type a device of it behind" in confkeep("diff", "acme").stderr
    assert "no device is called core2; did you mean core1?" in confkeep("show", "core2").stderr
    assert "no device is called nobody" in confkeep("restore", "nobody", "-o", "x").stderr


def test_an_import_makes_no_second_tenant_of_a_name(
    named: Path, confkeep: Confkeep, tmp_path: Path
) -> None:
    exports = tmp_path / "exports"
    exports.mkdir()
    (exports / "core9.rsc").write_text("/ip address\n")
    for more in ((), ("--dry-run",)):
        done = confkeep("import", str(exports), "--tenant", "acme", *more)
        assert done.exit_code == 2
        assert "tenant acme (aaaa1111) is called so already" in done.stderr
        assert f"--tenant {ACME} imports into that one" in done.stderr
    for tenant in (ACME, "another"):
        planned = confkeep("import", str(exports), "--tenant", tenant, "--dry-run")
        assert planned.exit_code == 0
        assert "core9 (" in planned.stdout.splitlines()[1]


def test_an_ambiguous_name_lists_the_candidates(named: Path, confkeep: Confkeep) -> None:
    done = confkeep("show", "acme", "office")
    assert done.exit_code == 2
    assert "north/office (beef0002)" in done.stderr
    assert "south/office (beef0003)" in done.stderr


def test_a_name_that_begins_another_id_is_ambiguous(named: Path, confkeep: Confkeep) -> None:
    with open_for_writing(repository_path(named, ACME)) as writer:
        writer.commit_backups([Naming(str(uuid.uuid4()), BARE, Labels("cafe"), "m")])
    done = confkeep("show", "acme", "cafe")
    assert done.exit_code == 2
    assert "cafe (dead0004)" in done.stderr
    assert "core1 (cafe0001)" in done.stderr


def test_a_name_is_looked_for_as_it_is_and_then_in_any_case(
    named: Path, confkeep: Confkeep
) -> None:
    with open_for_writing(repository_path(named, ACME)) as writer:
        writer.commit_backups([Naming(str(uuid.uuid4()), BARE, Labels("CORE1"), "m")])
    for typed, found in (("core1", CORE), ("CORE1", BARE)):
        assert json.loads(confkeep("show", "acme", typed, "--json").stdout)["device_id"] == found
    done = confkeep("show", "acme", "Core1")
    assert done.exit_code == 2
    assert "Core1 names 2 devices" in done.stderr


def test_a_wrong_name_gets_the_nearest(named: Path, confkeep: Confkeep) -> None:
    done = confkeep("show", "acme", "cor1")
    assert done.exit_code == 2
    assert "did you mean core1?" in done.stderr
    done = confkeep("show", "acne", "core1")
    assert "no tenant is called acne; did you mean acme?" in done.stderr


def test_the_directory(named: Path, confkeep: Confkeep) -> None:
    text = confkeep("devices", "acme")
    assert text.exit_code == 0, text.stderr
    lines = text.stdout.splitlines()
    assert lines[0].split() == [
        "device", "id", "versions", "last", "change", "(UTC)", "seen", "ago", "group", "address",
    ]  # fmt: skip
    assert [line.split()[0] for line in lines[1:]] == ["(Cellar)", "office", "office", "core1"]
    assert "4 devices of tenant acme (aaaa1111)" in text.stderr
    found = json.loads(confkeep("devices", "acme", "--group", "core", "--json").stdout)
    assert (found["tenant_id"], found["tenant_name"]) == (ACME, "acme")
    [device] = found["devices"]
    assert device["name"] == "core1"
    assert (device["address"], device["group"], device["own_name"]) == ("10.0.0.1", "core", None)
    assert json.loads(confkeep("devices", "acme", "--stale", "--json").stdout)["devices"] == []
    assert len(json.loads(confkeep("devices", "acme", "--stale", "0s", "--json").stdout)["devices"])
    changed = json.loads(confkeep("devices", "acme", "--changed-since", "1h", "--json").stdout)
    assert len(changed["devices"]) == 4


def test_only_a_change_of_the_configuration_counts_as_one(named: Path, confkeep: Confkeep) -> None:
    """RouterOS dates each export: with the date alone, every device would have changed in every night."""
    week_ago = int(time.time()) - 7 * 86_400
    night, later = "# %s by RouterOS 7.16\n/ip\n", "2026-10-02 10:00:00"
    with open_for_writing(repository_path(named, ACME)) as writer:
        writer.commit_backups([backup(NIGHTLY, night % "2026-10-01 10:00:00")], now_s=week_ago)
        writer.commit_backups([backup(NIGHTLY, night % later)])

    def listed(*options: str) -> dict[str, dict[str, str]]:
        found = json.loads(confkeep("devices", "acme", *options, "--json").stdout)["devices"]
        return {each["device_id"]: each for each in found}

    assert [*listed()][-1] == NIGHTLY
    assert listed()[NIGHTLY]["export_changed_at"] < listed()[NIGHTLY]["changed_at"]
    assert [*listed("--changed-since", "2d")] == [BARE, TWIN, EDGE, CORE]
    assert NIGHTLY in listed("--changed-since", "8d")
    day = f"{dt.datetime.fromtimestamp(week_ago, dt.UTC):%Y-%m-%d %H:%M:%S}"
    assert day in confkeep("devices", "acme").stdout.splitlines()[-1]


def test_the_directory_has_what_is_in_the_newest_commit_and_when_it_was_seen(store: Store) -> None:
    path = repository_path(store.path, ACME)
    with open_for_writing(path) as writer:
        first, same = backup(CORE, "a\n"), backup(CORE, "a\n")
        writer.commit_backups([first, backup(BARE, "b\n")], now_s=1_000)
        writer.commit_backups([same], now_s=2_000)
    lines = git(path, "ls-tree", "main").decode().splitlines(keepends=True)
    kept = "".join(line for line in lines if BARE not in line)
    tree = git(path, "mktree", stdin=kept.encode()).decode().strip()
    made = git(path, "commit-tree", "-p", "main", "-m", "without", tree).decode().strip()
    git(path, "update-ref", "refs/heads/main", made)
    [device] = directory_of(open_repository(path))
    assert (device.called.id, device.versions, device.last.committed_s) == (CORE, 1, 1_000)
    assert device.seen_at == dt.datetime.fromtimestamp(2_000, dt.UTC)


def test_history_and_restore_show_names(named: Path, confkeep: Confkeep, tmp_path: Path) -> None:
    assert "acme (aaaa1111)" in confkeep("history").stdout
    assert "office (beef0002)" in confkeep("history", "acme").stdout
    one = confkeep("history", "acme", "core1")
    assert "device core1 (cafe0001) of tenant acme (aaaa1111)" in one.stderr
    restored = confkeep("restore", "acme", "core1", "-o", str(tmp_path / "out"))
    assert "Device core1 (cafe0001) as captured" in restored.stdout


def test_a_tenant_has_its_name_in_git_and_in_the_description(named: Path) -> None:
    path = repository_path(named, ACME)
    assert (path / "description").read_text() == "acme\n"
    with open_for_writing(path) as writer:
        naming = Naming(str(uuid.uuid4()), ACME, Labels("Acme Ltd"), "m")
        writer.commit_backups([naming])
        assert read_name(path) == "Acme Ltd"
        (path / "description").unlink()
        writer.commit_backups([naming])
        assert read_name(path) == "Acme Ltd"
        writer.commit_backups([Naming(str(uuid.uuid4()), ACME, Labels(""), "m")])
    assert read_name(path) is None


def test_a_new_repository_has_no_name(store: Store) -> None:
    path = repository_path(store.path, OTHER)
    with open_for_writing(path) as writer:
        writer.commit_backups([backup(CORE, "a\n")])
    assert read_name(path) is None
    (path / "description").write_text("Unnamed repository; edit this file 'description' to ...\n")
    assert read_name(path) is None


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        ("confkeep show ", {"acme"}),
        ("confkeep show acme ", {"core1", "Cellar", "office"}),
        ("confkeep show acme co", {"core1"}),
        ("confkeep show acme cafe", {CORE}),
        ("confkeep devices a", {"acme"}),
        ("confkeep forget-device acme C", {"Cellar"}),
        ("confkeep show nobody ", set()),
    ],
)
def test_shells_complete_names(named: Path, typed: str, expected: set[str]) -> None:
    words = typed.split(" ")
    complete = ShellComplete(cli, {}, "confkeep", "_CONFKEEP_COMPLETE")
    found = complete.get_completions(words[1:-1], words[-1])
    assert {item.value for item in found} == expected


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_of_each_shell(confkeep: Confkeep, shell: str) -> None:
    done = confkeep("completion", shell)
    assert done.exit_code == 0
    assert "_CONFKEEP_COMPLETE" in done.stdout
    if shutil.which(shell):
        subprocess.run([shell, "-n"], input=done.stdout.encode(), check=True)
