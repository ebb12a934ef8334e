"""Checks who may write in a repository, and explains to others why they may not."""

from __future__ import annotations

import os
import pwd
from dataclasses import dataclass, field
from pathlib import Path

from confkeep import modes
from confkeep.errors import NotOwner


def require_writer(path: Path) -> None:
    """Check that this process may write in the repository at `path`, or create it if it is missing.

    The owner may, and root, which gives everything to the owner. Others may if the folder is shared
    with a group of theirs: anywhere else their files would block the owner.

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
    """The error for a user who is not the owner."""
    return NotOwner(f"{path.name} belongs to {_user(owner)}, you are {_user(os.geteuid())}")


def refusal_of(error: OSError) -> NotOwner | None:
    """The error for a user who is denied another user's files; None for any other error."""
    if not isinstance(error, PermissionError) or not isinstance(error.filename, str | os.PathLike):
        return None
    path = Path(os.path.abspath(error.filename))
    for place in (path, *path.parents):
        try:
            owner = os.stat(place).st_uid
        except (PermissionError, FileNotFoundError):
            # If it cannot be examined, it is in a folder that denies us access.
            continue
        return None if owner == os.geteuid() else not_owner(place, owner)
    return None


@dataclass(frozen=True, slots=True)
class Rights:
    """The user that another program runs as; None: our own."""

    user: int | None = None
    group: int | None = None
    extra_groups: list[int] | None = None
    #: Environment variables for the program.
    environment: dict[str, str] = field(default_factory=dict)


def rights_for(path: Path) -> Rights:
    """How to start a git that works in the repository at `path`.

    Root starts it as the repository's owner. So the owner owns what it writes, and the repository's
    configuration and hooks can do no more than the owner could.
    """
    owner = modes.user_of(path)
    if owner is None:
        return Rights()
    # Root's home is closed to the owner, and git fails on that.
    return Rights(owner[0], owner[1], [], {"HOME": "/"})


def _user(uid: int) -> str:
    try:
        return f"uid {uid} ({pwd.getpwuid(uid).pw_name})"
    except KeyError:
        return f"uid {uid}"
