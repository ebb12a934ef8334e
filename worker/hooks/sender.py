"""Tells one hook's receiver what happens, in order, for as long as its thread runs."""

from __future__ import annotations

import datetime as dt
import threading
import time
from collections.abc import Callable
from typing import Final

import redis

from confkeep.errors import BrokerUnavailable, ConfkeepError
from confkeep.observe.logs import get_logger
from confkeep.queue import events
from confkeep.queue.events import Event
from confkeep.settings import Settings
from worker.engine.events import cursor_from, emit, read_events
from worker.hooks.delivery import Receiver
from worker.hooks.hook_store import HookStore, Kept
from worker.hooks.progress import GONE, Delivery, Progress
from worker.observe import unforeseen
from worker.process.outage import outage

log = get_logger("hooks")

#: Events that are read at once. Their ids are noted one by one, and the cursor behind them all.
_PAGE: Final = 100
#: Seconds to wait for an event before the cursor is looked at again.
_LISTEN_S: Final = 2.0
#: Seconds between two looks while there is nothing to do, and after a fault of ours.
_IDLE_S: Final = 1.0
#: Seconds between two notes of a cursor behind which nothing was of interest.
_NOTE_S: Final = 10.0


class Sender:
    """Sends to one hook in a thread of its own, so that no receiver delays another.

    It goes on from where the hook has come to, or from now where nobody has begun.

    Args:
        may_send: whether this process is still the one that sends; asked before each try.
    """

    def __init__(
        self,
        kept: Kept,
        client: redis.Redis,
        settings: Settings,
        store: HookStore,
        may_send: Callable[[], bool],
    ) -> None:
        self.hook = kept.hook
        self.in_file = kept.in_file
        self._progress = kept.progress
        #: How often it had been switched on again when this began.
        self.resumed = 0 if kept.progress is None else kept.progress.resumed
        self._client = client
        self._settings = settings
        self._store = store
        self._may_send = may_send
        self._stop = threading.Event()
        self._noted_s = time.monotonic()
        self._is_faulty = False
        name = f"hook {self.hook.name}"
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def running(self) -> bool:
        return self._thread.is_alive()

    def ask_to_end(self) -> None:
        """Let it end after the delivery that is under way."""
        self._stop.set()

    def join(self, timeout_s: float) -> None:
        """Wait for its end, at most so long."""
        self._thread.join(timeout_s)

    def _run(self) -> None:
        with Receiver(self.hook, self._settings) as receiver:
            while self._goes_on():
                try:
                    self._turn(receiver)
                    outage.passed(self._thread.name)
                    self._is_faulty = False
                except BrokerUnavailable as error:
                    outage.met(self._thread.name, error)
                    self._stop.wait(_IDLE_S)
                except ConfkeepError as error:
                    self._tell_fault(error)
                    self._stop.wait(_IDLE_S)
                except Exception as error:  # noqa: BLE001
                    unforeseen.note(log, self._thread.name, "send to a hook", error)
                    self._stop.wait(_IDLE_S)

    def _tell_fault(self, error: ConfkeepError) -> None:
        """Say once that what is to be sent cannot be read, until it can."""
        if not self._is_faulty:
            log.warning(
                "cannot read what to send; trying again",
                action="hook.fault",
                hook=self.hook.name,
                error=str(error),
                hint=error.hint,
            )
        self._is_faulty = True

    def _goes_on(self) -> bool:
        return not self._stop.is_set() and self._may_send()

    def _turn(self, receiver: Receiver) -> None:
        progress = self._progress
        if progress is None:
            # One of the file, or one whose place is lost: better all once more than one too few.
            start = self.hook.start or cursor_from(self._client, None)
            progress = self._progress = Progress(start)
            self._store.note(self.hook.name, progress)
        wait_s = _IDLE_S if progress.off else progress.next_ms / 1000 - time.time()
        if wait_s > 0:
            self._stop.wait(min(wait_s, _IDLE_S))
            return
        page = read_events(
            self._client,
            self._settings,
            # Where the store is not at hand, the workers are asked.
            self._settings.git_store_path if self._settings.git_store_path.is_dir() else None,
            progress.cursor,
            tenants=self.hook.tenants or None,
            types=self.hook.types or None,
            limit=_PAGE,
            wait_s=_LISTEN_S,
        )
        done = frozenset(progress.done)
        for event in page.events:
            if event.id in done or not self.hook.wants(event):
                continue
            if not self._goes_on() or not self._deliver(receiver, event):
                return
        self._move(page.cursor)

    def _move(self, cursor: str) -> None:
        """Note a cursor, but not at once when nothing was sent: a busy tenant may be of no interest."""
        assert self._progress is not None
        if cursor == self._progress.cursor:
            return
        was_sent = bool(self._progress.done)
        self._progress = self._progress.moved(cursor)
        if was_sent or time.monotonic() > self._noted_s + _NOTE_S:
            self._note(self._progress)

    def _deliver(self, receiver: Receiver, event: Event) -> bool:
        """Try once; note what became of it. False: the event is still to be delivered."""
        assert self._progress is not None
        before = self._progress
        at_ms = round(time.time() * 1000)
        outcome = receiver.send(event)
        now_ms = round(time.time() * 1000)
        if outcome.delivered:
            after = before.succeeded(event.id, now_ms)
        elif outcome.gone:
            after = before.ended(GONE, now_ms)
        else:
            after = before.failed(outcome.problem, now_ms, outcome.retry_after_s)
        if not outcome.delivered and self._was_resumed():
            return False
        if after.off:
            # Before it is noted: a crash between the two tells it twice, with the same id.
            told = events.new(
                events.HOOK_DISABLED,
                None,
                data={"hook": self.hook.name, "reason": after.off_reason},
                about=(self.hook.name, before.resumed, before.delivered),
                at=dt.datetime.fromtimestamp(after.off_ms / 1000, dt.UTC),
            )
            emit(self._client, self._settings, told)
        self._progress = after
        delivery = Delivery(
            hook=self.hook.name,
            at_ms=at_ms,
            event_id=event.id,
            event_type=event.type,
            number=before.tries + 1,
            status=outcome.status,
            problem=outcome.problem,
            took_ms=round(outcome.took_s * 1000),
        )
        self._note(after, delivery)
        self._tell(before, event)
        return outcome.delivered

    def _note(self, progress: Progress, delivery: Delivery | None = None) -> None:
        self._store.note(self.hook.name, progress, delivery)
        self._noted_s = time.monotonic()

    def _was_resumed(self) -> bool:
        """Whether a person switched the hook on again meanwhile: then this failure is of the past."""
        there = self._store.progress(self.hook.name)
        if there is None or there.resumed == self.resumed:
            return False
        self._stop.set()
        return True

    def _tell(self, before: Progress, event: Event) -> None:
        now = self._progress
        assert now is not None
        if now.off:
            log.error(
                "a hook is off",
                action="hook.disabled",
                hook=self.hook.name,
                event_id=event.id,
                reason=now.off_reason,
            )
        elif now.tries == 1:
            log.warning(
                "a delivery failed; it is tried again",
                action="hook.failed",
                hook=self.hook.name,
                event_id=event.id,
                problem=now.problem,
            )
        elif before.tries and not now.tries:
            log.info("a hook is delivered again", action="hook.recovered", hook=self.hook.name)
