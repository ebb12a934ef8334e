"""Where the settings come from: the environment, and a file `.env` in the working directory."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from confkeep.errors import InvalidSettings
from confkeep.settings import Settings, load_settings
from worker.cli import running
from worker.cli.terminal import Terminal

#: As a portal keeps its own beside ours.
PORTAL = """\
# The portal's settings
DATABASE_URL=postgresql://portal:hunter2@db/portal
REDIS_URL=redis://elsewhere:6379/5
SHARDS=many
GIT_STORE_PATH=./git-store
export CONFKEEP_REDIS_URL='redis://broker:6379/0'  # where the workers are
CONFKEEP_LOG_FORMAT="json"
CONFKEEP_UNKNOWN=1
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory, and an environment that sets nothing."""
    for name in list(os.environ):
        if name.startswith("CONFKEEP_") or name == "GIT_STORE_PATH":
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_what_stands_in_the_file_is_set(folder: Path) -> None:
    (folder / ".env").write_text(PORTAL)
    found = load_settings()
    assert found.git_store_path == Path("git-store")
    assert found.redis_url == "redis://broker:6379/0"
    assert found.log_format == "json"
    # What is another program's is left to it.
    assert found.shards == Settings.model_fields["shards"].default


def test_the_environment_wins_under_either_name(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / ".env").write_text("CONFKEEP_GIT_STORE_PATH=/of-file\nCONFKEEP_SHARDS=3\n")
    monkeypatch.setenv("GIT_STORE_PATH", "/of-environment")
    monkeypatch.setenv("CONFKEEP_SHARDS", "7")
    found = load_settings()
    assert (found.git_store_path, found.shards) == (Path("/of-environment"), 7)
    assert load_settings(git_store_path=Path("/given")).git_store_path == Path("/given")


def test_a_wrong_value_in_the_file_is_named_and_not_shown(folder: Path) -> None:
    (folder / ".env").write_text("CONFKEEP_REDIS_URL=http://:hunter2@broker\n")
    with pytest.raises(InvalidSettings, match="CONFKEEP_REDIS_URL: must start with") as caught:
        load_settings()
    assert "hunter2" not in str(caught.value)


def test_a_file_that_cannot_be_read_is_told(folder: Path) -> None:
    (folder / ".env").write_bytes(b"CONFKEEP_SHARDS=3 # \xff\n")
    with pytest.raises(InvalidSettings, match=r"\.env: must be UTF-8"):
        load_settings()
    assert running.probe_variable("CONFKEEP_RUN_PATH") is None
    if os.geteuid():
        (folder / ".env").chmod(0)
        with pytest.raises(InvalidSettings, match=r"\.env: Permission denied"):
            load_settings()


def test_who_may_not_enter_the_working_directory_has_no_file_there(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / ".env").write_text("CONFKEEP_SHARDS=3\n")
    monkeypatch.setattr(os, "access", lambda path, _mode: path != ".")
    assert load_settings().shards == Settings.model_fields["shards"].default


def test_a_folder_of_that_name_is_none_of_ours(folder: Path) -> None:
    (folder / ".env").mkdir()
    assert load_settings().shards == Settings.model_fields["shards"].default


def test_who_chose_a_store_in_the_file_is_not_sent_to_another(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = folder / running.DEFAULT_DATA
    data.mkdir()
    running.RunningUp(1, str(data / "redis.sock"), str(data / "store")).write(data)
    monkeypatch.setattr(running.RunningUp, "answers", lambda _self: True)
    # What `adopt` sets is undone with the rest.
    monkeypatch.setattr(os, "environ", dict(os.environ))
    terminal = Terminal(no_color=True, debug=False)
    (folder / ".env").write_text("GIT_STORE_PATH=./git-store\n")
    running.adopt(terminal)
    assert "CONFKEEP_REDIS_URL" not in os.environ
    assert running.probe_url().startswith("redis://")
    (folder / ".env").unlink()
    running.adopt(terminal)
    assert os.environ["CONFKEEP_GIT_STORE_PATH"] == str(data / "store")


def test_the_first_line_has_the_form_that_the_file_names(folder: Path) -> None:
    (folder / ".env").write_text("CONFKEEP_LOG_FORMAT=json\nCONFKEEP_SHARDS=many\n")
    done = subprocess.run(
        [sys.executable, "-P", "-m", "confkeep", "exporter"],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 2
    [line] = [json.loads(line) for line in io.StringIO(done.stderr)]
    assert line["event"].startswith("CONFKEEP_SHARDS")


@pytest.mark.parametrize("networks", ["", " , ", "0.0.0.0/0", "10.0.0.1, ::/0", "proxy.example"])
def test_a_header_that_names_people_is_believed_from_named_addresses_alone(
    folder: Path, networks: str
) -> None:
    (folder / ".env").write_text(
        f"CONFKEEP_HTTP_USER_HEADER=X-Forwarded-Email\nCONFKEEP_HTTP_TRUSTED_PROXIES={networks}\n"
    )
    with pytest.raises(InvalidSettings, match="CONFKEEP_HTTP_TRUSTED_PROXIES: "):
        load_settings()
    (folder / ".env").write_text("CONFKEEP_HTTP_USER_HEADER=X-Forwarded-Email\n")
    with pytest.raises(InvalidSettings, match=r"CONFKEEP_HTTP_TRUSTED_PROXIES: .* 10\.1\.0\.7/32"):
        load_settings()
    assert load_settings(http_trusted_proxies="10.1.0.7, fd00::/8").http_user_header
