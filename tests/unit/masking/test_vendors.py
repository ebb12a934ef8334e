"""Of other makers' exports exactly the secrets are masked, and each is known by its form."""

from __future__ import annotations

import re

import pytest

from confkeep.routeros.own_name import own_name
from confkeep.vendors.families import FAMILIES, family_of, is_routeros
from tests.unit.masking.vendor_lines import COMMANDS
from tests.unit.masking.vendor_texts import IOS, TEXTS
from worker.masking.mask import mask

_PLANTED = re.compile(r"\{\{(.*?)\}\}")
IDS = [f"{title}-{number}" for number, (title, _text) in enumerate(TEXTS)]


def real(text: str) -> bytes:
    return _PLANTED.sub(r"\1", text).encode()


def without_quotes(text: str) -> str:
    """A mask may stand for a secret with its quotes or for what is in them."""
    return re.sub(r"""["']\*\*\*["']""", "***", text)


@pytest.mark.parametrize(("title", "text"), TEXTS, ids=IDS)
def test_exactly_the_secrets_are_masked(title: str, text: str) -> None:
    shown = mask(real(text)).decode()
    wanted = without_quotes(_PLANTED.sub("***", text))
    assert without_quotes(shown).splitlines() == wanted.splitlines()


@pytest.mark.parametrize(("title", "text"), TEXTS, ids=IDS)
def test_no_secret_is_shown_when_the_maker_is_not_known(title: str, text: str) -> None:
    """Lines from the middle of a text, in which its form does not show."""
    for line in text.splitlines():
        planted = _PLANTED.findall(line)
        if planted and "set name" not in line and not line.startswith("{{"):
            shown = mask(b"unknown\n" + real(line) + b"\n").decode()
            assert not any(secret in shown for secret in planted if len(secret) >= 4), (line, shown)


@pytest.mark.parametrize(("title", "text"), TEXTS, ids=IDS)
def test_a_maker_is_known_by_the_form_of_the_text(title: str, text: str) -> None:
    family = family_of(real(text), "RB4011")
    assert family is not None
    assert family.title == title
    assert not is_routeros(real(text))


@pytest.mark.parametrize("system", COMMANDS)
def test_each_command(system: str) -> None:
    beginning, secret, harmless = COMMANDS[system]
    for command in secret:
        shown = mask(f"{beginning}{command}\n".encode()).decode().removeprefix(beginning)
        assert not set("QXZ") & set(shown), command
    for command in harmless:
        text = f"{beginning}{command}\n"
        assert mask(text.encode()).decode() == text


def test_a_maker_is_known_by_the_label_where_the_form_tells_nothing() -> None:
    for family in FAMILIES:
        for model in family.models:
            assert family_of(b"nothing\n", model.upper()) is family
    assert family_of(b"nothing\n", "cisco_ios") is family_of(b"nothing\n", "IOS-XE")
    assert family_of(b"nothing\n", "toaster") is None


def test_each_model_is_of_one_family() -> None:
    models = [model for family in FAMILIES for model in family.models]
    assert len(models) == len(set(models))


def test_a_wrong_label_shows_no_more() -> None:
    assert mask(real(IOS), "junos") == mask(real(IOS), "ios")


def test_what_another_program_has_masked_stays() -> None:
    text = (
        b"! Last configuration change at 10:48:40 UTC Thu Feb 16 2017\n"
        b"snmp-server community <configuration removed>\n"
        b"username joe privilege 15 <secret hidden>\n"
        b"enable secret 5 <secret hidden>\n"
        b" password ****************\n"
    )
    assert mask(text) == text


def test_each_rule_has_its_source() -> None:
    for family in FAMILIES:
        sources = [each.source for each in family.volatile]
        assert all(
            len(source) > 10 for source in (*sources, *(each.source for each in family.secrets))
        )


def test_bytes_that_are_no_utf_8_hide_nothing() -> None:
    text = b'boot-start-marker\nenable secret 5 Q\xffX\nsnmp-server community "Z\xe4 \xffQ" RO\n'
    assert mask(text) == b"boot-start-marker\nenable secret 5 ***\nsnmp-server community *** RO\n"


@pytest.mark.parametrize(("title", "text"), TEXTS, ids=IDS)
def test_an_export_says_what_its_device_is_called(title: str, text: str) -> None:
    assert own_name(real(text)) in {
        *("core1", "leaf1", "xr1", "edge1", "fw1", "pa1", "vy1", "aruba1", "sw1")
    }
