"""What a worker shows of a task whose arguments are payload."""

from __future__ import annotations

import json
import uuid
from types import SimpleNamespace
from typing import Any

import pytest

from tasks.receive import receive
from worker.app import app
from worker.process.quiet_request import QuietRequest

TENANT, DEVICE = str(uuid.UUID(int=1, version=4)), str(uuid.UUID(int=2, version=4))
SECRET = "/ip address add comment=secret"


def request(args: list[Any], kwargs: dict[str, Any]) -> QuietRequest:
    payload: tuple[list[Any], dict[str, Any], dict[str, Any]] = (args, kwargs, {})
    message = SimpleNamespace(
        headers={
            "id": "an-id",
            "task": "backups.receive",
            "argsrepr": repr(args),
            "kwargsrepr": repr(kwargs),
        },
        body=json.dumps(payload),
        payload=payload,
        content_type="application/json",
        content_encoding="utf-8",
        delivery_info={},
        properties={},
    )
    return QuietRequest(message, app=app, task=receive)


@pytest.mark.parametrize(
    ("args", "kwargs", "shown"),
    [
        (
            [],
            {"tenant_id": TENANT, "device_id": DEVICE, "export_text": SECRET, "message": SECRET},
            {"tenant_id": TENANT, "device_id": DEVICE},
        ),
        ([SECRET], {"tenant_id": SECRET * 2, "device_id": [SECRET]}, {}),
        ([], {}, {}),
    ],
)
def test_monitors_see_ids(args: list[Any], kwargs: dict[str, Any], shown: dict[str, str]) -> None:
    made = request(args, kwargs)
    assert (made.argsrepr, made.kwargsrepr) == ("()", repr(shown))
    # The pool's child logs and the events tell what stands here.
    assert made.request_dict["kwargsrepr"] == repr(shown)
    for said in (made.info(), made.info(safe=True), repr(made)):
        assert SECRET not in str(said)
    assert made.kwargs == kwargs, "the task gets all of it"


def test_the_task_is_run_by_it() -> None:
    assert receive.Request == "worker.process.quiet_request:QuietRequest"
