"""Histories that other tools kept: each version, its date and message; made with real git."""

from __future__ import annotations

import csv
import datetime as dt
import json
import os
import re
import subprocess
import uuid
from dataclasses import dataclass
from pathlib import Path

import pytest

from confkeep.errors import InvalidBackup, InvalidInput
from tests.histories import device_ids, write_merged
from tests.judge import GIT_ENVIRONMENT, git
from tests.unit.cli.conftest import ROUTER, TENANT, Confkeep, Store
from worker.cli import exports_folder, import_kept, sources
from worker.cli.sources import captures, oxidized, rancid
from worker.cli.sources.found import Found
from worker.cli.sources.git_history import read_history
from worker.cli.sources.names import NAMESPACE, Names
from worker.store.history.index import open_index
from worker.store.repository.backup import Backup
from worker.store.repository.tenant_repository import (
    create_repository,
    open_repository,
    repository_path,
)
from worker.store.rewriting.retention import apply_retention
from worker.store.rewriting.retention_rules import policy_of
from worker.store.writing.commit import Writer


def made(name: str) -> str:
    return str(uuid.uuid5(NAMESPACE, name))


@dataclass
class Source:
    """A repository that another tool writes."""

    path: Path
    clock: int = 1_600_000_000

    def run(self, *arguments: str, stdin: bytes | None = None) -> str:
        environment = {
            **GIT_ENVIRONMENT,
            "GIT_AUTHOR_NAME": "Oxi",
            "GIT_AUTHOR_EMAIL": "oxi@example.net",
            "GIT_AUTHOR_DATE": f"@{self.clock} +0530",
            "GIT_COMMITTER_DATE": f"@{self.clock + 9} +0000",
        }
        return subprocess.run(
            ["git", "-C", str(self.path), *arguments],
            check=True,
            env=environment,
            capture_output=True,
            input=stdin,
        ).stdout.decode()

    def init(self) -> Source:
        self.path.mkdir(parents=True)
        self.run("init", "-q", "-b", "master")
        return self

    def commit(self, message: str, files: dict[str, bytes | None]) -> str:
        self.clock += 60
        for name, content in files.items():
            path = self.path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if content is None:
                path.unlink()
            else:
                path.write_bytes(content)
        self.run("add", "-A")
        self.run("commit", "-q", "--allow-empty", "-m", message)
        return self.run("rev-parse", "HEAD").strip()


def contents(found: Found, name: str) -> list[bytes]:
    device_id = found.named_ids[name]
    return [c.read()[0] for c in found.captures if c.row.device_id == device_id]


def bare_copy(source: Source, path: Path) -> Path:
    git(source.path, "clone", "-q", "--bare", str(source.path), str(path))
    return path


def test_oxidizeds_versions_come_with_dates_and_messages(tmp_path: Path, store: Store) -> None:
    source = Source(tmp_path / "oxidized").init()
    first = source.commit("update r1\n\nby the poller", {"r1": b"one\r\n", "site/r2": b"a\n"})
    source.commit("nothing", {})
    second = source.commit("update r1", {"r1": b"two"})
    source.commit("update r2", {"site/r2": b"b\n", ".gitignore": b"x\n"})

    bare = bare_copy(source, tmp_path / "default.git")
    found = oxidized.read(bare, tenant=None, names=Names())

    assert sources.detect(bare) == sources.OXIDIZED
    assert found.named_ids == {
        name: made(name) for name in ("default", "default/r1", "site", "site/r2")
    }
    assert contents(found, "default/r1") == [b"one\r\n", b"two"]
    assert contents(found, "site/r2") == [b"a\n", b"b\n"]
    capture = found.captures[0]
    assert capture.message == "update r1\n\nby the poller\n\nBy Oxi <oxi@example.net>"
    zone = dt.timezone(dt.timedelta(hours=5, minutes=30))
    assert capture.captured_at == dt.datetime.fromtimestamp(1_600_000_060, zone)
    assert capture.captured_at.tzinfo == zone
    device = found.named_ids["default/r1"]
    tenant = found.named_ids["default"]
    ids = [c.backup_id(b"", None) for c in found.captures if c.row.device_id == device]
    assert ids == [made(f"{tenant}/{device}/{commit}/r1") for commit in (first, second)]

    # As the store commits them, the author's dates are git's own.
    repository = create_repository(repository_path(store.path, tenant))
    Writer(repository).commit_backups(
        [
            Backup(str(c.known_id), c.row.device_id, *c.read(), c.message, c.captured_at)
            for c in found.captures
            if c.row.tenant_id == tenant
        ],
    )
    theirs = git(bare, "log", "--format=%ad %s", "--", "r1")
    assert git(repository.path, "log", "--format=%ad %s", "main", "--", device) == theirs


