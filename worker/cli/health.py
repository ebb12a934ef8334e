"""`confkeep health`: reads the files of this machine's workers. Loads neither pydantic nor redis-py.

The workers write there what they see: each sweep asks Redis, and a thread writes to the store. So this
command asks neither, and cannot hang with them.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

import click

from confkeep.errors import NotAlive, NotReady, Unhealthy
from confkeep.wording import printable
from worker.cli import running
from worker.process.heartbeat import State, Vitals, read_all, run_folder

#: Seconds without a turn after which the loop counts as hung. A half-open connection keeps it busy
#: for about ten.
MAX_SILENCE_S: Final = 30.0
#: Seconds after which a sweep, or a write to the store, is too old.
RECENT_S: Final = 20.0
#: Seconds for which a thread's trouble is shown.
TROUBLE_S: Final = 600.0
#: What to do where no worker is found.
_NO_WORKER: Final = (
    "Start one with `confkeep worker`. If one runs, set CONFKEEP_REDIS_URL and CONFKEEP_RUN_PATH as it has "
    "them."
)
#: A sweep is too old only after this many of its intervals, where that is longer than RECENT_S.
_SWEEPS: Final = 3


@click.command("health")
@click.option(
    "--live", "ask_live", is_flag=True, help="Check only whether the worker's loop turns."
)
@click.option(
    "--ready", "ask_ready", is_flag=True, help="Check only whether the worker can commit now."
)
@click.option(
    "--name", help="Only the worker of this name, with or without `@` and the machine's name."
)
@click.option(
    "--index",
    type=click.IntRange(0),
    envvar="CONFKEEP_WORKER_INDEX",
    help="Only the worker of this index.  [default: CONFKEEP_WORKER_INDEX, or all]",
)
@click.option(
    "--max-silence",
    type=click.FloatRange(0.1),
    default=MAX_SILENCE_S,
    show_default=True,
    help="Seconds without a turn after which a loop counts as hung.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.pass_context
def command(
    ctx: click.Context,
    ask_live: bool,
    ask_ready: bool,
    name: str | None,
    index: int | None,
    max_silence: float,
    as_json: bool,
) -> None:
    """Say whether the worker here lives and is ready, for probes.

    Live: it runs, and its loop turns or waits for a server that is away. If not, start it again.
    Ready: in the last seconds its sweep reached Redis, and it could write to the store's volume.
    If not, a restart does not help. Without --live and --ready it checks both.

    It reads what the workers of this machine (or container) that use CONFKEEP_REDIS_URL write about
    themselves. It asks neither the server nor the volume, so it answers at once even when these
    hang. A worker with CONFKEEP_RUN_PATH is found with the same CONFKEEP_RUN_PATH.

    A server that may lose what it acknowledged, because it evicts keys or no longer keeps an
    append-only file, is a warning: the worker commits what it finds there.

    \b
    Ends with
      0   all are live, and ready
      51  a worker is not live, or there is none
      52  a worker is not ready

    \b
    With --json:
      {"live", "ready": true or false,
       "workers": [{"name", "index", "pid",
                    "state": "starting", "running" or "ending",
                    "loop_age_s", "sweep_age_s", "store_age_s": or null,
                    "trouble": an unforeseen error of a thread in the last ten
                               minutes, after which it went on, or null,
                    "not_live": why, or null, "not_ready": [why],
                    "broker_problem": why the server may lose what it
                                      acknowledged, or null}]}

    \b
    Examples:
      confkeep health
      confkeep health --live --index 0
      confkeep health --ready --json
    """
    workers = [
        worker
        for worker in _read()
        if (index is None or worker.index == index)
        and (name is None or name in (worker.name, worker.name.split("@")[0]))
    ]
    dead = {worker.name: why_not_live(worker, max_silence) for worker in workers}
    unready = {worker.name: why_not_ready(worker) for worker in workers}
    live = bool(workers) and not any(dead.values())
    ready = bool(workers) and not any(unready.values())
    both = ask_live == ask_ready
    fault: Unhealthy | None = None
    if not workers:
        kind = NotReady if ask_ready and not both else NotAlive
        hint = running.START_AGAIN if running.has_ended() else _NO_WORKER
        fault = kind("no worker of this deployment runs on this machine", hint=hint)
    elif not live and (both or ask_live):
        fault = NotAlive("; ".join(f"{name}: {why}" for name, why in dead.items() if why))
    elif not ready and (both or ask_ready):
        problems = [f"{name}: {', '.join(why)}" for name, why in unready.items() if why]
        fault = NotReady("; ".join(problems))
    if as_json:
        report = [_json(worker, dead[worker.name], unready[worker.name]) for worker in workers]
        click.echo(json.dumps({"live": live, "ready": ready, "workers": report}, indent=2))
        ctx.exit(0 if fault is None else fault.exit_code)
    if fault is not None:
        raise fault
    said = "live and ready" if both else "live" if ask_live else "ready"
    for worker in workers:
        click.echo(f"{said}: {printable(worker.name)} ({_ages(worker)})")
        if worker.broker_problem is not None:
            click.echo(f"warning: {printable(worker.broker_problem)}", err=True)
        if (trouble := _trouble(worker)) is not None:
            click.echo(f"  trouble, see its log: {printable(trouble)}")


def _read() -> list[Vitals]:
    path = running.probe_variable("CONFKEEP_RUN_PATH")
    folder = run_folder(Path(path) if path else None, running.probe_url())
    try:
        return read_all(folder)
    except OSError as error:
        raise NotAlive(
            f"{folder}: {error.strerror or error}",
            hint="Run the command as the worker's user, and with the same CONFKEEP_RUN_PATH.",
        ) from error


def why_not_live(worker: Vitals, max_silence_s: float) -> str | None:
    """Why a worker should be started again; None if it should not."""
    if worker.loop_age_s is None or worker.loop_age_s > max_silence_s:
        return f"its loop has not turned for {_seconds(worker.loop_age_s)}"
    return None


def why_not_ready(worker: Vitals) -> list[str]:
    """Why a worker cannot commit now; empty if it can."""
    problems = []
    if worker.state is not State.RUNNING:
        problems.append(f"it is {worker.state.name.lower()}")
    if worker.sweep_error is not None:
        problems.append(f"its last sweep failed ({worker.sweep_error})")
    elif _is_old(worker.sweep_age_s, max(RECENT_S, _SWEEPS * worker.sweep_interval_s)):
        problems.append(f"it has not swept for {_seconds(worker.sweep_age_s)}")
    if worker.store_error is not None:
        problems.append(f"its store takes no write ({worker.store_error})")
    elif _is_old(worker.store_age_s, RECENT_S):
        problems.append(f"its store has not answered for {_seconds(worker.store_age_s)}")
    return problems


def _trouble(worker: Vitals) -> str | None:
    """The recent unforeseen error of one of the worker's threads; None if there is none."""
    recent = worker.trouble_age_s is not None and worker.trouble_age_s < TROUBLE_S
    return worker.trouble if recent else None


def _is_old(age_s: float | None, limit_s: float) -> bool:
    return age_s is None or age_s > limit_s


def _seconds(age_s: float | None) -> str:
    return "as long as it runs" if age_s is None else f"{age_s:.0f} s"


def _ages(worker: Vitals) -> str:
    ages = {"loop": worker.loop_age_s, "sweep": worker.sweep_age_s, "store": worker.store_age_s}
    return ", ".join(
        f"{what} never" if age is None else f"{what} {age:.1f} s ago" for what, age in ages.items()
    )


def _json(worker: Vitals, not_live: str | None, not_ready: list[str]) -> dict[str, Any]:
    ages = {
        "loop_age_s": worker.loop_age_s,
        "sweep_age_s": worker.sweep_age_s,
        "store_age_s": worker.store_age_s,
    }
    return {
        "name": worker.name,
        "index": worker.index,
        "pid": worker.pid,
        "state": worker.state.name.lower(),
        **{name: None if age is None else round(age, 3) for name, age in ages.items()},
        "trouble": _trouble(worker),
        "not_live": not_live,
        "not_ready": not_ready,
        "broker_problem": worker.broker_problem,
    }
