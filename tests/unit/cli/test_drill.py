"""drill: it proves what is right, and fails for everything that is not."""

from __future__ import annotations

import datetime as dt
import json
import os
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from confkeep.errors import InvalidInput, NotInStore
from tasks.drill import drill
from tests.judge import git
from tests.unit.cli.conftest import ROUTER, SWITCH, TENANT, Confkeep, Store
from worker.cli import drill_page
from worker.store.history.index import INDEX_NAME
from worker.store.repository.tenant_repository import create_repository, repository_path
from worker.store.upkeep import drill as drill_module
from worker.store.upkeep.clone import clone_repository
from worker.store.upkeep.drill import drill_repository
from worker.store.upkeep.drill_report import DrillReport, Point, Restored
from worker.store.upkeep.repack import repack

PLAIN = bytes.fromhex("88aca1b1") + b"plain"
OTHER = "aaaa2222-0000-4000-8000-000000000002"


class Page(HTMLParser):
    """Which elements and attributes a page has, and whether all are closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[str] = []
        self.links: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen += [tag, *(name for name, _value in attrs)]
        self.links += [value or "" for name, value in attrs if name in ("src", "href")]
        if tag != "meta":
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


@pytest.fixture
def path(filled: Store) -> Path:
    filled.add(SWITCH, b"/interface\nprint me\nno idea\n", PLAIN)
    return repository_path(filled.path, TENANT)


def test_all_versions_are_proven(path: Path, tmp_path: Path, confkeep: Confkeep) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    done = confkeep("drill", TENANT, "--sample", 99, "--json", "--scratch", scratch)
    assert done.exit_code == 0, done.output
    said = json.loads(done.stdout)
    (tenant,) = said["tenants"]
    assert (said["outcome"], tenant["outcome"], tenant["failed"]) == ("proven", "proven", 0)
    found = {(one["device_id"], one["commit"]): one for one in tenant["restored"]}
    listed = {
        (device, sha)
        for device in (ROUTER, SWITCH)
        for sha in git(path, "log", "--format=%H", "--", device).decode().split()
    }
    assert found.keys() == listed
    assert len(tenant["restored"]) == 5
    newest = found[SWITCH, git(path, "rev-parse", "main").decode().strip()]
    assert (newest["lines_added"], newest["lines_removed"]) == (2, 0)
    assert (newest["export_bytes"], newest["binary_kind"]) == (28, "plain")
    assert newest["unrecognised_share"] == pytest.approx(1 / 3, abs=1e-3)
    assert newest["captured_at"] == "2026-09-30T16:00:00Z"
    assert tenant["last_seen"].keys() == {ROUTER, SWITCH}
    assert list(scratch.iterdir()) == [], "nothing of the clone stays"


def test_the_seed_chooses_the_sample_and_devices_go_first(path: Path) -> None:
    def sample(seed: int, count: int) -> list[tuple[str, str]]:
        report = drill_repository(path, sample=count, seed=seed)
        return [(one.device_id, one.commit) for one in report.restored]

    assert sample(7, 3) == sample(7, 3)
    assert {device for device, _sha in sample(7, 2)} == {ROUTER, SWITCH}
    assert len({sha for seed in range(12) for _device, sha in sample(seed, 1)}) > 2


@pytest.mark.parametrize("newest", [True, False])
def test_a_damaged_repository_fails(path: Path, confkeep: Confkeep, newest: bool) -> None:
    shas = git(path, "rev-list", "main").decode().split()
    pack = pack_of(path, shas[0 if newest else -1])
    whole = pack.read_bytes()
    pack.chmod(0o644)
    # All objects of the newest, one bit of the oldest.
    damaged = bytearray(whole)
    if newest:
        damaged[13:-20] = bytes(len(whole) - 33)
    else:
        damaged[len(whole) // 2] ^= 1
    pack.write_bytes(damaged)
    try:
        done = confkeep("drill", TENANT)
    finally:
        pack.write_bytes(whole)
    assert done.exit_code == 43
    assert ("cannot be read" if newest else "cannot be cloned") in done.stdout
    assert re.search(r"restores? failed", done.stderr)


def pack_of(path: Path, sha: str) -> Path:
    for idx in (path / "objects" / "pack").glob("*.idx"):
        if sha.encode() in git(path, "show-index", stdin=idx.read_bytes()):
            return idx.with_suffix(".pack")
    raise AssertionError(sha)


def test_other_bytes_than_those_of_the_history_fail(
    path: Path, monkeypatch: pytest.MonkeyPatch, confkeep: Confkeep
) -> None:
    """A file system that loses the last byte of what it is given."""
    real = Path.read_bytes
    monkeypatch.setattr(
        Path,
        "read_bytes",
        lambda self: real(self)[:-1] if self.name == "backup.bin" else real(self),
    )
    done = confkeep("drill", TENANT, "--sample", 99)
    assert done.exit_code == 43
    assert "tenant aaaa1111-0000-4000-8000-000000000001: 4 restores failed" in done.stderr
    assert "backup.bin has other bytes" in done.stdout
    assert "backup.bin has not the size that the history says" in done.stdout


@pytest.mark.usefixtures("at_80_columns")
def test_80_columns_hold_each_result_and_why_it_failed(
    filled: Store, monkeypatch: pytest.MonkeyPatch, confkeep: Confkeep
) -> None:
    filled.add(
        SWITCH, b"/system identity\nset name=" + b"a-very-long-name-of-a-switch-" * 3 + b"\n"
    )
    good = confkeep("drill", TENANT, "--sample", 99)
    monkeypatch.setattr("worker.store.upkeep.drill.count_changed_lines", lambda _old, _new: (9, 9))
    bad = confkeep("drill", TENANT, "--sample", 99)

    for done, result in ((good, "ok"), (bad, "FAILED")):
        head = done.stdout.index("device ")
        titles, *rows = done.stdout[head:].splitlines()
        assert max(map(len, [titles, *rows])) <= 80
        place, commits = titles.index("result"), titles.index("commit")
        results = [
            row[place:commits].strip(" ,") for row in rows if re.match(r"[0-9a-f]+ ", row[commits:])
        ]
        assert [results.count(result), len(results)] == [5, 5]
    assert "+9 -9 lines, and the history says +1 -0" in " ".join(bad.stdout.split())


@pytest.mark.parametrize(
    "export", [b"Bus error\n", b"hostname sw1\ninterface Vlan1\n no shutdown\n", b"\n"]
)
def test_an_exact_restore_is_right_whatever_the_text_is(
    store: Store, confkeep: Confkeep, export: bytes
) -> None:
    store.add(ROUTER, export)
    done = confkeep("drill")
    assert done.exit_code == 0
    assert "1 version of 1 device restored, 0 failed" in done.stdout
    assert "does not look like RouterOS" in drill_page.result_of(
        drill_repository(repository_path(store.path, TENANT)).restored[0]
    )
    [tenant] = json.loads(confkeep("drill", "--json").stdout)["tenants"]
    assert (tenant["outcome"], tenant["restored"][0]["looks_like_routeros"]) == ("proven", False)


def test_it_works_without_git_and_without_an_index(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (path / INDEX_NAME).unlink()
    with monkeypatch.context() as patched:
        patched.setenv("PATH", str(tmp_path))
        report = drill_repository(path, sample=99)
    assert (report.failed, report.problems, len(report.restored)) == (0, [], 5)


def test_files_that_go_beside_a_drill_are_no_fault(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A repack's temporary files and what it replaces: some go before, some after they are looked at."""
    before, after = (path / "objects" / "pack" / f"tmp_pack_{name}" for name in ("a", "b"))
    before.write_bytes(b"x")
    after.write_bytes(b"x")
    real = os.stat

    def stat(file: Any, *arguments: Any, **named: Any) -> os.stat_result:
        if str(file) == str(before):
            before.unlink(missing_ok=True)
        found = real(file, *arguments, **named)
        if str(file) == str(after):
            after.unlink()
        return found

    monkeypatch.setattr(os, "stat", stat)
    report = drill_repository(path, sample=99)
    assert (report.failed, report.problems, len(report.restored)) == (0, [], 5)
    assert not before.exists()
    assert not after.exists()


