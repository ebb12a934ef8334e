"""All files of deployments name variables, commands, queues and tasks that there are."""

from __future__ import annotations

import configparser
import re
import subprocess
import sys
from pathlib import Path

import pytest
from honcho.environ import parse_procfile

from confkeep import errors
from confkeep.errors import ConfkeepError, Unhealthy
from confkeep.models import MAX_BINARY_BYTES, MAX_EXPORT_BYTES
from tests.unit.deploy import facts
from worker.http.routes import backups

SYSTEMD = facts.ROOT / "docs/deploy/systemd"
UNIT = SYSTEMD / "confkeep-worker@.service"
PROCFILE = (facts.ROOT / "Procfile").read_text("utf-8")
#: `confkeep COMMAND --option`, as a line of a page or a comment names it.
_COMMAND = re.compile(r"(?:^\s*|`|exec |bin/)confkeep ((?:[a-z-]+)(?: --?[a-z-]+)*)", re.MULTILINE)


@pytest.mark.parametrize("path", facts.files(), ids=lambda path: str(path.relative_to(facts.ROOT)))
def test_what_a_file_names_is_there(path: Path) -> None:
    assert problems_of_text(path.read_text("utf-8")) == []


def problems_of_text(text: str) -> list[str]:
    problems = [f"{name}: no such setting" for name in facts.unknown_variables(text)]
    problems += [f"{name}: no such queue or task" for name in facts.unknown_queues(text)]
    problems += [f"{name}: no such metric" for name in facts.unknown_metrics(text)]
    for line in _COMMAND.findall(text):
        name, *options = line.split()
        problems += facts.unknown_words(name, options)
    return problems


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("CONFKEEP_WORKERS=2", "CONFKEEP_WORKERS: no such setting"),
        ("the queue backups.shard.99", "backups.shard.99: no such queue or task"),
        ("the task backups.commit", "backups.commit: no such queue or task"),
        ("sum(confkeep_backlog)", "confkeep_backlog: no such metric"),
        ("run `confkeep statistics`", "confkeep statistics: no such command"),
        ("    confkeep status --wait\n", "confkeep status --wait: no such option"),
    ],
)
def test_what_is_not_there_is_a_problem(text: str, problem: str) -> None:
    assert problems_of_text(text) == [problem]


def processes(text: str) -> dict[str, str]:
    return dict(parse_procfile(text).processes)


def problems_of_procfile(text: str) -> list[str]:
    problems = []
    for name, line in processes(text).items():
        if re.search(r"\bPORT\b", line):
            problems.append(f"{name}: listens where honcho counts, which depends on the line")
        # What it is without a variable of the environment.
        line = re.sub(r"\$\{\w+:-(.*?)\}", r"\1", line)
        match = re.fullmatch(r"((?:[A-Z_]+=\S+ )*)exec confkeep (.*)", line)
        if match is None:
            problems.append(f"{name}: a shell stays between the signal and confkeep")
            continue
        values = dict(word.split("=", 1) for word in match[1].split())
        problems += facts.problems_of_environment(values)
        problems += facts.problems_of_command(match[2].split())
        if match[2].startswith("worker") and values.get("REMAP_SIGTERM") != "SIGQUIT":
            problems.append(f"{name}: a SIGTERM to all processes ends the pool in mid-batch")
    return problems


def test_the_procfile_has_no_problem() -> None:
    assert problems_of_procfile(PROCFILE) == []
    assert list(processes(PROCFILE)) == ["worker", "exporter", "http", "hooks"]


def test_honcho_finds_both_processes(tmp_path: Path) -> None:
    """It accepts nearly everything; what it understood is what counts."""
    command = [sys.executable, "-m", "honcho", "-f", str(facts.ROOT / "Procfile"), "check"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, check=True)
    assert b"Valid procfile detected (worker, exporter, http, hooks)" in done.stderr


@pytest.mark.parametrize(
    ("before", "after", "problem"),
    [
        ("exec confkeep worker", "confkeep worker", "a shell stays between"),
        ("REMAP_SIGTERM=SIGQUIT ", "", "ends the pool in mid-batch"),
        ("confkeep exporter", "confkeep export", "confkeep export: no such command"),
        ("REMAP_SIGTERM", "CONFKEEP_PORT=1 REMAP_SIGTERM", "CONFKEEP_PORT: no such setting"),
        ("EXPORTER_PORT", "PORT", "listens where honcho counts"),
        (":-9108", ":-x", "is not a valid integer"),
    ],
)
def test_a_broken_procfile_has_a_problem(before: str, after: str, problem: str) -> None:
    found = problems_of_procfile(PROCFILE.replace(before, after))
    assert any(problem in each for each in found), found


class _Repeated(dict[str, str]):
    """A key that comes again adds a line, as systemd has it."""

    def __setitem__(self, key: str, value: object) -> None:
        if key in self and isinstance(value, list):
            value = [*self[key], *value]
        super().__setitem__(key, value)  # type: ignore[assignment]