def test_the_groups_repositories_are_tenants(tmp_path: Path) -> None:
    for group in ("core", "edge"):
        source = Source(tmp_path / "work" / group).init()
        source.commit("new", {"r1": group.encode()})
        bare_copy(source, tmp_path / "oxidized" / f"{group}.git")

    found = oxidized.read(tmp_path / "oxidized", tenant=None, names=Names())
    assert sources.detect(tmp_path / "oxidized") == sources.OXIDIZED
    assert sorted(found.named_ids) == ["core", "core/r1", "edge", "edge/r1"]
    one = oxidized.read(tmp_path / "oxidized", tenant="all", names=Names())
    assert sorted(one.named_ids) == ["all", "all/core/r1", "all/edge/r1"]


def test_merges_are_followed_as_git_log_does(tmp_path: Path) -> None:
    source = Source(tmp_path / "merged").init()
    source.commit("base", {"r1": b"1", "r2": b"1", "r3": b"x\n1\n2\n3\ny\n"})
    source.run("checkout", "-q", "-b", "side")
    source.commit("side", {"r1": b"side 1", "r3": b"side\n1\n2\n3\ny\n"})
    source.commit("lost", {"r2": b"lost"})
    source.run("checkout", "-q", "master")
    source.commit("main", {"r2": b"main", "r3": b"x\n1\n2\n3\nmain\n"})
    source.clock += 60
    source.run("merge", "-q", "-X", "ours", "--no-edit", "side")
    source.commit("after", {"r2": b"last"})

    found = oxidized.read(source.path, tenant="t", names=Names())

    for name in ("r1", "r2", "r3"):
        listed = git(source.path, "log", "--topo-order", "--reverse", "--format=%h", "--", name)
        places = [c.place for c in found.captures if c.row.device_id == made(f"t/{name}")]
        commits = [place.split(" at ")[1][:7] for place in places]
        assert sorted(commits) == sorted(listed.decode().split()), name
        newest = git(source.path, "show", f"HEAD:{name}")
        assert contents(found, f"t/{name}")[-1] == newest
    assert len(contents(found, "t/r3")) == 4


@pytest.mark.parametrize("seed", range(4))
def test_any_history_is_that_of_git_log(tmp_path: Path, seed: int) -> None:
    path = tmp_path / "any.git"
    devices = device_ids(4, seed)
    write_merged(path, devices, 60, seed)
    versions = read_history(path).versions
    names = git(path, "log", "--name-only", "--format=", "-m", "main").decode().split()
    for name in set(names):
        listed = git(path, "log", "--format=%H", "main", "--", name).decode().split()
        assert {version.commit for version in versions[name]} == set(listed), name
        newest = git(path, "rev-parse", "main:" + name) if versions[name][-1].blob else None
        assert newest is None or newest.decode().strip() == str(versions[name][-1].blob)


def test_a_shallow_clone_gives_what_it_has(tmp_path: Path) -> None:
    source = Source(tmp_path / "whole").init()
    for number in range(4):
        source.commit(f"v{number}", {"r1": b"%d" % number})
    shallow = tmp_path / "shallow"
    git(source.path, "clone", "-q", "--depth", "2", source.path.as_uri(), str(shallow))
    found = oxidized.read(shallow, tenant="t", names=Names())
    assert contents(found, "t/r1") == [b"2", b"3"]


