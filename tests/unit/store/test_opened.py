"""Repositories that are kept open: one user at a time, none for long, and never another tenant's or an old one."""

from __future__ import annotations

import shutil
import uuid
from pathlib import Path

import pytest

from confkeep.errors import NotInStore
from worker.reading.opened import Opened
from worker.store.repository.tenant_repository import TenantRepository, create_repository


@pytest.fixture
def path(store: Path) -> Path:
    return create_repository(store / f"{uuid.uuid4()}.git").path


def one_of(opened: Opened, path: Path) -> TenantRepository:
    with opened.open(path) as found:
        return found


def test_the_next_question_gets_the_same_one(path: Path) -> None:
    opened = Opened()
    first = one_of(opened, path)
    assert one_of(opened, path) is first
    other = create_repository(path.with_name(f"{uuid.uuid4()}.git")).path
    assert one_of(opened, other).path == other


def test_two_at_once_get_one_each(path: Path) -> None:
    opened = Opened()
    one_of(opened, path)
    with opened.open(path) as one, opened.open(path) as other:
        assert one is not other


def test_none_is_kept_that_was_open_when_all_were_closed(path: Path) -> None:
    opened = Opened()
    with opened.open(path) as used:
        idle = one_of(opened, path)
        opened.close()
    assert one_of(opened, path) not in (used, idle)


def test_one_that_failed_is_not_kept(path: Path) -> None:
    opened = Opened()
    with pytest.raises(ZeroDivisionError), opened.open(path) as failed:
        raise ZeroDivisionError
    assert one_of(opened, path) is not failed


def test_a_repository_that_is_gone_or_another_is_noticed(path: Path) -> None:
    opened = Opened()
    one_of(opened, path)
    shutil.move(path, path.with_name("aside"))
    with pytest.raises(NotInStore):
        one_of(opened, path)
    before = one_of(opened, create_repository(path).path)
    shutil.rmtree(path)
    shutil.move(path.with_name("aside"), path)
    assert one_of(opened, path) is not before
