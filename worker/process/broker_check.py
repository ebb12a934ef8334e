"""Checks that the server keeps what it acknowledges: before a worker starts, and while it runs.

With a server that does not, no worker starts. A worker that runs goes on and warns: what it commits is
safe, and what it leaves in such a server is not.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import redis
from celery import bootsteps

from confkeep.broker.connections import broker_errors, open_client
from confkeep.errors import BrokerUnavailable, BrokerVolatile, ConfkeepError, NotPermitted
from confkeep.observe.logs import get_logger
from confkeep.settings import Settings, get_settings
from worker.process.outage import CONSUMER, outage
from worker.process.shutdown import ShutdownStep

log = get_logger("broker")


def check(client: redis.Redis, settings: Settings) -> list[str]:
    """Raise for a server that evicts keys or keeps no append-only file.

    Returns:
        What a person should know all the same, one sentence each.

    Raises:
        BrokerVolatile: it may lose what it acknowledged, and CONFKEEP_ALLOW_VOLATILE_BROKER is
            not set.
        BrokerUnavailable: it did not answer.
    """
    found, unknown = _ask(client, ask_all=True)
    problems = _problems(found)
    if problems and not settings.allow_volatile_broker:
        raise BrokerVolatile("; ".join(problems))
    return unknown + (problems or _risks(found)) + _replicas(client, settings)


def find_problems(client: redis.Redis, *, ask_all: bool = True) -> list[str]:
    """What may make the server lose what it acknowledged, one sentence each; empty if nothing is known.

    Args:
        ask_all: also for what monitors may not ask, of which the server would note each try. It is
            how the server syncs, which workers look at.

    Raises:
        BrokerUnavailable: it did not answer.
    """
    found, _unknown = _ask(client, ask_all=ask_all)
    return _problems(found) or _risks(found)


def _problems(found: dict[str, str]) -> list[str]:
    problems = []
    if found.get("maxmemory-policy", "noeviction") != "noeviction":
        problems.append(f"maxmemory-policy is {found['maxmemory-policy']}: it may evict backups")
    if found.get("appendonly") == "no":
        problems.append("appendonly is no: a restart loses every accepted backup")
    return problems


def _risks(found: dict[str, str]) -> list[str]:
    if found.get("appendfsync") not in ("everysec", "no"):
        return []
    return [
        f"appendfsync is {found['appendfsync']}: a crash loses what was accepted shortly before"
    ]


def _ask(client: redis.Redis, *, ask_all: bool) -> tuple[dict[str, str], list[str]]:
    """How the server is set up, and what it does not tell.

    Who may not run CONFIG, which shows passwords too, asks for less.
    """
    found: dict[str, str] = {}
    try:
        with broker_errors():
            if ask_all:
                for name in ("maxmemory-policy", "appendonly", "appendfsync"):
                    found.update(client.config_get(name))  # type: ignore[arg-type]
                return found, []
            told: Any = client.info()
    except BrokerUnavailable as error:
        is_forbidden = isinstance(error.__cause__, redis.exceptions.NoPermissionError)
        if is_forbidden and ask_all:
            return _ask(client, ask_all=False)
        # Hosted servers have no CONFIG; their owner knows how they are set up.
        if isinstance(error.__cause__, redis.ResponseError):
            whom = " to this user" if is_forbidden else ""
            return {}, [
                f"The server does not tell its configuration{whom}: check yourself that it is durable."
            ]
        raise
    if "maxmemory_policy" in told:
        found["maxmemory-policy"] = str(told["maxmemory_policy"])
    if "aof_enabled" in told:
        found["appendonly"] = "yes" if told["aof_enabled"] else "no"
    return found, [
        "This user may not ask how the server syncs: check yourself that appendfsync is always."
    ]


def _replicas(client: redis.Redis, settings: Settings) -> list[str]:
    """Whether a failover may promote a replica that lacks what was accepted, as these settings say."""
    try:
        with broker_errors():
            told: Any = client.info("replication")
    except NotPermitted:
        return []
    there, wanted = int(told.get("connected_slaves", 0)), settings.replicas
    if there == wanted:
        return []
    meaning = "a failover may lose accepted backups" if there > wanted else "no enqueue is accepted"
    return [
        f"the server has {there} replica{'' if there == 1 else 's'} and CONFKEEP_REPLICAS is {wanted}: {meaning}"
    ]


class BrokerWatch:
    """Checks again while a worker runs: somebody may change the server, or replace it.

    Args:
        client: asks the server.
        told: what was told when the worker started.
        note: called with what is wrong now, in one line, after each look.
        interval_s: seconds between two looks.
    """

    def __init__(
        self,
        client: redis.Redis,
        told: list[str],
        note: Callable[[str], None],
        interval_s: float,
    ) -> None:
        self._client = client
        self._told = told
        self._note = note
        self._interval_s = interval_s
        self._next = 0.0

    def look_if_due(self) -> None:
        """Look, and tell what changed.

        Raises:
            BrokerUnavailable: it did not answer; the next call looks again.
        """
        if time.monotonic() < self._next:
            return
        problems = find_problems(self._client)
        self._next = time.monotonic() + self._interval_s
        self._note("; ".join(problems))
        for problem in problems:
            if problem not in self._told:
                log.warning(problem, action="broker.volatile", hint=BrokerVolatile.hint)
        if self._told and not problems:
            log.warning("Redis again keeps what it acknowledges", action="broker.durable")
        self._told = problems


class BrokerCheckStep(bootsteps.StartStopStep):  # type: ignore[misc]
    """Ends the worker before it takes its first task from a server that is not durable."""

    requires = (ShutdownStep,)

    def start(self, parent: Any) -> None:
        """Check once. If the server is away, do nothing: the consumer waits for it."""
        settings = get_settings()
        parent.broker_problems = []
        client = open_client(settings)
        try:
            parent.broker_problems = check(client, settings)
            for problem in parent.broker_problems:
                log.warning(problem, action="broker.volatile")
        except BrokerVolatile as error:
            refuse(parent, error)
        except BrokerUnavailable as error:
            # The consumer waits for it, and says when it is back.
            outage.met(CONSUMER, error)
        finally:
            client.close()


def refuse(parent: Any, error: ConfkeepError) -> None:
    """End a worker that starts, with the error's exit code."""
    log.error(str(error), action="broker.refused", hint=error.hint)
    parent.exitcode = error.exit_code
    raise SystemExit(error.exit_code)
