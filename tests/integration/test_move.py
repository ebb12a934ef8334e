"""`docs/move-from-in-process.md`: its patches move a portal, and nothing that it shows is another."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from confkeep.errors import RepositoryBusy, StoreMissing
from docs.generate import ROOT
from tests import old_portal
from tests.integration.conftest import become_producer
from tests.judge import assert_all_readable, git
from tests.servers import Deployment, deployment
from worker import git_store
from worker.store.git import flock
from worker.store.writing.commit import Writer

PAGE = (ROOT / "docs" / "move-from-in-process.md").read_text("utf-8")
PORTAL = Path(old_portal.__file__).parent
TENANTS = [f"aaaa{number}111-0000-4000-8000-000000000001" for number in (1, 2)]
DEVICES = [f"beef{number}111-0000-4000-8000-000000000001" for number in (1, 2, 3)]


def captures(polls: range) -> list[dict[str, str]]:
    """What the portal captures; each third poll of a device finds nothing new in its export."""
    return [
        {
            "tenant": TENANTS[number % 2],
            "device": device,
            "name": f"r{number} of poll {poll}",
            "export": f"# by RouterOS 7.16\n/ip address\nadd address=10.{number}.{poll - (poll % 3 == 2)}.1\n",
            "binary": f"88aca1b1{poll // 3:02x}",
        }
        for poll in polls
        for number, device in enumerate(DEVICES)
    ]


class Portal:
    """A copy of the portal, in a folder of its own."""

    def __init__(self, folder: Path, **variables: str) -> None:
        shutil.copytree(PORTAL, folder, ignore=shutil.ignore_patterns("__pycache__"))
        self.folder = folder
        self.variables = variables

    def run(self, *arguments: str) -> Any:
        kept = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith("CONFKEEP_") and name != "GIT_STORE_PATH"
        }
        done = subprocess.run(
            [sys.executable, "-m", "portal", *arguments],
            cwd=self.folder,
            env={**kept, **self.variables},
            capture_output=True,
            text=True,
            timeout=90,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def back_up(self, polls: range) -> list[tuple[int, int]]:
        """Back up what these polls captured; the lines added and removed of each."""
        (self.folder / "captures.json").write_text(json.dumps(captures(polls)))
        rows = self.run("backup", "captures.json")
        return [(row["lines_added"], row["lines_removed"]) for row in rows]

    def shown(self) -> list[list[dict[str, str]]]:
        """What its pages show of each device, but for the ids of commits."""
        found = [
            self.run("show", tenant, device)
            for number, device in enumerate(DEVICES)
            for tenant in [TENANTS[number % 2]]
        ]
        for history in found:
            for version in history:
                assert re.fullmatch("[0-9a-f]{40}", version.pop("sha"))
        return found

    def patch(self, text: str, *options: str) -> None:
        done = subprocess.run(
            ["git", "apply", *options, "-"],
            cwd=self.folder,
            input=text.encode(),
            # A repository around the tests, if there is one, is not meant.
            env={**os.environ, "GIT_CEILING_DIRECTORIES": str(self.folder.parent)},
            capture_output=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr.decode()


def test_the_page_moves_a_portal_and_its_histories_go_on(tmp_path: Path) -> None:
    swap_the_import, hand_over = re.findall(r"```diff\n(.*?)```", PAGE, re.DOTALL)
    [clean_up] = re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL)
    stays = Portal(tmp_path / "stays")
    expected = [stays.back_up(polls) for polls in (range(3), range(3, 6), range(6, 9))]

    with deployment(tmp_path / "deployment") as running:
        # Its store is the one that its `.env` names.
        moves = Portal(
            tmp_path / "moves", CONFKEEP_REDIS_URL=running.environment["CONFKEEP_REDIS_URL"]
        )
        assert moves.back_up(range(3)) == expected[0]
        moves.patch(swap_the_import)
        store = moves.folder / "git-store"
        running.start_worker(pool="threads", CONFKEEP_GIT_STORE_PATH=str(store))
        assert moves.back_up(range(3, 6)) == expected[1]
        moves.patch(hand_over)
        subprocess.run(["sh", "-euc", clean_up], cwd=moves.folder, check=True)
        assert moves.back_up(range(6, 9)) == expected[2]
        assert moves.shown() == stays.shown()
        handed_over = git(store / f"{TENANTS[1]}.git", "log", "--format=%B", "main").decode()
        assert handed_over.count("scheduled:") == 9
    assert_all_readable(store)

    # And back: the module that was in the portal reads what confkeep wrote.
    shutil.copy(PORTAL / "portal" / "git_store.py", moves.folder / "portal")
    for text in (hand_over, swap_the_import):
        moves.patch(text, "--reverse")
    assert moves.shown() == stays.shown()


def test_the_page_changes_as_few_lines_and_files_as_it_says() -> None:
    text = "".join(re.findall(r"```diff\n(.*?)```", PAGE, re.DOTALL))
    assert len(re.findall(r"^\+(?!\+\+)", text, re.MULTILINE)) == 8
    assert len(set(re.findall(r"^\+\+\+ b/(.*)$", text, re.MULTILINE))) == 5
    assert "Eight lines\nchange, in five files" in PAGE


@pytest.fixture
def producing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Deployment]:
    with deployment(tmp_path) as running:
        become_producer(running, monkeypatch)
        yield running


#: A replica that still has the old module, and tries again when another process moved the branch.
REPLICA = """\
import sys, time, pygit2
from tests.old_portal.portal import git_store
tenant, device = sys.argv[1:]
print("ready", flush=True)
sys.stdin.readline()
for number in range(150):
    while True:
        try:
            git_store.commit_backup(tenant, device, f"/old {number}\\n", b"b", f"old {number}")
        except (pygit2.GitError, OSError, ValueError):
            time.sleep(0.001)
        else:
            break
