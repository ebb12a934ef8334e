"""Signing in at a trusted proxy: who is believed, what they see, and that nobody can choose a name."""

from __future__ import annotations

import http.client
import logging
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, replace

import httpx
import pytest

from confkeep.settings import Settings
from tests.http.conftest import Stored
from tests.http.serving import new_token, serve
from worker.http import tokens
from worker.http.pages.routing import COOKIE

HEADER = "X-Forwarded-Email"
#: Where the proxy is; tests reach the server from other addresses of the loopback too.
PROXY = "127.0.0.7"
ANNA, BEN = "anna@example.org", "ben@example.org"


@dataclass(frozen=True)
class Fronted:
    """A server behind a proxy that may name people: Anna sees acme, and Ben secrets of all tenants too."""

    stored: Stored
    settings: Settings
    address: str

    def get(
        self, path: str, *headers: tuple[str, str | bytes], peer: str = PROXY
    ) -> httpx.Response:
        """What a browser gets whose request comes from that address with those headers."""
        with self.client(peer) as client:
            given = [
                (name.encode(), value if isinstance(value, bytes) else value.encode())
                for name, value in headers
            ]
            return client.get(path, headers=given)

    def client(self, peer: str = PROXY) -> httpx.Client:
        transport = httpx.HTTPTransport(local_address=peer)
        return httpx.Client(base_url=self.address, transport=transport)


@pytest.fixture(scope="module")
def fronted(stored: Stored) -> Iterator[Fronted]:
    tokens.admit_person(stored.client, ANNA, [stored.acme], ["read"])
    tokens.admit_person(stored.client, BEN, [tokens.ALL], ["read", "reveal"])
    settings = stored.settings.model_copy(
        update={"http_user_header": HEADER, "http_trusted_proxies": f"{PROXY}/32, fd00::/8"}
    )
    with pytest.MonkeyPatch.context() as patch:
        # What uvicorn reads where it is told to believe proxies.
        patch.setenv("FORWARDED_ALLOW_IPS", "*")
        with serve(settings) as address:
            yield Fronted(stored, settings, address)


def leads_to_sign_in(answer: httpx.Response) -> bool:
    return answer.status_code == 303 and answer.headers["location"].startswith("/sign-in")


def test_each_sees_what_they_may(fronted: Fronted) -> None:
    stored = fronted.stored
    export = f"/tenants/{stored.acme}/devices/{stored.core1}/versions/latest/export.rsc"
    other = f"/tenants/{stored.other}"
    assert fronted.get("/", (HEADER, ANNA)).status_code == 200
    assert "hunter2" not in fronted.get(export, (HEADER, ANNA)).text
    assert fronted.get(other, (HEADER, ANNA)).status_code == 404
    assert "hunter2" in fronted.get(export, (HEADER, BEN)).text
    assert fronted.get(other, (HEADER, BEN)).status_code == 200


def test_the_page_says_who_is_signed_in_and_has_no_way_out(fronted: Fronted) -> None:
    page = fronted.get("/", (HEADER, ANNA)).text
    assert ANNA in page
    assert "/sign-out" not in page


def test_the_header_is_nothing_from_elsewhere(fronted: Fronted) -> None:
    for peer in ("127.0.0.1", "127.0.0.70"):
        assert leads_to_sign_in(fronted.get("/", (HEADER, BEN), peer=peer))


@pytest.mark.parametrize("name", ["X-Forwarded-For", "X-Real-IP", "Forwarded"])
def test_no_header_says_where_a_request_comes_from(fronted: Fronted, name: str) -> None:
    claimed = f"for={PROXY}" if name == "Forwarded" else PROXY
    answer = fronted.get("/", (HEADER, BEN), (name, claimed), peer="127.0.0.1")
    assert leads_to_sign_in(answer)
    # And what the proxy says of the browser takes nothing from the proxy.
    said = "for=192.0.2.1" if name == "Forwarded" else "192.0.2.1"
    assert fronted.get("/", (HEADER, BEN), (name, said)).status_code == 200


@pytest.mark.parametrize(
    "values",
    [
        [BEN, ANNA],
        [ANNA, ANNA],
        [BEN, ""],
        [f"{BEN}, {ANNA}"],
        [f"{BEN}\t{ANNA}"],
        [f"{BEN}\u202e".encode()],
        [f"{BEN}\xa0".encode()],
        [b"\xff\xfe"],
        ["a" * 101],
    ],
)
def test_what_names_not_one_person_is_refused(fronted: Fronted, values: list[str | bytes]) -> None:
    answer = fronted.get("/", *((HEADER, value) for value in values))
    assert answer.status_code == 403
    assert "does not name one person" in answer.text


@pytest.mark.parametrize("value", ["", "   ", "\t "])
def test_who_is_not_named_signs_in_with_a_token(fronted: Fronted, value: str) -> None:
    token = new_token(fronted.stored.client, f"unnamed {uuid.uuid4()}")
    # httpx sends no such value.
    url = httpx.URL(fronted.address)
    connection = http.client.HTTPConnection(url.host, url.port or 0, source_address=(PROXY, 0))
    for cookie, status in (("", 303), (f"{COOKIE}={token}", 200)):
        connection.request("GET", "/", headers={HEADER: value, "Cookie": cookie})
        with connection.getresponse() as answer:
            answer.read()
            assert answer.status == status
    connection.close()


