"""The forms of the Redis URL."""

from __future__ import annotations

import pytest

from worker import urls


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
            "sentinel://:p@a:1/4;sentinel://b/4",
            {"master_name": "m"},
        ),
    ],
)
def test_each_form_in_celerys_spelling(url: str, celery: str, options: dict[str, str]) -> None:
    assert urls.for_celery(url) == (celery, options)


def test_sentinels_are_taken_apart() -> None:
    found = urls.parse_sentinels("sentinel://u:p@a:1;sentinel://b/4?master_name=m")
    assert found == urls.Sentinels((("a", 1), ("b", 26379)), "m", 4, "u", "p")
    assert urls.parse_sentinels("redis://a") is None
