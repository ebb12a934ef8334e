"""The pages: who sees what, that hostile text stays text, and that they answer without JavaScript."""

from __future__ import annotations

import datetime as dt
import html
import re
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path

import httpx
import pytest

from confkeep.labels import Labels
from confkeep.queue import events
from confkeep.queue.events import Event
from confkeep.settings import load_settings
from tests.http.serving import new_token, serve, standing
from worker.http.pages import rendering
from worker.http.pages.differences import farness
from worker.http.pages.routing import COOKIE
from worker.http.server import server_of
from worker.reading.answers import DeviceEntry
from worker.store.repository.backup import Backup
from worker.store.repository.tenant_repository import repository_path
from worker.store.writing.commit import open_for_writing

SECRET = "Tr0ub4dor"
HOSTILE = '"><script>alert(1)</script>'
EXPORT = (
    b"# 2026-10-01 10:00:00 by RouterOS 7.16\n/system identity\nset name=core1\n"
    b"/ppp secret\nadd name=anna password=" + SECRET.encode() + b"\n"
    b"/system script\nadd name=x source=\"<img src=x onerror=alert(1)>\"\n# \xe2\x80\xae turned\n"
)  # fmt: skip
LATER = EXPORT.replace(b"2026-10-01", b"2026-10-02").replace(b"Tr0ub4dor", b"Tr0ub4dor2") + (
    b"/ip address\nadd address=10.0.0.1/24 interface=ether1\n"
)
BINARY = b"\x88\xac\xa1\xb1" + (16).to_bytes(4, "little") + b"backup.."
#: A tenant without a backup, before all others in their order.
NEW = str(uuid.UUID(int=1))


@dataclass(frozen=True)
class Site:
    store: Path
    address: str
    tokens: dict[str, str]
    tenant: str
    other: str
    device: str
    second: str
    #: A device whose newest version has only another date, and its versions.
    nightly: str
    polls: list[str]
    shas: list[str]

    def client(self, token: str | None) -> httpx.Client:
        cookies = {} if token is None else {COOKIE: self.tokens[token]}
        return httpx.Client(base_url=self.address, cookies=cookies)

    @property
    def base(self) -> str:
        return f"/tenants/{self.tenant}/devices/{self.device}"

    @property
    def paths(self) -> list[str]:
        """Each page, in each of its forms."""
        versions = f"{self.base}/versions"
        return [
            *("/", f"/tenants/{self.tenant}", f"/tenants/{self.tenant}?q=core&sort=-seen&stale=1"),
            *(self.base, f"{self.base}?changed=any", f"{versions}/latest"),
            *(f"{versions}/latest?since=1", f"{versions}/latest/diff", f"{versions}/{self.shas[0]}/diff"),
            f"{versions}/latest/diff?view=split&join=1&header=1&context=all",
            f"{versions}/latest/diff?against=device:{self.second}",
            *("/search", f"/search?q=add&tenant={self.tenant}", "/search?q=(&regex=1"),
            *("/activity", "/activity?only=changes", "/queue", f"/tenants/{self.tenant}/compare?a={self.device}"),
        ]  # fmt: skip


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    tenant, other, device, second, nightly = (str(uuid.uuid4()) for _ in range(5))

    def backup(device_id: str, export: bytes, day: int, name: str) -> Backup:
        at = dt.datetime(2026, 10, day, 10, tzinfo=dt.UTC)
        labels = Labels(name=name, group=HOSTILE, address=HOSTILE, model="RB5009")
        return Backup(str(uuid.uuid4()), device_id, export, BINARY, HOSTILE, at, labels)

    with standing(tmp_path_factory.mktemp("pages")) as (settings, client):
        store = settings.git_store_path
        with open_for_writing(repository_path(store, tenant)) as writer:
            shas = [
                writer.commit_backups([one])[0].sha
                for one in (
                    backup(device, EXPORT, 1, f"core{HOSTILE}"),
                    backup(device, LATER, 2, f"core{HOSTILE}"),
                    backup(second, EXPORT, 3, "core2"),
                )
            ]
            polls = [
                writer.commit_backups(
                    [backup(nightly, EXPORT.replace(b"10-01", date), day, "nightly")],
                    now_s=int(dt.datetime(2026, 10, day, 11, tzinfo=dt.UTC).timestamp()),
                )[0].sha
                for day, date in ((4, b"10-04"), (5, b"10-05"))
            ]
        with open_for_writing(repository_path(store, other)) as writer:
            writer.commit_backups([backup(str(uuid.uuid4()), b"/of-another-tenant\n", 1, "theirs")])
        tokens = {
            "full": new_token(client, "full"),
            "masked": new_token(client, "masked", [tenant], ["read"]),
            "new": new_token(client, "new", [NEW, tenant], ["read"]),
            "enqueues": new_token(client, "enqueues", [tenant], ["enqueue"]),
        }

        def happened(of: str, name: str, *, changed: bool) -> Event:
            data = {"device_name": name, "sha": shas[0], "export_changed": changed}
            device = str(uuid.uuid4())
            return events.new(events.COMMITTED, of, device, data=data, about=[device])

        told = [
            happened(tenant, "changed", changed=True),
            happened(tenant, "polled", changed=False),
            happened(other, "not-ours", changed=True),
            events.new(events.HOOK_DISABLED, None, data={"reason": "of-no-tenant"}, about=[1]),
        ]
        events.emit(client, settings, *told)
        with serve(settings) as address:
            yield Site(
                *(store, address, tokens, tenant, other),
                *(device, second, nightly, polls, shas[:2]),
            )


