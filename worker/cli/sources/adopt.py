"""Adopts a store of bare tenant repositories where it is, and prints what it did."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from confkeep.errors import InvalidInput, StoreError
from worker.cli.findings import error_of, print_report
from worker.cli.terminal import Terminal, count_text, first_line
from worker.store.repository.tenant_repository import repository_path, tenants_of
from worker.store.upkeep.adopt import State, adopt, look
from worker.store.upkeep.verify_report import Report


def run(
    terminal: Terminal, folder: Path, *, store: Path, pack: bool, dry_run: bool, as_json: bool
) -> None:
    """Adopt each repository in a folder, or with `dry_run` say what it would do.

    Args:
        store: the store's path in the settings.

    Raises:
        InvalidInput: no repository is named by a tenant's UUID.
        StoreError: one could not be adopted, or its verification found damage; the others are
            adopted all the same.
    """
    paths = {tenant_id: repository_path(folder, tenant_id) for tenant_id in tenants_of(folder)}
    others = sorted(
        path.name for path in folder.glob("*.git") if path not in paths.values() and path.is_dir()
    )
    if not paths:
        raise InvalidInput(
            "DIR",
            f"no repository in {folder} is named by a tenant's UUID",
            hint="Rename each to UUID.git, or import them as another tool's with --from oxidized.",
        )
    states: dict[str, State] = {}
    reports: dict[str, Report] = {}
    failed: dict[str, StoreError] = {}
    for tenant_id, path in paths.items():
        try:
            if dry_run:
                states[tenant_id] = look(path)
                continue
            with terminal.phases(tenant_id) as tell:
                adopted = adopt(path, pack=pack, progress=tell)
            states[tenant_id], reports[tenant_id] = adopted.after, adopted.report
        except StoreError as error:
            failed[tenant_id] = error
    if as_json:
        terminal.json(
            {
                "adopted": len(reports),
                "tenants": {
                    tenant_id: {
                        **asdict(state),
                        "outcome": (
                            reports[tenant_id].outcome.value if tenant_id in reports else None
                        ),
                    }
                    for tenant_id, state in states.items()
                },
                "failed": {tenant_id: str(error) for tenant_id, error in failed.items()},
                "left_out": others,
            }
        )
    else:
        _print(terminal, states, others)
        what = count_text(len(states), "tenant")
        terminal.line(f"Would adopt {what}." if dry_run else f"{what} adopted.")
        for tenant_id, problem in failed.items():
            terminal.line(f"{tenant_id}: {first_line(str(problem))}", style="red")
        for tenant_id, report in reports.items():
            print_report(terminal, tenant_id, report)
    if folder.resolve() != store.resolve():
        terminal.note(f"It stays where it is: set CONFKEEP_GIT_STORE_PATH={folder.resolve()}")
    if failed:
        raise next(iter(failed.values()))
    damaged = error_of(reports)
    if damaged is not None:
        raise damaged


def _print(terminal: Terminal, states: dict[str, State], others: list[str]) -> None:
    terminal.table(
        ["tenant", "commits", "devices", "loose", "packs", "HEAD", "index"],
        [
            [
                tenant_id,
                str(state.commits),
                str(state.devices),
                str(state.loose_objects),
                str(state.packs),
                state.head,
                "complete" if state.indexed else "to be built",
            ]
            for tenant_id, state in states.items()
        ],
        right="commits devices loose packs",
    )
    for name in others:
        terminal.line(f"  left out: {name} is not named by a tenant's UUID", style="yellow")
