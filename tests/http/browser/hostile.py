"""Texts that would run or break something in a page that took them for more than text."""

from __future__ import annotations

from typing import Final

#: Each would show a dialog, ask another site or end the page's own markup.
TEXTS: Final = (
    "<script>alert(1)</script>",
    "</script><script>alert(2)</script>",
    "<img src=x onerror=alert(3)>",
    '"><svg onload=alert(4)>',
    "'><iframe srcdoc='<script>alert(5)</script>'></iframe>",
    '" autofocus onfocus=alert(6) x="',
    "</td></tr></table></main><h1>outside</h1>",
    "</title><script>alert(7)</script>",
    "</textarea></style></noscript><script>alert(8)</script>",
    "<!-- <script>alert(9)</script> -->",
    "<base href=https://elsewhere.example/>",
    "<meta http-equiv=refresh content='0;url=https://elsewhere.example/'>",
    "<link rel=stylesheet href=//elsewhere.example/x.css>",
    "<form action=//elsewhere.example><button>Sign in</button></form>",
    '<a href="javascript:alert(10)">here</a>',
    "<div hx-get=/queue hx-trigger=load hx-on:load=alert(11)>",
    "<math><mtext><script>alert(12)</script>",
    "{{ 7*7 }} {% for x in y %} {# note #}",
    "${alert(13)} `${alert(14)}`",
    "&lt;script&gt;alert(15)&lt;/script&gt; &#60;b&#62; &amp;amp; &nbsp",
    "javascript:alert(16)",
    "data:text/html,<script>alert(17)</script>",
    "]]><script>alert(18)</script>",
    "+ADw-script+AD4-alert(19)+ADw-/script+AD4-",
    "<sCrIpT/x>alert(20)</ScRiPt>",
    "-->--!><script>alert(21)</script>",
    "@@ -1,3 +1,3 @@ <script>alert(22)</script>",
    '#L1" id="main',
    # As long as a label may be, without a place to break it.
    "<b>" + "W" * 250,
)
#: Those that no label may have, and that exports and messages may: turned and hidden text, a terminal's
#: commands, ends of lines that only some know, halves of characters.
CONTROLS: Final = (
    "turned \u202e gnihtyreve \u2066 isolated \u2069 \u202c",
    "zero\u200bwidth\u200d \ufeff soft\u00ad hyphen \u2028 line \u2029 paragraph \x85 next",
    "\x1b[31mred\x1b[0m \x1b]8;;https://elsewhere.example\x07link\x1b]8;;\x07 \x9b2J",
    "\x01\x08\x0c\x0b\x7f tab\there",
)
#: A line that no screen is wide enough for, without a place to break it.
LONG: Final = "x" * 4_000


def export_of(*more: str) -> bytes:
    """An export that has them all, each in a line of its own, as text and as a property's value."""
    lines = [
        "# 2026-10-01 10:00:00 by RouterOS 7.16",
        *(f"/system script {text}" for text in TEXTS[:4]),
        *(f"add comment={text}" for text in (*TEXTS, *CONTROLS, LONG, *more)),
    ]
    return "\n".join(lines).encode() + b"\nset nul=\x00 invalid=\xff\xfe half=\xed\xa0\x80\n"
