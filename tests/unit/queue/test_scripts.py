"""The scripts are written so that a reader sees at the top what they are given."""

from __future__ import annotations

import re
from importlib import resources

import pytest

SCRIPTS = {
    file.name.removesuffix(".lua"): file.read_text("utf-8")
    for file in resources.files("confkeep.broker").joinpath("lua").iterdir()
    if file.name.endswith(".lua")
}
#: A key, an argument or several, by their places.
_READ = re.compile(r"unpack\((?:KEYS|ARGV)\b[^)]*\)|(?:KEYS|ARGV)\[\w+\]")
#: What reads no single one: a count, and a list to walk over or hand on.
_WHOLE = re.compile(r"#(?:KEYS|ARGV)|\b(?:ipairs|expect_all)\([^()]*(?:KEYS|ARGV)\)")
_GIVEN = re.compile(r"\b(?:KEYS|ARGV)\b")
_NAMES = re.compile(r"\s*local [\w, ]+ = ")


def lines_of(text: str) -> list[str]:
    """The lines of a script, without comments."""
    lines = (line.partition("--")[0].rstrip() for line in text.splitlines())
    return [line for line in lines if line]


@pytest.mark.parametrize("name", sorted(SCRIPTS))
def test_keys_and_arguments_are_only_read_to_be_named(name: str) -> None:
    """Those of the script in its first lines, those of a list as the first thing in a loop over it."""
    lines = lines_of(SCRIPTS[name])
    began = False
    for line in lines:
        reads = bool(_READ.search(_WHOLE.sub("", line)))
        assert not _GIVEN.search(_READ.sub("", _WHOLE.sub("", line))), line
        assert not reads or _NAMES.match(line), f"it has no name: {line}"
        if not line.startswith(" "):
            assert not (reads and began), f"it comes too late: {line}"
            began = began or not _NAMES.match(line)
    for given in ("KEYS", "ARGV"):
        if any(f"#{given}" in line for line in lines):
            assert not any(f"unpack({given})" in line for line in lines), (
                "unpacks a list whole, and Lua returns no more than 8,000 values"
            )
