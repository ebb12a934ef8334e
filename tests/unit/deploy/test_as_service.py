"""The wrapper for systemd's machines: a command gets the workers' user, settings and folders."""

from __future__ import annotations

import os
import pwd
import subprocess
from pathlib import Path

import pytest

from tests.unit.deploy import facts

WRAPPER = facts.ROOT / "docs/deploy/systemd/confkeep-as-service"
UNIT = facts.ROOT / "docs/deploy/systemd/confkeep-worker@.service"
SETTINGS = """\
# a comment
CONFKEEP_REDIS_URL=redis://:pass word$(touch ran)@127.0.0.1/0
CONFKEEP_REPLICAS="2"

CONFKEEP_SIGNING_KEY='a key; with signs'
"""


def run(*words: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["sh", str(WRAPPER), *words],
        env={"PATH": os.environ["PATH"], **variables},
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )


@pytest.mark.skipif(os.geteuid() != 0, reason="NOT ROOT: the wrapper IS NOT TESTED")
def test_a_command_gets_the_workers_user_settings_and_folders(tmp_path: Path) -> None:
    settings = tmp_path / "confkeep.env"
    settings.write_text(SETTINGS)
    settings.chmod(0o600)
    user = pwd.getpwnam("nobody")
    said = run(
        "-c", "id -u; id -g; id -G; env; echo \"$0 $1\"", "two words", "three",
        AS_SERVICE_ENV=str(settings), AS_SERVICE_USER=str(user.pw_uid),
        AS_SERVICE_PROGRAM="/bin/sh", HOME="/root",
    )  # fmt: skip
    assert said.stderr == ""
    lines = said.stdout.splitlines()
    assert lines[0] == str(user.pw_uid)
    assert lines[1] == str(user.pw_uid)
    assert "0" not in lines[2].split()
    assert {
        "CONFKEEP_REDIS_URL=redis://:pass word$(touch ran)@127.0.0.1/0",
        "CONFKEEP_REPLICAS=2",
        "CONFKEEP_SIGNING_KEY=a key; with signs",
        "HOME=/",
    } <= set(lines)
    assert lines[-1] == "two words three"
    given = [
        line.partition("Environment=")[2]
        for line in UNIT.read_text().splitlines()
        if line.startswith("Environment=CONFKEEP_") and "_PATH=" in line
    ]
    assert len(given) == 3
    assert set(given) <= set(lines), "the folders are the unit's"


def test_the_wrapper_says_that_it_wants_root() -> None:
    if os.geteuid() == 0:
        done = subprocess.run(
            ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "sh"],
            input=WRAPPER.read_text(),
            capture_output=True,
            text=True,
            check=False,
            timeout=30,
        )
    else:
        done = run("status")
    assert done.returncode == 2
    assert "sudo confkeep-as-service" in done.stderr
