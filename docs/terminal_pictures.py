"""Draws what commands print on a terminal as SVG files, from real runs: `make pictures`.

A server, a worker and a store of their own run in a temporary folder. Names and dates of captures are
always the same; commit ids and measured figures are those of the run.
"""

from __future__ import annotations

import datetime as dt
import io
import itertools
import os
import pty
import re
import subprocess
import sys
import tempfile
import termios
import threading
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.text import Text

from confkeep import BackupPayload, enqueue_backups
from confkeep.naming import name_tenant
from confkeep.settings import get_settings
from docs.site_hooks import PICTURES
from worker.cli import interrupts, one_machine
from worker.cli.sources.names import NAMESPACE

FOLDER: Final = PICTURES / "terminal"
_ROOT: Final = Path(__file__).parents[1]
_COLUMNS: Final = 80
_ROWS: Final = 24
#: Seconds that a receipt may take.
_RECEIPT_S: Final = 60
#: Backups that are handed over at once, and seconds between them, while `status --watch` looks.
_BURST: Final = 6
_BETWEEN_BURSTS_S: Final = 0.3

#: Rich's own picture without the fonts, which it loads from elsewhere.
_FORMAT: Final = """\
<svg viewBox="0 0 {width} {height}" xmlns="http://www.w3.org/2000/svg">
<style>
.{unique_id}-matrix {{
  font-family: ui-monospace, "DejaVu Sans Mono", Menlo, Consolas, monospace;
  font-size: {char_height}px;
}}
{styles}
</style>
<defs>
<clipPath id="{unique_id}-clip-terminal">
<rect x="0" y="0" width="{terminal_width}" height="{terminal_height}"/>
</clipPath>
{lines}
</defs>
{chrome}
<g transform="translate({terminal_x}, {terminal_y})" clip-path="url(#{unique_id}-clip-terminal)">
{backgrounds}
<g class="{unique_id}-matrix">
{matrix}
</g>
</g>
</svg>
"""
_LINE_END: Final = re.compile(r"<text [^>]*>\n</text>")


@dataclass(frozen=True, slots=True)
class Picture:
    """One run to draw."""

    #: The file's name without its ending.
    name: str
    #: What is typed behind `confkeep`.
    command: str
    #: Options that bring the run to an end, and are not shown.
    hidden: str = ""

    @property
    def path(self) -> Path:
        """The file."""
        return FOLDER / f"{self.name}.svg"

    @property
    def typed(self) -> str:
        """The line at the prompt."""
        return f"confkeep {self.command}"


ALL: Final = (
    Picture("demo", "demo"),
    Picture("history", "history acme core1"),
    Picture("diff", "diff acme core1"),
    Picture("watch", "status --watch", "--interval 1 --count 8"),
)

_HEADER: Final = """\
# {at:%Y-%m-%d %H:%M:%S} by RouterOS 7.16
# software id = 6BXT-0Q2M
"""
_EXPORT: Final = """\
/interface vlan
add interface=bridge1 name=vlan10 vlan-id=10
{vlans}/ip address
add address=10.0.0.1/24 interface=bridge1 network=10.0.0.0
/ip dns
set servers={servers}
/ip firewall filter
add action=accept chain=input connection-state=established,related
{rules}add action=drop chain=input in-interface=ether1
/system identity
set name=core1
"""
_GUESTS: Final = "add comment=guests interface=bridge1 name=vlan30 vlan-id=30\n"
_ALL_MAY: Final = "add action=accept chain=input dst-port=22,8291 protocol=tcp\n"
_SOME_MAY: Final = (
    "add action=accept chain=input dst-port=22,8291 protocol=tcp \\\n    src-address=10.0.0.0/24\n"
)
#: What core1 was like day by day: VLANs, DNS servers and rules.
_DAYS: Final = (
    ("", "1.1.1.1", _ALL_MAY),
    (_GUESTS, "1.1.1.1", _ALL_MAY),
    (_GUESTS, "1.1.1.1", _ALL_MAY),
    (_GUESTS, "9.9.9.9,1.1.1.1", _ALL_MAY),
    (_GUESTS, "9.9.9.9,1.1.1.1", _SOME_MAY),
)
_LAST_DAY: Final = dt.datetime(2026, 10, 5, 4, tzinfo=dt.UTC)


def versions_of_core1(newest: dt.datetime = _LAST_DAY, **labels: str) -> list[BackupPayload]:
    """The captures that history and diff show, a day apart, oldest first."""
    captures = []
    for number, (vlans, servers, rules) in enumerate(_DAYS):
        at = newest - dt.timedelta(days=len(_DAYS) - 1 - number)
        export = _HEADER.format(at=at) + _EXPORT.format(vlans=vlans, servers=servers, rules=rules)
        captures.append(_capture("acme", "core1", export, "nightly poll", at, **labels))
    return captures


