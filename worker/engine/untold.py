"""Events that no script writes: noted in the store before what they tell of is done, so that none stays untold.

The file `confkeep.untold-TENANT` in the store's folder has a tenant's notes. A note is written before the thing
is done, and goes when its event is written. Whoever holds the tenant next looks at what a killed process left:
what is done is told then, once; a rewrite that is not in git has not happened; an erasure that was not finished
is told when it is repeated.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import pygit2
import redis
from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from confkeep.broker.connections import get_client
from confkeep.errors import NotInStore
from confkeep.observe.logs import get_logger
from confkeep.queue import event_stream, events
from confkeep.queue.events import Event
from confkeep.settings import Settings
from worker.store.git import durable, refs
from worker.store.repository.tenant_repository import open_repository, repository_path

log = get_logger("events")

_PREFIX: Final = "confkeep.untold-"


class _Note(BaseModel):
    """An event, and whether what it tells of is done for sure."""

    model_config = ConfigDict(frozen=True)

    event: Event
    done: bool = False


_NOTES: Final = TypeAdapter(dict[str, _Note])


class Untold:
    """A tenant's notes. Only for who holds the tenant lock. Raises StoreUnavailable if the file system refuses."""

    def __init__(self, settings: Settings, tenant_id: str) -> None:
        self._settings = settings
        self._tenant_id = tenant_id
        self._file = settings.git_store_path / f"{_PREFIX}{tenant_id}"
        self._notes = _read(self._file)

    def expect(self, event: Event) -> bool:
        """Note an event before what it tells of is done.

        Returns:
            Whether the same thing was begun before and not finished: the event then is that one.
        """
        thing = _thing(event.type, event.device_id)
        begun = self._notes.get(thing)
        if begun is None:
            self._keep(thing, _Note(event=event))
        return begun is not None

    def drop(self, type_: str, device_id: str | None) -> None:
        """Forget what was expected: there is nothing to tell."""
        self._keep(_thing(type_, device_id), None)

    def tell(self, type_: str, device_id: str | None, **data: object) -> None:
        """Write the event that was expected: it is done.

        Args:
            data: what was not known before.

        Raises:
            BrokerUnavailable: Redis did not answer; the next holder tells it.
        """
        durable.failpoint("thing-done")
        thing = _thing(type_, device_id)
        event = self._notes[thing].event
        event = event.model_copy(update={"data": {**event.data, **data}})
        self._keep(thing, _Note(event=event, done=True))
        durable.failpoint("event-due")
        self._emit(get_client(self._settings), thing, event)

    def tell_left(self) -> None:
        """Write the events of what is done and was not told, since somebody was killed or Redis was away.

        Raises:
            BrokerUnavailable: Redis did not answer.
        """
        for thing, note in list(self._notes.items()):
            event = note.event
            is_rewrite = event.type == events.RETENTION
            if note.done or (is_rewrite and self._is_in_git(event.data.get("tip"))):
                client = get_client(self._settings)
                if event_stream.has(client, event.id):
                    self._keep(thing, None)
                else:
                    self._emit(client, thing, event)
            elif is_rewrite:
                self._keep(thing, None)

    def _emit(self, client: redis.Redis, thing: str, event: Event) -> None:
        events.emit(client, self._settings, event)
        durable.failpoint("event-written")
        self._keep(thing, None)

    def _is_in_git(self, tip: object) -> bool:
        """Whether `main` is that commit, or was made on top of it."""
        path = repository_path(self._settings.git_store_path, self._tenant_id)
        try:
            git, main = open_repository(path).git, refs.read_main(path)
        except NotInStore:
            return False
        if main == tip or main is None:
            return main == tip
        wanted = str(tip)
        return wanted in git and git.descendant_of(pygit2.Oid(hex=main), pygit2.Oid(hex=wanted))

    def _keep(self, thing: str, note: _Note | None) -> None:
        self._notes.pop(thing, None)
        if note is not None:
            self._notes[thing] = note
        with durable.file_system_errors(self._file.name):
            if self._notes:
                durable.replace_file(self._file, _NOTES.dump_json(self._notes))
            else:
                durable.remove(self._file)


def left_in(store: Path) -> list[str]:
    """The tenants of whom something may be untold."""
    return sorted(file.name.removeprefix(_PREFIX) for file in store.glob(f"{_PREFIX}*"))


def _thing(type_: str, device_id: str | None) -> str:
    return f"{type_} {device_id or ''}".strip()


def _read(file: Path) -> dict[str, _Note]:
    with durable.file_system_errors(file.name):
        try:
            text = file.read_bytes()
        except FileNotFoundError:
            return {}
        try:
            return _NOTES.validate_json(text)
        except ValidationError:
            log.warning(
                "notes of untold events are damaged", action="events.untold_damaged", file=file.name
            )
            durable.remove(file)
            return {}