def problems_of_unit(text: str) -> list[str]:
    parser = configparser.RawConfigParser(strict=False, dict_type=_Repeated, delimiters="=")
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read_string(text)
    service = parser["Service"]
    problems = []
    variables = dict(line.split("=", 1) for line in service["Environment"].splitlines())
    problems += facts.problems_of_environment(variables)
    program, *arguments = service["ExecStart"].split()
    if not program.endswith("/bin/confkeep"):
        problems.append(f"starts {program}")
    problems += facts.problems_of_command(arguments)
    if facts.is_numbered(variables) or not any("%i" in each for each in arguments):
        problems.append("instances are told apart by more than their names, or by nothing")
    if float(service["TimeoutStopSec"]) < facts.shortest_grace_s():
        problems.append("is killed while it ends in order")
    if service.get("KillMode") != "mixed":
        problems.append("asks the pool's processes to end in mid-batch")
    if service.get("User", "root") == "root":
        problems.append("runs as root")
    if service.get("ProtectSystem") != "strict" or service.get("NoNewPrivileges") != "yes":
        problems.append("is not confined")
    problems += problems_of_restarts(text)
    state = service["StateDirectory"]
    for name in ("CONFKEEP_GIT_STORE_PATH", "CONFKEEP_STAGING_PATH"):
        if not variables[name].startswith(f"/var/lib/{state}/"):
            problems.append(f"may not write to {name}")
    return problems


def problems_of_restarts(text: str) -> list[str]:
    """Whether a unit starts again what a restart may mend, and nothing else."""
    [line] = re.findall(r"^RestartPreventExitStatus=(.*)$", text, re.MULTILINE)
    tree = [each for each in vars(errors).values() if isinstance(each, type)]
    kinds = [each for each in tree if issubclass(each, ConfkeepError) and each is not ConfkeepError]
    mended = {each.exit_code for each in kinds if each.retryable or issubclass(each, Unhealthy)}
    wanted = sorted({each.exit_code for each in kinds} - mended)
    return [] if line == " ".join(map(str, wanted)) else [f"starts again but after {wanted}"]


@pytest.mark.parametrize("path", [*SYSTEMD.glob("*.service")], ids=lambda path: path.name)
def test_what_a_restart_cannot_mend_waits_for_a_person(path: Path) -> None:
    text = path.read_text("utf-8")
    assert problems_of_restarts(text) == []
    assert problems_of_restarts(text.replace(" 44", "")) != []


def test_the_unit_has_no_problem() -> None:
    assert problems_of_unit(UNIT.read_text("utf-8")) == []


@pytest.mark.parametrize(
    ("before", "after", "problem"),
    [
        ("User=", "Environment=CONFKEEP_WORKER_INDEX=0\nUser=", "more than their names"),
        ("worker-%i", "worker", "or by nothing"),
        ("CONFKEEP_STAGING_PATH", "CONFKEEP_STAGE", "no such setting"),
        ("confkeep worker", "confkeep workers", "no such command"),
        ("TimeoutStopSec=30", "TimeoutStopSec=5", "is killed while it ends"),
        ("KillMode=mixed", "KillMode=control-group", "asks the pool's processes"),
        ("User=confkeep", "User=root", "runs as root"),
        ("ProtectSystem=strict", "ProtectSystem=yes", "is not confined"),
        ("Status=2 7 14", "Status=7 14", "starts again but after [2, 7, 14,"),
        ("PATH=/var/lib/confkeep/store", "PATH=/srv/store", "may not write to"),
    ],
)
def test_a_broken_unit_has_a_problem(before: str, after: str, problem: str) -> None:
    text = UNIT.read_text("utf-8")
    assert before in text
    try:
        found = problems_of_unit(text.replace(before, after))
    except KeyError as error:
        found = [f"{error}: no such setting"]
    assert any(problem in each for each in found), found


def test_the_pages_files_are_there() -> None:
    text = (facts.ROOT / "docs/deploy/README.md").read_text("utf-8")
    for link in re.findall(r"\]\(([^)#:]+)\)", text):
        assert (facts.ROOT / "docs/deploy" / link).exists(), link
    for path in re.findall(r"(?<![/\w])docs/[\w./@-]+[\w]", text):
        assert (facts.ROOT / path).exists(), path


def test_the_proxy_of_the_page_lets_through_what_http_takes() -> None:
    """The largest backup, and a request that waits for its receipt as long as it may."""
    text = (facts.ROOT / "docs/deploy/README.md").read_text("utf-8")
    [most_mib] = re.findall(r"client_max_body_size (\d+)m;", text)
    assert int(most_mib) * 2**20 > MAX_EXPORT_BYTES + MAX_BINARY_BYTES
    [wait_s] = re.findall(r"proxy_read_timeout (\d+)s;", text)
    assert int(wait_s) > backups._MOST_WAIT_S