class _Page(HTMLParser):
    """What a browser would make of a page, as far as it could do harm."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.scripts: list[str | None] = []
        self.handlers: list[str] = []
        self.images = 0
        self.ids: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag == "script":
            self.scripts.append(given.get("src"))
        self.images += tag == "img"
        self.handlers += [name for name in given if name.startswith("on") or name == "style"]
        if given.get("id"):
            self.ids.append(str(given["id"]))
        if tag not in ("meta", "link", "input", "br", "col", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> ends nothing"
        assert self.open.pop() == tag


@pytest.mark.parametrize("token", ["full", "masked"])
def test_hostile_text_is_text_on_every_page(site: Site, token: str) -> None:
    with site.client(token) as client:
        for path in site.paths:
            answer = client.get(path)
            assert answer.status_code == 200, path
            page = _Page(answer.text)
            assert page.open == [], path
            live = ["/static/live.js"] if path.startswith(("/activity", "/queue")) else []
            assert page.scripts == ["/static/htmx.min.js", *live], path
            assert (page.handlers, page.images) == ([], 0), path
            assert len(page.ids) == len(set(page.ids)), path
            assert "\u202e" not in answer.text, path
            policy = answer.headers["content-security-policy"]
            assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self';")
            assert "unsafe" not in policy


def test_who_may_not_reveal_gets_no_secret_from_any_page_or_file(site: Site) -> None:
    files = [f"{site.base}/versions/latest/{name}" for name in ("export.rsc", "backup.bin")]
    with site.client("masked") as client:
        for path in [
            *site.paths,
            *files,
            f"/search?q={SECRET}",
            f"/search?q={SECRET[:4]}.&regex=1",
        ]:
            body = client.get(path).text
            # What was asked for is repeated in the field.
            assert SECRET not in body.replace(f'value="{SECRET}"', "").replace(f": {SECRET}", ""), (
                path
            )
        assert client.get(files[1]).status_code == 403
        diff = client.get(f"{site.base}/versions/latest/diff").text
    assert "*** (changed)" in re.sub(r"</?mark>", "", diff)
    with site.client("full") as client:
        assert SECRET in client.get(files[0]).text
        assert client.get(files[1]).content == BINARY


def test_another_tenant_is_not_there(site: Site) -> None:
    with site.client("masked") as client:
        for path in site.paths:
            assert "of-another-tenant" not in client.get(path).text
            assert site.other not in client.get(path).text
        never = str(uuid.uuid4())
        answers = [client.get(f"/tenants/{tenant}") for tenant in (site.other, never)]
        texts = {answer.text.replace(site.other, "").replace(never, "") for answer in answers}
        assert [answer.status_code for answer in answers] == [404, 404]
        assert len(texts) == 1
    with site.client("full") as client:
        assert "of-another-tenant" in client.get("/search?q=another").text


def test_a_tenant_without_a_backup_yet_spoils_no_page(site: Site) -> None:
    """Its token is made first, as README shows."""
    with site.client("new") as client:
        for path in ("/", "/search?q=core", "/activity", "/queue"):
            assert client.get(path).status_code == 200, path
        assert "core2" in client.get("/search?q=core2").text
        assert "This tenant has no device yet" in client.get(f"/tenants/{NEW}").text
    bearer = {"Authorization": f"Bearer {site.tokens['new']}"}
    answer = httpx.get(f"{site.address}/v1/search?q=RouterOS", headers=bearer)
    assert {each["tenant_id"] for each in answer.json()} == {site.tenant}


def test_a_damaged_repository_hides_no_other_tenant(site: Site) -> None:
    main = repository_path(site.store, site.other) / "refs" / "heads" / "main"
    sound = main.read_bytes()
    main.write_bytes(b"f" * 40 + b"\n")
    try:
        with site.client("full") as client:
            fleet = client.get("/")
            assert fleet.status_code == 200
            assert fleet.text.count("Its repository is damaged") == 1
            search = client.get("/search?q=system")
            assert search.status_code == 200
            assert search.text.count("Its repository is damaged") == 1
            assert f"{site.device}/versions/latest#L2" in search.text
            assert client.get(f"/search?q=system&tenant={site.other}").status_code == 503
            assert site.base.removesuffix(f"/devices/{site.device}") in fleet.text
        bearer = {"Authorization": f"Bearer {site.tokens['full']}"}
        listed = httpx.get(f"{site.address}/v1/tenants", headers=bearer).json()
        counts = {each["tenant_id"]: (each["devices"], bool(each["problem"])) for each in listed}
        assert counts == {site.tenant: (3, False), site.other: (0, True)}
        lines = httpx.get(f"{site.address}/v1/search?q=system", headers=bearer).json()
        said = {(each["tenant_id"], each["device_id"]): each["problem"] for each in lines}
        problems = {each["tenant_id"]: each["problem"] for each in listed}
        assert said[site.tenant, site.device] is None
        assert said[site.other, None] == problems[site.other]
        one = httpx.get(f"{site.address}/v1/tenants/{site.other}", headers=bearer)
        assert one.json()["type"].endswith("#RepositoryDamaged")
    finally:
        main.write_bytes(sound)


def test_who_is_not_signed_in_is_led_there_and_back(site: Site) -> None:
    with site.client(None) as client:
        for path in site.paths:
            answer = client.get(path)
            assert answer.status_code == 303, path
            assert answer.headers["location"].startswith("/sign-in?next=/"), path
        form = client.get(client.get(f"{site.base}?changed=config").headers["location"]).text
        assert f'name="next" value="{site.base}?changed=config"' in form
        wrong = client.post(
            "/sign-in", data={"token": "ck_wrong"}, headers={"Sec-Fetch-Site": "same-origin"}
        )
        assert (wrong.status_code, COOKIE in wrong.cookies) == (401, False)
        right = client.post(
            "/sign-in",
            data={"token": site.tokens["full"], "next": site.base},
            headers={"Origin": site.address},
        )
        assert (right.status_code, right.headers["location"]) == (303, site.base)
        kept = right.headers["set-cookie"]
        assert "HttpOnly" in kept
        assert "SameSite=lax" in kept
        assert client.get(site.base).status_code == 200
        client.post("/sign-out", headers={"Origin": site.address})
        assert client.get(site.base).status_code == 303


def test_a_token_that_may_not_read_sees_no_page(site: Site) -> None:
    with site.client("enqueues") as client:
        for path in site.paths:
            assert client.get(path).status_code == 403, path


@pytest.mark.parametrize("wanted", ["//elsewhere.example", "https://elsewhere.example", "/\\x"])
def test_signing_in_leads_to_no_other_site(site: Site, wanted: str) -> None:
    with site.client(None) as client:
        answer = client.get("/enter", params={"token": site.tokens["full"], "next": wanted})
        assert (answer.status_code, answer.headers["location"]) == (303, "/")


def test_forms_of_other_sites_do_nothing(site: Site) -> None:
    for headers in ({}, {"Origin": "https://elsewhere.example"}, {"Sec-Fetch-Site": "cross-site"}):
        with site.client("full") as client:
            answer = client.post("/sign-out", headers=headers)
            assert answer.status_code == 403
            assert "set-cookie" not in answer.headers


def test_a_cookie_opens_no_route_of_programs(site: Site) -> None:
    """So no other site's form reaches one."""
    with site.client("full") as client:
        assert client.get("/v1/tenants").status_code == 401


