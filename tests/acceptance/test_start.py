"""The 5-minute start, run as it stands on the page: each command, and the output that is shown."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from tests.acceptance.test_cli import fresh_environment, running_up
from tests.servers import wait_for

PAGE = Path(__file__).parents[2] / "docs" / "start.md"
_BLOCK = re.compile(r"^```(?P<kind>sh|text)\n(?P<text>.*?)^```$", re.DOTALL | re.MULTILINE)


def pattern_of(shown: str) -> re.Pattern[str]:
    """What an output looks like: `…` in a line is anything, alone in a line any lines."""
    pattern = ""
    for line in shown.splitlines():
        if line == "…":
            pattern += r"(?:.*\n)*?"
        else:
            # Columns are as wide as what stands in them.
            parts = [re.escape(part) for part in re.split("…", line)]
            pattern += re.sub(r"(?:\\ )+", r"\\s+", ".*".join(parts)) + r"[ ]*\n"
    return re.compile(pattern)


def run(script: str, folder: Path, environment: dict[str, str]) -> str:
    done = subprocess.run(
        ["bash", "-euc", script],
        cwd=folder,
        env={**fresh_environment(), **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, (script, done.stdout, done.stderr)
    return done.stdout


def test_every_command_works_and_prints_what_the_page_shows(tmp_path: Path) -> None:
    text = PAGE.read_text("utf-8")
    blocks = [(found["kind"], found["text"]) for found in _BLOCK.finditer(text)]
    install, up = blocks[:2]
    # The suite itself was installed by the first; the second runs on beside the others.
    assert install[1].startswith("make install\n")
    assert up == ("sh", "confkeep up\n")
    binaries = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    scripts = 0
    with running_up(tmp_path):

        def printed_by_now() -> str:
            return (tmp_path / "out").read_text() + (tmp_path / "err").read_text()

        wait_for(lambda: "Ctrl-C" in printed_by_now(), "all that `confkeep up` prints")
        printed = printed_by_now()
        exports = dict(re.findall(r"export (\w+)='(.*)'", printed))
        output = "\n".join(line for line in printed.splitlines() if "[info" not in line) + "\n"
        environment = {"PATH": binaries}
        for kind, block in blocks[2:]:
            if kind == "text":
                assert pattern_of(block).fullmatch(output), (block, output)
                continue
            if block.startswith("python"):
                # From here on the reader has pasted what `up` printed.
                environment.update(exports)
            output = run(block, tmp_path, environment)
            scripts += 1
    assert scripts >= 6
