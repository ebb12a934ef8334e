"""`confkeep digest` tells what changed and what needs a look, masked and cut, to people and programs."""

from __future__ import annotations

import datetime as dt
import email
import email.policy
import json
import socketserver
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import pytest
import redis

from confkeep.errors import BrokerUnavailable, InvalidInput, InvalidSettings, StagedBytesMissing
from confkeep.settings import get_settings, load_settings
from tasks import digest as task
from tests.receiving import Receiver, answer, receiving
from tests.turns import submission
from tests.unit.cli.conftest import OTHER_TENANT, ROUTER, SWITCH, TENANT, Confkeep, Store
from tests.unit.cli.test_drill import Page
from worker.hooks import digest as digest_module
from worker.hooks import notify
from worker.hooks.digest import Changed, Digest, digest_of
from worker.hooks.digest_html import html_of
from worker.hooks.digest_text import CUTS, fitting, json_of, text_of, title_of
from worker.queue import dead_letters
from worker.queue.inbox import Inbox
from worker.store.repository.tenant_repository import repository_path

# A plugin of apprise's imports it.
pytestmark = pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning")

NEW = "beef0003-0000-4000-8000-000000000003"
DAY_S = 86_400.0
BEFORE = b"# 2026-09-30 03:00:00 by RouterOS 7.16\n/ip address\nadd address=10.0.0.1/24\n"
AFTER = b"# 2026-10-01 03:00:00 by RouterOS 7.16\n/ip address\nadd address=10.0.0.2/24\n"
SECRETS = b'/ppp secret\nadd name=a password="hunter2-before"\n'
SECRETS_AFTER = b'/ppp secret\nadd name=a password="hunter2-after"\n'


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as running:
        yield running


def digest(client: redis.Redis, store: Store, since_s: float = DAY_S) -> Digest:
    now = dt.datetime.now(dt.UTC)
    path = repository_path(store.path, TENANT)
    since = now - dt.timedelta(seconds=since_s)
    return digest_of(client, path, since, stale_after_s=DAY_S)


NOW = dt.datetime(2026, 10, 3, 6, tzinfo=dt.UTC)
YESTERDAY, BEFORE_THAT = NOW - dt.timedelta(hours=9), NOW - dt.timedelta(hours=33)


def of_a_day(client: redis.Redis, store: Store) -> Digest:
    path = repository_path(store.path, TENANT)
    return digest_of(client, path, NOW - dt.timedelta(days=1), stale_after_s=DAY_S, now=NOW)


def test_what_changed_is_told_and_a_new_date_is_no_change(
    client: redis.Redis, store: Store
) -> None:
    for device in (ROUTER, SWITCH):
        store.add_at(BEFORE_THAT, device, BEFORE)
        store.add_at(YESTERDAY, device, BEFORE.replace(b"09-30", b"10-02"))
    store.add_at(YESTERDAY, ROUTER, AFTER)
    store.add_at(YESTERDAY, NEW, BEFORE)
    found = of_a_day(client, store)
    assert found.devices == 3
    new, changed = sorted(found.changed, key=lambda one: not one.new)
    assert (new.device.id, new.new, new.diff) == (NEW, True, "")
    assert (changed.device.id, changed.new, changed.times) == (ROUTER, False, 1)
    assert not found.stale
    assert title_of(found) == f"{TENANT}: 2 of 3 devices changed"


def test_a_difference_shows_that_a_secret_changed_and_not_which(
    client: redis.Redis, store: Store
) -> None:
    store.add_at(BEFORE_THAT, ROUTER, BEFORE + SECRETS)
    store.add_at(YESTERDAY, ROUTER, AFTER + SECRETS_AFTER)
    found = of_a_day(client, store)
    [changed] = found.changed
    assert changed.diff is not None
    assert "-add address=10.0.0.1/24" in changed.diff
    assert "+add address=10.0.0.2/24" in changed.diff
    assert "(changed)" in changed.diff
    for text in (text_of(found), html_of(found), json.dumps(json_of(found), default=str)):
        assert "10.0.0.2/24" in text
        assert "hunter2" not in text
        assert "by RouterOS" not in text, "the line with the date is left out"


