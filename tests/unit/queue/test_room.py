"""Room in the server's memory: noted by workers, kept by whoever accepts, and shown."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import pytest
import redis

from confkeep.broker import keys
from confkeep.queue import acceptance
from confkeep.queue.acceptance import Submission
from confkeep.settings import Settings
from tests.turns import TENANT, submission
from worker.broker import room
from worker.process.local import EmbeddedServer
from worker.process.sweeper import Sweeper
from worker.queue import inboxes


@pytest.fixture
def limited(real_server: EmbeddedServer) -> Iterator[redis.Redis]:
    with redis.Redis(unix_socket_path=str(real_server.socket)) as real:
        real.flushall()
        real.config_set("maxmemory", 1_000_000_000)
        yield real
        real.config_set("maxmemory", 0)


def test_a_worker_notes_a_part_of_the_memory(limited: redis.Redis, settings: Settings) -> None:
    sweeper = Sweeper(None, settings, limited, "w")
    sweeper.sweep()
    assert limited.get(keys.ROOM) == b"600000000"
    limited.config_set("maxmemory", 500_000_000)
    sweeper.sweep()
    assert limited.get(keys.ROOM) == b"600000000", "not at each sweep"
    limited.delete(keys.TIDY)
    for _ in range(5):
        sweeper.sweep()
    assert limited.get(keys.ROOM) == b"300000000"
    volume = settings.model_copy(update={"staging": "volume"})
    assert room.note(limited, volume) is None
    assert not limited.exists(keys.ROOM), "what waits is not in memory"
    assert room.note(limited, settings) == 300_000_000
    limited.config_set("maxmemory", 0)
    assert room.note(limited, settings) is None
    assert not limited.exists(keys.ROOM)


def test_who_may_not_ask_notes_nothing(limited: redis.Redis, settings: Settings) -> None:
    room.note(limited, settings)
    limited.acl_setuser("guest", enabled=True, nopass=True, commands=["+@all", "-info"], keys="*")
    options = limited.connection_pool.connection_kwargs
    with redis.Redis(unix_socket_path=options["path"], username="guest", password="x") as guest:
        assert room.note(guest, settings) is None
    assert limited.get(keys.ROOM) == b"600000000", "another may ask"
    limited.acl_deluser("guest")


def test_no_more_is_accepted_than_there_is_room_for(
    client: redis.Redis, settings: Settings
) -> None:
    client.set(keys.ROOM, 7)
    given = [submission(n, tenant=str(uuid.UUID(int=n + 1))) for n in range(3)]
    outcomes = [answer.outcome for answer in acceptance.accept(client, settings, given)]
    assert outcomes == ["accepted", "accepted", "all full"]
    # On a volume the memory is not what limits it.
    on_volume = Submission(TENANT, submission(9).entry, None)
    assert acceptance.accept(client, settings, [on_volume])[0].outcome == "accepted"
    load = inboxes.read_load(client)
    assert (load.room, load.most_bytes(settings)) == (7, 7)
    assert load.full(settings) > 1
    assert load.most_bytes(settings.model_copy(update={"staging": "volume"})) > 7
    client.set(keys.ROOM, 2**60)
    assert acceptance.accept(client, settings, given[2:])[0].outcome == "accepted"
    assert inboxes.read_load(client).most_bytes(settings) == settings.total_max_bytes
