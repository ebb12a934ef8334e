"""No secret of a RouterOS export is shown, however it is quoted and wrapped; the rest is."""

from __future__ import annotations

import re

import pytest

from confkeep.vendors.common import SHAPES
from confkeep.vendors.mikrotik import HARMLESS, IN_ONE_MENU, PROPERTIES
from tests.unit.masking.listed import LISTED
from tests.unit.masking.routeros_text import V6, V7, bare, quoted, wrapped
from worker.masking.mask import mask

#: Letters that stand nowhere else in these texts, so that no part of a secret may be left.
SECRETS = (
    "QXZQ",
    "QX ZQ",
    'Q"X"Z',
    "Q\\X\\\\",
    "$QXZ",
    "QX;Z]}",
    "QX\\nZQ",
    "QXZ" * 50,
    "Q=X Z=Q",
    "QXZ\xe4\u20ac",
    "QX\nZQ",
    "-QXZ",
)
#: One for each form that alone tells a secret.
FORMS = (
    "https://joe:QXZ@host/",
    "Authorization: QXZQXZ",
    "say bearer QXZQXZQX",
    "bot12345:" + "QXZQX" * 4,
    "eyJQXZQXZQXZQ.QXZ.QXZ",
    "AKIA" + "QXZQ" * 4,
    "ghp_" + "QXZQX" * 4,
    "xoxb-QXZQXZQXZQ",
    "hooks.slack.com/services/QXZ/QXZ",
    "discord.com/api/webhooks/1/QXZ",
    "$6$QXZQ",
)
NAMES = sorted({name for rule in PROPERTIES for name in rule.names})


def shown(text: str) -> str:
    masked = mask(text.encode()).decode()
    assert masked.count("\n") == text.count("\n")
    return masked


def joined(text: str) -> str:
    """A text without its wraps."""
    return re.sub(r"\\\r?\n    ", "", text)


def assert_masked(text: str) -> str:
    masked = shown(text)
    assert not set("QXZ") & set(masked), masked
    assert "***" in masked
    return masked


@pytest.mark.parametrize("menu", LISTED)
def test_what_mikrotik_lists_as_sensitive(menu: str) -> None:
    for name in LISTED[menu].split():
        for value in ("QXZ", quoted("QX ZQ"), "QXZ,ZXQ"):
            masked = assert_masked(f"{V7}{menu}\nset {name}={value} comment=first\n")
            assert "comment=first" in masked


@pytest.mark.parametrize("header", [V6, V7], ids=["v6", "v7"])
@pytest.mark.parametrize("end", ["\n", "\r\n"], ids=["lf", "crlf"])
@pytest.mark.parametrize("width", [20, 40, 80, 10_000])
def test_each_property_in_each_quoting_and_wrap(header: str, end: str, width: int) -> None:
    for name in NAMES:
        for secret in SECRETS:
            for value in {quoted(secret), bare(secret)}:
                line = wrapped(f"add comment=first {name}={value} disabled=no mtu=1500", width, end)
                masked = assert_masked(f"{header}/menu{end}{line}{end}")
                assert "comment=first" in joined(masked)
                assert "mtu=1500" in joined(masked)


@pytest.mark.parametrize("level", [1, 2, 3])
@pytest.mark.parametrize("width", [30, 80, 10_000])
def test_secrets_within_scripts(level: int, width: int) -> None:
    for secret in SECRETS:
        for before, after in (
            ("/ppp secret add name=a password=", " service=l2tp"),
            (":local wifiPass ", ""),
            (":global token ", "; :put 1"),
            ("/tool fetch password=", " url=x"),
            (':set ($cfg->"password") ', ""),
        ):
            inside = before + quoted(secret) + after + '\r\n:log info "done"\r\n'
            for _ in range(level - 1):
                inside = "/system script add source=" + quoted(inside)
            line = wrapped("add name=s source=" + quoted(inside) + " comment=last", width)
            masked = assert_masked(f"{V7}/system script\n{line}\n")
            assert "done" in joined(masked)
            assert "comment=last" in joined(masked)


def test_bare_values_within_scripts() -> None:
    for inside in (
        "/ppp secret add name=a password=QXZQ service=l2tp\r\n:log info done",
        "/ppp secret add name=a password=QXZQ\r\n:log info done",
        ":local botToken 12345:QXZ-Q\n:log info done",
        ":local url https://user:QXZQ@host/done",
    ):
        masked = assert_masked(f"{V7}/system script\nadd name=s source={quoted(inside)}\n")
        assert "done" in masked


def test_properties_that_are_secret_in_one_menu() -> None:
    for rule in IN_ONE_MENU:
        for name in rule.names:
            for secret in SECRETS:
                text = f"{V7}{rule.menu}\nadd {name}={quoted(secret)} list=a\n/ip address\nadd {name}=shown\n"
                assert f"{name}=shown" in assert_masked(text)
                text = (
                    f"{V7}{rule.menu} add {name}={quoted(secret)}\n/ip address add {name}=shown\n"
                )
                assert f"{name}=shown" in assert_masked(text)
                path = rule.menu.replace(" ", "/")
                source = quoted(f"{path} set 0 {name}={quoted(secret)}\r\n/x add {name}=shown")
                assert f"{name}=shown" in assert_masked(
                    f"{V7}/system script\nadd source={source}\n"
                )