"""


def test_commits_beside_a_replica_of_the_old_module_are_all_kept(producing: Deployment) -> None:
    tenant, device, other = TENANTS[0], DEVICES[0], DEVICES[1]
    git_store.get_or_create_repo(tenant)
    with subprocess.Popen(
        [sys.executable, "-c", REPLICA, tenant, other],
        cwd=ROOT,
        env={**os.environ, "GIT_STORE_PATH": str(producing.store)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as replica:
        assert replica.stdin is not None
        assert replica.stdout is not None
        assert replica.stdout.readline() == b"ready\n"
        replica.stdin.close()
        ours = [
            git_store.commit_backup(tenant, device, f"/new {number}\n", None, f"new {number}")
            for number in range(150)
        ]
        assert replica.wait(60) == 0
    assert [each["sha"] for each in git_store.list_device_commits(tenant, device)] == ours[::-1]
    theirs = [each["message"] for each in git_store.list_device_commits(tenant, other)]
    assert theirs == [f"old {number}" for number in reversed(range(150))]


def test_a_commit_waits_for_who_is_in_the_way_and_not_for_ever(
    producing: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    tenant, device = TENANTS[0], DEVICES[0]
    repository = Path(git_store.get_or_create_repo(tenant).path)
    tries: list[int] = []
    gone = threading.Event()
    commit = Writer.commit_backups

    def busy(*arguments: Any) -> Any:
        tries.append(1)
        if len(tries) < 5:
            raise RepositoryBusy("main was moved by another writer")
        gone.set()
        return commit(*arguments)

    monkeypatch.setattr(Writer, "commit_backups", busy)
    sha = git_store.commit_backup(tenant, device, "/ip\n", None, "m")
    assert gone.is_set()
    assert [each["sha"] for each in git_store.list_device_commits(tenant, device)] == [sha]

    def always(*_arguments: Any) -> Any:
        raise RepositoryBusy("main was moved by another writer")

    monkeypatch.setattr(Writer, "commit_backups", always)
    monkeypatch.setattr(git_store, "_BUSY_WAIT_S", 0.1)
    with pytest.raises(RepositoryBusy):
        git_store.commit_backup(tenant, device, "/ip\n", None, "m")
    # Nothing is held any more.
    with flock.exclusive(repository) as alone:
        assert alone


def test_a_store_that_is_not_there_is_no_empty_history(producing: Deployment) -> None:
    device, sha = DEVICES[0], "0" * 40
    with pytest.raises(StoreMissing):
        git_store.list_device_commits(TENANTS[0], device)
    with pytest.raises(StoreMissing) as caught:
        git_store.read_file(TENANTS[0], sha, device, "export.rsc")
    # Else a portal would say that there is no such version.
    assert not isinstance(caught.value, KeyError)
    git_store.commit_backup(TENANTS[0], device, "/ip\n", None, str(uuid.uuid4()))
    assert git_store.list_device_commits(TENANTS[1], device) == []
    with pytest.raises(KeyError):
        git_store.read_file(TENANTS[1], sha, device, "export.rsc")
