"""The pages say what the code says."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from confkeep.queue import events
from docs import generate
from docs.man_page import MAN_PAGE, man_page
from worker.cli import COMMANDS

README = (generate.ROOT / "README.md").read_text("utf-8")


@pytest.mark.parametrize("page", generate.PAGES, ids=lambda page: page.name)
def test_generated_tables_are_fresh(page: Path) -> None:
    text = page.read_text("utf-8")
    assert generate.fresh(text) == text, "run `make docs`"


def test_the_man_page_is_fresh_and_says_all() -> None:
    page = MAN_PAGE.read_text("utf-8")
    assert page == man_page(), "run `make docs`"
    for name, said in COMMANDS.items():
        assert f'.SS "confkeep {name} '.replace("-", r"\-") in page
        assert said.translate({ord("-"): r"\-", ord("'"): r"\(aq", ord("`"): r"\(ga"}) in page


def test_the_readme_holds_the_settings_and_the_two_commands() -> None:
    assert "<!-- generated: settings -->" in README
    assert "make demo" in README
    assert "make test" in README
    assert len(README.splitlines()) < 150


def test_the_readmes_promise_has_the_figure_of_the_last_long_run() -> None:
    page = (generate.ROOT / "docs/reliability.md").read_text("utf-8")
    [accepted] = re.findall(r"^\| backups accepted \| ([\d,]+), ", page, re.MULTILINE)
    assert f"doubled none of {accepted} accepted backups" in README


def test_the_readmes_example_is_python_of_at_most_20_lines() -> None:
    [example] = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    ast.parse(example)
    assert len([line for line in example.splitlines() if line.strip()]) <= 20


def test_every_type_of_event_is_listed() -> None:
    page = (generate.ROOT / "docs/events.md").read_text("utf-8")
    assert re.findall(r"^\| `([a-z.]+)` \|", page, re.MULTILINE) == list(events.TYPES)


def test_links_between_pages_lead_somewhere() -> None:
    for page in generate.PAGES:
        for target in re.findall(r"\]\((?!http|#)([^)#]+)", page.read_text("utf-8")):
            assert (page.parent / target).exists(), (page.name, target)


def test_the_steps_of_a_commit_have_the_numbers_of_the_code() -> None:
    page = (generate.ROOT / "docs/write-path.md").read_text("utf-8")
    code = (generate.ROOT / "worker/store/writing/commit.py").read_text("utf-8")
    steps = re.findall(r"^\| (\d) \|", page, re.MULTILINE)
    assert steps == sorted(steps)
    assert set(steps) == set(re.findall(r"(?:# |and )(\d)\. ", code))
