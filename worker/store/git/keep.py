"""Keeps git's own maintenance away from a pack that no ref reaches yet.

`git repack -a -d` and `git gc --prune=now`, as people run them from cron, delete what no ref
reaches. They spare a pack that has a `.keep` file of the same name. Ours is created before the pack
gets its name, and removed when the ref that needs the pack has moved. Git lists packs before it
reads refs: if it finds the pack, it finds the keep too, or finds it gone and reads the moved ref.

A keep must never be added to a pack that exists already: a `git repack` that listed the pack
without it removes the pack, but its search for objects sees the keep by then, and leaves the pack's
objects out of the new one. So each pack of ours gets a name that was never used before, even if the
same bytes are written twice, and no two writers share a keep.

Our keep is a symbolic link to the repository's flock. A power cut cannot tear its content, it needs
no sync, and it tells our keeps from those of people and of `git receive-pack`.
"""

from __future__ import annotations

import errno
import os
import secrets
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from worker.store.git import durable, flock

_SUFFIX: Final = ".keep"
#: The link's target. Git ignores a link to nowhere; the flock always exists.
_TARGET: Final = f"../../{flock.FILE_NAME}"


def new_name() -> str:
    """A name for a pack, `pack-` and 40 hex digits, that no pack has ever had."""
    return f"pack-{secrets.token_hex(20)}"


def name_pack(folder: Path, name: str, pack: Path, idx: Path, keeps: ExitStack) -> None:
    """Give a synced pack and its idx their names in `folder`; durable when this returns.

    Args:
        name: as `new_name` gives it.
        keeps: gets the removal of the keep. The caller closes it when a ref reaches the pack, or
            when the pack is no longer needed. It may be closed on an error too: if the ref moved,
            git sees it at once, and if not, the pack is not needed.

    Raises:
        OSError: the file system refused. The pack and the idx have their names or not.
    """
    keep = folder / f"{name}{_SUFFIX}"
    keeps.callback(_let_go, keep)
    os.symlink(_TARGET, keep)
    durable.failpoint("pack-kept")
    final_pack, final_idx = folder / f"{name}.pack", folder / f"{name}.idx"
    with ExitStack() as undo:
        undo.callback(lambda: None if final_idx.exists() else durable.remove(final_pack))
        # The idx last: readers find a pack by its idx.
        durable.rename(pack, final_pack)
        durable.failpoint("pack-renamed")
        durable.rename(idx, final_idx)
        durable.failpoint("idx-renamed")
        undo.pop_all()
    durable.sync_directory(folder)
    durable.failpoint("pack-durable")


def _let_go(keep: Path) -> None:
    durable.remove(keep)
    durable.failpoint("pack-let-go")


def leftovers(folder: Path, names: Iterable[str]) -> list[Path]:
    """Those of the files in `folder` that are our keeps, each after its pack if that has no idx.

    Only meaningful while no writer lives: the keeps of a living writer look the same.
    """
    known, found = set(names), []
    for name in sorted(known):
        if name.endswith(_SUFFIX) and _is_ours(folder / name):
            stem = name.removesuffix(_SUFFIX)
            # The writer died between the two renames.
            if f"{stem}.pack" in known and f"{stem}.idx" not in known:
                found.append(folder / f"{stem}.pack")
            found.append(folder / name)
    return found


def is_kept(folder: Path, name: str) -> bool:
    """Whether one of our keeps lies beside the pack."""
    return _is_ours(folder / f"{name}{_SUFFIX}")


def _is_ours(keep: Path) -> bool:
    try:
        return os.readlink(keep) == _TARGET
    except OSError as error:
        # Removed just now, or not a link.
        if error.errno not in (errno.ENOENT, errno.EINVAL):
            raise
        return False
