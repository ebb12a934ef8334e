"""The examples of docs/ do what the pages say, each run as its reader would, with one worker for all."""

from __future__ import annotations

import base64
import datetime as dt
import json
import os
import re
import sqlite3
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from celery import Celery

from docs.examples.plain_celery import DEVICE, TENANT, hand_over
from tests.judge import backup_ids, git
from tests.servers import Deployment, deployment

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"
POLLED_AT = "2026-09-30T10:00:00+00:00"


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    with deployment(tmp_path_factory.mktemp("examples")) as running:
        running.start_worker(pool="threads", concurrency=4)
        yield running


def run(running: Deployment, program: str, *arguments: str, **variables: str) -> list[str]:
    """The lines that an example prints."""
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / program), *arguments],
        cwd=running.path,
        env={**os.environ, **running.environment, **variables},
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
    url = f"redis+socket://{running.server.socket}?virtual_host=0"
    lines = run(running, "plain_celery.py", POLLED_AT, BROKER_URL=url)
    again = run(running, "plain_celery.py", POLLED_AT, BROKER_URL=url)
    assert lines == again
    receipt = json.loads(lines[0])
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
    log = git(running.store / f"{tenant}.git", "log", "--format=%H", "main").decode().split()
    assert sorted(sha for _, _, sha, _ in rows) == sorted(log)


def test_the_page_shows_the_examples_as_they_are() -> None:
    page = (EXAMPLES.parent / "integrate.md").read_text("utf-8")
    shown = set(re.findall(r"<!-- generated: file docs/examples/(\S+) -->", page))
    assert {"asyncio_poller.py", "plain_celery.py", "django_portal/portal/handover.py"} <= shown
