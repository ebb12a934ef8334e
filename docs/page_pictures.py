"""Takes pictures of the pages, in Chromium, from made-up devices: part of `make pictures`.

A server, a store and HTTP of their own run in a temporary folder. What the devices are and what changed on them is always
the same, and it happened in the week before the run.
"""

from __future__ import annotations

import datetime as dt
import os
import shutil
import socket
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal
from unittest import mock

import redis
from playwright.sync_api import Browser, sync_playwright

from confkeep import BackupPayload, enqueue_backups
from confkeep.broker.connections import get_client
from confkeep.naming import name_tenant
from confkeep.settings import get_settings
from docs.site_hooks import PICTURES
from docs.terminal_pictures import tenant_id_of, versions_of_core1
from worker.cli import interrupts, one_machine
from worker.cli.samples import SampleDevice
from worker.engine import drain
from worker.queue.inbox import Inbox

FOLDER: Final = PICTURES / "pages"
_ROOT: Final = Path(__file__).parents[1]
_TENANTS: Final = ("acme", "birch", "cedar")
_DEVICES: Final = 14
_NIGHTS: Final = 8
#: A device changes once in so many nights.
_CHANGES: Final = 9
#: Devices that no longer answer, and for how many nights.
_STALE: Final = (("cedar", 3), ("cedar", 11))
_SILENT_NIGHTS: Final = 3
_GROUPS: Final = ("access", "core", "edge")
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


def captures(now: dt.datetime) -> list[BackupPayload]:
    """A week of backups of all made-up devices, oldest first: each is polled in the night, and some after a change."""
    last_night = now.replace(hour=4, minute=0, second=0, microsecond=0)
    last_night -= dt.timedelta(days=last_night > now - dt.timedelta(hours=2))
    found = []
    for tenant in _TENANTS:
        for number in range(_DEVICES):
            sample = SampleDevice(f"pages {tenant} {number}")
            nights = _NIGHTS - _SILENT_NIGHTS if (tenant, number) in _STALE else _NIGHTS
            for night in range(nights):
                at = last_night - dt.timedelta(days=_NIGHTS - 1 - night)
                at += dt.timedelta(minutes=4 * number + _TENANTS.index(tenant), seconds=7 * number)
                said = "nightly poll"
                if night and (number + 2 * night) % _CHANGES == 0:
                    # Somebody worked on it in the afternoon before.
                    said, at = sample.mutate(), at - dt.timedelta(hours=10 + number % 5)
                found.append(_capture(tenant, number, sample, said, at))
    found += versions_of_core1(
        last_night + dt.timedelta(minutes=1),
        device_address="10.0.0.1",
        device_model="RB5009UG+S+",
        device_group="core",
    )
    return sorted(found, key=_moment)


def _capture(
    tenant: str, number: int, sample: SampleDevice, said: str, at: dt.datetime
) -> BackupPayload:
    export = sample.export(at)
    return BackupPayload.checked(
        tenant_id=tenant_id_of(tenant),
        device_id=sample.device_id,
        device_name=sample.identity,
        device_address=f"10.{_TENANTS.index(tenant)}.{number}.1",
        device_model=export.partition(b"# model = ")[2].split(b"\n")[0].decode(),
        device_group=_GROUPS[number % len(_GROUPS)],
        export_text=export,
        binary_backup=sample.binary(),
        message=said,
        captured_at=at,
    )


def _moment(capture: BackupPayload) -> dt.datetime:
    assert capture.captured_at is not None
    return capture.captured_at


def commit(capture: BackupPayload, client: redis.Redis) -> None:
    """Hand a backup over and commit it, as of the moment at which it was captured."""
    with mock.patch("time.time", _moment(capture).timestamp):
        enqueue_backups([capture])
        drain.drain_inbox(Inbox(client, get_settings(), capture.tenant_id))


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
        port = _free_port()
        with one_machine.run(
            own, workers=0, concurrency=1, interrupts=asked, http_port=port
        ) as machine:
            os.environ.update(machine.environment)
            get_settings.cache_clear()
            client = get_client(get_settings())
            now = dt.datetime.now(dt.UTC)
            for tenant in _TENANTS:
                name_tenant(tenant_id_of(tenant), tenant)
            for capture in captures(now):
                commit(capture, client)
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
