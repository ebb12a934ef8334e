"""Whose a repository is: checks who may write in it, and explains to others why they may not."""

from __future__ import annotations

import os
import pwd
from dataclasses import dataclass, field
from pathlib import Path

from confkeep import modes
from confkeep.errors import NotOwner


def require_writer(path: Path) -> None:
    """Check that this process may write in the repository at `path`; a missing one it may make.

    Its owner may, and root, who leaves everything to that owner. Others may where somebody shared
    the folder with a group of theirs: anywhere else their files would stop the owner.

    Raises:
        NotOwner: it may not; nothing was changed.
    """
    try:
        owner = os.stat(path).st_uid
        shared = modes.is_shared(path)
    except FileNotFoundError:
        return
    except PermissionError as error:
        raise refusal_of(error) or error from error
    if os.geteuid() in (0, owner):
        return
    if shared and os.access(path, os.W_OK | os.X_OK, effective_ids=True):
        return
    raise not_owner(path, owner)


def not_owner(path: Path, owner: int) -> NotOwner:
    """The error of somebody who is not the owner."""
    return NotOwner(f"{path.name} belongs to {_user(owner)}, you are {_user(os.geteuid())}")


def refusal_of(error: OSError) -> NotOwner | None:
    """The error for somebody whom the file system keeps out of another user's files; None for others."""
    if not isinstance(error, PermissionError) or not isinstance(error.filename, str | os.PathLike):
        return None
    path = Path(os.path.abspath(error.filename))
    for place in (path, *path.parents):
        try:
            owner = os.stat(place).st_uid
        except (PermissionError, FileNotFoundError):
            # What cannot be looked at is in a folder that keeps us out.
            continue
        return None if owner == os.geteuid() else not_owner(place, owner)
    return None


@dataclass(frozen=True, slots=True)
class Rights:
    """As whom another program is started; None: as ourselves."""

    user: int | None = None
    group: int | None = None
    extra_groups: list[int] | None = None
    #: Variables to be set.
    environment: dict[str, str] = field(default_factory=dict)


def rights_for(path: Path) -> Rights:
    """Those with which a git is started that works in the repository at `path`.

    Root starts it as the repository's owner. So what it writes is the owner's, and what the
    repository's configuration and hooks make it do, the owner could do as well.
    """
    owner = modes.user_of(path)
    if owner is None:
        return Rights()
    # Root's own folder would keep it out, and that is an error to git.
    return Rights(owner[0], owner[1], [], {"HOME": "/"})


def _user(uid: int) -> str:
    try:
        return f"uid {uid} ({pwd.getpwuid(uid).pw_name})"
    except KeyError:
        return f"uid {uid}"
