"""The forms of the Redis URL."""

from __future__ import annotations

import pytest

from confkeep import urls
from confkeep.errors import InvalidSettings
from confkeep.settings import get_settings, load_settings
from worker.app import configuration


@pytest.mark.parametrize(
    ("url", "celery", "options"),
    [
        ("redis://u:p@h:1/2", "redis://u:p@h:1/2", {}),
        ("unix:///run/x.sock?db=3", "redis+socket:///run/x.sock?virtual_host=3", {}),
        ("unix://u:p@/run/x.sock", "redis+socket://u:p@/run/x.sock?virtual_host=0", {}),
        ("unix:///run/x.sock", "redis+socket:///run/x.sock?virtual_host=0", {}),
        ("rediss://h:1/0", "rediss://h:1/0?ssl_cert_reqs=CERT_REQUIRED", {}),
        (
            "rediss://h:1/0?ssl_cert_reqs=none&ssl_ca_certs=/c",
            "rediss://h:1/0?ssl_cert_reqs=CERT_NONE&ssl_ca_certs=%2Fc",
            {},
        ),
        (
            "sentinel://:p@a:1;sentinel://b/4?master_name=m",
            "sentinel://:p@a:1/4;sentinel://:p@b:26379/4",
            {"master_name": "m", "sentinel_kwargs": {}},
        ),
        (
            "sentinel://u:p%40%3B%2F@a/4?master_name=m&sentinel_password=q%40;sentinel://[::1]:2",
            "sentinel://u:p%40%3B%2F@a:26379/4;sentinel://u:p%40%3B%2F@[::1]:2/4",
            {"master_name": "m", "sentinel_kwargs": {"password": "q@"}},
        ),
    ],
)
def test_each_form_in_celerys_spelling(url: str, celery: str, options: dict[str, str]) -> None:
    assert urls.for_celery(url) == (celery, options)


def test_sentinels_are_taken_apart() -> None:
    found = urls.parse_sentinels("sentinel://u:p@a:1;sentinel://b/4?master_name=m")
    assert found == urls.Sentinels((("a", 1), ("b", 26379)), "m", 4, "u", "p")
    assert urls.parse_sentinels("redis://a") is None
    quoted = "sentinel://u:p%40@a/4?sentinel_username=s&sentinel_password=q%2F;sentinel://b"
    found = urls.parse_sentinels(quoted)
    assert found is not None
    assert (found.password, found.db, found.master_name) == ("p@", 4, "mymaster")
    assert found.credentials == {"username": "s", "password": "q/"}
    assert "p@" not in repr(found)
    assert "q/" not in repr(found)


@pytest.mark.parametrize(
    "url",
    [
        "sentinel://a:1;b:2/0",
        "sentinel://:planted/secret@a:1/0",
        "sentinel://a:1/planted-secret",
        "sentinel://a:planted-secret/0",
    ],
)
def test_what_names_no_sentinels_is_refused_and_not_repeated(url: str) -> None:
    with pytest.raises(
        InvalidSettings, match=r"CONFKEEP_REDIS_URL: .*sentinel://host:port"
    ) as raised:
        load_settings(redis_url=url)
    assert "secret" not in str(raised.value)


def test_celery_asks_each_sentinel_once_and_not_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONFKEEP_REDIS_URL", "sentinel://a?sentinel_password=q")
    get_settings.cache_clear()
    try:
        found = configuration()
    finally:
        get_settings.cache_clear()
    for name in ("broker_transport_options", "result_backend_transport_options"):
        assert found[name]["sentinel_kwargs"] == {
            "password": "q",
            "socket_timeout": 5.0,
            "socket_connect_timeout": 5.0,
            "retry": None,
        }


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("redis://h:1/2", "redis://h:1/2"),
        ("rediss://u:secret@h:1/2?ssl_cert_reqs=none", "rediss://h:1/2"),
        ("redis://u:se@cret@h/0", "redis://h/0"),
        ("redis://u:secret/secret@h/0", "redis://h/0"),
        ("redis://u:secret?secret@h/0", "redis://..."),
        ("unix://u:secret@/run/x.sock?db=3", "unix:///run/x.sock"),
        (
            "sentinel://u:secret@a:1;sentinel://b:2/0?sentinel_password=secret@secret",
            "sentinel://a:1;sentinel://...",
        ),
    ],
)
def test_an_address_is_shown_without_secrets(url: str, address: str) -> None:
    assert urls.shown(url) == address
