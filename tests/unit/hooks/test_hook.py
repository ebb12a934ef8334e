"""Hooks: what they may be, which events they want, and what shows of them."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from confkeep.errors import InvalidInput, InvalidSettings
from confkeep.queue.events import Event
from tests.planted import SECRET
from worker.hooks.hook import Hook, new_secret
from worker.hooks.hooks_file import read_hooks

TENANT = "aaaa1111-0000-4000-8000-000000000001"
OTHER = "bbbb1111-0000-4000-8000-000000000002"
KEY = "whsec_" + "QUJD" * 8


def hook(**values: Any) -> Hook:
    return Hook.checked(
        **{"name": "portal", "url": "https://portal.example/h", "secret": KEY} | values
    )


def event(type_: str = "backup.committed", tenant: str | None = TENANT, **data: Any) -> Event:
    at = dt.datetime(2026, 10, 3, tzinfo=dt.UTC)
    return Event(
        id="0b0e8a52-0000-4000-8000-000000000001",
        type=type_,
        at=at,
        tenant_id=tenant,
        device_id=None,
        data=data,
    )


def test_a_hook_wants_what_it_says() -> None:
    assert hook().wants(event())
    assert hook().wants(event("hook.disabled", None))
    assert hook(tenants=[TENANT]).wants(event())
    assert not hook(tenants=[TENANT]).wants(event(tenant=OTHER))
    assert not hook(tenants=[TENANT]).wants(event("hook.disabled", None))
    assert not hook(types=["backup.dead"]).wants(event())
    only = hook(changed_only=True)
    assert only.wants(event(export_changed=True))
    assert not only.wants(event(export_changed=False))
    assert only.wants(event("backup.dead"))


@pytest.mark.parametrize(
    "url",
    [
        "portal.example",
        "ftp://portal.example/",
        f"https://user:{SECRET}@portal.example/",
        f"https://portal.example/{SECRET} x",
        "https:///path",
        "https://portal.example:0/",
        "https://portal.example:99999/",
        "https://[::1/",
        f"https://portal.example/{'x' * 2_000}",
        "https://portal.example/\r\nHost: x",
    ],
)
def test_an_address_that_is_none_is_refused_without_repeating_it(url: str) -> None:
    with pytest.raises(InvalidInput) as raised:
        hook(url=url)
    assert raised.value.field == "url"
    assert SECRET not in str(raised.value)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("name", "a b"),
        ("name", ""),
        ("name", "x" * 65),
        ("secret", "QUJD" * 8),
        ("secret", "whsec_QUJD"),
        ("secret", "whsec_!!!"),
        ("types", ["backup.unknown"]),
        ("tenants", ["acme"]),
        ("unknown", 1),
    ],
)
def test_what_is_wrong_is_named(field: str, value: object) -> None:
    with pytest.raises(InvalidInput) as raised:
        hook(**{field: value})
    assert raised.value.field == field


def test_neither_secret_nor_query_shows() -> None:
    made = hook(url=f"https://portal.example/h?key={SECRET}", secret=new_secret())
    assert SECRET not in repr(made)
    assert made.secret.get_secret_value() not in repr(made)
    assert made.shown_url == "https://portal.example/h"
    assert Hook(**made.model_dump(mode="json")) == made
    assert new_secret() != new_secret()
    assert isinstance(made.secret, SecretStr)


def test_a_file_of_hooks(tmp_path: Path) -> None:
    path = tmp_path / "hooks.toml"
    path.write_text(
        f'[[hook]]\nname = "portal"\nurl = "https://portal.example/h"\nsecret = "{KEY}"\n'
        f'tenants = ["{TENANT}"]\ntypes = ["backup.committed"]\nchanged_only = true\n'
    )
    expected = hook(tenants=[TENANT], types=["backup.committed"], changed_only=True)
    assert read_hooks(path) == [expected]
    path.write_text("")
    assert read_hooks(path) == []


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[[hook", "end of document"),
        ("hook = 1", "nothing else"),
        ("other = 1", "nothing else"),
        ("hook = [1]", "hook 1 must be a table"),
        (f'[[hook]]\nname = "a"\nurl = "http://a/"\nsecret = "{SECRET}"', "hook 1: secret"),
        ('[[hook]]\nname = "a"\n', "hook 1: url"),
        (f'[[hook]]\nname = "a"\nurl = "http://a/"\nsecret = "{KEY}"\n' * 2, "two hooks"),
        ("\xff", "UTF-8"),
    ],
)
def test_a_wrong_file_is_told_without_what_it_holds(
    tmp_path: Path, text: str, problem: str
) -> None:
    path = tmp_path / "hooks.toml"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(InvalidSettings, match=problem) as raised:
        read_hooks(path)
    assert raised.value.field == "CONFKEEP_HOOKS_FILE"
    assert SECRET not in str(raised.value)


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(InvalidSettings, match="No such file"):
        read_hooks(tmp_path / "none.toml")
