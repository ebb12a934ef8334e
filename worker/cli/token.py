"""`confkeep token`."""

from __future__ import annotations

import datetime as dt
import time

import click

from confkeep.broker.connections import get_client
from confkeep.errors import InvalidInput
from confkeep.settings import variable_of
from worker.cli import running
from worker.cli.called import tenant_name, tenant_text
from worker.cli.params import TENANT, Age
from worker.cli.terminal import Terminal, date_text, pass_terminal, printable
from worker.engine.resolver import find_tenant
from worker.http import tokens
from worker.http.tokens import ALL, RIGHTS, Right, Token


@click.group("token")
def command() -> None:
    """Make, list and revoke the tokens that callers of HTTP send.

    Redis keeps only a token's SHA-256: nobody can read a token again. docs/http.md says what each
    right allows. People who sign in at a proxy need no token: --by-proxy lets them in.

    \b
    Examples:
      confkeep token create portal --tenant acme --may read,enqueue
      confkeep token list
      confkeep token revoke portal
    """


class Rights(click.ParamType):  # type: ignore[type-arg]
    """Some of the rights, with commas between them."""

    name = "rights"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[Right, ...]:
        """The rights; a wrong text ends the command."""
        if isinstance(value, tuple):
            return value
        wanted = {word.strip() for word in str(value).split(",")}
        if not wanted <= set(RIGHTS):
            self.fail(f"must be some of {', '.join(RIGHTS)}, with commas between them", param, ctx)
        return tuple(right for right in RIGHTS if right in wanted)


@command.command("create")
@click.argument("name")
@click.option("--tenant", "tenants", type=TENANT, multiple=True,
              help="A tenant that it is for; may be repeated.")  # fmt: skip
@click.option("--all-tenants", is_flag=True, help="It is for all tenants, also those to come.")
@click.option("--may", type=Rights(), required=True, metavar="RIGHTS",
              help="Some of read, reveal, enqueue, admin.")  # fmt: skip
@click.option("--expires", "lifetime_s", type=Age(), metavar="AGE",
              help="How long it is valid, such as 90d.  [default: until it is revoked]")  # fmt: skip
@click.option("--by-proxy", is_flag=True,
              help="NAME signs in at a proxy, and sees pages.")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@pass_terminal
def create(
    terminal: Terminal,
    name: str,
    tenants: tuple[str, ...],
    all_tenants: bool,
    may: tuple[Right, ...],
    lifetime_s: float | None,
    by_proxy: bool,
    as_json: bool,
) -> None:
    """Make a token and print it, once.

    read     directory, histories, exports with masked secrets, events
    reveal   secrets in exports too, and binaries
    enqueue  hand over backups and names
    admin    erase devices

    NAME is for people: who uses it. A tenant that has no backup yet is named by its UUID.

    With --by-proxy there is no token: NAME is what the proxy of CONFKEEP_HTTP_USER_HEADER calls a
    person, letter by letter, and '*' is everybody else whom it names. docs/pages.md has more.

    \b
    With --json:
      {"token": null with --by-proxy, "id", "name", "by_proxy", "tenants",
       "tenant_names", "may", "created_at", "expires_at"}

    \b
    Examples:
      confkeep token create portal --tenant acme --may read,enqueue
      confkeep token create grafana --all-tenants --may read --expires 90d
      confkeep token create anna@example.org --by-proxy --tenant acme --may read
    """
    settings = running.settings(terminal)
    if all_tenants == bool(tenants):
        raise InvalidInput("--tenant", "must be given, or --all-tenants in its place")
    ids = (
        [ALL]
        if all_tenants
        else [find_tenant(settings.git_store_path, tenant).id for tenant in tenants]
    )
    text = None
    if by_proxy:
        token = tokens.admit_person(get_client(settings), name, ids, may, lifetime_s)
    else:
        text, token = tokens.create(get_client(settings), name, ids, may, lifetime_s)
    if as_json:
        terminal.json({"token": text, **_json(token)})
        return
    if text is None:
        terminal.line(f"{printable(token.name)} may see pages, signed in at the proxy")
        if not settings.http_user_header:
            terminal.note(
                f"{variable_of('http_user_header')} is not set here: `confkeep http` needs it"
            )
        return
    terminal.line(text)
    terminal.note("keep it now: it is shown only this once")


@command.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@pass_terminal
def list_(terminal: Terminal, as_json: bool) -> None:
    """List tokens: for whom they are, what they may do and until when.

    \b
    With --json:
      {"tokens": [{"id", "name", "by_proxy", "tenants": [id] or ["*"],
                   "tenant_names": {tenant_id: name}, "may", "created_at",
                   "expires_at": null if never}]}

    \b
    Examples:
      confkeep token list
      confkeep token list --json
    """
    found = tokens.list_tokens(get_client(running.settings(terminal)))
    if as_json:
        terminal.json({"tokens": [_json(token) for token in found]})
        return
    if not found:
        terminal.line("No tokens.")
        return
    now_s = time.time()
    terminal.table(
        ["name", "id", "by", "may", "tenants", "expires (UTC)"],
        [
            [
                printable(token.name),
                token.id,
                "proxy" if token.by_proxy else "token",
                ",".join(token.may),
                "all"
                if token.tenants == (ALL,)
                else ", ".join(tenant_text(tenant) for tenant in token.tenants),
                "never"
                if token.expires_s is None
                else date_text(_date(token.expires_s))
                + ("" if token.valid(now_s) else " (expired)"),
            ]
            for token in found
        ],
    )


@command.command("revoke")
@click.argument("token")
@pass_terminal
def revoke(terminal: Terminal, token: str) -> None:
    """Make a token invalid. TOKEN is its name or its id; it is refused within 2 seconds.

    \b
    Examples:
      confkeep token revoke portal
      confkeep token revoke 1f7c3a52
    """
    gone = tokens.revoke(get_client(running.settings(terminal)), token)
    terminal.line(f"Token {printable(gone.name)} ({gone.id}) is revoked")


def _date(seconds: int) -> dt.datetime:
    return dt.datetime.fromtimestamp(seconds, dt.UTC)


def _json(token: Token) -> dict[str, object]:
    return {
        "id": token.id,
        "name": token.name,
        "by_proxy": token.by_proxy,
        "tenants": list(token.tenants),
        "tenant_names": {
            tenant: name
            for tenant in token.tenants
            if tenant != ALL and (name := tenant_name(tenant))
        },
        "may": list(token.may),
        "created_at": _date(token.created_s),
        "expires_at": None if token.expires_s is None else _date(token.expires_s),
    }
