"""The tree of errors: each complete, rebuilt from its JSON, and free of what was given."""

from __future__ import annotations

import json
import re

import pytest

from confkeep import errors
from confkeep.errors import ConfkeepError, InvalidInput
from docs.cli_reference import below

CLASSES = sorted(
    {kind for kind in below(ConfkeepError) if kind.__module__ == "confkeep.errors"},
    key=lambda kind: kind.__name__,
)


@pytest.mark.parametrize("kind", CLASSES)
def test_each_error_is_complete(kind: type[ConfkeepError]) -> None:
    assert kind.__doc__
    assert kind.hint.endswith(".")
    assert 1 <= kind.exit_code < 126


def test_an_exit_code_tells_errors_apart() -> None:
    own = [kind.__dict__["exit_code"] for kind in CLASSES if "exit_code" in kind.__dict__]
    assert sorted(own) == sorted(set(own))


@pytest.mark.parametrize("kind", CLASSES)
def test_each_error_survives_the_way_through_celery(kind: type[ConfkeepError]) -> None:
    arguments = ("field", "problem") if issubclass(kind, InvalidInput) else ("a sentence",)
    error = kind(*arguments)
    again = kind(*json.loads(json.dumps(error.args)))
    assert (str(again), again.args) == (str(error), error.args)


def test_the_tree_is_drawn_as_it_is() -> None:
    drawn = (errors.__doc__ or "").split("\n\n")[1]
    names = [name for name in re.findall(r"\w+", drawn) if hasattr(errors, name)]
    assert sorted(names) == [kind.__name__ for kind in CLASSES]
    branch: type[ConfkeepError] = ConfkeepError
    for line in drawn.splitlines()[1:]:
        known = [getattr(errors, name) for name in re.findall(r"\w+", line) if name in names]
        branch = known[0] if "── " in line else branch
        assert all(issubclass(kind, branch) for kind in known), line
