"""A token without `reveal` gets no secret of any maker's export, whichever page, source, download or error it asks for."""

from __future__ import annotations

import html
import re
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import quote

import httpx
import pytest

from confkeep.labels import Labels
from confkeep.vendors.mikrotik import PROPERTIES
from tests.http.serving import new_token, serve, standing
from tests.unit.masking.routeros_text import V7, quoted, wrapped
from tests.unit.masking.vendor_texts import TEXTS
from worker.http.pages.routing import COOKIE
from worker.store.repository.backup import Backup
from worker.store.repository.tenant_repository import repository_path
from worker.store.writing.commit import open_for_writing

_PLANTED = re.compile(r"\{\{(.*?)\}\}")
#: Shorter ones stand in a page by chance.
_SHORTEST = 6


def _routeros() -> str:
    """Each property that holds a secret, quoted and wrapped."""
    names = sorted({name for rule in PROPERTIES for name in rule.names})
    lines = [
        f"add comment=first {name}={quoted(f'{{{{QXZ-{number}-secret}}}}')} disabled=no"
        for number, name in enumerate(names)
    ]
    # Wrapped at a width that keeps the marks whole; the masking's own tests wrap everywhere.
    return V7 + "/menu\n" + "".join(wrapped(line, 200) + "\n" for line in lines)


_EXPORTS = [("RouterOS", _routeros()), *TEXTS]
IDS = [f"{title}-{number}" for number, (title, _text) in enumerate(_EXPORTS)]


def _real(text: str) -> bytes:
    return _PLANTED.sub(r"\1", text).encode()


def _changed(secret: re.Match[str]) -> str:
    """The secret with its last letter or digit changed: its form stays."""
    return re.sub(r"\w(?=\W*$)", lambda last: "7" if last[0] != "7" else "8", secret[1])


def _secrets(text: str) -> set[str]:
    plain = _PLANTED.sub("", text)
    found = {each[1] for each in _PLANTED.finditer(text)}
    found |= {_changed(each) for each in _PLANTED.finditer(text)}
    return {each for each in found if len(each) >= _SHORTEST and each not in plain}


@dataclass(frozen=True)
class Site:
    masked: httpx.Client
    full: httpx.Client
    tenant: str
    devices: list[str]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    tenant, devices = str(uuid.uuid4()), [str(uuid.uuid4()) for _ in _EXPORTS]
    with standing(tmp_path_factory.mktemp("masked")) as (settings, client):
        with open_for_writing(repository_path(settings.git_store_path, tenant)) as writer:
            for device, (title, text) in zip(devices, _EXPORTS, strict=True):
                changed = _PLANTED.sub(_changed, text).encode()
                writer.commit_backups(
                    [
                        Backup(
                            str(uuid.uuid4()),
                            device,
                            export,
                            b"BINARY",
                            "poll",
                            labels=Labels(title),
                        )
                        for export in (_real(text), changed)
                    ]
                )
        masked = {COOKIE: new_token(client, "masked", [tenant], ["read"])}
        full = {COOKIE: new_token(client, "full")}
        with (
            serve(settings) as address,
            httpx.Client(base_url=address, cookies=masked, timeout=30) as one,
            httpx.Client(base_url=address, cookies=full, timeout=30) as other,
        ):
            yield Site(one, other, tenant, devices)


def _forms(text: str) -> str:
    """A page's source, and what a person reads in it."""
    return text + html.unescape(re.sub(r"<[^>]*>", "", text))


@pytest.mark.parametrize("number", range(len(_EXPORTS)), ids=IDS)
def test_no_secret_comes_out(site: Site, number: int) -> None:
    base = f"/tenants/{site.tenant}/devices/{site.devices[number]}"
    other = site.devices[number - 1]
    secrets = _secrets(_EXPORTS[number][1])
    assert secrets
    latest = f"{base}/versions/latest"
    revealed = _forms(site.full.get(latest).text) + _forms(site.full.get(f"{latest}~1").text)
    assert {each for each in secrets if each not in revealed} == set()
    for path in (
        *(base, latest, f"{latest}~1", f"{latest}?since=1", f"{latest}/export.rsc", f"{latest}/backup.bin"),
        *(f"{latest}/diff", f"{latest}~1/diff", f"{latest}/diff?context=all&header=1&join=1"),
        *(f"{latest}/diff?view=split&context=all", f"{latest}/diff?against=device:{other}&context=all"),
        *(f"{base}/at?at=nonsense", f"{latest}/nonsense", f"/search?q=e&tenant={site.tenant}", "/activity"),
    ):  # fmt: skip
        answer = _forms(site.masked.get(path).text)
        assert {each for each in secrets if each in answer} == set(), path
    for secret in sorted(secrets)[:3]:
        # The page repeats what was typed, and tells nothing of where it stands.
        answer = site.masked.get(f"/search?q={quote(secret)}").text
        assert "0 devices" in answer, secret
