"""A directory that is kept and follows the commits says what one says that is made anew."""

from __future__ import annotations

import random
import uuid
from pathlib import Path

from confkeep.labels import Labels
from worker.reading import listed
from worker.store.repository.backup import Backup, Naming
from worker.store.repository.tenant_repository import create_repository, open_repository
from worker.store.writing.commit import Writer


def test_what_follows_is_what_is_made_anew(store: Path) -> None:
    rng = random.Random(5)
    path = store / f"{uuid.uuid4()}.git"
    tenant = path.name.removesuffix(".git")
    devices = [str(uuid.uuid4()) for _ in range(5)]
    writer = Writer(create_repository(path))
    known = None
    for _ in range(25):
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
                export = b"/system identity\n" + name + rng.choice([b"/ip\n", b"/user\n"])
                batch.append(Backup(new, device, export, None, "poll", labels=labels))
        writer.commit_backups(batch)
        repository = open_repository(path)
        anew = listed.make(repository)
        if known is not None and known.devices:
            known = listed.follow(repository, known)
            assert known == anew
        known = anew if rng.random() < 0.5 or known is None else known
    writer.close()
