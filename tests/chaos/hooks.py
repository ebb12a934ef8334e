"""The hooks of a chaos run: senders and receivers, which are killed too, and their judge."""

from __future__ import annotations

import contextlib
import json
import os
import random
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from pathlib import Path

import redis

from confkeep.broker import keys
from confkeep.settings import Settings
from tests.chaos.history import Commit, listed
from tests.servers import free_port, wait_for
from worker.engine.events import cursor_from
from worker.hooks.hook import Hook, new_secret
from worker.hooks.hook_store import HookStore
from worker.process.local import Child

_RECEIVERS = 2
_SENDERS = 2
#: Seconds between two looks at what came.
_LOOK_S = 0.3
_COMMITTED = "backup.committed"


@dataclass
class _Receiver:
    name: str
    port: int
    record: Path
    secret: str
    child: Child | None = None


class Hooks:
    """Starts, kills and judges. Its hooks are added before anything is committed.

    Args:
        environment: the settings of a sender, asked at each start.
        seed: of the receivers' moods.
    """

    def __init__(
        self,
        folder: Path,
        environment: Callable[[], Mapping[str, str]],
        log: Path,
        seed: str,
    ) -> None:
        folder.mkdir()
        self._random = random.Random(seed)
        self._environment = environment
        self._log = log
        self._senders: list[Child | None] = [None] * _SENDERS
        self._receivers = [
            _Receiver(
                f"hook{number}",
                free_port(),
                folder / f"hook{number}",
                new_secret().get_secret_value(),
            )
            for number in range(_RECEIVERS)
        ]

    def add_to(self, client: redis.Redis, settings: Settings) -> None:
        """Add a hook for each receiver, which is told of what happens from now on."""
        store = HookStore(client, settings)
        start = cursor_from(client, None)
        for one in self._receivers:
            url = f"http://127.0.0.1:{one.port}/hook"
            hook = Hook.checked(
                name=one.name, url=url, secret=one.secret, types=[_COMMITTED], start=start
            )
            store.add(hook)

    def supervise(self) -> None:
        """Start what does not run."""
        for number, sender in enumerate(self._senders):
            if sender is None or not sender.running():
                self._senders[number] = Child(
                    [sys.executable, "-m", "tests.chaos.sender"],
                    log=self._log,
                    env={
                        **os.environ,
                        **self._environment(),
                        "CONFKEEP_HOOKS_NETWORKS": "127.0.0.1",
                    },
                )
        for one in self._receivers:
            if one.child is None or not one.child.running():
                seed = str(self._random.getrandbits(64))
                command = [sys.executable, "-m", "tests.chaos.receiver", str(one.port)]
                one.child = Child([*command, str(one.record), one.secret, seed], log=self._log)

    def kill_sender(self) -> bool:
        """Kill one of the senders, with preference the one that sends. False: none runs."""
        return _kill(self._random, self._senders)

    def kill_receiver(self) -> bool:
        """Kill one of the receivers. False: none runs."""
        return _kill(self._random, [one.child for one in self._receivers])

    def end(self) -> None:
        """End all of them."""
        for child in (*self._senders, *(one.child for one in self._receivers)):
            if child is not None:
                child.process.kill()
                child.process.wait()

    def wait_until_delivered(self, commits: Mapping[str, Sequence[Commit]]) -> None:
        """Until each receiver has taken the event of each commit, or nothing new comes for long."""
        wanted = {commit.sha for found in commits.values() for commit in found}
        last = self._missing(wanted)

        def fewer() -> bool:
            self.supervise()
            time.sleep(_LOOK_S)
            return not last or self._missing(wanted) < last

        with contextlib.suppress(AssertionError):
            while last:
                wait_for(fewer, "deliveries", 20)
                last = self._missing(wanted)

    def _missing(self, wanted: AbstractSet[str]) -> int:
        """How many deliveries are to come yet."""
        return sum(len(wanted - _taken(_read(one.record))) for one in self._receivers)

    def complaints(self, commits: Mapping[str, Sequence[Commit]]) -> list[str]:
        """Each broken promise to a receiver as a sentence."""
        return [
            f"{one.name}: {complaint}"
            for one in self._receivers
            for complaint in complaints(_read(one.record), commits)
        ]

    def taken(self) -> int:
        """How many deliveries the receivers took, repetitions too."""
        return sum(bool(row["taken"]) for one in self._receivers for row in _read(one.record))

    def forget(self, client: redis.Redis) -> None:
        """Remove the hooks and what is kept of them."""
        client.delete(keys.HOOKS, keys.HOOK_STATES, keys.HOOK_LOG)


Row = Mapping[str, object]


def complaints(rows: Sequence[Row], commits: Mapping[str, Sequence[Commit]]) -> list[str]:
    """What a receiver may complain of, against the commits of each tenant in their order; pure."""
    found: list[str] = []
    forged = [str(row["forged"]) for row in rows if "forged" in row]
    found += listed("wrong signature", forged)
    rows = [row for row in rows if "forged" not in row]
    found += listed(
        "of another type", [str(row["id"]) for row in rows if row["type"] != _COMMITTED]
    )
    found += listed(
        "too large", [str(row["id"]) for row in rows if int(str(row["bytes"])) > 20_000]
    )
    ids: dict[object, object] = {}
    backups: dict[object, object] = {}
    for row in rows:
        if ids.setdefault(row["backup_id"], row["id"]) != row["id"]:
            found.append(f"another id at a repetition: {row['backup_id']}")
        if backups.setdefault(row["id"], row["backup_id"]) != row["backup_id"]:
            found.append(f"one id for two: {row['id']}")
    for tenant, history in commits.items():
        own = [row for row in rows if row["tenant_id"] == tenant]
        expected = [commit.backup_id for commit in history]
        taken = {row["backup_id"] for row in own if row["taken"]}
        lost = [backup for backup in expected if backup not in taken]
        found += listed(f"tenant {tenant}: missing {len(lost)} of {len(expected)}", lost)
        # Also what was refused came in order, so that none overtakes one that is tried again.
        came = list(dict.fromkeys(str(row["backup_id"]) for row in own))
        known = set(came)
        in_order = [backup for backup in expected if backup in known]
        if came != in_order:
            wrong = [a for a, b in zip(came, in_order, strict=False) if a != b]
            found += listed(f"tenant {tenant}: out of order", wrong or came[len(in_order) :])
        shas = {commit.backup_id: commit.sha for commit in history}
        found += listed(
            f"tenant {tenant}: wrong commit",
            [str(row["id"]) for row in own if shas.get(str(row["backup_id"])) != row["sha"]],
        )
    return found


def _read(record: Path) -> list[dict[str, object]]:
    if not record.exists():
        return []
    # A line that a killed receiver did not finish was not answered either.
    return [
        json.loads(line)
        for line in record.read_bytes().splitlines(keepends=True)
        if line.endswith(b"}\n")
    ]


def _taken(rows: Sequence[Row]) -> set[object]:
    """The commits whose events were taken."""
    return {row.get("sha") for row in rows if row["taken"]}


def _kill(chance: random.Random, children: Sequence[Child | None]) -> bool:
    running = [child for child in children if child is not None and child.running()]
    if not running:
        return False
    child = chance.choice(running)
    child.process.kill()
    child.process.wait()
    return True