def test_the_header_is_folded_and_lines_keep_their_numbers(site: Site) -> None:
    with site.client("full") as client:
        folded = client.get(f"{site.base}/versions/latest/diff").text
        whole = client.get(f"{site.base}/versions/latest/diff?header=1").text
        export = client.get(f"{site.base}/versions/latest").text
    assert "2026-10-02 10:00:00 by" not in folded
    assert "2026-10-02" in re.sub(r"</?mark>", "", whole)
    # The time line counts them, so who sees fewer lines here is told why.
    assert "header lines left out" in folded
    assert "header lines left out" not in whole
    for page in (folded, whole):
        row = re.search(r'<tr id="(L\d+)">(?:(?!<tr).)*10\.0\.0\.1', page, re.DOTALL)
        assert row is not None
        assert re.search(rf'<tr id="{row[1]}">.*10\.0\.0\.1', export) is not None


def test_since_when_a_line_stands_there_leads_to_its_change(site: Site) -> None:
    with site.client("full") as client:
        page = client.get(f"{site.base}/versions/latest?since=1")
    dates = re.findall(
        r'<td class="n since (?:day|week)"><a href="([^"]+)">2026-10-0(\d)<', page.text
    )
    assert len(dates) == LATER.count(b"\n")
    changes = {(page.url.join(link).path, day) for link, day in dates}
    base = f"{site.base}/versions"
    assert changes == {(f"{base}/{site.shas[0]}/diff", "1"), (f"{base}/{site.shas[1]}/diff", "2")}