def test_renamed_and_removed_files_and_bad_captures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = Source(tmp_path / "oxidized").init()
    source.commit("first", {"old": b"a\n" * 50, "gone": b"x"})
    source.commit("renamed", {"old": None, "new": b"a\n" * 50})
    source.commit("removed", {"gone": None})
    source.commit("bad capture", {"new": b"a\0b"})
    source.commit("again", {"new": b"b\n"})
    (source.path / "link").symlink_to("new")
    source.commit("link", {})
    mapping = tmp_path / "map.csv"

    found = oxidized.read(source.path, tenant="t", names=(names := Names(mapping)))

    assert contents(found, "t/gone") == [b"x"]
    assert found.left_out == ["oxidized: link is no file and was left out"]
    assert any(note.startswith("old was removed in ") for note in found.notes)
    assert "t/link" not in found.named_ids
    # What the store accepts comes in, and is marked as suspect there.
    (bad,) = [c for c in found.captures if c.message.startswith("bad")]
    assert bad.read() == (b"a\0b", None)
    with monkeypatch.context() as few, pytest.raises(InvalidBackup, match="at most 10 bytes"):
        few.setattr(captures, "MAX_EXPORT_BYTES", 10)
        found.captures[0].read()

    # The mapping makes both names one device: in the order of the history, whatever the dates.
    assert names.write()
    rows = list(csv.DictReader(mapping.read_text().splitlines()))
    for row in rows:
        if row["source"] in ("t/old", "t/new"):
            row["device_id"] = ROUTER
        row["skip"] = "yes" if row["source"] == "t/gone" else ""
    with mapping.open("w") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    found = oxidized.read(source.path, tenant="t", names=(names := Names(mapping)))
    assert [c.message.split()[0] for c in found.captures if c.row.device_id == ROUTER] == [
        "first",
        "renamed",
        "bad",
        "again",
    ]
    assert "t/gone" not in found.named_ids
    assert not names.write(), "nothing is new"


def test_a_huge_message_is_cut_to_what_a_backup_may_have(tmp_path: Path) -> None:
    source = Source(tmp_path / "oxidized").init()
    source.commit("é" * 5000, {"r1": b"1"})
    source.clock = 4_200_000_000
    source.commit("from the future", {"r1": b"2"})
    old, new = oxidized.read(source.path, tenant="t", names=Names()).captures
    assert 4090 <= len(old.message.encode()) <= 4096
    assert old.message.endswith("é\n\nBy Oxi <oxi@example.net>")
    assert new.captured_at == dt.datetime(2100, 1, 1, tzinfo=dt.UTC)


ROUTER_DB = b"# all\nr1;mikrotik;up\nr2;mikrotik;down;spare\nr3;cisco;up\n"


def test_rancid_under_git_gives_its_history(tmp_path: Path) -> None:
    source = Source(tmp_path / "rancid" / "core").init()
    source.commit("new", {"router.db": ROUTER_DB, "configs/r1": b"1", "configs/left": b"x"})
    source.commit("updates", {"configs/r1": b"2", "configs/r2": b"9", "configs/.cvsignore": b""})

    assert sources.detect(tmp_path / "rancid") == sources.RANCID
    mapping = tmp_path / "map.json"
    found = rancid.read(tmp_path / "rancid", tenant=None, names=(names := Names(mapping)))
    assert contents(found, "core/r1") == [b"1", b"2"]
    assert contents(found, "core/r2") == [b"9"]
    assert found.captures[0].message == "new\n\nBy Oxi <oxi@example.net>"
    assert "core: r3 has no configuration" in found.notes
    assert found.left_out == ["core: left is not in router.db and was left out"]
    assert "core/left" not in found.named_ids

    names.write()
    rows = json.loads(mapping.read_text())
    for row in rows:
        row["skip"] = False
        # A blank id is made from the names.
        row.update(tenant="renamed", tenant_id="", device_id="")
    mapping.write_text(json.dumps(rows))
    again = rancid.read(source.path, tenant=None, names=Names(mapping))
    assert contents(again, "renamed/left") == [b"x"]
    assert again.captures[0].row.tenant_id == made("renamed")