def test_what_needs_a_look_is_told(client: redis.Redis, store: Store) -> None:
    store.add(ROUTER, b"expected end of command (line 1 column 1)\n")
    inbox = Inbox(client, load_settings(), TENANT)
    dead_letters.bury(inbox, submission(1).entry, StagedBytesMissing("its bytes are gone"))
    others = Inbox(client, load_settings(), OTHER_TENANT)
    dead_letters.bury(others, submission(2).entry, StagedBytesMissing("another tenant's"))
    path = repository_path(store.path, TENANT)
    now = dt.datetime.now(dt.UTC) + dt.timedelta(days=3)
    found = digest_of(client, path, now - dt.timedelta(days=4), stale_after_s=DAY_S, now=now)
    assert [one.device.id for one in found.stale] == [ROUTER]
    assert [one.device.id for one in found.suspect] == [ROUTER]
    assert [one.reason for one in found.dead] == ["its bytes are gone"]
    assert "1 stale, 1 suspect, 1 dead letter" in title_of(found)
    text = text_of(found)
    for heading in ("Stale:", "Suspect:", "Dead letters:"):
        assert heading in text


def test_where_nothing_happened_there_is_nothing_to_say(client: redis.Redis, store: Store) -> None:
    store.add(ROUTER, BEFORE)
    path = repository_path(store.path, TENANT)
    later = dt.datetime.now(dt.UTC) + dt.timedelta(hours=2)
    found = digest_of(client, path, later, stale_after_s=DAY_S, now=later)
    assert not found.says_something


def test_nobody_waits_for_a_history_to_learn_that_redis_is_down(
    store: Store, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def too_early(_path: Path) -> None:
        raise AssertionError("the repository is read first")

    monkeypatch.setattr(digest_module, "open_repository", too_early)
    absent = redis.Redis(unix_socket_path=str(tmp_path / "absent"))
    with pytest.raises(BrokerUnavailable):
        digest(absent, store)


def test_a_large_digest_is_cut_to_what_a_message_takes(client: redis.Redis, store: Store) -> None:
    store.add(ROUTER, BEFORE)
    found = digest(client, store)
    [changed] = found.changed
    hunks = "".join(f"+add address=10.0.{n}.1/24 {'x' * 300}\n" for n in range(500))
    # One difference of many lines is enough: to render a thousand takes seconds.
    first, *others = (
        Changed(changed.device, 1, changed.changed_at, changed.commit, False, text)
        for text in (hunks, hunks[:300])
    )
    large = Digest(
        *(found.tenant, found.since, found.until, found.devices),
        [first, *others * 999],
        *((), (), ()),
    )
    for most in (200, 4_096, 32_768):
        for render in (text_of, html_of):
            if render is html_of and most < 1_000:
                continue
            text = fitting(large, render, most)
            assert len(text) <= most
            assert title_of(large) in text
    assert "... and 440 more lines" in text_of(large)
    assert "... and 500 more changed" in text_of(large, CUTS[0])


def test_hostile_names_and_lines_are_text_in_a_page(client: redis.Redis, store: Store) -> None:
    hostile = b"<script>alert(1)</script><img src=x onerror=alert(1)>"
    store.add(ROUTER, b"/system identity\nset name=" + hostile + b"\n")
    found = digest(client, store)
    [changed] = found.changed
    shown = Changed(
        *(changed.device, 1, changed.changed_at, changed.commit, False),
        f'+"{hostile.decode()}\x1b[31m\u202e',
    )
    page = html_of(
        Digest(*(found.tenant, found.since, found.until, 1), [shown], *((), (), ())),
        public_url="https://confkeep.example",
    )
    assert not {*Page(page).seen} & {"script", "img", "onerror"}
    assert "\x1b" not in page
    assert "\u202e" not in page
    assert f"https://confkeep.example/v1/tenants/{TENANT}/devices/{ROUTER}" in page


def test_the_command_prints_writes_and_sends(
    client: redis.Redis, store: Store, confkeep: Confkeep, receiver: Receiver, tmp_path: Path
) -> None:
    store.add(ROUTER, BEFORE)
    printed = confkeep("digest", TENANT)
    assert printed.exit_code == 0, printed.output
    assert "1 of 1 device changed" in printed.stdout
    values = json.loads(confkeep("digest", TENANT, "--json").stdout)
    assert [one["device_id"] for one in values["changed"]] == [ROUTER]
    assert confkeep("digest", TENANT, "--html", tmp_path / "page.html").exit_code == 0
    assert "1 of 1 device changed" in (tmp_path / "page.html").read_text()
    url = f"json://127.0.0.1:{receiver.port}/SECRET-IN-THE-ADDRESS"
    sent = confkeep("digest", TENANT, "--send", url)
    assert sent.exit_code == 0, sent.output
    assert sent.stdout == ""
    [request] = receiver.requests
    message = json.loads(request.body)
    assert "1 of 1 device changed" in message["title"]
    assert ROUTER in message["message"]
    quiet = confkeep("digest", TENANT, "--since", "0s", "--send", url)
    assert "nothing to say" in quiet.stderr
    assert len(receiver.requests) == 1
    assert confkeep("digest", TENANT, "--since", "0s", "--send", url, "--always").exit_code == 0
    assert len(receiver.requests) == 2


class MailServer(socketserver.StreamRequestHandler):
    """Takes one mail, by SMTP."""

    mails: ClassVar[list[bytes]] = []

    def handle(self) -> None:
        self.wfile.write(b"220 here\r\n")
        while line := self.rfile.readline():
            if line.upper().startswith(b"DATA"):
                self.wfile.write(b"354 go on\r\n")
                lines = iter(self.rfile.readline, b".\r\n")
                self.mails.append(b"".join(lines))
            self.wfile.write(b"221 bye\r\n" if line.upper().startswith(b"QUIT") else b"250 ok\r\n")


def test_a_mail_holds_a_page(client: redis.Redis, store: Store) -> None:
    store.add(ROUTER, BEFORE)
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), MailServer) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        port = server.server_address[1]
        url = f"mailto://127.0.0.1:{port}?from=a@example.com&to=b@example.com&mode=insecure"
        notify.send(digest(client, store), [url], field="--send")
        server.shutdown()
        thread.join()
    [mail] = MailServer.mails
    message = email.message_from_bytes(mail, policy=email.policy.default)
    assert message["Subject"] == title_of(digest(client, store))
    page = message.get_body(("html",))
    assert page is not None
    assert f"{ROUTER}" in page.get_content()
    assert "<h1" in page.get_content()


