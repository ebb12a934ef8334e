"""The check of the server before a worker starts: does it keep what it acknowledges? It changes nothing."""

from __future__ import annotations

from typing import Any, Final

import redis
from celery import bootsteps

from worker.connections import broker_errors, open_client
from worker.errors import BrokerUnavailable, BrokerVolatile, ConfkeepError
from worker.logs import get_logger
from worker.settings import Settings, get_settings

_SILENT: Final = "The server does not tell its configuration"

log = get_logger("broker")


def check(client: redis.Redis, settings: Settings) -> list[str]:
    """Refuse a server that evicts keys or keeps no append-only file.

    Returns:
        What a person should know all the same, one sentence each.

    Raises:
        BrokerVolatile: it may lose what it acknowledged, and CONFKEEP_ALLOW_VOLATILE_BROKER is
            not set.
        BrokerUnavailable: it did not answer.
    """
    found, unknown = _ask(client)
    problems = []
    if found.get("maxmemory-policy", "noeviction") != "noeviction":
        problems.append(f"maxmemory-policy is {found['maxmemory-policy']}: it may evict backups")
    if found.get("appendonly") == "no":
        problems.append("appendonly is no: a restart loses every accepted backup")
    if problems and not settings.allow_volatile_broker:
        raise BrokerVolatile("; ".join(problems))
    if found.get("appendfsync") in ("everysec", "no") and not problems:
        problems.append(
            f"appendfsync is {found['appendfsync']}: a crash loses what was accepted shortly before"
        )
    return unknown + problems


def _ask(client: redis.Redis) -> tuple[dict[str, str], list[str]]:
    """How the server is set up, and what it does not tell."""
    found: dict[str, str] = {}
    try:
        with broker_errors():
            for name in ("maxmemory-policy", "appendonly", "appendfsync"):
                found.update(client.config_get(name))  # type: ignore[arg-type]
    except BrokerUnavailable as error:
        if isinstance(error.__cause__, redis.exceptions.NoPermissionError):
            return _ask_less(client)
        # Hosted servers have no CONFIG; their owner knows how they are set up.
        if isinstance(error.__cause__, redis.ResponseError):
            return {}, [f"{_SILENT}: check yourself that it is durable."]
        raise
    return found, []


def _ask_less(client: redis.Redis) -> tuple[dict[str, str], list[str]]:
    """What a user may know who is not allowed CONFIG, which shows passwords too."""
    try:
        with broker_errors():
            told: Any = client.info()
    except BrokerUnavailable as error:
        if isinstance(error.__cause__, redis.exceptions.NoPermissionError):
            return {}, [f"{_SILENT} to this user: check yourself that it is durable."]
        raise
    found = {
        "maxmemory-policy": str(told["maxmemory_policy"]),
        "appendonly": "yes" if told["aof_enabled"] else "no",
    }
    return found, [
        "This user may not ask how the server syncs: check yourself that appendfsync is always."
    ]


class BrokerCheckStep(bootsteps.StartStopStep):  # type: ignore[misc]
    """Ends the worker before it takes its first task from a server that is not durable."""

    def start(self, parent: Any) -> None:
        """Look once; a server that is away is for the consumer to wait for."""
        settings = get_settings()
        client = open_client(settings)
        try:
            for problem in check(client, settings):
                log.warning(problem, action="broker.volatile")
        except BrokerVolatile as error:
            _refuse(parent, error)
        except BrokerUnavailable:
            log.warning("the server is away; waiting for it", action="broker.away")
        finally:
            client.close()

    def stop(self, parent: Any) -> None:
        """Nothing was started."""

    terminate = stop


def _refuse(parent: Any, error: ConfkeepError) -> None:
    log.error(str(error), action="broker.refused", hint=error.hint)
    parent.exitcode = error.exit_code
    raise SystemExit(error.exit_code)