def test_rancid_without_git_is_one_version_each(tmp_path: Path) -> None:
    group = tmp_path / "core"
    (group / "configs" / "CVS").mkdir(parents=True)
    (group / "router.db").write_bytes(b"r1:mikrotik:up\n")
    (group / "configs" / "r1").write_bytes(b"one\n")
    (group / "configs" / "r1.new").write_bytes(b"half")
    os.utime(group / "configs" / "r1", (1_600_000_000, 1_600_000_000))

    first = rancid.read(group, tenant="t", names=Names())
    (capture,) = first.captures
    assert (capture.row.device_id, capture.captured_at.timestamp()) == (made("t/r1"), 1_600_000_000)
    one = capture.backup_id(*capture.read())
    (group / "configs" / "r1").write_bytes(b"two\n")
    assert capture.backup_id(*capture.read()) != one, "a later version is another backup"


@pytest.mark.parametrize(
    ("name", "text", "problem"),
    [
        ("m.json", "{", "no JSON"),
        ("m.json", "{}", "list of objects"),
        ("m.json", '[{"source": "t/r", "tenant": "t", "device": ""}]', "device must not be blank"),
        ("m.csv", "source,tenant,device,device_id\nt/r,t,r,no-uuid\n", "row 1: device_id must be"),
        ("m.csv", "source,tenant,device\nt/r,t,r\nt/r,t,r\n", "row 2: source stands twice"),
        ("m.csv", "source,tenant,device,skip\nt/r,t,r,maybe\n", "skip must be"),
        ("m.csv", "source,tenant,device,colour\nt/r,t,r,red\n", "no columns but"),
        ("m.csv", "source,tenant,device\nt/r,t,r,more\n", "no columns but"),
    ],
)
def test_a_wrong_mapping_is_refused(tmp_path: Path, name: str, text: str, problem: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(InvalidInput, match=problem):
        Names(tmp_path / name)


@pytest.mark.usefixtures("at_80_columns")
def test_a_long_name_hides_no_figure_of_a_dry_run(tmp_path: Path, confkeep: Confkeep) -> None:
    source = Source(tmp_path / "oxidized").init()
    source.commit("first", {"access-switch-7" * 5: b"1\n", "r1": b"1\n"})
    planned = confkeep("import", source.path, "--dry-run")
    (row,) = [line for line in planned.stdout.splitlines() if line.startswith("access-")]
    assert len(row) <= 80
    assert re.search(r" +1 +0 +[\d-]{10} +[\d-]{10}$", row), row


def test_a_dry_run_writes_the_mapping_and_lists_what_is_left_out(
    tmp_path: Path, confkeep: Confkeep
) -> None:
    source = Source(tmp_path / "oxidized").init()
    source.commit("first", {"r1": b"1\n"})
    (source.path / "link").symlink_to("r1")
    source.commit("second", {"r1": b"2\n"})
    planned = confkeep("import", source.path, "--dry-run", "--mapping", tmp_path / "map.json")
    assert planned.exit_code == 0, planned.output
    assert "Would import from oxidized 2 backups of 1 device of 1 tenant" in planned.stdout
    assert "link is no file" in planned.stdout
    (row,) = json.loads((tmp_path / "map.json").read_text())
    assert (row["source"], row["device_id"]) == ("oxidized/r1", made("oxidized/r1"))
    said = json.loads(confkeep("import", source.path, "--dry-run", "--json").stdout)
    assert (said["found"], said["source"], len(said["left_out"])) == (2, "oxidized", 1)
    assert confkeep("import", source.path, "--dry-run", "--strict").exit_code == 1


def test_a_mapping_decides_about_exports_too(tmp_path: Path, confkeep: Confkeep) -> None:
    for name in ("acme/r1/1.rsc", "acme/r2/1.rsc"):
        (tmp_path / "exports" / name).parent.mkdir(parents=True)
        (tmp_path / "exports" / name).write_bytes(b"/ip\n")
    mapping = tmp_path / "map.json"
    arguments = ("import", tmp_path / "exports", "--dry-run", "--json", "--mapping", mapping)
    assert json.loads(confkeep(*arguments).stdout)["found"] == 2
    first, second = json.loads(mapping.read_text())
    rows = [{**first, "tenant_id": TENANT, "device_id": ROUTER}, {**second, "skip": True}]
    mapping.write_text(json.dumps(rows))
    said = json.loads(confkeep(*arguments).stdout)
    assert (said["found"], said["tenants"]) == (1, {TENANT: 1})


def test_rancid_lower_cases_the_names_of_files(tmp_path: Path) -> None:
    source = Source(tmp_path / "core").init()
    listed = b"CORE-SW1.Example.net;cisco;up\nlan-sw;cisco;up\n"
    source.commit(
        "new", {"router.db": listed, "configs/core-sw1.example.net": b"", "configs/lan-sw": b""}
    )
    source.commit(
        "updates", {"configs/core-sw1.example.net": b"hostname a\n", "configs/lan-sw": b"b\n"}
    )
    found = rancid.read(source.path, tenant=None, names=Names())
    assert contents(found, "core/core-sw1.example.net") == [b"hostname a\n"]
    # The empty files with which RANCID begins are no failure.
    assert contents(found, "core/lan-sw") == [b"b\n"]
    assert (found.left_out, found.notes) == ([], [])


def test_rancids_bare_repositories_are_its_groups(tmp_path: Path) -> None:
    for group in ("core", "edge"):
        source = Source(tmp_path / "work" / group).init()
        files = {"router.db": b"lan-sw;cisco;up\n", "configs/lan-sw": group.encode()}
        source.commit("updates", {**files, "configs/x": b"1"})
        bare_copy(source, tmp_path / "CVS" / group)
    assert sources.detect(tmp_path / "CVS") == sources.RANCID
    assert sources.detect(tmp_path / "CVS" / "core") == sources.RANCID
    found = rancid.read(tmp_path / "CVS", tenant=None, names=Names())
    assert sorted(found.named_ids) == ["core", "core/lan-sw", "edge", "edge/lan-sw"]
    assert contents(found, "edge/lan-sw") == [b"edge"]
    assert found.left_out == [
        f"{group}: x is not in router.db and was left out" for group in ("core", "edge")
    ]


def test_one_device_of_two_repositories_is_asked_about(tmp_path: Path) -> None:
    source = Source(tmp_path / "all" / "core").init()
    source.commit("new", {"r1": b"1"})
    bare_copy(source, tmp_path / "all" / "core.git")
    with pytest.raises(InvalidInput, match=r"core and core\.git both hold core/r1"):
        oxidized.read(tmp_path / "all", tenant=None, names=Names())


def test_a_head_that_names_no_branch(tmp_path: Path) -> None:
    source = Source(tmp_path / "work").init()
    source.commit("new", {"r1": b"1"})
    bare = bare_copy(source, tmp_path / "groups" / "core.git")
    git(bare, "symbolic-ref", "HEAD", "refs/heads/main")
    found = oxidized.read(tmp_path / "groups", tenant=None, names=Names())
    assert contents(found, "core/r1") == [b"1"], "there is one branch only"
    git(bare, "branch", "other", "master")
    with pytest.raises(
        InvalidInput, match=r"names refs/heads/main, which is not there.*symbolic-ref"
    ):
        oxidized.read(tmp_path / "groups", tenant=None, names=Names())
    git(tmp_path / "groups", "init", "-q", "--bare", "empty.git")
    git(bare, "symbolic-ref", "HEAD", "refs/heads/other")
    found = oxidized.read(tmp_path / "groups", tenant=None, names=Names())
    assert found.notes == ["empty.git has no commit"]


# --- into a store that has some of it


def committed(found: Found, store: Store, count: int | None = None) -> str:
    """Let the store have the first captures of what was found; the tenant's id."""
    [tenant] = {capture.row.tenant_id for capture in found.captures}
    backups = [
        Backup(
            c.backup_id(*c.read()),
            c.row.device_id,
            *c.read(),
            c.message,
            c.captured_at,
        )
        for c in list(found.captures)[:count]
    ]
    Writer(create_repository(repository_path(store.path, tenant))).commit_backups(backups)
    return tenant


def test_old_captures_are_not_put_on_top_of_newer_ones(
    tmp_path: Path, store: Store, confkeep: Confkeep
) -> None:
    source = Source(tmp_path / "oxidized").init()
    for number in (1, 2):
        source.commit("update", {"r1": b"v%d" % number, "r2": b"%d" % number})
    first = oxidized.read(source.path, tenant=None, names=Names())
    tenant = committed(first, store)
    store.captured_at = dt.datetime.fromtimestamp(source.clock + 3600, dt.UTC)
    live = first.named_ids["oxidized/r1"]
    store.add(live, b"live", tenant_id=tenant)
    # Oxidized ran once more before it was switched off.
    source.commit("update", {"r1": b"v3", "r2": b"3"})
    whole = oxidized.read(source.path, tenant=None, names=Names())

    [older] = import_kept.look(store.path, whole.captures).older
    assert (older.device_id, older.captures, older.newest_kept) == (live, 1, store.captured_at)
    assert older.place.startswith("r1 at ")
    done = confkeep("import", source.path)
    assert done.exit_code == 2
    assert "1 capture of 1 device would be put on top of newer ones" in done.stderr
    error, hint = done.stderr.split("hint: ")
    assert "and its device has one of" in error
    assert "--tenant NAME" in hint
    assert "--allow-older" in hint
    said = json.loads(confkeep("import", source.path, "--dry-run", "--json").stdout)
    assert [each["device_id"] for each in said["older"]] == [live]
    assert "would be put on top" in confkeep("import", source.path, "--dry-run").stdout


def test_an_unchanged_live_capture_is_newer_too(tmp_path: Path, store: Store) -> None:
    source = Source(tmp_path / "oxidized").init()
    source.commit("update", {"r1": b"same"})
    first = oxidized.read(source.path, tenant=None, names=Names())
    tenant = committed(first, store)
    store.captured_at = dt.datetime.fromtimestamp(source.clock + 3600, dt.UTC)
    store.add(first.named_ids["oxidized/r1"], b"same", tenant_id=tenant)
    source.commit("update", {"r1": b"older"})
    whole = oxidized.read(source.path, tenant=None, names=Names())
    assert len(import_kept.look(store.path, whole.captures).older) == 1


def test_the_whole_after_a_shallow_clone_is_told(tmp_path: Path, store: Store) -> None:
    source = Source(tmp_path / "oxidized").init()
    for number in range(4):
        source.commit("update", {"r1": b"v%d" % number})
    shallow = tmp_path / "shallow" / "oxidized"
    git(source.path, "clone", "-q", "--depth", "2", source.path.as_uri(), str(shallow))
    committed(oxidized.read(shallow, tenant=None, names=Names()), store)
    whole = oxidized.read(source.path, tenant=None, names=Names())
    [older] = import_kept.look(store.path, whole.captures).older
    assert older.captures == 2


def test_a_rewritten_history_is_recognised(
    tmp_path: Path, store: Store, confkeep: Confkeep
) -> None:
    for place, message in (("before", "update"), ("after", "rewritten")):
        source = Source(tmp_path / place / "oxidized").init()
        for number in range(3):
            source.commit(message, {"r1": b"v%d" % number})
        if place == "before":
            committed(oxidized.read(source.path, tenant=None, names=Names()), store)
    source.commit("update", {"r1": b"v3"})
    found = oxidized.read(source.path, tenant=None, names=Names())
    kept = import_kept.look(store.path, found.captures)
    assert (kept.older, kept.other_ids) == ([], 2)
    new = [c for c in found.captures if c.known_id not in kept.ids]
    assert [c.read()[0] for c in new[-1:]] == [b"v3"]
    assert "rewritten" in confkeep("import", source.path, "--dry-run").stdout


def test_what_retention_removed_is_not_imported_again(tmp_path: Path, store: Store) -> None:
    source = Source(tmp_path / "oxidized").init()
    for number in range(4):
        source.commit("update", {"r1": b"v%d" % number})
    found = oxidized.read(source.path, tenant=None, names=Names())
    tenant = committed(found, store)
    path = repository_path(store.path, tenant)
    apply_retention(
        create_repository(path), policy_of({"keep_last": 1}), now_s=source.clock, grace_s=0
    )
    kept = import_kept.look(store.path, found.captures)
    assert (kept.older, kept.other_ids) == ([], 0)
    assert {c.known_id for c in found.captures} <= kept.ids


def test_an_import_that_was_cut_off_goes_on(tmp_path: Path, store: Store) -> None:
    for number in range(1, 6):
        path = tmp_path / "exports" / "acme" / "r1" / f"2024010{number}.rsc"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"/ip %d\n" % number)
    found = exports_folder.scan(tmp_path / "exports")
    committed(found, store, 3)
    kept = import_kept.look(store.path, found.captures)
    assert (kept.older, kept.other_ids) == ([], 0)
    # A renamed file is the same version under another id.
    (tmp_path / "exports/acme/r1/20240101.rsc").rename(tmp_path / "exports/acme/r1/2024-01-01.rsc")
    renamed = import_kept.look(store.path, exports_folder.scan(tmp_path / "exports").captures)
    assert (renamed.older, renamed.other_ids) == ([], 1)


