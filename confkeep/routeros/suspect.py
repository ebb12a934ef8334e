"""Recognises captures that look bad or failed, by their bytes alone.

What users of backup tools found among their versions: a binary of 0 bytes, the words `Bus error`, a
login banner, an export that was cut off. A reason is given only for what no real export has: a
final newline that is missing, say, is what people's editors leave. Exports of other makers are
looked at only for what is wrong in any language.

A `.backup` begins with four bytes of magic and its own size, little-endian.
"""

from __future__ import annotations

import re
from typing import Final

from confkeep.routeros.export import comments_below_opening, quotes_in, without_escapes
from confkeep.routeros.script import ENCRYPTED_MAGIC, PLAIN_MAGIC

#: Lines at the top and at the end of an export in which a failure may stand.
_EDGE_LINES: Final = 20
#: Bytes at the top and at the end that are looked at for them, at most.
_EDGE_BYTES: Final = 16 * 1024
#: Most characters of a line that a reason quotes.
_QUOTED: Final = 60

_MAGICS: Final = (PLAIN_MAGIC, ENCRYPTED_MAGIC)

#: Each begins with three bytes that stand for themselves.
_FAILURE_FORMS: Final = (
    rb"bus error",
    rb"segmentation fault",
    rb"killed",
    rb"aborted",
    rb"interrupted",
    rb"action timed out",
    rb"failure: .*",
    rb"expected (?:end of command|command name|closing brace|argument value).*",
    rb"bad command name .*",
    rb"no such (?:item|command|command or directory).*",
    rb"syntax error \(line \d+.*",
    rb"input does not match any value.*",
    rb"invalid value for argument .*",
    rb"not enough permissions.*",
    rb"login fail(?:ed|ure).*",
    rb"authentication fail(?:ed|ure).*",
    rb"too many authentication failures.*",
    rb"permission denied\b.*",
    rb"ssh: .*",
    rb"kex_exchange_identification: .*",
    rb"connection (?:closed|refused|reset|timed out).*",
    rb"traceback \(most recent call last\):",
)
_FAILURES: Final = re.compile(b"|".join(_FAILURE_FORMS), re.IGNORECASE)
#: Hardly any line of an export begins with one of these, and to see that takes a tenth of an expression.
_FAILURE_STARTS: Final = frozenset(form[:3] for form in _FAILURE_FORMS)
#: How RouterOS says within an export that it is not whole: `#error exporting /ip address` (6),
#: `#error exporting "/ip/address" (timeout)` (7), `#interrupted`.
_NOT_WHOLE: Final = re.compile(
    rb"#(?:error exporting\b.*|(?:export )?(?:interrupted|timed out|timeout|aborted)\b.*|"
    rb"(?:action timed out|failure: |error: ).*)",
    re.IGNORECASE,
)
#: Said by every RouterOS 6 without a package that hardly any device has: nothing is missing.
_CALEA: Final = re.compile(rb"#error exporting \"?/(?:interface bridge|ip firewall) calea\"?\s*")
_BANNERS: Final = re.compile(
    rb"(?:"
    rb"MMM +MMM +KKK.*|MikroTik RouterOS \d.*\(c\).*|"
    rb"(?:login|username|password|login as|user):|"
    rb"\[[^\]@\s]+@[^\]]+\] (?:/?[\w /-]*)>.*"
    rb")",
    re.IGNORECASE,
)
_PROMPT: Final = re.compile(rb"\[[^\]@\s]+@[^\]]+\] [^>]*>")
_HTML: Final = re.compile(rb"\s*(?:<!doctype html|<html|<head)\b", re.IGNORECASE)
_REST_ERROR: Final = re.compile(rb'\s*\{[^{}]{0,200}"error"\s*:\s*\d{3}\b')
_QUOTES: Final = re.compile(rb'"(?:\\.|[^"\\])*"')
_SECTION: Final = re.compile(rb"/[a-z0-9 /-]+")
#: What a script may end with that has the form of a section.
_COMMANDS: Final = (b"reboot", b"shutdown", b"print", b"export", b"quit")
#: Each argument of `add` is a name, a `=` and a value.
_HALF_ARGUMENT: Final = re.compile(rb"add .*(?: [a-z0-9.-]+|=)", re.DOTALL)
#: Bytes at the end in which the last command is looked for: a script in it may have hundreds of lines.
_COMMAND_BYTES: Final = 256 * 1024
#: Enough for the first or the last lines of most exports.
_SHORT_BYTES: Final = 4 * 1024
#: What stands on a line that is neither blank nor a comment.
_COMMAND: Final = re.compile(rb"(?:\A|[\r\n])[^\S\r\n]*[^\s#]")
_BY_ROUTEROS: Final = re.compile(rb"^#[^\r\n]*\bby RouterOS\b", re.MULTILINE)


def why_suspect(export: bytes | None, binary: bytes | None) -> str | None:
    """Why a capture looks bad or failed, as one sentence; None if it does not.

    Args:
        export: None if the capture has none, which is not looked at. So for `binary`.
    """
    reason = None if export is None else _of_export(export)
    if reason is None and binary is not None:
        reason = _of_binary(binary)
    return reason


