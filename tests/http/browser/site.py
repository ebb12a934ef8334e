"""A server and a store with all that pages show: histories, hostile texts, events, what waits and what died."""

from __future__ import annotations

import datetime as dt
import itertools
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import redis

from confkeep import BackupPayload
from confkeep.broker import keys
from confkeep.enqueue import entry_of
from confkeep.errors import StoreUnavailable
from confkeep.labels import Labels
from confkeep.settings import Settings
from tests.http.browser import hostile
from tests.http.serving import accept, new_token, serve, standing
from worker.engine import drain
from worker.queue import backoff, dead_letters
from worker.queue.inbox import Inbox
from worker.queue.sweep_report import SweepReport
from worker.store.repository.backup import Backup, Naming
from worker.store.repository.tenant_repository import repository_path
from worker.store.writing.commit import open_for_writing

#: Devices of the large tenant: a page more than one.
MANY: Final = 260
#: Versions of the device with a long history: a page more than one.
LONG: Final = 120
BINARY: Final = b"\x88\xac\xa1\xb1" + (16).to_bytes(4, "little") + b"backup.."
SECRET: Final = "Tr0ub4dor-and-3"

_RULES: Final = "".join(
    f"add action=accept chain=forward comment=rule{number} dst-address=10.1.{number}.0/24\n"
    for number in range(12)
)
_HEAD: Final = "# 2026-10-{day:02} 04:00:00 by RouterOS 7.16\n# software id = 6BXT-0Q2M\n"
_BODY: Final = """\
/interface vlan
add interface=bridge1 name=vlan10 vlan-id=10
/ip address
add address=10.0.0.1/24 interface=bridge1 network=10.0.0.0
/ip firewall filter
{rules}add action=accept chain=input dst-port=22,8291 protocol=tcp \\
    src-address=10.0.0.0/24
/ppp secret
add name=anna password={secret}
/system identity
set name=core1
"""


def versions_of_core1() -> list[bytes]:
    """Exports in which lines come, change, move and stay, and one that is cut off."""
    moved = "".join(_RULES.splitlines(keepends=True)[3:]) + "".join(
        _RULES.splitlines(keepends=True)[:3]
    )
    bodies = [
        _BODY.format(rules=_RULES, secret=SECRET),
        _BODY.format(rules=_RULES, secret=f"{SECRET}-changed"),
        _BODY.format(rules=moved, secret=SECRET).replace("10.0.0.1/24", "10.0.0.2/24"),
        _BODY.format(rules=moved, secret=SECRET).replace("10.0.0.1/24", "10.0.0.2/24"),
    ]
    texts = [_HEAD.format(day=day) + body for day, body in enumerate(bodies, 1)]
    return [text.encode() for text in texts] + [texts[-1][:300].encode()]


@dataclass(frozen=True, slots=True)
class Site:
    """Where it is, who may do what there, and what it holds."""

    address: str
    settings: Settings
    client: redis.Redis
    #: By what they may do: `full`, and `masked`, which may read acme alone.
    tokens: dict[str, str]
    acme: str
    large: str
    core1: str
    hostile: str
    long: str
    shas: list[str]

    def keep(self, device: str, export: bytes, name: str, message: str = "nightly poll") -> None:
        """Hand a backup over and commit it, as producers and workers do."""
        self.accept(self.acme, device, export, name, message)
        drain.drain_inbox(Inbox(self.client, self.settings, self.acme))

    def accept(
        self, tenant: str, device: str, export: bytes, name: str, message: str
    ) -> BackupPayload:
        """Hand a backup over; nobody commits it."""
        more = {"message": message, "device_name": name}
        return accept(self.client, self.settings, tenant, device, export, **more)

    def device(self, device: str = "", tenant: str = "") -> str:
        """The path of a device's page."""
        return f"/tenants/{tenant or self.acme}/devices/{device or self.core1}"

    @property
    def paths(self) -> dict[str, str]:
        """Each page, in each of its forms, by what it is."""
        core1, hostile_ = self.device(self.core1), self.device(self.hostile)
        diff = f"{core1}/versions/{self.shas[2]}/diff"
        return {
            "fleet": "/",
            "tenant": f"/tenants/{self.acme}",
            "large tenant": f"/tenants/{self.large}?sort=-seen&page=2",
            "no device": f"/tenants/{self.acme}?q=nothing-is-called-so&stale=1",
            "device": core1,
            "version": f"{core1}/versions/latest~1",
            "since when": f"{core1}/versions/{self.shas[2]}?since=1",
            "diff": diff,
            "diff, split": f"{diff}?view=split&join=1&header=1&context=all",
            "two devices": f"{core1}/versions/latest/diff?against=device:{self.long}",
            "hostile device": hostile_,
            "hostile version": f"{hostile_}/versions/latest",
            "hostile since": f"{hostile_}/versions/latest?since=1",
            "hostile diff": f"{hostile_}/versions/latest/diff?context=all",
            "hostile split": f"{hostile_}/versions/latest/diff?view=split&context=all",
            "search": "/search",
            "compare": f"/tenants/{self.acme}/compare?a={self.core1}",
            "found": f"/search?q=alert(1&tenant={self.acme}",
            "found nothing": "/search?q=%3Cscript%3Ealert(1)%3C/script%3Ezz",
            "wrong pattern": "/search?q=(%3Cscript%3E&regex=1",
            "activity": "/activity",
            "queue": "/queue",
            "sign in": "/sign-in?next=/queue",
        }