def test_the_last_change_is_one_of_the_configuration_and_says_why(site: Site) -> None:
    with site.client("full") as client:
        answer = client.get(f"{site.base}/change")
        assert answer.headers["location"] == f"{site.base}/versions/{site.shas[1]}/diff"
        text = client.get(answer.headers["location"]).text
        assert f'{site.base}/versions/{site.shas[0]}/diff">The change before' in text
        assert (
            f"<li><b>{html.escape(HOSTILE, quote=True)}</b></li>".replace("&quot;", "&#34;") in text
        )
        older = client.get(f"{site.base}/versions/{site.shas[0]}").text
        assert f"versions/latest/diff?against={site.shas[0]}" in older
        assert "against=" not in client.get(f"{site.base}/versions/latest").text


def test_what_only_has_another_date_is_no_change(site: Site) -> None:
    base = f"/tenants/{site.tenant}/devices/{site.nightly}"
    with site.client("full") as client:
        change = client.get(f"{base}/change").headers["location"]
        assert change == f"{base}/versions/{site.polls[0]}/diff"
        for path, shown in ((base, site.polls[:1]), (f"{base}?changed=any", site.polls)):
            listed = re.findall(rf'href="{base}/versions/(\w+)"', client.get(path).text)
            assert [sha for sha in listed if sha != "latest"] == shown[::-1]
        row = re.search(
            rf'<a href="{base}/change"><time datetime="([^"]+)"',
            client.get(f"/tenants/{site.tenant}").text,
        )
        assert row is not None
        assert row[1] == "2026-10-04T11:00:00Z"
        newest = client.get(f"/tenants/{site.tenant}?sort=-changed").text
        assert newest.index(site.second) < newest.index(site.nightly)


@pytest.mark.parametrize(
    ("token", "query", "shown"),
    [
        ("full", "", {"changed", "polled", "not-ours", "of-no-tenant"}),
        ("full", "?only=changes", {"changed", "not-ours"}),
        ("full", "?tenant={tenant}", {"changed", "polled"}),
        ("full", "?only=changes&tenant={other}", {"not-ours"}),
        ("masked", "", {"changed", "polled"}),
        ("masked", "?only=changes", {"changed"}),
        ("masked", "?tenant={other}", set()),
    ],
)
def test_activity_leaves_out_what_is_not_asked_for_or_not_to_be_seen(
    site: Site, token: str, query: str, shown: set[str]
) -> None:
    path = "/activity" + query.format(tenant=site.tenant, other=site.other)
    with site.client(token) as client:
        text = client.get(path).text
    assert {
        name
        for name in ("changed", "polled", "not-ours", "of-no-tenant")
        if re.search(rf"[ >]{name}[ <]", text)
    } == shown


