"""The examples of docs/ do what the pages say, each run as its reader would, with one worker for all."""

from __future__ import annotations

import base64
import datetime as dt
import hashlib
import json
import os
import re
import shutil
import sqlite3
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from celery import Celery

from docs.examples.plain_celery import DEVICE, TENANT, hand_over
from tests.judge import backup_ids, git
from tests.servers import Deployment, deployment, wait_for
from worker.broker import acl

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"
POLLED_AT = "2026-09-30T10:00:00+00:00"


#: Each way in, as one of the page's rows.
PROGRAMS = (
    "asyncio_poller.py",
    "wait_for_commit.py",
    "django_portal/manage.py",
    "read_back.py",
    "plain_celery.py",
)
PASSWORD = "of-the-tests"


def url_of(running: Deployment, scheme: str = "unix", database: str = "db") -> str:
    """The server's address for its user `worker`."""
    return f"{scheme}://worker:{PASSWORD}@{running.server.socket}?{database}=0"


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    """A server with the rules of `confkeep acl`, and a worker as one of its users."""
    digest = hashlib.sha256(PASSWORD.encode()).hexdigest()
    with deployment(tmp_path_factory.mktemp("examples")) as running:
        with running.client() as client:
            line = acl.worker(acl.User("worker", digest))
            client.execute_command("ACL", "SETUSER", *line.split()[1:])
        running.start_worker(
            pool="threads",
            concurrency=4,
            variables={"CONFKEEP_REDIS_URL": url_of(running)},
        )
        yield running


@pytest.fixture(autouse=True)
def nothing_is_refused(running: Deployment) -> Iterator[None]:
    """The rules for trusted producers and workers let them do their work."""
    with running.client() as client:
        client.acl_log_reset()
        yield
        log: Any = client.acl_log()
    refused = {(entry["username"], entry["object"]) for entry in log}
    # The worker asks once a minute how the server is set up, and knows that it may be told nothing.
    assert refused <= {("worker", "config|get")}


def run(running: Deployment, program: str, *arguments: str, **variables: str) -> list[str]:
    """The lines that an example prints, as a trusted producer."""
    url = {"CONFKEEP_REDIS_URL": url_of(running)}
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / program), *arguments],
        cwd=running.path,
        env={**os.environ, **running.environment, **url, **variables},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.splitlines()


def test_the_asyncio_poller_commits_each_poll_once_and_prints_its_receipts(
    running: Deployment,
) -> None:
    receipts = [json.loads(line) for line in run(running, "asyncio_poller.py", POLLED_AT)]
    assert len({receipt["device_id"] for receipt in receipts}) == 20
    assert {receipt["suspect"] for receipt in receipts} == {None}
    # The same hour again, as after a crash of the scheduler: nothing is committed twice.
    again = [json.loads(line) for line in run(running, "asyncio_poller.py", POLLED_AT)]
    by_id = {receipt["backup_id"]: receipt for receipt in receipts}
    assert {receipt["backup_id"]: receipt for receipt in again} == by_id
    repository = running.store / f"{receipts[0]['tenant_id']}.git"
    assert sorted(backup_ids(repository)) == sorted(by_id)
    for receipt in receipts:
        shown = git(repository, "show", f"{receipt['sha']}:{receipt['device_id']}/export.rsc")
        assert shown.startswith(b"# by RouterOS 7.16\n")
    one = receipts[0]
    read = run(running, "read_back.py", one["tenant_id"], one["device_id"])
    assert one["sha"] in read[0]
    assert "# by RouterOS 7.16" in read


def test_plain_celery_hands_over_any_bytes_once(running: Deployment) -> None:
    url = url_of(running, "redis+socket", "virtual_host")
    lines = run(running, "plain_celery.py", POLLED_AT, BROKER_URL=url)
    again = run(running, "plain_celery.py", POLLED_AT, BROKER_URL=url)
    assert lines == again
    receipt = json.loads(lines[0])
    assert receipt["suspect"] is None
    assert (receipt["tenant_id"], receipt["device_id"]) == (TENANT, DEVICE)
    repository = running.store / f"{TENANT}.git"
    assert backup_ids(repository) == [receipt["backup_id"]]
    assert b"name=caf\xe9" in git(repository, "show", f"main:{DEVICE}/export.rsc")


def test_plain_celerys_message_shows_the_backup_to_no_monitor() -> None:
    polled_at = dt.datetime.fromisoformat(POLLED_AT)
    with Celery("portal", broker="memory://", set_as_current=False) as portal:
        hand_over(portal, str(uuid.uuid4()), b"the export", b"the binary", polled_at)
        with portal.connection() as connection:
            message = connection.default_channel.basic_get("backups.receive")
    shown = json.dumps(message.headers)
    assert DEVICE in shown
    for secret in (b"the export", b"the binary"):
        assert base64.b64encode(secret).decode() not in shown