def _capture(
    tenant: str, device: str, export: str, message: str, at: dt.datetime, **labels: str
) -> BackupPayload:
    tenant_id = tenant_id_of(tenant)
    return BackupPayload.checked(
        tenant_id=tenant_id,
        device_id=str(uuid.uuid5(uuid.UUID(tenant_id), device)),
        device_name=device,
        export_text=export,
        message=message,
        captured_at=at,
        **labels,
    )


def tenant_id_of(name: str) -> str:
    """The id of a tenant of that name."""
    return str(uuid.uuid5(NAMESPACE, name))


def _poll_of(number: int) -> BackupPayload:
    tenant, device = ("acme", "birch")[number % 2], f"edge{number % 9 + 1}"
    export = f"/ip dns\nset servers=10.0.0.{number}\n/system identity\nset name={device}\n"
    return _capture(tenant, device, export, "poll", dt.datetime.now(dt.UTC))


@contextmanager
def polling() -> Iterator[None]:
    """Hand over backups of two tenants until the block ends, as a poller does."""
    ended = threading.Event()

    def poll() -> None:
        numbers = itertools.count()
        while not ended.wait(_BETWEEN_BURSTS_S):
            enqueue_backups([_poll_of(number) for number in itertools.islice(numbers, _BURST)])

    poller = threading.Thread(target=poll)
    poller.start()
    try:
        yield
    finally:
        ended.set()
        poller.join()


def run_on_terminal(arguments: list[str], folder: Path, environment: Mapping[str, str]) -> str:
    """What a command prints on a terminal of 80 columns.

    Raises:
        CalledProcessError: it failed.
    """
    ours, its = pty.openpty()
    termios.tcsetwinsize(its, (_ROWS, _COLUMNS))
    command = [str(Path(sys.executable).with_name("confkeep")), *arguments]
    process = subprocess.Popen(
        command, cwd=folder, env=environment, stdin=its, stdout=its, stderr=its
    )
    os.close(its)
    pieces = []
    while True:
        try:
            piece = os.read(ours, 65536)
        except OSError:
            # Nobody has the terminal any more.
            break
        if not piece:
            break
        pieces.append(piece)
    os.close(ours)
    printed = b"".join(pieces).decode()
    status = process.wait()
    if status:
        raise subprocess.CalledProcessError(status, command, printed)
    return printed


def lines_of(printed: str) -> list[Text]:
    """The lines that are to be seen at the end; of a program with a screen of its own, its last screen."""
    if "\x1b[?1049h" in printed:
        printed = printed.split("\x1b[?1049l")[0].rsplit("\x1b[H", 1)[1]
    printed = printed.replace("\r\n", "\n").rstrip("\n")
    # Decoded together: colours go on from line to line.
    return list(Text.from_ansi(printed).split("\n"))


def draw(picture: Picture, lines: list[Text]) -> str:
    """The SVG."""
    console = Console(width=_COLUMNS, file=io.StringIO(), record=True, highlight=False)
    console.print(Text.assemble(("$ ", "dim"), (picture.typed, "bold")))
    for line in lines:
        line.rstrip()
        console.print(line, no_wrap=True, overflow="crop")
    # Rich clips the last line without a path to clip it by.
    console.print()
    svg = console.export_svg(title="", code_format=_FORMAT, unique_id=f"terminal-{picture.name}")
    # Rich draws the ends of lines too; a line of text becomes a line of the file.
    return _LINE_END.sub("\n", svg)


def _environment() -> dict[str, str]:
    """That of a user who has set nothing, with this checkout's `confkeep`."""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    return {
        "PATH": path,
        "PYTHONPATH": str(_ROOT),
        "TERM": "xterm-256color",
        "LANG": "C.UTF-8",
        "TZ": "UTC",
    }


def main() -> None:
    """Draw all."""
    FOLDER.mkdir(exist_ok=True)
    demo, *others = ALL
    environment = _environment()
    with tempfile.TemporaryDirectory() as name, interrupts.noted() as asked:
        folder = Path(name)
        _write(demo, run_on_terminal(_arguments(demo), folder, environment))
        with one_machine.run(folder / "own", workers=1, concurrency=2, interrupts=asked) as machine:
            os.environ.update(machine.environment)
            get_settings.cache_clear()
            for tenant in ("acme", "birch"):
                name_tenant(tenant_id_of(tenant), tenant).receipt(_RECEIPT_S)
            for result in enqueue_backups(versions_of_core1()):
                result.receipt(_RECEIPT_S)
            environment |= machine.environment
            with polling():
                for picture in others:
                    _write(picture, run_on_terminal(_arguments(picture), folder, environment))


def _arguments(picture: Picture) -> list[str]:
    return [*picture.command.split(), *picture.hidden.split()]


def _write(picture: Picture, printed: str) -> None:
    picture.path.write_text(draw(picture, lines_of(printed)), "utf-8")
    print(picture.path.relative_to(_ROOT))


if __name__ == "__main__":
    main()