# --- an existing store


def foreign_store(store: Store) -> Path:
    """Bare, of loose objects only, with HEAD on `master`, as other programs leave it."""
    path = repository_path(store.path, TENANT)
    store.path.mkdir(parents=True, exist_ok=True)
    subprocess.run(["git", "init", "-q", "--bare", "-b", "master", path], check=True)
    source = Source(store.path.parent / "work").init()
    for number in range(5):
        source.commit(f"v{number}", {f"{ROUTER}/export.rsc": b"/ip\n" * (number + 1)})
    git(source.path, "-c", "transfer.unpackLimit=1000", "push", "-q", str(path), "master")
    return path


def test_a_store_is_adopted_in_place(store: Store, confkeep: Confkeep) -> None:
    path = foreign_store(store)
    before = git(path, "log", "--format=raw", "master")

    planned = json.loads(confkeep("import", store.path, "--dry-run", "--json").stdout)
    assert planned["tenants"][TENANT]["head"] == "refs/heads/master"
    assert (planned["tenants"][TENANT]["indexed"], planned["adopted"]) == (False, 0)
    assert not (path / "refs/heads/main").exists()

    done = confkeep("import", "--from", "store", store.path)
    assert done.exit_code == 0, done.output
    assert "1 tenant adopted" in done.stdout
    assert f"{TENANT}: clean" in done.stdout
    assert git(path, "symbolic-ref", "HEAD").decode().strip() == "refs/heads/main"
    assert git(path, "log", "--format=raw", "main") == before
    repository = open_repository(path)
    with open_index(repository) as index:
        assert index.is_complete(repository.tip())
        assert len(index.versions(ROUTER, tip=repository.tip())) == 5

    # Packed only when asked.
    said = json.loads(confkeep("import", store.path, "--json").stdout)["tenants"][TENANT]
    assert (said["loose_objects"], said["packs"], said["outcome"]) == (20, 0, "clean")
    said = json.loads(confkeep("import", store.path, "--pack", "--json").stdout)["tenants"][TENANT]
    assert (said["loose_objects"], said["packs"], said["outcome"]) == (0, 1, "clean")
    assert git(path, "log", "--format=raw", "main") == before


