"""A masked diff has the hunks of the real one, and tells which secrets changed."""

from __future__ import annotations

import pytest

from worker.engine.diff import hunks, masked_hunks

OLD = b"""# 2024-01-02 03:04:05 by RouterOS 7.16
/ppp secret
add name=a password=first-secret service=l2tp
add name=b password="second secret"
add name=c password=same
/radius
add address=10.0.0.1 secret=radius-secret
"""


def diff(new: bytes, old: bytes = OLD) -> list[str]:
    masked = masked_hunks(old, new)
    real = hunks(old, new)
    signs = [line[:1] for line in real.split(b"\n")]
    assert [line[:1] for line in masked.split(b"\n")] == signs
    return masked.decode().splitlines()


def test_a_changed_secret_is_shown_as_changed() -> None:
    lines = diff(OLD.replace(b"first-secret", b"other-secret"))
    assert "-add name=a password=*** service=l2tp" in lines
    assert "+add name=a password=*** (changed) service=l2tp" in lines
    assert " add name=b password=***" in lines


def test_a_secret_that_stayed_is_not() -> None:
    lines = diff(OLD.replace(b"name=b", b"name=bb"))
    assert "+add name=bb password=***" in lines
    assert not any("changed" in line for line in lines)


def test_a_secret_beside_another_change_is_compared_by_its_name() -> None:
    lines = diff(OLD.replace(b"name=a password=first-secret", b"name=aa password=other"))
    assert "+add name=aa password=*** (changed) service=l2tp" in lines


def test_a_new_line_has_no_mark() -> None:
    lines = diff(OLD.replace(b"/radius", b"add name=d password=same\n/radius"))
    assert "+add name=d password=***" in lines
    assert not any("changed" in line for line in lines)


def test_of_several_lines_each_is_compared_to_its_own() -> None:
    new = OLD.replace(b"first-secret", b"1").replace(b"second secret", b"2")
    lines = diff(new)
    assert lines.count("+add name=a password=*** (changed) service=l2tp") == 1
    assert lines.count("+add name=b password=*** (changed)") == 1
    assert not any(line.startswith("+add name=c") for line in lines)


def test_a_key_of_several_lines() -> None:
    old = b"a\n-----BEGIN PRIVATE KEY-----\nAAAA\nBBBB\n-----END PRIVATE KEY-----\nb\n"
    lines = diff(old.replace(b"BBBB", b"CCCC"), old)
    assert "-***" in lines
    assert "+*** (changed)" in lines


@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
def test_wraps_and_ends_of_lines(end: bytes) -> None:
    old = b"/ppp secret\nadd name=a password=\\\n    first-secret comment=\\\n    x\n".replace(
        b"\n", end
    )
    lines = diff(old.replace(b"first-secret", b"other"), old)
    assert "+    *** (changed) comment=\\" in lines


def test_the_last_line_without_an_end() -> None:
    old = OLD.removesuffix(b"\n")
    lines = diff(old.replace(b"radius-secret", b"other"), old)
    assert lines.count("\\ No newline at end of file") == 2
    assert lines[-2] == "+add address=10.0.0.1 secret=*** (changed)"
    lines = diff(old.replace(b"name=c", b"name=cc"), old)
    assert lines[-1] == "\\ No newline at end of file"


def test_the_line_that_git_quotes_behind_the_head_is_not_shown() -> None:
    old = b"version 1\nenable secret 5 $1$abc$defghi\n a\n b\n c\n d\n e\nhostname a\n"
    new = old.replace(b" d\n", b" f\n")
    assert b"@@ enable secret" in hunks(old, new)
    assert b"defghi" not in masked_hunks(old, new)


def test_a_section_stays_behind_the_head() -> None:
    lines = diff(OLD.replace(b"10.0.0.1", b"10.0.0.2"))
    assert lines[0].endswith("@@ /radius")


def test_no_difference_is_empty() -> None:
    assert masked_hunks(OLD, OLD) == b""


def test_a_first_version_shows_no_secret() -> None:
    masked = masked_hunks(b"", OLD)
    assert b"secret=***" in masked
    assert b"radius-secret" not in masked
    assert b"changed" not in masked


def test_a_line_that_only_gets_its_end_is_compared_with_itself() -> None:
    old, new = b"add name=a password=s1", b"add name=b password=s2\nadd name=a password=s1\n"
    assert not any("changed" in line for line in diff(new, old))