@contextmanager
def serving(folder: Path) -> Iterator[Site]:
    """The site, for as long as the block lasts; its store is read by git's judges at the end."""
    with standing(folder) as (settings, client):
        acme, large, core1, evil, long = (str(uuid.uuid4()) for _ in range(5))
        shas = _write_store(settings.git_store_path, acme, large, core1, evil, long)
        tokens = {
            "full": new_token(client, "full"),
            "masked": new_token(client, "masked", [acme], ["read"]),
        }
        with serve(settings) as address:
            site = Site(address, settings, client, tokens, acme, large, core1, evil, long, shas)
            _happen(site)
            yield site


def _backup(device: str, export: bytes, at: dt.datetime, message: str, labels: Labels) -> Backup:
    return Backup(str(uuid.uuid4()), device, export, BINARY, message, at, labels)


def _write_store(store: Path, acme: str, large: str, core1: str, evil: str, long: str) -> list[str]:
    first = dt.datetime(2026, 10, 1, 4, tzinfo=dt.UTC)
    then_s = int(first.timestamp())
    texts = itertools.cycle((*hostile.TEXTS, *hostile.CONTROLS))
    with open_for_writing(repository_path(store, acme)) as writer:
        shas = [
            writer.commit_backups(
                [
                    _backup(
                        core1,
                        export,
                        first + dt.timedelta(days=day),
                        "nightly poll",
                        Labels("core1", "10.0.0.1", "RB5009UG+S+", "core"),
                    )
                ],
                now_s=then_s + day * 86_400,
            )[0].sha
            for day, export in enumerate(versions_of_core1())
        ]
        exports = [hostile.export_of(), hostile.export_of("one more")]
        writer.commit_backups(
            [
                _backup(evil, export, first, f"{next(texts)}\n{next(texts)}", Labels(*[text] * 4))
                for text, export in zip(hostile.TEXTS, itertools.cycle(exports), strict=False)
            ],
            now_s=then_s,
        )
        writer.commit_backups(
            [
                _backup(str(uuid.uuid4()), f"# {text}\n".encode(), first, text, Labels(*[text] * 4))
                for text in hostile.TEXTS
            ],
            now_s=then_s,
        )
        writer.commit_backups(
            [
                _backup(
                    long,
                    f"/ip dns\nset servers=10.0.0.{number}\n/system identity\nset name=edge1\n".encode(),
                    first + dt.timedelta(hours=number),
                    "poll",
                    Labels("edge1", "10.0.0.9", "hAP ax3", "edge"),
                )
                for number in range(LONG)
            ]
        )
        named = Naming(str(uuid.uuid4()), acme, Labels(name=hostile.TEXTS[1]), hostile.TEXTS[2])
        writer.commit_backups([named])
    with open_for_writing(repository_path(store, large)) as writer:
        writer.commit_backups(
            [
                _backup(
                    str(uuid.uuid4()), b"/ip dns\n", first, "poll",
                    Labels(f"r{number:03}", f"10.9.0.{number}", "hAP ax3", f"site{number % 7}"),
                )
                for number in range(MANY)
            ]
        )  # fmt: skip
    return shas


def _happen(site: Site) -> None:
    """What Redis shows: commits, a dead letter, a tenant that waits after faults, workers."""
    client, settings = site.client, site.settings
    for number, text in enumerate(hostile.TEXTS):
        site.accept(site.acme, str(uuid.UUID(int=number)), f"# {text}\n".encode(), text, text)
    drain.drain_inbox(Inbox(client, settings, site.acme))
    for text in hostile.TEXTS[:8]:
        payload = site.accept(site.large, str(uuid.uuid4()), b"/ip dns\n", text, text)
        letter = dead_letters.bury(
            Inbox(client, settings, site.large), entry_of(payload, "redis"), StoreUnavailable(text)
        )
        client.xadd(
            keys.EVENTS, {"event": dead_letters.event_of(letter, f"{time.time_ns()}-0").to_json()}
        )
    for _ in range(6):
        backoff.failed(
            Inbox(client, settings, site.large), StoreUnavailable(" ".join(hostile.CONTROLS[2:]))
        )
    now_ms = int(time.time() * 1000)
    for name, ago_ms in (("w0@here", 0), (f"{hostile.TEXTS[2]}@there", 60_000)):
        report = SweepReport(name, [*range(16)], now_ms - ago_ms)
        client.hset(keys.WORKERS, name, report.to_json())
