"""`confkeep token`: shown once, bounded, and gone when it is revoked."""

from __future__ import annotations

import json

import pytest
import redis

from confkeep.errors import AccessDenied, NotAllowed
from confkeep.settings import get_settings
from tests.unit.cli.conftest import OTHER_TENANT, TENANT, Confkeep
from worker.http.access import Door
from worker.http.tokens import Person


def test_a_token_lets_its_bearer_do_what_it_says(client: redis.Redis, confkeep: Confkeep) -> None:
    made = confkeep("token", "create", "portal", "--tenant", TENANT, "--may", "enqueue,read")
    text = made.stdout.strip()
    caller = Door(client, get_settings()).admit(text)
    assert (caller.name, caller.tenants) == ("portal", frozenset({TENANT}))
    assert caller.may == {"read", "enqueue"}
    assert not caller.sees(OTHER_TENANT)


def test_nobody_can_read_a_token_again(client: redis.Redis, confkeep: Confkeep) -> None:
    made = confkeep("token", "create", "portal", "--all-tenants", "--may", "read", "--json")
    text = json.loads(made.stdout)["token"]
    listed = confkeep("token", "list", "--json").stdout
    assert text not in listed + confkeep("token", "list").stdout
    assert text not in str(client.hgetall("confkeep:tokens"))
    (found,) = json.loads(listed)["tokens"]
    assert (found["tenants"], found["expires_at"]) == (["*"], None)


def test_a_revoked_token_is_refused(client: redis.Redis, confkeep: Confkeep) -> None:
    arguments = ("token", "create", "portal", "--all-tenants", "--may", "read")
    text = confkeep(*arguments, "--expires", "90d").stdout.strip()
    taken = confkeep(*arguments)
    assert taken.exit_code == 2
    assert "confkeep token revoke" in taken.stderr
    assert confkeep("token", "revoke", "portal").exit_code == 0
    with pytest.raises(AccessDenied):
        Door(client, get_settings()).admit(text)
    assert confkeep("token", "revoke", "portal").exit_code == 2


@pytest.mark.parametrize(
    "options",
    [
        ["--may", "read"],
        ["--may", "read", "--all-tenants", "--tenant", TENANT],
        ["--may", "everything", "--all-tenants"],
        ["--may", "read", "--tenant", "nobody"],
    ],
)
def test_a_wrong_option_makes_no_token(
    client: redis.Redis, confkeep: Confkeep, options: list[str]
) -> None:
    assert confkeep("token", "create", "portal", *options).exit_code == 2
    assert not client.exists("confkeep:tokens")


def test_a_person_whom_a_proxy_names_gets_rights_and_no_token(
    client: redis.Redis, confkeep: Confkeep
) -> None:
    name = "anna@example.org"
    arguments = ("token", "create", name, "--by-proxy", "--tenant", TENANT, "--may")
    made = json.loads(confkeep(*arguments, "read,reveal", "--json").stdout)
    assert (made["token"], made["by_proxy"], made["name"]) == (None, True, name)
    caller = Door(client, get_settings()).admit(Person(name))
    assert (caller.name, caller.tenants) == (name, frozenset({TENANT}))
    listed = confkeep("token", "list").stdout
    assert "proxy" in listed
    assert confkeep("token", "revoke", name).exit_code == 0
    with pytest.raises(NotAllowed):
        Door(client, get_settings()).admit(Person(name))


@pytest.mark.parametrize(
    ("name", "may"), [("anna", "read,enqueue"), ("anna", "admin"), ("anna, ben", "read")]
)
def test_a_person_gets_nothing_that_pages_do_not_use(
    client: redis.Redis, confkeep: Confkeep, name: str, may: str
) -> None:
    made = confkeep("token", "create", name, "--by-proxy", "--all-tenants", "--may", may)
    assert made.exit_code == 2
    assert not client.exists("confkeep:tokens")
