"""A directory that is kept and follows the commits says what one says that is made anew."""

from __future__ import annotations

import random
import uuid
from pathlib import Path

import pygit2
import pytest

from confkeep.labels import Labels
from tests.histories import START_S
from worker.reading import listed
from worker.store.repository.backup import Backup, Naming
from worker.store.repository.tenant_repository import create_repository, open_repository
from worker.store.writing.commit import Writer, open_for_writing


def test_what_follows_is_what_is_made_anew(path: Path) -> None:
    rng = random.Random(5)
    tenant = path.name.removesuffix(".git")
    devices = [str(uuid.uuid4()) for _ in range(5)]
    writer = Writer(create_repository(path))
    known = None
    before: set[bool] = set()
    bad: set[str | None] = set()
    for day in range(25):
        batch: list[Backup | Naming] = []
        for _ in range(rng.randint(1, 4)):
            device = rng.choice([*devices, tenant])
            labels = Labels(
                rng.choice([None, "", "core1", "Edge", "edge"]), group=rng.choice([None, "g", ""])
            )
            new = str(uuid.uuid4())
            if device == tenant or rng.random() < 0.3:
                batch.append(Naming(new, device, labels, "labels"))
            else:
                name = rng.choice([b"set name=r1\n", b"set name=z9\n", b""])
                date = b"# 2026-10-%02d 10:00:00 by RouterOS 7.16\n" % rng.randint(1, 9)
                export = (
                    date
                    + b"/system identity\n"
                    + name
                    + rng.choice([b"/ip dns\nset a=1\n", b"/user\nset b=2\n"])
                )
                export = rng.choice([export, export, b"<html>", b""])
                batch.append(Backup(new, device, export, None, "poll", labels=labels))
        writer.commit_backups(batch, now_s=START_S + day * 86_400)
        repository = open_repository(path)
        anew = listed.make(repository)
        if known is not None and known.devices:
            known = listed.follow(repository, known)
            assert known == anew
            bad |= {each.suspect for each in anew.devices}
            assert all(each.export_changed_at is not None for each in anew.devices)
            before |= {each.export_changed_at != each.changed_at for each in anew.devices}
        known = anew if rng.random() < 0.5 or known is None else known
    assert before == {True, False}
    assert bad >= {None, "the export is empty", "the export is an HTML page"}
    writer.close()


def test_what_is_not_gone_through_commit_by_commit_is_made_anew(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another program's commit may change many devices, and of very many commits only some are looked at."""
    monkeypatch.setattr(listed, "_MOST_COMMITS", 2)
    devices = [str(uuid.uuid4()) for _ in range(2)]
    directories = listed.Directories()

    def back_up(*exports: bytes) -> None:
        with open_for_writing(path) as writer:
            writer.commit_backups(
                [
                    Backup(str(uuid.uuid4()), device, export, None, "poll")
                    for export in exports
                    for device in devices
                ]
            )

    def versions() -> list[int]:
        repository = open_repository(path)
        found = directories.get(repository)
        assert found == listed.make(repository)
        return [each.versions for each in found.devices]

    back_up(b"/ip\n")
    assert versions() == [1, 1]
    commit_by_hand(path, devices)
    assert versions() == [2, 2]
    back_up(b"/user\n", b"/ip\n")
    assert versions() == [4, 4]


def commit_by_hand(path: Path, devices: list[str]) -> None:
    """One commit that changes all of them, as git makes it."""
    git = pygit2.Repository(str(path))
    tip = git.revparse_single("main")
    root, folder = git.TreeBuilder(tip.tree), git.TreeBuilder()
    folder.insert("export.rsc", git.create_blob(b"/by hand\n"), pygit2.enums.FileMode.BLOB)
    for device in devices:
        root.insert(device, folder.write(), pygit2.enums.FileMode.TREE)
    who = pygit2.Signature("someone", "someone@example.net")
    git.create_commit("refs/heads/main", who, who, "by hand", root.write(), [tip.id])
