"""Repositories that are kept open: one user at a time, none for long, and never another tenant's or an old one."""

from __future__ import annotations

import os
import shutil
import uuid
from pathlib import Path

import pytest

from confkeep.errors import NotInStore
from worker.engine.versions import versions_of
from worker.reading.opened import Opened
from worker.store.history.index_file import delete_file
from worker.store.history.index_keeper import INDEX_NAME
from worker.store.repository.backup import Backup
from worker.store.repository.tenant_repository import TenantRepository, create_repository
from worker.store.writing.commit import open_for_writing


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


def test_it_reads_what_was_written_since_it_was_opened(path: Path) -> None:
    opened, device = Opened(), str(uuid.uuid4())

    def count() -> int:
        with opened.open(path) as repository:
            return len(versions_of(repository, device))

    for written in range(1, 5):
        with open_for_writing(path) as writer:
            writer.commit_backups([Backup(str(uuid.uuid4()), device, b"%d" % written, None, "")])
        assert count() == written
        assert is_open(path / INDEX_NAME)
        if written == 2:
            # The writer makes it anew.
            delete_file(path / INDEX_NAME)
            assert count() == written
    opened.close()
    assert not is_open(path / INDEX_NAME)


def is_open(file: Path) -> bool:
    """Whether this process has it open."""
    return any(os.path.samefile(fd, file) for fd in Path("/proc/self/fd").iterdir() if fd.exists())


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
