"""Names are shown: whatever tells of a tenant or a device says its name first, and --json gives both."""

from __future__ import annotations

import dataclasses
import datetime as dt
import json
import shutil
import uuid
from pathlib import Path
from typing import Any

import pytest
import redis

from confkeep.broker import keys
from confkeep.errors import StagedBytesMissing, StoreUnavailable
from confkeep.labels import Labels
from confkeep.queue import acceptance
from confkeep.queue.entry import Entry
from confkeep.queue.receipts import Outcome
from confkeep.settings import load_settings
from tasks.drill import drill as drill_task
from tasks.maintain import verify as verify_task
from tests.judge import git
from tests.scraping import series
from tests.turns import publish
from tests.unit.cli.conftest import Confkeep, Store
from tests.unit.cli.test_drill import Page
from tests.unit.cli.test_watch import BUSY, CALM, commit, drawn
from worker.cli import drill_page, watch_state
from worker.observe import metrics
from worker.queue import backoff, dead_letters
from worker.queue.inbox import Inbox
from worker.queue.inboxes import InboxStatus
from worker.store.repository import description
from worker.store.repository.backup import Backup, Committed, Naming
from worker.store.repository.tenant_repository import repository_path
from worker.store.upkeep.drill_report import DrillReport, Restored
from worker.store.writing.commit import open_for_writing

ACME = "aaaa1111-0000-4000-8000-000000000001"
BARE = "bbbb1111-0000-4000-8000-000000000002"
CORE = "cafe0001-0000-4000-8000-000000000001"
EDGE = "beef0002-0000-4000-8000-000000000002"
HOSTILE = "<b>x</b>"
TENANT_TEXT, CORE_TEXT = "acme (aaaa1111)", "core1 (cafe0001)"


def name(path: Path, device_id: str, label: str) -> None:
    with open_for_writing(path) as writer:
        writer.commit_backups([Naming(str(uuid.uuid4()), device_id, Labels(label), "m")])


@pytest.fixture
def last(store: Store) -> Committed:
    """The newest backup of core1, of a tenant called acme; another tenant has no name."""
    path = repository_path(store.path, ACME)
    with open_for_writing(path) as writer:
        captures = [
            Backup(str(uuid.uuid4()), device, text, None, "poll", labels=Labels(label))
            for device, label, text in (
                (CORE, "core1", b"/ip address\nadd a\n"),
                (EDGE, "edge1", b"/ip address\n"),
                (CORE, None, b"/ip address\nadd b\n"),
            )
        ]
        *_, last = writer.commit_backups(captures)
    name(path, ACME, "acme")
    store.add(EDGE, b"/ip route\n", tenant_id=BARE)
    return last


def entry(device_name: str | None = None) -> Entry:
    plain = Entry(str(uuid.uuid4()), CORE, "m", None, 1, "0" * 64, None, None, "redis")
    return dataclasses.replace(plain, device_name=device_name)


def accept(client: redis.Redis, tenant_id: str = ACME) -> None:
    submission = acceptance.Submission(tenant_id, entry(), b"x", None)
    (answer,) = acceptance.accept(client, load_settings(), [submission])
    assert answer.outcome == "accepted"


def bury(client: redis.Redis, device_name: str | None = None) -> str:
    letter = entry(device_name)
    inbox = Inbox(client, load_settings(), ACME)
    dead_letters.bury(inbox, letter, StagedBytesMissing("gone"))
    return letter.backup_id


def json_of(confkeep: Confkeep, *arguments: str | Path) -> Any:
    done = confkeep(*arguments, "--json")
    return json.loads(done.stdout)


def test_status_says_who_waits_and_what_is_dead(
    last: Committed, confkeep: Confkeep, client: redis.Redis
) -> None:
    accept(client)
    accept(client, BARE)
    for tenant in (ACME, BARE):
        backoff.failed(Inbox(client, load_settings(), tenant), StoreUnavailable("disk full"))
    bury(client)
    bury(client, "as-it-came")
    said = confkeep("status").stdout
    inboxes, waits = said.split("Inboxes:")[1].split("Waiting after a fault")
    assert f"{TENANT_TEXT}  " in inboxes
    assert f"{BARE}  " in inboxes
    assert f"{TENANT_TEXT}: 1 failed try" in waits
    assert f"{BARE}: 1 failed try" in waits
    assert f"tenant {TENANT_TEXT}, device {CORE_TEXT}" in said
    assert f"tenant {TENANT_TEXT}, device as-it-came (cafe0001)" in said
    assert said.split("Store ")[1].splitlines()[1:3] == [f"  {TENANT_TEXT}", f"  {BARE}"]
    found = json_of(confkeep, "status")
    assert (found["tenants"], found["tenant_names"]) == ([ACME, BARE], {ACME: "acme"})
    assert {box["tenant_id"]: box["tenant_name"] for box in found["inboxes"]} == {
        ACME: "acme",
        BARE: None,
    }
    assert {letter["device_name"] for letter in found["dead_letters"]} == {"core1", "as-it-came"}
    assert {letter["tenant_name"] for letter in found["dead_letters"]} == {"acme"}