def warning_of(reason: str) -> str:
    """The sentence of a receipt about a suspect capture."""
    return f"This capture looks bad or failed: {reason}."


def _of_export(export: bytes) -> str | None:
    if not export or export.isspace():
        return "the export is empty"
    if export.startswith(_MAGICS):
        return "the export is a binary backup"
    if b"\0" in export:
        return "the export holds NUL bytes: it is no text"
    if _HTML.match(export):
        return "the export is an HTML page"
    if _REST_ERROR.match(export):
        return "the export is an error of an HTTP interface"
    # One byte is found many times faster than two.
    if (
        b"\x1b" in export
        and b"\x1b[" in export[:_EDGE_BYTES]
        and _BY_ROUTEROS.search(without_escapes(export[:_EDGE_BYTES]))
    ):
        return "the export holds what a terminal shows: colours"
    for start, stop in comments_below_opening(export):
        line = export[start:stop].strip()
        if _NOT_WHOLE.fullmatch(line) and not _CALEA.fullmatch(line):
            return f"RouterOS says that the export is not whole: {_quoted(line)}"
    top = _edge(export, slice(None, _EDGE_LINES))
    for line in (*top, *_edge(export, slice(-_EDGE_LINES, None))):
        if _is_failure(line.strip()):
            return f"the export holds an error: {_quoted(line)}"
    for line in top:
        if _BANNERS.fullmatch(line.strip()):
            return f"the export holds what a terminal shows: {_quoted(line)}"
    return _cut_off(export)


def _is_failure(line: bytes) -> bool:
    return line[:3].lower() in _FAILURE_STARTS and _FAILURES.fullmatch(line) is not None


def _edge(export: bytes, which: slice) -> list[bytes]:
    """The first or the last lines; mostly they stand in far fewer bytes than they may."""
    for size in (_SHORT_BYTES, _EDGE_BYTES):
        part = export[:size] if which.start is None else export[-size:]
        lines = part.splitlines()
        if len(lines) > _EDGE_LINES:
            break
    return lines[which]


def _cut_off(export: bytes) -> str | None:
    # Only the end is taken apart: all lines of a large export would take more memory than it has.
    for size in (_SHORT_BYTES, _COMMAND_BYTES):
        lines = export[-size:].rstrip().splitlines() or [b""]
        # The last command, whose lines a backslash continues each.
        first = len(lines) - 1
        while first > 0 and _is_continued(lines[first - 1]):
            first -= 1
        if first > 1:
            break
    if not lines[-1].lstrip().startswith(b"#") and _is_continued(lines[-1]):
        return "the export is cut off: it ends within a line"
    if not _BY_ROUTEROS.search(export[:_EDGE_BYTES]):
        return None
    if first == 0 and len(export) > _COMMAND_BYTES:
        return None  # it begins before what is looked at
    command = b"".join(line.rstrip().removesuffix(b"\\") for line in lines[first:-1]) + lines[-1]
    if not command.startswith(b"#") and quotes_in(command) % 2:
        return "the export is cut off: it ends within quotes"
    if _SECTION.fullmatch(command.strip()) and command.split()[-1] not in _COMMANDS:
        return "the export is cut off: its last section holds nothing"
    # A final newline that is missing is no sign by itself: people's editors leave it out.
    if not export.endswith(b"\n") and _HALF_ARGUMENT.fullmatch(_QUOTES.sub(b"''", command.strip())):
        return "the export is cut off: it ends within an argument"
    if not _COMMAND.search(export):
        return "the export holds nothing but its header"
    return None


def _is_continued(line: bytes) -> bool:
    line = line.rstrip()
    return (len(line) - len(line.rstrip(b"\\"))) % 2 == 1


def _of_binary(binary: bytes) -> str | None:
    if not binary:
        return "the binary has 0 bytes"
    if len(binary) < 8 and any(
        binary.startswith(magic) or magic.startswith(binary) for magic in _MAGICS
    ):
        return f"the binary is cut off: it has {len(binary)} bytes"
    if binary.startswith(_MAGICS):
        size = int.from_bytes(binary[4:8], "little")
        if size != len(binary):
            return f"the binary has {len(binary)} bytes and says that it has {size}"
        return None
    if _HTML.match(binary):
        return "the binary is an HTML page"
    first = binary[:_EDGE_BYTES].split(b"\n", 1)[0].split(b"\r", 1)[0].strip()
    if _is_failure(first) or _BANNERS.fullmatch(first):
        return f"the binary is a message: {_quoted(first)}"
    return None


def _quoted(line: bytes) -> str:
    prompt = _PROMPT.match(line.strip())
    # What was typed behind a prompt may hold a password.
    text = (prompt[0] if prompt else line.strip())[:_QUOTED].decode("utf-8", "replace")
    return "".join(c if c.isprintable() else "?" for c in text)
