"""The Dockerfile is pinned, copies what is there and runs as nobody special; each check can fail."""

from __future__ import annotations

import re
import tomllib

import pytest

from tests.unit.deploy import compose, dockerfile, facts, kubernetes

TEXT = (facts.ROOT / "Dockerfile").read_text("utf-8")


def test_the_file_has_no_problem() -> None:
    assert dockerfile.problems_of(TEXT, facts.ROOT) == []


BROKEN = {
    "no version": (r"python:[\w.-]+", "python", "FROM python: not pinned"),
    "a version that moves": (r"python:[\w.-]+", "python:3-slim", "not pinned"),
    "root": (r"USER .*", "", "runs as root"),
    "root by number": (r"USER .*", "USER 0:0", "runs as root"),
    "a user's name": (r"USER .*", "USER confkeep", "USER is a name"),
    "a file that is not there": (
        "COPY pyproject.toml",
        "COPY setup.py",
        "COPY setup.py: not there",
    ),
    "a folder that is left out": ("COPY tasks tasks", "COPY tests tests", "leaves it out"),
    "another stage": ("--from=build", "--from=builder", "COPY from builder: no such stage"),
    "no healthcheck": ("HEALTHCHECK.*", "", "no HEALTHCHECK"),
    "another healthcheck": (r'\["confkeep", "health"\]', '["true"]', "HEALTHCHECK runs true"),
    "an unknown check": ('"health"]', '"healthy"]', "confkeep healthy: no such command"),
    "an unknown command": (r'CMD \["worker"\]', 'CMD ["work"]', "confkeep work: no such command"),
    "another entry": ("ENTRYPOINT.*", 'ENTRYPOINT ["celery"]', "ENTRYPOINT does not end"),
    "an unknown variable": ("CONFKEEP_STAGING_PATH", "CONFKEEP_STAGE", "no such setting"),
    "a wrong value": ("FORMAT=json", "FORMAT=xml", "CONFKEEP_LOG_FORMAT"),
    "SIGTERM as it is": ("REMAP_SIGTERM=SIGQUIT", "A=B", "REMAP_SIGTERM is not set"),
    "metrics for itself": ("ADDRESS=0.0.0.0", "ADDRESS=127.0.0.1", "nobody outside"),
    "no git": ("git tini", "tini", "no git"),
    "no label": ("image.licenses", "image.license", "no label licenses"),
    "a misspelt instruction": ("WORKDIR", "WORKDIRS", "unknown instruction WORKDIRS"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_file_has_a_problem(name: str) -> None:
    pattern, replacement, problem = BROKEN[name]
    pattern = pattern if pattern != '"health"]' else re.escape(pattern)
    broken = re.sub(pattern, replacement, TEXT)
    assert broken != TEXT
    found = dockerfile.problems_of(broken, facts.ROOT)
    assert any(problem in each for each in found), found


@pytest.mark.parametrize(
    ("path", "ignored"),
    [
        ("worker", False),
        ("confkeep/broker/lua/accept.lua", False),
        ("worker/cli/__pycache__/a.pyc", True),
        ("requirements/run.txt", False),
        ("requirements/build.in", True),
        (".env", True),
        (".git", True),
        ("tests", True),
        ("docs/deploy/compose/env.example", True),
    ],
)
def test_the_context_holds_what_is_copied_and_no_secret(path: str, ignored: bool) -> None:
    patterns = (facts.ROOT / ".dockerignore").read_text("utf-8").splitlines()
    assert dockerfile.is_ignored(path, patterns) is ignored


def test_the_interpreter_and_the_version_are_the_projects() -> None:
    project = tomllib.loads((facts.ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    minor = re.search(r"python:3\.(\d+)\.", TEXT)
    assert minor is not None
    low, high = re.findall(r"3\.(\d+)", project["requires-python"])
    assert int(low) <= int(minor[1]) < int(high)
    version = project["version"]
    assert f"ARG VERSION={version}\n" in TEXT
    document = compose.read(facts.ROOT / "docker-compose.yml")
    for name in ("worker", "exporter", "flower"):
        assert document["services"][name]["image"].endswith(f":{version}")
    path = facts.ROOT / "docs/deploy/kubernetes/base/kustomization.yaml"
    [kustomization] = kubernetes.read_file(path)
    assert [image["newTag"] for image in kustomization["images"]] == [version]


def test_the_full_image_has_the_pins_of_the_slim_one_and_of_the_tests() -> None:
    pins = {
        name: dict(
            re.findall(
                r"^([a-z0-9-]+)==(\S+)",
                (facts.ROOT / f"requirements/{name}.txt").read_text("utf-8"),
                re.MULTILINE,
            )
        )
        for name in ("run", "full", "dev")
    }
    assert pins["run"].items() <= pins["full"].items() <= pins["dev"].items()
    assert {"flower", "sentry-sdk", "opentelemetry-sdk"} <= pins["full"].keys()
