"""The tree of errors: each complete, rebuilt from its JSON, and free of what was given."""

from __future__ import annotations

import json

import pytest

from confkeep import errors
from confkeep.errors import ConfkeepError, InvalidInput


def tree(root: type[ConfkeepError] = ConfkeepError) -> list[type[ConfkeepError]]:
    return [root, *(each for child in root.__subclasses__() for each in tree(child))]


CLASSES = sorted(
    {kind for kind in tree() if kind.__module__ == "confkeep.errors"},
    key=lambda kind: kind.__name__,
)


@pytest.mark.parametrize("kind", CLASSES)
def test_each_error_is_complete(kind: type[ConfkeepError]) -> None:
    assert kind.__doc__
    assert kind.hint.endswith(".")
    assert 1 <= kind.exit_code < 126
    assert kind.__name__ in (errors.__doc__ or "")


@pytest.mark.parametrize("kind", CLASSES)
def test_each_error_survives_the_way_through_celery(kind: type[ConfkeepError]) -> None:
    arguments = ("field", "problem") if issubclass(kind, InvalidInput) else ("a sentence",)
    error = kind(*arguments)
    again = kind(*json.loads(json.dumps(error.args)))
    assert (str(again), again.args) == (str(error), error.args)


def test_the_tree_is_drawn_as_it_is() -> None:
    drawn = (errors.__doc__ or "").split("\n\n")[1]
    depth_of: dict[str, int] = {}
    stack: list[str] = []
    for line in drawn.splitlines():
        bare = line[4:].lstrip(" │├└─")
        name = bare.split()[0]
        depth = (len(line[4:]) - len(bare)) // 4
        depth_of[name] = depth
        del stack[depth:]
        if stack:
            assert issubclass(getattr(errors, name), getattr(errors, stack[-1]))
        stack.append(name)
    assert set(depth_of) == {kind.__name__ for kind in CLASSES}