def test_a_search_finds_devices_by_name_of_the_tenants_that_one_sees(site: Site) -> None:
    with site.client("masked") as client:
        assert f'{site.tenant}/devices/{site.second}"' in client.get("/search?q=ORE2").text
        assert "Devices called so" not in client.get("/search?q=theirs").text
    with site.client("full") as client:
        assert "Devices called so" in client.get("/search?q=theirs").text


def test_a_moment_leads_to_the_version_of_then(site: Site) -> None:
    with site.client("full") as client:
        answer = client.get(f"{site.base}/at", params={"at": "2026-10-01 12:00"})
        assert answer.headers["location"].endswith(f"/versions/{site.shas[0]}")
        assert client.get(f"{site.base}/at", params={"at": "nonsense"}).status_code == 422


def test_a_browser_gets_a_page_for_a_mistyped_address_and_a_program_a_document(site: Site) -> None:
    with site.client("full") as client:
        page = client.get("/nonsense", headers={"Accept": "text/html,*/*;q=0.8"})
        document = client.get("/nonsense")
    assert (page.status_code, document.status_code) == (404, 404)
    assert "There is no such page" in page.text
    assert document.headers["content-type"] == "application/problem+json"


def test_a_mistyped_parameter_gets_a_page_that_names_those_that_are_there(site: Site) -> None:
    with site.client("full") as client:
        answer = client.get(f"{site.base}?chnaged=any")
    assert answer.status_code == 422
    assert answer.headers["content-type"].startswith("text/html")
    assert "Chnaged" not in answer.text
    assert "chnaged: is no parameter; known are changed, cursor" in answer.text


def test_each_link_and_form_of_a_page_has_parameters_that_its_route_has(site: Site) -> None:
    asked: set[str] = set()
    with site.client("full") as client:
        for path in site.paths:
            text = client.get(path).text
            asked.update(map(html.unescape, re.findall(r'(?:href|hx-get)="(/[^"]*\?[^"]*)"', text)))
            for action, inside in re.findall(
                r'<form[^>]* action="([^"]*)"(.*?)</form>', text, re.DOTALL
            ):
                names = dict.fromkeys(re.findall(r'name="([^"]*)"', inside), "")
                if names and 'method="post"' not in inside:
                    asked.add(str(httpx.URL(html.unescape(action), params=names)))
        assert len(asked) > 20
        for path in asked:
            assert "is no parameter" not in client.get(path).text, path


def test_what_to_compare_with_is_found_by_a_part_of_its_name(site: Site) -> None:
    compare = f"/tenants/{site.tenant}/compare"
    with site.client("full") as client:
        named = client.get(compare, params={"a": site.device, "b": "core2"})
        assert named.headers["location"].endswith(f"against=device:{site.second}")
        for params in ({"b": ""}, {"b": "ore2"}, {"q": "CORE2"}, {"q": "rb5009"}):
            found = client.get(compare, params={"a": site.device, **params}).text
            assert f"latest/diff?against=device:{site.second}" in found, params
            assert f"against=device:{site.device}" not in found
        assert "No other device" in client.get(compare, params={"a": site.device, "q": "zz"}).text


def test_what_is_most_alike_stands_first_in_what_to_compare_with() -> None:
    def device(name: str, group: str | None, model: str | None) -> DeviceEntry:
        now = dt.datetime.now(dt.UTC)
        return DeviceEntry(
            device_id=str(uuid.uuid4()), name=name, group=group, model=model, address=None, sha="ab" * 20, message="poll",
            versions=1, changed_at=now, last_backup_at=now,
        )  # fmt: skip

    one = device("one", "core", "RB5009")
    others = [
        device("other", "edge", "hAP"),
        device("same model", "edge", "RB5009"),
        device("same group", "core", "hAP"),
        device("nothing known", None, None),
        device("twin", "core", "RB5009"),
    ]
    found = sorted(others, key=lambda each: farness(one, each))
    assert [each.name for each in found] == [
        "twin", "same group", "same model", "other", "nothing known",
    ]  # fmt: skip
    bare = device("bare", None, None)
    assert sorted(others, key=lambda each: farness(bare, each)) == others


def test_no_page_waits_for_its_template_to_be_compiled(tmp_path: Path) -> None:
    rendering._environment.cache_clear()
    server_of(load_settings(redis_url=f"unix://{tmp_path}/none.sock", git_store_path=tmp_path))
    compiled = {name for _loader, name in rendering._environment().cache}
    assert compiled == {each.name for each in (rendering.FOLDER / "templates").iterdir()}
