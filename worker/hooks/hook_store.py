"""Where hooks are kept: in Redis and in a file; and in Redis how far each has come."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

import redis

from confkeep.broker import keys, redis_values
from confkeep.broker.connections import broker_errors
from confkeep.errors import InvalidId, InvalidInput
from confkeep.settings import Settings, variable_of
from worker.hooks.hook import Hook
from worker.hooks.hooks_file import read_hooks
from worker.hooks.progress import Delivery, Progress

#: Most hooks in Redis: each has a thread and a connection of its own.
MOST_HOOKS: Final = 200
#: About how many deliveries are kept, of all hooks together.
_MOST_LOGGED: Final = 10_000


@dataclass(frozen=True, slots=True)
class Kept:
    """A hook and how far it has come."""

    hook: Hook
    #: None: nobody has begun to send yet.
    progress: Progress | None
    in_file: bool


class HookStore:
    """The hooks of a deployment. Safe to share between threads.

    All methods raise `BrokerUnavailable` if Redis does not answer, and those that look hooks up `InvalidSettings` if the
    file is wrong.
    """

    def __init__(self, client: redis.Redis, settings: Settings) -> None:
        self._client = client
        self._settings = settings

    def hooks(self) -> list[Kept]:
        """All hooks, sorted by name. What confkeep did not write is left out; the file wins over Redis."""
        path = self._settings.hooks_file
        in_file = {} if path is None else {hook.name: hook for hook in read_hooks(path)}
        pipe = self._client.pipeline(transaction=False)
        pipe.hgetall(keys.HOOKS)
        pipe.hgetall(keys.HOOK_STATES)
        texts, states = redis_values.answers(pipe)
        found = {
            hook.name: hook
            for name, text in (texts or {}).items()
            if (hook := _parse(text)) is not None and redis_values.raw_name(hook.name) == name
        }
        return [
            Kept(
                hook,
                Progress.parse((states or {}).get(redis_values.raw_name(name), b"")),
                name in in_file,
            )
            for name, hook in sorted({**found, **in_file}.items())
        ]

    def get(self, name: str) -> Kept:
        """One hook.

        Raises:
            InvalidId: there is none of that name.
        """
        known = {kept.hook.name: kept for kept in self.hooks()}
        if name not in known:
            raise _unknown(known)
        return known[name]

    def add(self, hook: Hook) -> None:
        """Keep a new hook in Redis; it is told of what happens behind its `start`.

        Raises:
            InvalidInput: the name is taken, or there are too many.
        """
        known = self.hooks()
        if any(kept.hook.name == hook.name for kept in known):
            raise InvalidInput("name", "is the name of another hook: choose one with --name")
        if len(known) >= MOST_HOOKS:
            raise InvalidInput("hook", f"there are {MOST_HOOKS} hooks already, the most")
        pipe = self._client.pipeline(transaction=True)
        # The hook last: from then on it is told.
        pipe.hset(keys.HOOK_STATES, hook.name, Progress(hook.start).to_json())
        pipe.hset(keys.HOOKS, hook.name, hook.model_dump_json())
        with broker_errors():
            pipe.execute()

    def remove(self, name: str) -> None:
        """Forget a hook and how far it has come; also the latter alone, of one that left the file.

        Raises:
            InvalidId: there is none of that name.
            InvalidInput: it is in the file.
        """
        known = {kept.hook.name: kept for kept in self.hooks()}
        if name not in known and self.progress(name) is None:
            raise _unknown(known)
        if name in known and known[name].in_file:
            raise InvalidInput(
                "NAME", f"is in the file of {variable_of('hooks_file')}: remove it there"
            )
        pipe = self._client.pipeline(transaction=True)
        pipe.hdel(keys.HOOKS, name)
        pipe.hdel(keys.HOOK_STATES, name)
        with broker_errors():
            pipe.execute()

    def forget(self, name: str) -> None:
        """Forget how far a hook has come that is no more."""
        with broker_errors():
            self._client.hdel(keys.HOOK_STATES, name)

    def is_sent(self) -> bool:
        """Whether a process sends: `confkeep hooks run`."""
        with broker_errors():
            return bool(self._client.exists(keys.HOOKS_LEASE))

    def resume(self, name: str) -> Progress:
        """Switch a hook on again, and let its next try come at once.

        Raises:
            InvalidId: there is none of that name, or nobody has begun to send.
        """
        progress = self.get(name).progress
        if progress is None:
            raise InvalidId("NAME", "nothing was sent to this hook yet: `confkeep hooks run` sends")
        progress = progress.on_again()
        self.note(name, progress)
        return progress

    def progress(self, name: str) -> Progress | None:
        """How far a hook has come; None: nobody has begun to send."""
        pipe = self._client.pipeline(transaction=False)
        pipe.hget(keys.HOOK_STATES, name)
        (text,) = redis_values.answers(pipe)
        return Progress.parse(text or b"")

    def note(self, name: str, progress: Progress, delivery: Delivery | None = None) -> None:
        """Keep how far a hook has come, and a line for its log."""
        pipe = self._client.pipeline(transaction=True)
        if delivery is not None:
            pipe.xadd(keys.HOOK_LOG, {"delivery": delivery.to_json()}, maxlen=_MOST_LOGGED)
        pipe.hset(keys.HOOK_STATES, name, progress.to_json())
        with broker_errors():
            pipe.execute()

    def log(self, name: str, most: int) -> list[Delivery]:
        """The last deliveries of a hook, newest first, at most so many."""
        pipe = self._client.pipeline(transaction=False)
        pipe.xrevrange(keys.HOOK_LOG)
        (rows,) = redis_values.answers(pipe)
        found: list[Delivery] = []
        fields: dict[bytes, Any]
        for _id, fields in rows or []:
            delivery = Delivery.parse(fields.get(b"delivery", b""))
            if delivery is not None and delivery.hook == name:
                found.append(delivery)
            if len(found) == most:
                break
        return found


def all_progress(client: redis.Redis) -> dict[str, Progress]:
    """How far each hook has come, by its name; needs no right to read the hooks themselves.

    Raises:
        BrokerUnavailable: Redis did not answer.
    """
    pipe = client.pipeline(transaction=False)
    pipe.hgetall(keys.HOOK_STATES)
    (states,) = redis_values.answers(pipe)
    return {
        redis_values.name_of(name): progress
        for name, text in (states or {}).items()
        if (progress := Progress.parse(text)) is not None
    }


def _unknown(known: Iterable[str]) -> InvalidId:
    there = ", ".join(known) or "there are none yet"
    hint = "`confkeep hooks list` lists the hooks."
    return InvalidId("NAME", f"no hook has that name: {there}", hint=hint)


def _parse(text: bytes) -> Hook | None:
    """A hook; None if confkeep did not write it. Ignores fields of a later release."""
    try:
        values = redis_values.object_of(text)
        return Hook(**{name: values[name] for name in Hook.model_fields if name in values})
    except (ValueError, TypeError):
        return None