@pytest.mark.parametrize("name", ["anna@example.com", "Anna@example.org", "full", "person:anna"])
def test_a_stranger_sees_nothing_and_reads_why(fronted: Fronted, name: str) -> None:
    answer = fronted.get("/", (HEADER, name))
    assert answer.status_code == 403
    assert f"{name} may see nothing here" in answer.text.replace("&#64;", "@")
    assert "--by-proxy" in answer.text


def test_a_tokens_name_is_nobodys_name(fronted: Fronted) -> None:
    name = f"portal {uuid.uuid4()}"
    new_token(fronted.stored.client, name)
    assert fronted.get("/", (HEADER, name)).status_code == 403


def test_a_persons_name_and_field_are_no_token(fronted: Fronted) -> None:
    for text in (BEN, tokens.digest_of(tokens.Person(BEN))):
        assert leads_to_sign_in(fronted.get("/", ("Cookie", f"{COOKIE}={text}")))
        answer = fronted.get("/v1/tenants", ("Authorization", f"Bearer {text}"))
        assert answer.status_code == 401


def test_the_proxys_word_goes_before_a_cookie(fronted: Fronted) -> None:
    """So a link of somebody else, which signs the browser in as them, changes nothing."""
    token = new_token(fronted.stored.client, f"everything {uuid.uuid4()}")
    answer = fronted.get(
        f"/tenants/{fronted.stored.other}", (HEADER, ANNA), ("Cookie", f"{COOKIE}={token}")
    )
    assert answer.status_code == 404


def test_all_others_see_what_the_star_may(fronted: Fronted) -> None:
    client = fronted.stored.client
    stranger = f"{uuid.uuid4()}@example.org"
    assert fronted.get("/", (HEADER, stranger)).status_code == 403
    tokens.admit_person(client, "*", [fronted.stored.acme], ["read"])
    try:
        newcomer = f"{uuid.uuid4()}@example.org"
        page = fronted.get("/", (HEADER, newcomer))
        assert page.status_code == 200
        assert newcomer in page.text
        assert (
            fronted.get(f"/tenants/{fronted.stored.other}", (HEADER, newcomer)).status_code == 404
        )
        # Who has rights of their own keeps to them.
        assert fronted.get(f"/tenants/{fronted.stored.other}", (HEADER, BEN)).status_code == 200
    finally:
        tokens.revoke(client, "*")


def test_programs_need_a_token_all_the_same(fronted: Fronted) -> None:
    """A browser sends the proxy's session with each request that another site makes it send."""
    stored = fronted.stored
    assert fronted.get("/v1/tenants", (HEADER, BEN)).status_code == 401
    with fronted.client() as client:
        answer = client.post(
            f"/v1/tenants/{stored.acme}/devices/{stored.core1}/backups",
            files={"export": b"/planted\n"},
            headers={HEADER: BEN},
        )
    assert answer.status_code == 401


def test_forms_of_other_sites_do_nothing_for_who_is_named(fronted: Fronted) -> None:
    with fronted.client() as client:
        answer = client.post(
            "/sign-out", headers={HEADER: BEN, "Origin": "https://elsewhere.example"}
        )
    assert answer.status_code == 403


def test_the_log_says_who_looked(fronted: Fronted, caplog: pytest.LogCaptureFixture) -> None:
    # A line is written once its answer is sent, and all of them once the server has ended.
    with caplog.at_level(logging.INFO, "confkeep.http"), serve(fronted.settings) as address:
        replace(fronted, address=address).get("/queue", (HEADER, BEN))
    (told,) = [record for record in caplog.records if record.message == "answered a request"]
    assert told.__dict__["person"] == BEN


def test_the_cookie_of_a_token_is_secure_where_the_proxy_speaks_tls(fronted: Fronted) -> None:
    token = new_token(fronted.stored.client, f"secure {uuid.uuid4()}")
    host = httpx.URL(fronted.address).netloc.decode()
    with fronted.client() as client:
        for scheme, secure in (("https", True), ("http", False)):
            answer = client.post(
                "/sign-in", data={"token": token}, headers={"Origin": f"{scheme}://{host}"}
            )
            assert answer.status_code == 303
            assert ("Secure" in answer.headers["set-cookie"]) is secure


@pytest.mark.parametrize(
    ("public", "host", "secure"),
    [
        ("https://confkeep.example", "confkeep.example", True),
        ("https://confkeep.example", "Confkeep.Example:443", True),
        ("https://confkeep.example:8443", "confkeep.example", True),
        ("https://Confkeep.example/backups", "confkeep.example", True),
        ("https://[fd00::1]:8443", "[fd00::1]:8443", True),
        ("https://confkeep.example", "127.0.0.1:8080", False),
        ("http://confkeep.example", "confkeep.example", False),
        ("", "confkeep.example", False),
    ],
)
def test_a_link_signs_in_with_a_secure_cookie_where_people_come_by_tls(
    fronted: Fronted, public: str, host: str, secure: bool
) -> None:
    token = new_token(fronted.stored.client, f"link {uuid.uuid4()}")
    settings = fronted.settings.model_copy(update={"public_url": public})
    with serve(settings) as address:
        answer = httpx.get(f"{address}/enter", params={"token": token}, headers={"Host": host})
    assert answer.status_code == 303
    assert ("Secure" in answer.headers["set-cookie"]) is secure