def test_the_django_portal_stores_receipts_and_sends_again_what_a_crash_left(
    running: Deployment,
) -> None:
    program = "django_portal/manage.py"
    tenant, first, second = (str(uuid.uuid4()) for _ in range(3))

    def manage(*arguments: str, **variables: str) -> list[str]:
        return run(running, program, *arguments, **variables)

    manage("migrate", "--run-syncdb", "--verbosity", "0")
    database = sqlite3.connect(running.path / "portal.sqlite3")
    with database:
        for device, name in ((first, "r1"), (second, "r2")):
            row = (uuid.UUID(device).hex, uuid.UUID(tenant).hex, name)
            database.execute("insert into portal_device values (?, ?, ?)", row)
    # The broker is away: the captures stay in the database, and the poll does not fail.
    manage("poll", CONFKEEP_REDIS_URL=f"unix://{running.path}/nobody.sock?db=0")
    query = "select accepted, export is null, sha, problem from portal_capture"
    assert database.execute(query).fetchall() == [(0, 0, "", "")] * 2
    # It is back.
    manage("receipts", "--again", "--wait", "30")
    rows = database.execute(query).fetchall()
    database.close()
    assert [(accepted, empty, problem) for accepted, empty, _, problem in rows] == [(1, 1, "")] * 2
    messages = git(running.store / f"{tenant}.git", "log", "--format=%B", "main").decode()
    assert "Confkeep-Suspect" not in messages
    log = git(running.store / f"{tenant}.git", "log", "--format=%H", "main").decode().split()
    assert sorted(sha for _, _, sha, _ in rows) == sorted(log)


def test_a_shell_hands_over_and_imports_as_a_trusted_producer(
    running: Deployment, tmp_path: Path
) -> None:
    page = (EXAMPLES.parent / "integrate.md").read_text("utf-8")
    assert re.search(r"^\| .*`confkeep enqueue`, `confkeep import`", page, re.MULTILINE)
    device, tenants = str(uuid.uuid4()), [str(uuid.uuid4()) for _ in range(2)]
    export = tmp_path / "exports" / device / "r1.rsc"
    export.parent.mkdir(parents=True)
    export.write_text("# by RouterOS 7.16\n/system identity\nset name=r1\n")
    for arguments in (
        ["enqueue", tenants[0], device, "--export", str(export), "--message", "m", "--wait"],
        ["import", str(tmp_path / "exports"), "--tenant", tenants[1]],
    ):
        subprocess.run(
            [sys.executable, "-P", "-m", "confkeep", *arguments],
            cwd=running.path,
            env={
                **os.environ,
                **running.environment,
                "CONFKEEP_REDIS_URL": url_of(running),
            },
            check=True,
            timeout=60,
        )
    for tenant in tenants:
        assert len(backup_ids(running.store / f"{tenant}.git")) == 1


def test_the_page_shows_the_examples_as_they_are() -> None:
    page = (EXAMPLES.parent / "integrate.md").read_text("utf-8")
    shown = set(re.findall(r"<!-- generated: file docs/examples/(\S+) -->", page))
    assert {"asyncio_poller.py", "plain_celery.py", "django_portal/portal/handover.py"} <= shown


def test_the_page_names_each_way_in() -> None:
    page = (EXAMPLES.parent / "integrate.md").read_text("utf-8")
    for program in PROGRAMS:
        assert re.search(rf"^\| .*`{re.escape(program.partition('/')[0])}`", page, re.MULTILINE)
    programs = {path.name for path in EXAMPLES.glob("*.py")} | {"django_portal/manage.py"}
    assert programs == set(PROGRAMS)


def test_the_django_portal_runs_by_the_steps_of_the_page(
    running: Deployment, tmp_path: Path
) -> None:
    """In a folder of its own, by the commands of the page and nothing else."""
    page = (EXAMPLES.parent / "integrate.md").read_text("utf-8")
    section = page.partition("\n## Django\n")[2].partition("\n## ")[0]
    [steps] = re.findall(r"```sh\n(.*?)```", section, re.DOTALL)
    shutil.copytree(EXAMPLES / "django_portal", tmp_path / "docs/examples/django_portal")
    script = tmp_path / "steps.sh"
    script.write_text("set -e\n" + steps)
    variables = {"CONFKEEP_REDIS_URL": url_of(running)}
    variables["PATH"] = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    done = subprocess.run(
        ["sh", str(script)],
        cwd=tmp_path,
        env={**os.environ, **running.environment, **variables},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    [(device, sha)] = re.findall(r"(\S+) (?:is )?committed as ([0-9a-f]{40})", done.stdout)
    assert device
    assert sha


def test_the_readmes_cron_job_hands_over_what_it_fetches(
    running: Deployment, tmp_path: Path
) -> None:
    readme = (EXAMPLES.parents[1] / "README.md").read_text("utf-8")
    [script] = re.findall(r"```sh\n(while .*?)```", readme, re.DOTALL)
    tenant, devices = str(uuid.uuid4()), [str(uuid.uuid4()) for _ in range(3)]
    hosts = [f"r{number} {device}\n" for number, device in enumerate(devices)]
    (tmp_path / "routers.txt").write_text("".join(hosts))
    ssh = tmp_path / "bin" / "ssh"
    ssh.parent.mkdir()
    # The second router does not answer.
    ssh.write_text(
        '#!/bin/sh\n[ "$2" != backup@r1 ] || exit 255\n'
        'printf "# 2026-11-26 10:00:00 by RouterOS 7.16\\n/system identity\\nset name=%s\\n" "$2"\n'
    )
    ssh.chmod(0o755)
    path = f"{ssh.parent}:{Path(sys.executable).parent}:{os.environ['PATH']}"
    url = {"CONFKEEP_REDIS_URL": url_of(running)}
    done = subprocess.run(
        ["sh", "-c", script],
        cwd=tmp_path,
        env={**os.environ, **running.environment, **url, "PATH": path, "TENANT": tenant},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    repository = running.store / f"{tenant}.git"
    wait_for(lambda: repository.exists() and len(backup_ids(repository)) == 2, "both commits")
    for device in (devices[0], devices[2]):
        assert b"set name=backup@r" in git(repository, "show", f"main:{device}/export.rsc")