def test_a_clone_from_under_which_packs_went_is_made_anew(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[Path] = []

    def clone(source: Path, target: Path, *, stop: Callable[[], bool] | None = None) -> str | None:
        tried.append(target)
        if len(tried) > 7:
            return clone_repository(source, target, stop=stop)
        target.mkdir()
        if len(tried) == 1:
            repack(source, full=True)
        else:
            git(source, "repack", "-adfq", f"--depth={len(tried)}")
            # Another name for the same pack, as if each repack made another one.
            for kind in ("pack", "idx"):
                (file,) = (source / "objects" / "pack").glob(f"*.{kind}")
                file.rename(file.with_name(f"pack-{len(tried):040x}.{kind}"))
        return "fatal: packfile cannot be accessed"

    monkeypatch.setattr(drill_module, "clone_repository", clone)
    report = drill_repository(path, sample=99)
    assert (report.failed, report.problems, len(report.restored)) == (0, [], 5)
    assert len(tried) == 8
    tried.clear()

    def fail(_source: Path, target: Path, *, stop: Callable[[], bool] | None = None) -> str:
        tried.append(target)
        return "it is damaged"

    monkeypatch.setattr(drill_module, "clone_repository", fail)
    assert drill_repository(path).problems == ["the repository cannot be cloned: it is damaged"]
    assert len(tried) == 1


def test_a_drill_that_is_stopped_says_so(path: Path, tmp_path: Path) -> None:
    asked = iter([False, False, False, False])
    report = drill_repository(path, scratch=tmp_path, stop=lambda: next(asked, True))
    assert not report.complete
    assert list(tmp_path.glob("confkeep-drill-*")) == []


def test_a_removed_device_and_an_empty_repository(
    path: Path, store: Store, confkeep: Confkeep
) -> None:
    work = store.path.parent / "work"
    git(path, "clone", "-q", str(path), str(work))
    git(work, "rm", "-q", "-r", ROUTER)
    git(work, "commit", "-q", "-m", "gone")
    (work / ROUTER).mkdir()
    (work / ROUTER / "export.rsc").write_bytes(b"/back\n")
    git(work, "add", "-A")
    git(work, "commit", "-q", "-m", "back")
    git(work, "push", "-q", "origin", "main")
    report = drill_repository(path, sample=99)
    assert (report.failed, len(report.restored)) == (0, 7)
    assert [one.export_bytes for one in report.restored].count(None) == 1

    create_repository(repository_path(store.path, OTHER))
    said = confkeep("drill", OTHER)
    assert (said.exit_code, said.stdout) == (0, f"{OTHER}: nothing to restore\n")
    assert confkeep("drill", "--tenants", 1, "--seed", 1).exit_code == 0


def test_the_page_stands_for_itself(path: Path, tmp_path: Path, confkeep: Confkeep) -> None:
    done = confkeep("drill", "--html", tmp_path / "drill.html")
    assert done.exit_code == 0, done.output
    text = (tmp_path / "drill.html").read_text()
    page = Page(text)
    assert page.seen.count("svg") == 3
    assert page.links == []
    assert "http" not in text
    assert "Every restore is ok." in text
    assert text.count("<polyline") == 2
    assert page.seen.count("tr") == 1 + 5
    for name, most in (("x", 720), ("cx", 720), ("y", 180), ("cy", 180)):
        places = [float(place) for place in re.findall(rf' {name}="([^"]+)"', text)]
        assert places
        assert 0 <= min(places) <= max(places) <= most


def test_the_page_of_a_failure_escapes_what_it_shows() -> None:
    now = dt.datetime(2026, 11, 23, tzinfo=dt.UTC)
    bad = Restored(ROUTER, "ab" * 20, now, problems=("<script>alert(1)</script>",))
    report = DrillReport(
        TENANT,
        1,
        restored=[bad],
        problems=["<b>"],
        curves={ROUTER: [Point(now, 0, 0)], SWITCH: []},
        last_seen={ROUTER: now - dt.timedelta(days=3)},
    )
    text = drill_page.render([report], now)
    page = Page(text)
    assert "script" not in page.seen
    assert "b" not in page.seen
    # What failed stands at the top, and leads to where more is said.
    top, _, rest = text.partition("<h2")
    assert "2 restores failed:" in top
    assert page.links == [f"#{TENANT}", f"#{ROUTER}-{bad.commit}"]
    assert all(f'id="{link.removeprefix("#")}"' in rest for link in page.links)
    assert "FAILED: &lt;script&gt;" in text
    assert ">3 d</text>" in text


def test_the_task_reports_the_same(path: Path, filled: Store) -> None:
    report = drill(TENANT, sample=2, seed=3)
    assert json.loads(json.dumps(report)) == report
    assert (report["tenant_id"], report["outcome"], report["seed"]) == (TENANT, "proven", 3)
    assert len(report["restored"]) == 2
    assert drill()["tenant_id"] == TENANT, "the only one there is"
    with pytest.raises(NotInStore):
        drill(OTHER)
    for wrong in ({"sample": 0}, {"sample": True}, {"sample": "9"}, {"seed": "x"}):
        with pytest.raises(InvalidInput):
            drill(TENANT, **wrong)
