"""The command line as a whole: what it lists, how errors end, what --help costs."""

from __future__ import annotations

import inspect
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from confkeep.errors import StoreUnavailable
from docs.cli_reference import commands
from tests.unit.cli.conftest import ROUTER, TENANT, Confkeep, Store
from worker.cli import COMMANDS, GROUPS, cli, module_of


def test_garbage_is_looked_for_once_a_service_is_loaded_and_not_in_what_was_loaded() -> None:
    program = (
        "import gc\nfrom worker.cli import service\n"
        "try:\n"
        "    with service.loading():\n"
        "        assert not gc.isenabled()\n"
        "        raise ImportError\n"
        "except ImportError:\n"
        "    assert gc.isenabled() and gc.get_freeze_count() > 10_000"
    )

    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=False)

    assert done.returncode == 0, done.stderr


def test_a_command_ends_without_a_last_look_for_garbage() -> None:
    program = (
        "import atexit, gc, sys\nfrom confkeep.__main__ import main\n"
        "atexit.register(lambda: print(gc.get_freeze_count()))\n"
        "sys.argv = ['confkeep', '--help']\nmain()"
    )

    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)

    assert int(done.stdout.split()[-1]) > 1_000


@pytest.mark.parametrize("name", COMMANDS)
def test_the_list_says_what_each_command_says_of_itself(name: str) -> None:
    context = click.Context(cli)
    command = cli.get_command(context, name)

    assert command is not None
    assert command.name == name
    assert command.help is not None
    assert command.help.splitlines()[0] == COMMANDS[name]
    assert command.get_help(click.Context(command))


def test_each_module_with_a_command_is_listed() -> None:
    folder = Path(sys.modules["worker.cli"].__file__ or "").parent
    with_commands = {
        f"worker.cli.{path.stem}"
        for path in folder.glob("*.py")
        if "\ndef command(" in path.read_text(encoding="utf-8")
    }

    assert with_commands == {module_of(name) for name in COMMANDS}


def test_help_imports_none_of_the_slow_libraries() -> None:
    program = (
        "import sys\nfrom confkeep.__main__ import main\n"
        "sys.argv = ['confkeep', '--help']\n"
        "try:\n    main()\n"
        "finally:\n"
        "    slow = {'celery', 'pygit2', 'pydantic', 'redis', 'rich'} & set(sys.modules)\n"
        "    sys.exit(','.join(sorted(slow)) or 0)"
    )

    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=False)

    assert done.returncode == 0, done.stderr
    assert b"history" in done.stdout


def test_alone_it_helps(confkeep: Confkeep) -> None:
    done = confkeep()
    assert done.exit_code == 0
    assert done.stdout == confkeep("--help").stdout
    for title in GROUPS:
        assert f"\n{title}:\n" in done.stdout


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("typed", ["", "--help", "--version", "up --help", "completion bash"])
def test_output_that_a_full_disk_refuses_is_one_error(typed: str, unbuffered: str) -> None:
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            [sys.executable, "-P", "-m", "confkeep", *typed.split()],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
            env={**os.environ, "PYTHONUNBUFFERED": unbuffered},
        )
    assert done.returncode == StoreUnavailable.exit_code
    told, step = done.stderr.splitlines()
    assert told.startswith("error: ")
    assert told.endswith("No space left on device")
    assert step.startswith("hint: Free space on the disk of what ")
    if not unbuffered:
        # Python itself does not tell what refused a write without a buffer.
        assert told == "error: standard output: No space left on device"


def test_a_standard_stream_that_is_closed_is_no_error(filled: Store) -> None:
    def run(typed: str) -> subprocess.CompletedProcess[bytes]:
        command = ["sh", "-c", f'"$0" -P -m confkeep {typed}', sys.executable]
        return subprocess.run(command, capture_output=True, check=False)

    printed = run("--help >&-")
    assert (printed.returncode, printed.stdout, printed.stderr) == (0, b"", b"")
    asked = run(f"forget-device {TENANT} {ROUTER} <&-")
    assert asked.returncode == 2
    assert b"Not confirmed, so nothing was done. With --yes" in asked.stderr


@pytest.mark.parametrize(
    ("typed", "meant"),
    [("hitory", "history"), ("dif", "diff"), ("forget-devices", "forget-device")],
)
def test_a_wrong_command_gets_the_nearest(confkeep: Confkeep, typed: str, meant: str) -> None:
    done = confkeep(typed)
    assert done.exit_code == 2
    assert f"Did you mean {meant}" in done.stderr
    assert "Did you mean" not in confkeep("xyzzy").stderr


