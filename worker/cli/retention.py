"""`confkeep retention plan`, `apply`, `undo`, `set` and `show`."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Final

import click

from confkeep.settings import Settings
from worker.cli import running
from worker.cli.called import device_text, tenant_text
from worker.cli.each import Failures
from worker.cli.params import TENANT
from worker.cli.terminal import Terminal, count_text, pass_terminal, printable, size_text
from worker.engine import retention
from worker.engine.directory import Called
from worker.engine.resolver import open_tenant, paths_of
from worker.store.rewriting.retention import Plan
from worker.store.rewriting.retention_file import load_rules, save_rules
from worker.store.rewriting.retention_rules import MOST, RULE_NAMES

#: Most devices that a plan lists.
_ROWS: Final = 50


@click.group("retention")
def command() -> None:
    """Remove old versions by rules, or show what would go.

    Without rules nothing is removed. Variables such as CONFKEEP_KEEP_LAST are the rules for all
    tenants; `set` gives one tenant its own. The newest capture of each device always stays. For
    CONFKEEP_RETENTION_GRACE_DAYS days `undo` brings back what was removed.

    \b
    Examples:
      confkeep retention set acme --keep-last 30
      confkeep retention plan acme
      confkeep retention apply acme
    """


@command.command("plan")
@click.argument("tenant", type=TENANT, required=False)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@pass_terminal
def plan_command(terminal: Terminal, tenant: str | None, as_json: bool) -> None:
    """Show what would go now, and how many bytes that frees. Changes nothing.

    Without TENANT: all tenants of the store. The bytes are what the files take in the packs now.

    \b
    With --json:
      {"tenants": [{"tenant_id", "tenant_name", "captures_removed",
                    "binaries_removed", "freed_bytes",
                    "merge": the newest merge, or null; it and all before stay,
                    "devices": [{"device_id", "device_name", "captures",
                                 "captures_removed", "binaries",
                                 "binaries_removed"}]}],
       "errors": [{"tenant_id", "tenant_name", "error": why it cannot be read}]}

    \b
    Examples:
      confkeep retention plan
      confkeep retention plan acme --json
    """
    settings = running.settings(terminal)
    failures = Failures(terminal, paths_of(settings.git_store_path, tenant))
    plans = dict(failures.each(lambda tenant_id, _path: retention.plan(settings, tenant_id)))
    if as_json:
        found = [
            retention.plan_json(settings, tenant_id, plan) for tenant_id, plan in plans.items()
        ]
        terminal.json({"tenants": found, "errors": failures.to_json()})
    else:
        _print_plans(terminal, plans)
    failures.end()


def _print_plans(terminal: Terminal, plans: Mapping[str, Plan]) -> None:
    for tenant_id, plan in plans.items():
        if plan.merge is not None:
            terminal.note(
                f"{tenant_text(tenant_id)}: merge {plan.merge[:12]} and all below it stay as they are"
            )
        if not plan:
            terminal.line(f"{tenant_text(tenant_id)}: nothing would go")
            continue
        captures = count_text(plan.captures_removed, "capture")
        binaries = "binary" if plan.binaries_removed == 1 else "binaries"
        terminal.line(
            f"{tenant_text(tenant_id)}: {captures} and the {binaries} of {plan.binaries_removed:,} more would go,"
            f" about {size_text(plan.freed_bytes)}"
        )
        rows = [
            [
                device_text(tenant_id, device.device_id),
                f"{device.captures_removed} of {device.captures}",
                f"{device.binaries_removed} of {device.binaries}",
            ]
            for device in plan.devices
            if device.captures_removed or device.binaries_removed
        ]
        terminal.table(["device", "captures", "binaries alone"], rows[:_ROWS], "captures")
        if len(rows) > _ROWS:
            terminal.note(f"and {len(rows) - _ROWS} devices more; --json lists all")


@command.command("apply")
@click.argument("tenant", type=TENANT, required=False)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@pass_terminal
def apply_command(terminal: Terminal, tenant: str | None, as_json: bool) -> None:
    """Remove what `plan` shows, and prune what is past the grace time.

    Without TENANT: all tenants of the store. Commit ids change; the old ids still work.

    \b
    With --json, as for `plan`, and for each tenant also:
      {"outcome": "rewritten" or "nothing to do", "tip": id or null,
       "histories_pruned"}

    \b
    Examples:
      confkeep retention apply
      confkeep retention apply acme --json
    """
    settings = running.settings(terminal)
    done = []
    failures = Failures(terminal, paths_of(settings.git_store_path, tenant))
    for tenant_id, applied in failures.each(
        lambda tenant_id, _path: retention.apply(settings, tenant_id)
    ):
        done.append(retention.to_json(settings, tenant_id, applied))
        if not as_json:
            captures = count_text(applied.plan.captures_removed, "capture")
            terminal.line(
                f"{tenant_text(tenant_id)}: removed {captures} and {applied.plan.binaries_removed:,}"
                f" binaries alone; pruned {applied.pruned} earlier"
            )
    if as_json:
        terminal.json({"tenants": done, "errors": failures.to_json()})
    failures.end()


@command.command("undo")
@click.argument("tenant", type=TENANT)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@pass_terminal
def undo_command(terminal: Terminal, tenant: str, as_json: bool) -> None:
    """Bring back what the newest `apply` removed, within the grace time.

    Later commits stay, on top. Commit ids change again; all old ids still work. The next `apply`
    removes the same again unless you change the rules before. A second `undo` takes the first one
    back.

    \b
    With --json:
      {"tenant_id", "tenant_name", "tip",
       "back": commits that are in the history again,
       "since": later commits, which stay}

    \b
    Examples:
      confkeep retention undo acme
      confkeep retention undo acme --json
    """
    settings = running.settings(terminal)
    found, _repository = open_tenant(settings.git_store_path, tenant)
    undone = retention.undo(settings, found.id)
    if as_json:
        terminal.json({**found.json("tenant"), **dataclasses.asdict(undone)})
        return
    terminal.line(
        f"{printable(str(found))}: {count_text(undone.back, 'commit')} back,"
        f" {count_text(undone.since, 'commit')} made since kept"
    )
    terminal.note(
        "The next `confkeep retention apply` goes by the rules again: see `retention show`."
    )


def _rule_options(function: Callable[..., None]) -> Callable[..., None]:
    for name in reversed(RULE_NAMES):
        said = (
            str(Settings.model_fields[name].description)
            .removeprefix("Retention: ")
            .partition(";")[0]
        )
        option = click.option(
            f"--{name.replace('_', '-')}",
            name,
            metavar="N|none|default",
            help=f"{said.capitalize()}.",
        )
        function = option(function)
    return function


@command.command("set")
@click.argument("tenant", type=TENANT)
@_rule_options
@pass_terminal
def set_command(terminal: Terminal, /, tenant: str, **given: str | None) -> None:
    """Give a tenant rules of its own.

    N: this number. none: no such rule for the tenant. default: the rule of the settings. Other rules
    stay as they are. Only `apply` removes versions.

    \b
    Examples:
      confkeep retention set acme --keep-last 30 --keep-weekly 52
      confkeep retention set acme --keep-last default
    """
    settings = running.settings(terminal)
    found, repository = open_tenant(settings.git_store_path, tenant)
    rules = load_rules(repository.path)
    for name, text in given.items():
        if text == "default":
            rules.pop(name, None)
        elif text is not None:
            rules[name] = _number(name, text)
    save_rules(repository.path, rules)
    _print_rules(terminal, found, retention.rules_of(settings, repository.path), rules)


def _number(name: str, text: str) -> int | None:
    if text == "none":
        return None
    if not text.isascii() or not text.isdigit() or not 1 <= int(text[:9]) <= MOST:
        option = name.replace("_", "-")
        raise click.BadParameter(
            f"must be 1 to {MOST:,}, none or default", param_hint=f"--{option}"
        )
    return int(text)


@command.command("show")
@click.argument("tenant", type=TENANT)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@pass_terminal
def show_command(terminal: Terminal, tenant: str, as_json: bool) -> None:
    """Show the rules that count for a tenant.

    \b
    With --json:
      {"tenant_id", "tenant_name", "rules": {name: number or null},
       "own": the tenant's own}

    \b
    Examples:
      confkeep retention show acme
      confkeep retention show acme --json
    """
    settings = running.settings(terminal)
    found, repository = open_tenant(settings.git_store_path, tenant)
    own = load_rules(repository.path)
    rules = retention.rules_of(settings, repository.path)
    if as_json:
        terminal.json({**found.json("tenant"), "rules": rules, "own": own})
    else:
        _print_rules(terminal, found, rules, own)


def _print_rules(
    terminal: Terminal,
    tenant: Called,
    rules: dict[str, int | None],
    own: dict[str, int | None],
) -> None:
    rows = [
        [name, "none" if value is None else str(value), "tenant" if name in own else "settings"]
        for name, value in rules.items()
    ]
    terminal.line(printable(str(tenant)))
    terminal.table(["rule", "value", "from"], rows, "value")