def test_a_message_that_is_refused_or_an_address_that_is_none_is_told_without_it(
    client: redis.Redis,
    store: Store,
    confkeep: Confkeep,
    receiver: Receiver,
    caplog: pytest.LogCaptureFixture,
) -> None:
    store.add(ROUTER, BEFORE)
    receiver.always = lambda handler: answer(handler, 500)
    secret = "SECRET-IN-THE-ADDRESS"
    refused = confkeep("digest", TENANT, "--send", f"json://127.0.0.1:{receiver.port}/{secret}")
    assert refused.exit_code == 63
    unknown = confkeep("digest", TENANT, "--send", f"nonsense://{secret}")
    assert unknown.exit_code == 2
    assert "--send" in unknown.stderr
    assert secret not in refused.output + unknown.output + caplog.text


def test_an_extra_that_is_missing_is_named(
    client: redis.Redis, store: Store, confkeep: Confkeep, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.add(ROUTER, BEFORE)
    for library, extra, option in (
        ("apprise", "notify", ["--send", "json://127.0.0.1/"]),
        ("jinja2", "http", ["--html", "page.html"]),
    ):
        with monkeypatch.context() as without:
            without.setitem(sys.modules, library, None)
            done = confkeep("digest", TENANT, *option)
        assert done.exit_code == 7
        assert f"pip install 'confkeep[{extra}]'" in done.stderr


def test_the_task_sends_a_message_for_each_tenant_that_has_something_to_say(
    client: redis.Redis,
    store: Store,
    receiver: Receiver,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(task, "get_client", lambda _settings: client)
    with pytest.raises(InvalidSettings, match="CONFKEEP_DIGEST_URLS"):
        task.digest()
    url = f"json://127.0.0.1:{receiver.port}/"
    monkeypatch.setenv("CONFKEEP_DIGEST_URLS", f"{url} {url}")
    get_settings.cache_clear()
    store.add(ROUTER, BEFORE)
    store.add(ROUTER, BEFORE, tenant_id=OTHER_TENANT)
    assert task.digest() == {"sent": 2, "nothing": 0, "failed": 0}
    titles = sorted(json.loads(request.body)["title"] for request in receiver.requests)
    told = [f"{tenant}: 1 of 1 device changed" for tenant in (TENANT, OTHER_TENANT)]
    assert titles == sorted(told * 2), "one message a tenant, to both addresses"
    assert task.digest(TENANT) == {"sent": 1, "nothing": 0, "failed": 0}
    receiver.always = lambda handler: answer(handler, 500)
    assert task.digest() == {"sent": 0, "nothing": 0, "failed": 2}
    with pytest.raises(InvalidInput, match="since_s"):
        task.digest(since_s=0)