#: How each command and subcommand is called -> its context.
HELPS = {
    context.command_path.removeprefix("confkeep "): context
    for context in commands(click.Context(cli, info_name="confkeep"))
}


@pytest.mark.parametrize("called", ["", *HELPS])
def test_help_fits_80_columns_and_cuts_no_text(called: str) -> None:
    done = CliRunner().invoke(cli, [*called.split(), "--help"], terminal_width=80)
    assert done.exit_code == 0
    lines = done.stdout.splitlines()
    assert [
        line for line in lines if len(line) > 80 or re.search(r"(\w-|[a-z]\.\.\.)$", line)
    ] == []


@pytest.mark.parametrize("called", HELPS)
def test_help_ends_with_examples_that_the_command_takes(
    called: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for folder in ("exports", "oxidized.git"):
        (tmp_path / folder).mkdir()
    for file in ("core1.rsc", "core2.rsc"):
        (tmp_path / file).touch()
    text = inspect.cleandoc(HELPS[called].command.help or "")

    examples = text.partition("\n\n\b\nExamples:\n")[2].splitlines()

    assert 2 <= len(examples) <= 3
    for example in examples:
        assert example.startswith(f"  confkeep {called}")
        words = shlex.split(example.partition(" > ")[0])[1:]
        depth = max(n for n in range(1, len(words) + 1) if " ".join(words[:n]) in HELPS)
        command = HELPS[" ".join(words[:depth])].command
        assert not isinstance(command, click.Group)
        command.make_context(None, words[depth:]).close()


def test_commands_that_read_the_store_alone_import_neither_celery_nor_redis(filled: Store) -> None:
    program = (
        "import sys\nfrom worker.cli import cli\n"
        "for name in ('devices', 'diff', 'restore', 'search', 'show'):\n"
        "    cli.get_command(None, name)\n"
        f"cli.main(['history', '{TENANT}', '{ROUTER}'], standalone_mode=False)\n"
        "sys.exit(' '.join({'celery', 'redis'} & set(sys.modules)) or 0)"
    )

    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=False)

    assert done.returncode == 0, done.stderr


def test_an_error_is_two_lines_and_its_own_status(filled: Store, confkeep: Confkeep) -> None:
    done = confkeep("show", TENANT, "00000000-0000-4000-8000-000000000000")

    assert done.exit_code == 31
    assert done.stdout == ""
    problem, hint = done.stderr.splitlines()
    assert problem.startswith("error: no version of device 00000000")
    assert hint.startswith("hint: ")


def test_debug_shows_where_an_error_comes_from(filled: Store) -> None:
    command = [sys.executable, "-m", "confkeep", "--debug", "history", "nothing"]

    done = subprocess.run(command, capture_output=True, check=False)

    assert done.returncode == 1
    assert b"Traceback" in done.stderr
    assert b"InvalidId" in done.stderr


def test_a_file_that_cannot_be_written_is_an_error_without_a_traceback(
    filled: Store, confkeep: Confkeep, tmp_path: Path
) -> None:
    done = confkeep("show", TENANT, ROUTER, "-o", tmp_path / "missing" / "file")

    assert done.exit_code == 1
    assert "No such file or directory" in done.stderr
    assert "Traceback" not in done.stderr


def test_wrong_usage_ends_with_2(confkeep: Confkeep) -> None:
    assert confkeep("history", "--limit", "-1").exit_code == 2
    assert confkeep("nothing").exit_code == 2


def test_all_bytes_arrive_when_python_does_not_buffer(filled: Store) -> None:
    export = b"add some line\n" * 100_000
    filled.add(ROUTER, export, None, "large")
    command = [sys.executable, "-u", "-m", "confkeep", "show", TENANT, ROUTER]

    done = subprocess.run(command, capture_output=True, check=True)

    assert done.stdout == export


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_reader_that_goes_away_is_no_error(filled: Store, unbuffered: str) -> None:
    filled.add(ROUTER, b"add some line\n" * 100_000, None, "large")
    read_end, write_end = os.pipe()
    command = [sys.executable, "-m", "confkeep", "show", TENANT, ROUTER]

    with subprocess.Popen(
        command,
        stdout=write_end,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONUNBUFFERED": unbuffered},
    ) as process:
        os.close(write_end)
        os.read(read_end, 10)
        os.close(read_end)
        _, stderr = process.communicate(timeout=30)

    assert stderr == b""
    assert process.returncode == 1


def test_a_missing_server_is_named_with_a_hint(
    store: Store, confkeep: Confkeep, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("CONFKEEP_REDIS_URL", f"unix://{tmp_path}/no.sock?db=0")

    done = confkeep("status")

    assert done.exit_code == 11
    assert "hint: " in done.stderr
