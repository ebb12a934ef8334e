"""Takes pictures of the pages, in Chromium, from made-up devices: part of `make pictures`.

A server, a worker, a store and HTTP of their own run in a temporary folder. What the devices are and what changed on
them is always the same; dates, ids and what is "ago" are those of the run.
"""

from __future__ import annotations

import datetime as dt
import os
import shutil
import socket
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from playwright.sync_api import Browser, sync_playwright

from confkeep import BackupPayload, enqueue_backups
from confkeep.naming import name_tenant
from confkeep.settings import get_settings
from docs.site_hooks import PICTURES
from docs.terminal_pictures import tenant_id_of, versions_of_core1
from worker.cli import interrupts, one_machine
from worker.cli.samples import SampleDevice

FOLDER: Final = PICTURES / "pages"
_ROOT: Final = Path(__file__).parents[1]
_TENANTS: Final = ("acme", "birch", "cedar")
_DEVICES: Final = 14
_POLLS: Final = 4
_GROUPS: Final = ("access", "core", "edge")
_RECEIPT_S: Final = 60
_DESK: Final = (1_120, 640)
_PHONE: Final = (390, 700)
#: As the tests start it: nothing but what is asked for. Root has no sandbox.
_FLAGS: Final = (
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update"),
)


@dataclass(frozen=True, slots=True)
class Picture:
    """One page to take a picture of."""

    #: The file's name without its ending.
    name: str
    #: Behind the address; `{acme}` is the tenant's path.
    path: str
    theme: Literal["light", "dark"] = "light"
    size: tuple[int, int] = _DESK

    @property
    def file(self) -> Path:
        """Where it is."""
        return FOLDER / f"{self.name}.png"


ALL: Final = (
    Picture("fleet", "/"),
    Picture("directory", "{acme}?sort=-changed"),
    Picture("device", "{acme}/devices/core1"),
    Picture("diff", "{acme}/devices/core1/versions/latest/diff?context=25"),
    Picture("diff-dark", "{acme}/devices/core1/versions/latest/diff?view=split", "dark"),
    Picture("phone", "{acme}/devices/core1/versions/latest~1/diff", "dark", _PHONE),
)


def captures() -> Iterator[list[BackupPayload]]:
    """The polls of all made-up devices, each a list, oldest first."""
    now = dt.datetime.now(dt.UTC).replace(microsecond=0)
    devices = [
        (tenant, number, SampleDevice(f"pages {tenant} {number}"))
        for tenant in _TENANTS
        for number in range(_DEVICES)
    ]
    for poll in range(_POLLS):
        at = now - dt.timedelta(hours=6 * (_POLLS - poll))
        found = []
        for tenant, number, sample in devices:
            said = "first poll" if not poll else "nightly poll"
            if poll and (number + poll) % 3 == 0:
                said = sample.mutate()
            found.append(
                BackupPayload.checked(
                    tenant_id=tenant_id_of(tenant),
                    device_id=sample.device_id,
                    device_name=sample.identity,
                    device_address=f"10.{_TENANTS.index(tenant)}.{number}.1",
                    device_group=_GROUPS[number % len(_GROUPS)],
                    export_text=sample.export(at),
                    binary_backup=sample.binary(),
                    message=said,
                    captured_at=at,
                )
            )
        yield found


def take(browser: Browser, picture: Picture, address: str, entrance: str) -> None:
    """Write one picture."""
    width, height = picture.size
    context = browser.new_context(
        viewport={"width": width, "height": height}, color_scheme=picture.theme
    )
    try:
        page = context.new_page()
        page.goto(entrance)
        page.goto(address + picture.path.format(acme=f"/tenants/{tenant_id_of('acme')}"))
        page.screenshot(path=picture.file)
    finally:
        context.close()
    print(picture.file.relative_to(_ROOT))


def main() -> None:
    """Take all."""
    FOLDER.mkdir(exist_ok=True)
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    with tempfile.TemporaryDirectory() as name, interrupts.noted() as asked:
        own = Path(name) / "own"
        with one_machine.run(own, workers=1, concurrency=2, interrupts=asked) as machine:
            os.environ.update(machine.environment)
            get_settings.cache_clear()
            for tenant in _TENANTS:
                name_tenant(tenant_id_of(tenant), tenant).receipt(_RECEIPT_S)
            for poll in (*captures(), versions_of_core1()):
                for result in enqueue_backups(poll):
                    result.receipt(_RECEIPT_S)
            port = _free_port()
            machine.start_http(port)
            with sync_playwright() as playwright:
                browser = playwright.chromium.launch(executable_path=chromium, args=[*_FLAGS])
                for picture in ALL:
                    take(browser, picture, f"http://127.0.0.1:{port}", machine.page)
                browser.close()


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


if __name__ == "__main__":
    main()
