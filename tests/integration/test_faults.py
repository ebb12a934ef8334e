"""Faults of the server: enqueue answers in time and clearly, workers come back by themselves."""

from __future__ import annotations

import os
import signal
import time
import uuid
from typing import Any

import pytest

from confkeep.broker import keys
from confkeep.settings import get_settings
from tasks import BrokerUnavailable, InboxFull, enqueue_backup, enqueue_backups
from tests.integration.conftest import with_variables
from tests.judge import backup_ids
from tests.servers import Deployment, wait_for
from worker.app import app

#: Seconds that an enqueue may take when the server is away: the default time-out and a bit.
BOUND_S = 5.5


def new_id() -> str:
    return str(uuid.uuid4())


def test_an_enqueue_without_a_server_fails_at_once_and_clearly(deployed: Deployment) -> None:
    deployed.server.kill()
    started = time.monotonic()
    with pytest.raises(BrokerUnavailable) as raised:
        enqueue_backup(new_id(), new_id(), "/ip", None, "m")
    assert time.monotonic() - started < BOUND_S
    assert raised.value.retryable
    assert "same backup_id" in raised.value.hint


def test_an_enqueue_to_a_server_that_does_not_answer_fails_in_time_and_can_be_repeated(
    deployed: Deployment,
) -> None:
    tenant, device, backup = new_id(), new_id(), new_id()
    enqueue_backup(tenant, device, "/first", None, "m")
    os.kill(deployed.server.pid, signal.SIGSTOP)
    started = time.monotonic()
    try:
        with pytest.raises(BrokerUnavailable):
            enqueue_backup(tenant, device, "/second", None, "m", backup_id=backup)
        assert time.monotonic() - started < BOUND_S
    finally:
        os.kill(deployed.server.pid, signal.SIGCONT)
    # Whether the first call took effect is unknown; repeated, it took effect once.
    result = enqueue_backup(tenant, device, "/second", None, "m", backup_id=backup)
    deployed.start_worker(pool="threads")
    assert result.get(timeout=30)["backup_id"] == backup
    assert backup_ids(deployed.store / f"{tenant}.git").count(backup) == 1


def test_a_wake_up_that_cannot_be_sent_does_not_undo_an_enqueue(
    deployed: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(app.amqp, "send_task_message", _refuse)
    result = enqueue_backup(new_id(), new_id(), "/ip", None, "m")
    deployed.start_worker(pool="threads")
    assert result.get(timeout=15)["backup_id"] == result.id


def _refuse(*_: Any, **__: Any) -> None:
    from kombu.exceptions import OperationalError

    raise OperationalError("the broker went away")


@with_variables({"CONFKEEP_INBOX_MAX_BACKUPS": "3", "CONFKEEP_STAGING": "volume"})
def test_a_full_inbox_is_an_error_with_figures_and_empties_again(deployed: Deployment) -> None:
    tenant, device = new_id(), new_id()
    sent: list[Any] = [
        {
            "tenant_id": tenant,
            "device_id": device,
            "export_text": f"/ip {n}",
            "binary_backup": None,
            "message": "m",
            "backup_id": new_id(),
        }
        for n in range(5)
    ]
    with pytest.raises(InboxFull, match="3 backups with 15 bytes wait") as raised:
        enqueue_backups(sent)
    assert raised.value.retryable
    files = [path for path in (deployed.path / "staging").rglob("*") if path.is_file()]
    assert len(files) == 3, "what was refused leaves no file"
    deployed.start_worker(pool="threads")
    portal = app.send_task(
        "backups.receive",
        kwargs={**{k: v for k, v in sent[0].items() if k != "binary_backup"}},
        queue=keys.RECEIVE_QUEUE,
        ignore_result=False,
    )
    assert portal.get(timeout=30)["backup_id"] == sent[0]["backup_id"]

    def again() -> bool:
        try:
            enqueue_backups(sent)
        except InboxFull:
            return False
        return True

    wait_for(again, "the inbox to take the rest")
    ids = [str(one["backup_id"]) for one in sent]
    repository = deployed.store / f"{tenant}.git"
    wait_for(lambda: len(backup_ids(repository)) == 5, "all five")
    assert backup_ids(repository) == ids


def test_a_backup_is_committed_after_the_server_was_killed_and_came_back(
    deployed: Deployment,
) -> None:
    deployed.start_worker()
    tenant, device = new_id(), new_id()
    enqueue_backup(tenant, device, "/before", None, "m").get(timeout=30)
    for round_ in range(2):
        deployed.server.kill()
        deployed.server.start()
        started = time.monotonic()
        result = enqueue_backup(tenant, device, f"/after {round_}", None, "m")
        assert result.get(timeout=30)["backup_id"] == result.id
        assert time.monotonic() - started < 15
    assert get_settings().redis_timeout_s == 5.0, "with the settings that users have"
