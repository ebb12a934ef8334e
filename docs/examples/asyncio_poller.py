"""A polling scheduler in asyncio: hands over each capture once, and collects the receipts.

python asyncio_poller.py [DATE]     with CONFKEEP_REDIS_URL set
"""

import asyncio
import datetime as dt
import sys
import uuid
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import ParamSpec, TypeVar

from confkeep import (
    BackupIdConflict,
    BackupResult,
    BrokerUnavailable,
    InboxFull,
    InvalidBackup,
    PoisonedBackup,
    StagingUnavailable,
    enqueue_backup,
)

P = ParamSpec("P")
T = TypeVar("T")

AT_ONCE = 50

#: Our own threads. While Redis is away, waiting calls would take all of asyncio's few, which also look up host names.
threads = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="confkeep")


def beside(call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Awaitable[T]:
    """Run a call that waits for Redis, while the loop goes on."""
    return asyncio.get_running_loop().run_in_executor(threads, partial(call, *args, **kwargs))


@dataclass(frozen=True)
class Router:
    tenant_id: uuid.UUID
    device_id: uuid.UUID
    name: str


async def capture(router: Router) -> tuple[str, bytes | None]:
    """Your code: SSH, API ... This one makes something up."""
    export = f"# by RouterOS 7.16\n/system identity\nset name={router.name}\n"
    binary = router.name.encode()
    return export, b"\x88\xac\xa1\xb1" + (8 + len(binary)).to_bytes(4, "little") + binary


async def hand_over(router: Router, polled_at: dt.datetime) -> BackupResult | None:
    """Capture a router and enqueue it; None when the capture is no backup."""
    export, binary = await capture(router)
    # The same poll always has the same id: repeated, also by a new process, it is committed once.
    backup_id = str(uuid.uuid5(router.device_id, polled_at.isoformat()))
    wait_s = 1.0
    while True:
        try:
            return await beside(
                enqueue_backup,
                router.tenant_id,
                router.device_id,
                export,
                binary,
                f"poll of {router.name}",
                backup_id=backup_id,
                captured_at=polled_at,
            )
        except (BrokerUnavailable, StagingUnavailable, InboxFull) as error:
            # All three pass by themselves. After the first the outcome is unknown: the id makes the
            # repetition safe. The third says that workers are behind: poll less.
            print(f"{router.name}: {error}; again in {wait_s:.0f} s")
            await asyncio.sleep(wait_s)
            wait_s = min(2 * wait_s, 60.0)
        except BackupIdConflict:
            # This poll was handed over before, with another capture: by a process that crashed.
            return BackupResult(backup_id)
        except InvalidBackup as error:
            # Such as an empty export, which would be refused again: poll the router again instead.
            print(f"{router.name}: {error}")
            return None


async def collect(result: BackupResult) -> None:
    """Print the receipt. Not collecting loses nothing: receipts wait in Redis for 8 days."""
    try:
        receipt = await result
    except PoisonedBackup as error:
        # A dead letter: `confkeep dead-letters show` has it whole. Capture it again.
        print(f"{result.backup_id} cannot be committed: {error}")
    else:
        print(receipt.model_dump_json())


async def poll(routers: list[Router], polled_at: dt.datetime) -> None:
    """Poll all routers, up to 50 at once."""
    at_once = asyncio.Semaphore(AT_ONCE)

    async def one(router: Router) -> BackupResult | None:
        async with at_once:
            return await hand_over(router, polled_at)

    handed_over = await asyncio.gather(*(one(router) for router in routers))
    # However many wait, they hold one connection and no thread.
    await asyncio.gather(*(collect(result) for result in handed_over if result is not None))


if __name__ == "__main__":
    tenant = uuid.UUID("aaaa1111-0000-4000-8000-000000000001")
    fleet = [Router(tenant, uuid.uuid5(tenant, f"r{n}"), f"r{n}") for n in range(20)]
    # The hour that the poll belongs to, not the second at which it began; or one that is given.
    hour = dt.datetime.now(dt.UTC).replace(minute=0, second=0, microsecond=0)
    asyncio.run(poll(fleet, dt.datetime.fromisoformat(sys.argv[1]) if sys.argv[1:] else hour))
