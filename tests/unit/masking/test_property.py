"""Generated exports: nothing of a planted secret is shown, and lines without one stay as they are."""

from __future__ import annotations

import re

from hypothesis import given, settings
from hypothesis import strategies as st

from confkeep.vendors.mikrotik import PROPERTIES
from tests.unit.masking.routeros_text import V6, V7, bare, quoted, wrapped
from worker.masking.mask import mask

NAMES = sorted({name for rule in PROPERTIES for name in rule.names})
#: Letters that stand in secrets alone.
MARKS = "QXZ"
secrets = st.text(
    alphabet=MARKS + " \"\\$;{}[]()=?&#'\u00e4\u20ac,:/-", min_size=1, max_size=40
).map(lambda text: f"Q{text}Z")
harmless = st.text(alphabet="abcdefghijklmnop 0123456789\"\\$;{}[]=?#'\u00e4,:/-", max_size=60).map(
    lambda text: text.replace("pass", "").replace("key", "").replace("pin", "").replace(" is ", " ")
)
widths = st.sampled_from([24, 40, 80, 100, 10_000])
ends = st.sampled_from(["\n", "\r\n"])


@st.composite
def lines(draw: st.DrawFn, end: str) -> tuple[str, bool]:
    """A line of an export, and whether there is a secret in it."""
    parts = [f"comment={quoted(draw(harmless))}"]
    planted = draw(st.booleans())
    if planted:
        secret = draw(secrets)
        name = draw(st.sampled_from(NAMES))
        value = draw(st.sampled_from([quoted(secret), bare(secret)]))
        if draw(st.booleans()):
            inside = f"/a add b={quoted(draw(harmless))} {name}={quoted(secret)} c=d\r\n:put done"
            parts.append(f"source={quoted(inside)}")
        else:
            parts.append(f"{name}={value}")
    parts.append(f"list={bare(draw(harmless) or 'a')}")
    order = draw(st.permutations(parts))
    return wrapped("add " + " ".join(order), draw(widths), end), planted


@st.composite
def exports(draw: st.DrawFn) -> tuple[str, list[tuple[str, bool]]]:
    end = draw(ends)
    header = draw(st.sampled_from([V6, V7])).replace("\n", end)
    items = draw(st.lists(lines(end), min_size=1, max_size=8))
    return header + f"/menu{end}" + "".join(line + end for line, _planted in items), items


@settings(max_examples=150, deadline=None)
@given(exports())
def test_no_planted_secret_survives(export: tuple[str, list[tuple[str, bool]]]) -> None:
    text, items = export
    masked = mask(text.encode()).decode()
    assert masked.count("\n") == text.count("\n")
    assert not set(MARKS) & set(masked), masked
    for line, planted in items:
        if not planted:
            assert line in masked


@settings(max_examples=150, deadline=None)
@given(
    st.binary(max_size=300)
    | st.lists(
        st.sampled_from(
            [
                b"password",
                b"=",
                b'"',
                b"\\",
                b"\n",
                b" ",
                b"key",
                b"{",
                b"(",
                b"'",
                b":",
                b"<secret>",
                b"x",
            ]
        ),
        max_size=60,
    ).map(b"".join)
)
def test_any_bytes_keep_their_lines(text: bytes) -> None:
    masked = mask(text)
    assert masked.count(b"\n") == text.count(b"\n")
    assert re.findall(rb"\r?\n", masked) == re.findall(rb"\r?\n", text)