def test_status_reads_the_names_of_what_it_lists_alone(
    store: Store, confkeep: Confkeep, client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(100):
        tenant = str(uuid.UUID(int=number))
        repository_path(store.path, tenant).mkdir(parents=True)
        accept(client, tenant)
        backoff.failed(Inbox(client, load_settings(), tenant), StoreUnavailable("disk full"))
    read: list[Path] = []
    monkeypatch.setattr(description, "read_name", lambda path: read.append(path))
    assert "and 80 more" in confkeep("status").stdout
    # Those that wait, those that wait after a fault, and those of the store.
    assert len(read) == 3 * 20
    read.clear()
    snapshot = watch_state.look(client, load_settings())
    assert len(snapshot.inboxes) == 100
    assert len(read) <= 3 * watch_state.MOST_ROWS
    # Nothing else can read these empty folders.
    shutil.rmtree(store.path)


def test_watch_says_names_and_follows_a_renaming(
    store: Store, last: Committed, client: redis.Redis
) -> None:
    accept(client)
    newest = commit(1).model_copy(
        update={"tenant_id": ACME, "device_id": CORE, "device_name": "core1"}
    )
    client.lpush(keys.RECENT, newest.model_dump_json())
    for tenant_name in ("acme", "Acme Ltd"):
        name(repository_path(store.path, ACME), ACME, tenant_name)
        said = drawn(watch_state.look(client, load_settings()))
        assert f"{tenant_name} (aaaa1111)        1" in said, "in the list of inboxes"
        assert f"{tenant_name} (aaaa1111)  {CORE_TEXT}  0000000000  +1 -2" in said


def test_a_row_of_an_earlier_release_is_shown_by_its_ids(client: redis.Redis) -> None:
    later = {"device_name", "export_changed", "warnings"}
    client.lpush(keys.RECENT, commit(1).model_dump_json(exclude=later))
    said = drawn(watch_state.look(client, load_settings()))
    assert "aaaa1111  beef0001  0000000000  +1 -2" in said


@pytest.mark.parametrize("width", [60, 80, 132])
@pytest.mark.parametrize("label", ["x" * 253, "界" * 60, "\u202e\x1b[31m" * 9])
def test_watch_keeps_its_columns_whatever_names_are(width: int, label: str) -> None:
    tenants = {box.tenant_id for box in BUSY.inboxes} | {row.tenant_id for row in BUSY.recent}
    named = dataclasses.replace(
        BUSY,
        recent=[row.model_copy(update={"device_name": label}) for row in BUSY.recent],
        tenant_names=dict.fromkeys(tenants, label),
    )
    said = drawn(named, width=width, height=40)
    assert max(len(line) for line in said.splitlines()) <= width
    assert "\x1b" not in said
    if width >= 80:
        assert "+1 -2" in said, "the lines are what one looks for"
        assert "1,000  5.0 MiB  1 h" in said


def test_watch_rather_gives_up_digits_than_a_name() -> None:
    row = commit(1).model_copy(update={"device_name": "zagreb-core-router-1"})
    assert len("zagreb-core-router-1") == 20
    snapshot = dataclasses.replace(CALM, recent=[row], tenant_names={row.tenant_id: "acme"})
    assert "acme (aaaa1111)  zagreb-core-router-1  0000000000  +1 -2" in drawn(snapshot)
    assert "zagreb-core-router-1 (beef0001)  0000000000" in drawn(snapshot, width=132)
    box = InboxStatus(row.tenant_id, 3, 1.0)
    assert "acme (aaaa1111)        3" in drawn(dataclasses.replace(snapshot, inboxes=[box]))


def test_a_device_that_a_commit_lost_is_named_by_verify_and_repair(
    store: Store, last: Committed, confkeep: Confkeep
) -> None:
    path = repository_path(store.path, ACME)
    with open_for_writing(path) as writer:
        writer.commit_backups([Backup(str(uuid.uuid4()), EDGE, b"/ip dns\n", None, "poll")])
    sound = git(path, "rev-parse", "main").decode().strip()
    raw = git(path, "cat-file", "commit", "main").decode()
    listed = git(path, "ls-tree", "main").decode().splitlines(keepends=True)
    rest = "".join(line for line in listed if CORE not in line)
    tree = git(path, "mktree", stdin=rest.encode()).decode().strip()
    old_tree = git(path, "rev-parse", "main^{tree}").decode().strip()
    made = raw.replace(old_tree, tree).encode()
    sha = git(path, "hash-object", "-t", "commit", "-w", "--stdin", stdin=made).decode().strip()
    git(path, "update-ref", "refs/heads/main", sha)

    done = confkeep("verify")
    found = json_of(confkeep, "verify")
    task = verify_task(ACME)
    mended = confkeep("repair", "acme")
    left = json_of(confkeep, "repair", "acme")
    git(path, "update-ref", "refs/heads/main", sound)
    confkeep("repair")

    assert done.stdout.startswith(f"{TENANT_TEXT}: damaged")
    assert f"  device {CORE_TEXT}: commit {sha} lost it from its tree" in done.stdout
    assert done.stderr.startswith(f"error: tenant {TENANT_TEXT}: ")
    assert f"\n{BARE}: clean" in done.stdout
    assert [one["tenant_name"] for one in found["tenants"]] == ["acme", None]
    assert {**task, "duration_s": 0} == {**found["tenants"][0], "duration_s": 0}
    [lost] = [one for one in found["tenants"][0]["findings"] if one["kind"] == "device"]
    assert (lost["place"], lost["device_name"]) == (CORE, "core1")
    assert f"{TENANT_TEXT}: damaged" in mended.stdout
    assert f"  device {CORE_TEXT}: commit {sha} lost it" in mended.stdout
    assert left["tenants"][0]["tenant_name"] == "acme"
    assert (CORE, "core1") in [
        (one["place"], one.get("device_name")) for one in left["tenants"][0]["left"]
    ]


def test_a_drill_names_what_it_restored(
    last: Committed, confkeep: Confkeep, tmp_path: Path
) -> None:
    file = tmp_path / "page.html"
    done = confkeep("drill", "--html", file)
    assert f"{TENANT_TEXT}: 3 versions of 2 devices restored" in done.stdout
    assert CORE_TEXT in done.stdout
    found = json_of(confkeep, "drill", "acme")["tenants"][0]
    assert found["tenant_name"] == "acme"
    assert {one["device_id"]: one["device_name"] for one in found["restored"]} == {
        CORE: "core1",
        EDGE: "edge1",
    }
    task = drill_task(ACME, sample=9)
    assert (task["tenant_name"], len(task["restored"])) == ("acme", 3)
    assert {one["device_name"] for one in task["restored"]} == {"core1", "edge1"}
    text = file.read_text()
    Page(text)
    assert f'<h2 id="{ACME}">Tenant acme <code>{ACME}</code></h2>' in text
    assert f'<td title="{CORE}"><code>{CORE_TEXT}</code></td>' in text
    assert "<code>core1</code></span>" in text, "the legend of the sizes"
    assert '">core1</text>' in text.replace("\n", ""), "the ages"
    # The other tenant's device is of the same id and has no name there.
    assert f"<code>{EDGE}</code></td>" in text
    assert '">beef0002</text>' in text


def test_the_page_of_a_drill_escapes_names_and_says_who_failed(
    store: Store, last: Committed
) -> None:
    name(repository_path(store.path, ACME), CORE, HOSTILE)
    name(repository_path(store.path, ACME), ACME, HOSTILE)
    now = dt.datetime.now(dt.UTC)
    bad = Restored(CORE, "ab" * 20, now, problems=("broken",))
    report = DrillReport(ACME, 1, restored=[bad], problems=["too"], last_seen={CORE: now})
    text = drill_page.render([report], now)
    assert "b" not in Page(text).seen
    top, _, _rest = text.partition("<h2")
    assert f"device {HOSTILE} (cafe0001), commit".replace("<", "&lt;").replace(">", "&gt;") in top
    assert "tenant &lt;b&gt;x&lt;/b&gt; (aaaa1111): too" in top


def test_a_tenants_name_is_a_metric_of_its_own(
    store: Store, last: Committed, confkeep: Confkeep, client: redis.Redis
) -> None:
    accept(client)

    def infos(*options: str) -> set[tuple[str, str]]:
        found = series(confkeep("exporter", "--once", *options).stdout)
        labels = [dict(labels) for (said, labels) in found if said == metrics.TENANT_INFO.name]
        assert all(
            value == 1 for (said, _), value in found.items() if said == metrics.TENANT_INFO.name
        )
        return {(one["tenant"], one["name"]) for one in labels}

    assert infos() == {(ACME, "acme"), (BARE, BARE)}
    name(repository_path(store.path, ACME), ACME, 'Acme "Ltd"\\')
    assert infos("--worst", "1") == {(ACME, 'Acme "Ltd"\\')}, "those that have figures alone"
    assert infos("--worst", "0") == set()


def test_a_receipt_names_its_device_and_tenant(
    last: Committed, confkeep: Confkeep, client: redis.Redis
) -> None:
    from_git = confkeep("receipt", last.backup_id)
    assert f"  tenant     {TENANT_TEXT}\n  device     {CORE_TEXT}\n" in from_git.stdout
    found = json_of(confkeep, "receipt", last.backup_id)
    assert (found["tenant_name"], found["receipt"]["device_name"]) == ("acme", "core1")
    # One that an earlier release published has no name.
    value = {name: value for name, value in found["receipt"].items() if name != "device_name"}
    outcome = Outcome(last.backup_id, entry().digest(ACME), value)
    publish(client, [outcome], 60)
    from_redis = confkeep("receipt", last.backup_id)
    assert "this is from git" in from_git.stderr
    assert from_redis.stdout == from_git.stdout
    assert from_redis.stderr == ""


def test_kick_names_the_tenant(last: Committed, confkeep: Confkeep, client: redis.Redis) -> None:
    assert f"Nothing waits for tenant {TENANT_TEXT}." in confkeep("kick", "acme").stdout
    accept(client)
    assert f"for tenant {TENANT_TEXT}: 1 backup waiting." in confkeep("kick", "acme").stdout


def test_dead_letters_name_device_and_tenant(
    last: Committed, confkeep: Confkeep, client: redis.Redis
) -> None:
    backup_id = bury(client)
    shown = confkeep("dead-letters", "show", backup_id).stdout
    assert f"tenant    {TENANT_TEXT}\n" in shown
    assert "name      core1\n" in shown
    [letter] = json_of(confkeep, "dead-letters", "list")["dead_letters"]
    assert (letter["tenant_name"], letter["device_name"]) == ("acme", "core1")


def test_prompts_name_what_they_erase(last: Committed, confkeep: Confkeep) -> None:
    asked = confkeep("forget-device", "acme", "core1", typed="no\n")
    assert f"all backups of device {CORE_TEXT}, of tenant {TENANT_TEXT}." in asked.stderr
    assert "Type core1, or its whole id, to go on" in asked.stderr
    asked = confkeep("forget-tenant", "acme", typed="no\n")
    assert f"all backups of tenant {TENANT_TEXT}." in asked.stderr


def test_what_goes_through_all_tenants_names_them(
    store: Store, last: Committed, confkeep: Confkeep
) -> None:
    both = [f"{TENANT_TEXT}", BARE]
    lines = confkeep("history").stdout.splitlines()[1:]
    assert [line.rsplit("  ", 1)[0].strip() for line in lines] == both
    assert [one["tenant_name"] for one in json_of(confkeep, "history")["tenants"]] == ["acme", None]
    stale = confkeep("stale", "--older-than", "0s").stdout
    assert f"{TENANT_TEXT}  " in stale
    rows = json_of(confkeep, "stale", "--older-than", "0s")["stale"]
    assert {(row["tenant_name"], row["device_name"]) for row in rows} == {
        ("acme", "core1"),
        ("acme", "edge1"),
        (None, None),
    }
    for command in (("reindex", "--all"), ("repack",), ("verify",), ("repair",)):
        lines = confkeep(*command).stdout.splitlines()
        assert [line.startswith(who) for line, who in zip(lines, both, strict=True)] == [True] * 2
    assert [one["tenant_name"] for one in json_of(confkeep, "repack")["tenants"]] == ["acme", None]


def test_one_that_cannot_be_read_is_told_by_name(
    store: Store, last: Committed, confkeep: Confkeep
) -> None:
    head = repository_path(store.path, ACME) / "HEAD"
    kept = head.read_bytes()
    head.unlink()
    done = confkeep("history")
    [error] = json_of(confkeep, "history")["errors"]
    head.write_bytes(kept)
    assert f"error: {TENANT_TEXT}: " in done.stderr
    assert (error["tenant_id"], error["tenant_name"]) == (ACME, "acme")


def test_retention_names_tenant_and_devices(last: Committed, confkeep: Confkeep) -> None:
    assert confkeep("retention", "set", "acme", "--keep-last", "1").stdout.startswith(TENANT_TEXT)
    assert f"{TENANT_TEXT}: 1 capture " in confkeep("retention", "plan", "acme").stdout
    [plan] = json_of(confkeep, "retention", "plan", "acme")["tenants"]
    assert plan["tenant_name"] == "acme"
    assert [one["device_name"] for one in plan["devices"]] == ["core1"]
    assert json_of(confkeep, "retention", "show", "acme")["tenant_name"] == "acme"


def test_one_version_tells_the_tenant_too(last: Committed, confkeep: Confkeep) -> None:
    for command in ("show", "history"):
        found = json_of(confkeep, command, "acme", "core1")
        assert (found["tenant_name"], found["device_name"]) == ("acme", "core1")
    assert json_of(confkeep, "history", "acme")["tenant_name"] == "acme"
    [found] = json_of(confkeep, "search", "add b", "acme")["tenants"]
    assert found["tenant_name"] == "acme"