@pytest.mark.parametrize(
    "line",
    [
        "set vpn-secret-of-tomorrow=QXZQ",
        "set fooPassword=QXZQ",
        "set x.some-api-key=QXZQ",
        "set psk=QXZQ",
        "set wifi-pass=QXZQ",
        "set access-token=QXZQ",
        "set MY_PASSWORD=QXZQ",
        'set json="{\\"password\\": \\"QXZQ\\", \\"a\\": 1}"',
        'set comment="wifi password: QXZQ"',
        'set comment="the password is QXZQ"',
        'set comment="secret = QXZQ"',
        'set http-header-field="Authorization: Bearer QXZQQXZQ,a:b"',
        'set http-header-field="api-key: QXZQ"',
        'set url="https://api.telegram.org/bot123456789:QXZQXZQXZQXZQXZQXZQXZQXZ/send\\?chat=1"',
        'set url="ftp://user:QXZ@Q@host/a"',
        'set url="https://host/\\?a=b&token=QXZQ&c=d"',
        'set cmd="--password QXZQ --port 1"',
        'set content="-----BEGIN RSA PRIVATE KEY-----\\nQXZ/QXZ\\n-----END RSA PRIVATE KEY-----\\n"',
        'set content="-----BEGIN OPENVPN STATIC KEY V1-----\\r\\nQXZ\\r\\n-----END OPENVPN STATIC KEY V1-----"',
        ':local pass ("QX" . "ZQ")',
        ':global password [:tostr "QXZQ"]',
        "# add password=QXZQ",
    ],
)
def test_what_only_looks_secret(line: str) -> None:
    assert_masked(f"{V7}/menu\n{line}\n/ip address\nadd address=10.0.0.1/24\n")


@pytest.mark.parametrize(
    "line",
    [
        *(f"set {name}=shown" for name in sorted(HARMLESS)),
        'add password="" name=a',
        "add action=mark-packet passthrough=yes new-packet-mark=a",
        "add name=full policy=local,password,sensitive,!secret skin=default",
        "set key-usage=digital-signature,key-encipherment",
        'set public-key="shown="',
        "set some-unknown-password-thing=no",
        "set minimum-password-length=8",
        "/ppp secret remove [find name=a]",
        "add bgp-communities=65000:1 chain=a",
        "add communities=65000:1,65000:2 list=a",
        'add source=":local password [/file get a contents]"',
        'add source="/ppp secret add name=a password=\\$pass"',
        'add source="/ppp secret add name=a password=\\"\\$pass\\""',
        'add key="ssh-rsa AAAA shown" user=a',
        'set comment="bring the key to the office"',
        'set a="-----BEGIN CERTIFICATE-----\\nshown\\n-----END CERTIFICATE-----"',
        "add name=snmp-name interface=a",
    ],
)
def test_what_is_no_secret_stays(line: str) -> None:
    text = f"{V7}/menu\n{line}\n/ip address\nadd address=10.0.0.1/24\n"
    assert shown(text) == text


def test_an_environment_of_a_container_shows_its_names() -> None:
    text = f'{V7}/container envs\nadd key=DB_PASSWORD name=db value=QXZQ\nadd key=LANG list=a value="QX ZQ"\n'
    masked = assert_masked(text)
    assert "key=DB_PASSWORD name=db value=***" in masked
    assert "key=LANG list=a value=***" in masked


def test_a_raw_key_keeps_its_lines() -> None:
    text = "-----BEGIN PRIVATE KEY-----\nQXZQ\nQXZQ\n-----END PRIVATE KEY-----\nset a=b\n"
    assert (
        shown(text) == "-----BEGIN PRIVATE KEY-----\n***\n***\n-----END PRIVATE KEY-----\nset a=b\n"
    )


@pytest.mark.parametrize("form", FORMS)
def test_a_form_tells_a_secret_whatever_stands_before_and_behind_it(form: str) -> None:
    for other in ("", *FORMS):
        assert_masked(f"{V7}/menu\nset a={other} b\nset c={form} d\nset e={other}\n")


def test_each_form_is_among_those() -> None:
    for rule in SHAPES:
        assert any(re.search(rule.pattern, form) for form in FORMS), rule


def test_equal_secrets_look_like_different_ones() -> None:
    one = mask(b"/ppp secret\nadd name=a password=one\nadd name=b password=one\n")
    two = mask(b"/ppp secret\nadd name=a password=one\nadd name=b password=another\n")
    assert one == two


def test_bytes_that_are_no_text_hide_nothing() -> None:
    masked = mask(
        b'/ppp secret\nadd comment="\xff\xfe" password="QX\xffZ\xc3"\nadd name=\xff password=QX\xe4Z\n'
    )
    assert not set(b"QXZ") & set(masked)


def test_an_escaped_backslash_at_a_lines_end_is_no_wrap() -> None:
    text = f"{V7}:local password QXZ\\\\\n:put shown\n"
    assert "\n:put shown\n" in assert_masked(text)


def test_a_text_ends_where_the_text_around_it_ends() -> None:
    text = f'{V7}/a\nadd source="say password=\\"" name=shown\nadd comment="\\"x\\""\n'
    assert shown(text) == text
    text = f'{V7}/a\nadd source="say password=\\"QXZ" name=shown\nadd comment="\\"x\\""\n'
    assert "name=shown" in assert_masked(text)


def test_a_secret_that_is_called_like_a_switch_is_masked() -> None:
    text = f"{V7}/ppp secret\nadd name=a password=disabled\n"
    assert shown(text) == text.replace("disabled", "***")
