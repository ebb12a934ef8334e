"""Runs a sender for each hook, in the one process of the deployment that holds the lease."""

from __future__ import annotations

import threading
from typing import Final

import redis

from confkeep.broker import keys
from confkeep.errors import BrokerUnavailable, InvalidSettings
from confkeep.observe.logs import get_logger
from confkeep.settings import Settings
from worker.broker.locks import TenantLock, take
from worker.hooks.hook_store import HookStore
from worker.hooks.sender import Sender
from worker.observe import unforeseen
from worker.process.outage import outage

log = get_logger("hooks")

#: Seconds between two looks for hooks that were added, changed, resumed or removed.
_LOOK_S: Final = 1.0
#: Seconds that deliveries under way get to end; what is cut off is repeated with the same id.
_END_S: Final = 5.0
#: This thread's name where outages are told.
_WHO: Final = "hooks"


class Senders:
    """All senders of a deployment. Run it in one thread."""

    def __init__(self, client: redis.Redis, settings: Settings) -> None:
        self._client = client
        self._settings = settings
        self._store = HookStore(client, settings)
        self._senders: dict[str, Sender] = {}
        self._lease: TenantLock | None = None
        self._is_bad = False

    def run(self, stop: threading.Event) -> None:
        """Send until `stop` is set. While another process sends, wait for the lease."""
        waits = False
        while not stop.is_set():
            try:
                if self._holds_lease():
                    self._look()
                    waits = False
                elif not waits:
                    log.info("another process sends; waiting", action="hooks.standby")
                    waits = True
                outage.passed(_WHO)
            except BrokerUnavailable as error:
                outage.met(_WHO, error)
            except Exception as error:  # noqa: BLE001
                unforeseen.note(log, _WHO, "look for hooks", error)
            stop.wait(_LOOK_S)
        self._end()

    def _holds_lease(self) -> bool:
        if self._lease is not None:
            if not self._lease.lost:
                return True
            log.warning("lost the lease; another process may send", action="hooks.lease_lost")
            self._end()
        self._lease = take(self._client, keys.HOOKS_LEASE, self._settings.lock_ttl_s)
        return self._lease is not None

    def _look(self) -> None:
        try:
            found = {kept.hook.name: kept for kept in self._store.hooks()}
        except InvalidSettings as error:
            # Those that run go on: a file that is half written must end none.
            if not self._is_bad:
                log.warning(str(error), action="hooks.file_bad", hint=error.hint)
            self._is_bad = True
            return
        self._is_bad = False
        for name, sender in list(self._senders.items()):
            if name not in found or found[name].hook != sender.hook:
                sender.ask_to_end()
            if not sender.running():
                del self._senders[name]
                if name not in found and not sender.in_file:
                    # It may have noted a delivery since a person removed the hook.
                    self._store.forget(name)
        lease = self._lease
        for name, kept in found.items():
            if name not in self._senders:
                self._senders[name] = Sender(
                    kept,
                    self._client,
                    self._settings,
                    self._store,
                    lambda: lease is not None and not lease.lost,
                )
            elif kept.progress is not None and kept.progress.resumed != self._senders[name].resumed:
                self._senders[name].ask_to_end()

    def _end(self) -> None:
        """End all senders, then let the lease go."""
        for sender in self._senders.values():
            sender.ask_to_end()
        for sender in self._senders.values():
            sender.join(_END_S)
        self._senders.clear()
        if self._lease is not None:
            self._lease.release()
            self._lease = None
