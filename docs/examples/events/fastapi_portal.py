"""A portal with FastAPI: it answers with the commit's id, and hears of all other commits by a webhook.

uvicorn fastapi_portal:app     with CONFKEEP_REDIS_URL and HOOK_SECRET set; rows are in ./portal.sqlite3
"""

import asyncio
import datetime as dt
import os
import sqlite3
import uuid
from contextlib import closing
from typing import Any

from fastapi import FastAPI, HTTPException, Request, Response
from standardwebhooks import Webhook, WebhookVerificationError

from confkeep import (
    BrokerUnavailable,
    InboxFull,
    NoReceipt,
    StagingUnavailable,
    enqueue_backup,
    receipt,
)

TENANT = "aaaa1111-0000-4000-8000-000000000003"
WAIT_S = 20.0

app = FastAPI()


@app.post("/devices/{device_id}/backup")
async def back_up(device_id: uuid.UUID, response: Response) -> dict[str, str | None]:
    """Back up a device because somebody pressed a button. 200: it is committed; 202: it will be."""
    backup_id = str(uuid.uuid4())
    try:
        # An enqueue waits for Redis: a thread does it, so that the loop goes on.
        await asyncio.to_thread(
            enqueue_backup,
            TENANT,
            device_id,
            capture(device_id),
            None,
            "asked",
            backup_id=backup_id,
        )
    except (InboxFull, StagingUnavailable):
        raise HTTPException(503, "nothing is accepted now", {"Retry-After": "60"}) from None
    except BrokerUnavailable:
        # The outcome is unknown: the same id may be sent again, and is committed once.
        raise HTTPException(503, "confkeep is away", {"Retry-After": "5"}) from None
    try:
        # However many requests wait, they hold one connection and no thread.
        sha = (await receipt(backup_id, timeout=WAIT_S)).sha
    except NoReceipt:
        # Accepted, so it will be committed; the webhook will tell.
        response.status_code = 202
        sha = None
    return {"backup_id": backup_id, "sha": sha}


@app.post("/hook", status_code=204)
async def hook(request: Request) -> None:
    """Take an event. 2xx once it is stored: what is not stored is sent again."""
    body = await request.body()
    try:
        event = Webhook(os.environ["HOOK_SECRET"]).verify(body, dict(request.headers))
    except WebhookVerificationError:
        raise HTTPException(401, "not from confkeep") from None
    await asyncio.to_thread(store, request.headers["webhook-id"], event)


def store(webhook_id: str, event: dict[str, Any]) -> None:
    """Keep an event once: a repeated one has the same id."""
    with closing(sqlite3.connect("portal.sqlite3")) as database, database:
        database.execute(
            "create table if not exists commits (id text primary key, device text, sha text)"
        )
        row = (webhook_id, event["device_id"], event["data"].get("sha"))
        database.execute("insert or ignore into commits values (?, ?, ?)", row)


def capture(device_id: uuid.UUID) -> str:
    """Your code: SSH, API ... This one makes something up."""
    header = f"# {dt.datetime.now(dt.UTC):%Y-%m-%d %H:%M:%S} by RouterOS 7.16"
    return f"{header}\n/system identity\nset name={device_id.hex[:8]}\n"