def test_one_that_cannot_be_adopted_keeps_no_other_from_it(
    store: Store, confkeep: Confkeep
) -> None:
    other = "aaaa0000-0000-4000-8000-000000000000"
    path = foreign_store(store)
    (store.path / f"{other}.git").mkdir()
    (store.path / "acme.git").mkdir()
    planned = confkeep("import", store.path, "--dry-run")
    done = confkeep("import", store.path)
    for said in (planned, done):
        assert said.exit_code == 33
        assert f"{other}: {other}.git cannot be opened" in said.stdout
        assert "acme.git is not named by a tenant's UUID" in said.stdout
    assert "1 tenant adopted" in done.stdout
    assert (path / "refs/heads/main").exists()
    (store.path / f"{other}.git").rmdir()
    (store.path / "acme.git").rmdir()
    none = confkeep("import", "--from", "store", store.path.parent)
    assert none.exit_code == 2


def test_a_damaged_store_is_adopted_and_says_so(store: Store, confkeep: Confkeep) -> None:
    path = foreign_store(store)
    blob = git(path, "rev-parse", f"master~4:{ROUTER}/export.rsc").decode().strip()
    damaged = path / "objects" / blob[:2] / blob[2:]
    whole = damaged.read_bytes()
    damaged.chmod(0o644)
    damaged.write_bytes(b"")
    done = confkeep("import", store.path)
    assert done.exit_code == 33
    assert f"{TENANT}: damaged" in done.stdout
    # It was put aside.
    damaged.with_name(f"{damaged.name}.cut").unlink()
    damaged.write_bytes(whole)
