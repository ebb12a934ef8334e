"""What sends webhooks and digests is loaded by the commands that send, and by nothing else."""

from __future__ import annotations

import subprocess
import sys

import pytest

OF_EXTRAS = {"apprise", "fastapi", "httpcore", "httpx", "jinja2", "standardwebhooks", "uvicorn"}


@pytest.mark.parametrize(
    "program",
    [
        "import importlib, worker.app\nfor name in worker.app.TASK_MODULES: importlib.import_module(name)",
        "import worker.cli.hooks, worker.cli.digest, worker.cli.exporter",
    ],
    ids=["a worker", "commands that read"],
)
def test_libraries_of_extras_are_not_loaded(program: str) -> None:
    program += f"\nimport sys; print(*({OF_EXTRAS!r} & set(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == []
