"""A store of bare tenant repositories that is adopted where it is: what is said about it."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from worker.cli.findings import error_of, print_report
from worker.cli.terminal import Terminal, count_text
from worker.store.adopt import Adopted, State, adopt, look
from worker.store.repository import repository_path, tenants_of


def run(
    terminal: Terminal, folder: Path, *, store: Path, pack: bool, dry_run: bool, as_json: bool
) -> None:
    """Adopt each repository in a folder, or with `dry_run` say what would be done.

    Args:
        store: where the settings say that the store is.

    Raises:
        RepositoryDamaged: a verification found damage; the other repositories are adopted.
        StoreError: a repository could not be adopted.
    """
    paths = {tenant_id: repository_path(folder, tenant_id) for tenant_id in tenants_of(folder)}
    others = sorted(
        path.name for path in folder.glob("*.git") if path not in paths.values() and path.is_dir()
    )
    states: dict[str, State] = {}
    adopted: dict[str, Adopted] = {}
    for tenant_id, path in paths.items():
        if dry_run:
            states[tenant_id] = look(path)
            continue
        with terminal.phases(tenant_id) as tell:
            adopted[tenant_id] = adopt(path, pack=pack, progress=tell)
        states[tenant_id] = adopted[tenant_id].after
    reports = {tenant_id: one.report for tenant_id, one in adopted.items()}
    if as_json:
        terminal.json(
            {
                "adopted": len(adopted),
                "tenants": {
                    tenant_id: {
                        **asdict(state),
                        "outcome": (
                            reports[tenant_id].outcome.value if tenant_id in reports else None
                        ),
                    }
                    for tenant_id, state in states.items()
                },
                "left_out": others,
            }
        )
    else:
        _print(terminal, states, adopted, others)
        for tenant_id, report in reports.items():
            print_report(terminal, tenant_id, report)
    if folder.resolve() != store.resolve():
        terminal.note(f"It stays where it is: set CONFKEEP_GIT_STORE_PATH={folder.resolve()}")
    error = error_of(reports)
    if error is not None:
        raise error


def _print(
    terminal: Terminal, states: dict[str, State], adopted: dict[str, Adopted], others: list[str]
) -> None:
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
    what = count_text(len(states), "repository").replace("repositorys", "repositories")
    terminal.line(f"{what} adopted." if adopted else f"Would adopt {what}.")
