"""Readers of events in a chaos run, judged by `git log`: nothing missing, in order, with the same ids."""

from __future__ import annotations

import contextlib
import random
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import redis

from confkeep.broker import keys
from confkeep.errors import ConfkeepError
from confkeep.queue import events
from confkeep.settings import Settings
from worker.engine.events import read_events

#: What is done to the stream before a reader reads again, and how long that reader is away.
_KINDS = {
    "follows": (None, 0.0),
    "was away": ("trim", 1.5),
    "lost its stream": ("delete", 3.0),
}
#: One page in so many is read, and its cursor not noted: the reader was killed in between.
_KILLED = 6
_AT_ONCE = 23
_MOST = 5


@dataclass
class Reader:
    """One reader, with what it was told."""

    kind: str
    cursor: str | None = None
    #: By tenant, the backup ids in the order in which they were first told.
    told: dict[str, dict[str, None]] = field(default_factory=dict)
    #: Ids of events that were another's before.
    wrong_ids: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    pages: int = 0
    repeats: int = 0


class Readers:
    """Reads beside the faults, each reader in a thread."""

    def __init__(
        self, client: redis.Redis, settings: Settings, tenants: Sequence[str], seed: str
    ) -> None:
        self._client = client
        self._settings = settings
        self._tenants = tenants
        self._seed = seed
        self._ended = threading.Event()
        self.readers = [Reader(kind) for kind in _KINDS]

    @contextlib.contextmanager
    def beside(self) -> Iterator[None]:
        """Let them read until the end of this."""
        threads = [
            threading.Thread(target=self._run, args=(reader,), daemon=True)
            for reader in self.readers
        ]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self._ended.set()
            for thread in threads:
                thread.join()

    def _run(self, reader: Reader) -> None:
        chance = random.Random(f"{self._seed} {reader.kind}")
        harm, away_s = _KINDS[reader.kind]
        while not self._ended.wait(chance.uniform(0, 2 * away_s)):
            try:
                match harm:
                    case "trim":
                        self._client.xtrim(keys.EVENTS, maxlen=3, approximate=False)
                    case "delete":
                        self._client.delete(keys.EVENTS)
                while self._read(reader, chance) and not self._ended.is_set():
                    pass
            except (ConfkeepError, redis.RedisError):
                # The server is away or refuses: it goes on from its cursor.
                time.sleep(0.1)
            except Exception as error:
                reader.errors.append(f"{type(error).__name__}: {error}")
                return

    def _read(self, reader: Reader, chance: random.Random, wait_s: float = 0.2) -> bool:
        """Read a page. Returns whether there was anything."""
        page = read_events(
            self._client,
            self._settings,
            self._settings.git_store_path,
            reader.cursor,
            tenants=self._tenants,
            limit=_AT_ONCE,
            wait_s=wait_s,
        )
        reader.pages += 1
        for event in page.events:
            if event.type not in events.OF_COMMITS or event.tenant_id is None:
                continue
            backup_id = str(event.data["backup_id"])
            if event.id != events.event_id(event.type, backup_id):
                reader.wrong_ids.append(event.id)
            told = reader.told.setdefault(event.tenant_id, {})
            reader.repeats += backup_id in told
            told.setdefault(backup_id)
        if wait_s and page.events and not chance.randrange(_KILLED):
            # From some event, or from where it began.
            reader.cursor = chance.choice([reader.cursor, chance.choice(page.events).cursor])
        else:
            reader.cursor = page.cursor
        return bool(page.events)

    def finish(self) -> None:
        """Let all read what is left."""
        chance = random.Random(self._seed)
        for reader in self.readers:
            while self._read(reader, chance, 0.0):
                pass

    def complaints(self, in_git: Mapping[str, Sequence[str]]) -> list[str]:
        """Each broken promise as a sentence.

        Args:
            in_git: by tenant, the backup ids in `git log`, oldest first.
        """
        found = []
        for reader in self.readers:
            who = f"the reader that {reader.kind}"
            found += [f"{who}: {error}" for error in reader.errors]
            if reader.wrong_ids:
                found.append(f"{who}: events of other ids: {', '.join(reader.wrong_ids[:_MOST])}")
            for tenant, ids in in_git.items():
                told = list(reader.told.get(tenant, {}))
                missing = [one for one in ids if one not in reader.told.get(tenant, {})]
                if missing:
                    shown = ", ".join(missing[:_MOST])
                    found.append(f"{who}, tenant {tenant}: missing {len(missing)}: {shown}")
                elif told != list(ids):
                    wrong = [a for a, b in zip(told, ids, strict=False) if a != b] or told[
                        len(ids) :
                    ]
                    shown = ", ".join(wrong[:_MOST])
                    found.append(f"{who}, tenant {tenant}: out of order or not in git: {shown}")
        return found
