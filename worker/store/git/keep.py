"""Keeps git's own maintenance away from a pack that no ref reaches yet.

`git repack -a -d` and `git gc --prune=now`, as people run them from cron, destroy what no ref
reaches. They spare a pack beside which lies a file of its name that ends in `.keep`. Ours is there
before the pack gets its name and goes when the ref that needs the pack was moved. Git lists packs
before it reads refs: who finds the pack finds the keep, or finds it gone and reads the moved ref.

A keep must never come to lie beside a pack that was there before it: a `git repack` that listed
the pack without it removes the pack, and its search for objects, which sees the keep by then,
leaves the pack's objects out of the new one. So every pack of ours has a name that no other ever had,
the same bytes written twice too, and no two writers share a keep.

Ours is a symbolic link to the repository's flock. Its content cannot be torn by a power cut, it needs
no sync, and it tells our own from those of people and of `git receive-pack`.
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
#: What the link holds. Git takes a link that leads nowhere for none; the flock is always there.
_TARGET: Final = f"../../{flock.FILE_NAME}"


def new_name() -> str:
    """A name for a pack, `pack-` and 40 hex digits, that no pack has or had."""
    return f"pack-{secrets.token_hex(20)}"


def name_pack(folder: Path, name: str, pack: Path, idx: Path, keeps: ExitStack) -> None:
    """Give a synced pack and its idx their names in `folder`; readers find them, durably, on return.

    Args:
        name: as `new_name` gives it.
        keeps: gets the removal of the keep. Who calls closes it when a ref reaches the pack, or when
            nobody needs the pack any more. Closed by an error too: a ref that moved counts for git
            from the moment in which it is seen, and one that did not move needs no pack.

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
    """Of the files in `folder`, our keeps, each behind its pack if that has no idx.

    Only meaningful while no writer lives: a live one's look the same.
    """
    known, found = set(names), []
    for name in sorted(known):
        if name.endswith(_SUFFIX) and _is_ours(folder / name):
            stem = name.removesuffix(_SUFFIX)
            # Ended between the two renames.
            if f"{stem}.pack" in known and f"{stem}.idx" not in known:
                found.append(folder / f"{stem}.pack")
            found.append(folder / name)
    return found


def is_kept(folder: Path, name: str) -> bool:
    """Whether a keep of ours lies beside the pack."""
    return _is_ours(folder / f"{name}{_SUFFIX}")


def _is_ours(keep: Path) -> bool:
    try:
        return os.readlink(keep) == _TARGET
    except OSError as error:
        # Gone just now, or not a link.
        if error.errno not in (errno.ENOENT, errno.EINVAL):
            raise
        return False
