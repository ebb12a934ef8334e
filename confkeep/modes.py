"""Create files and folders with the right permissions: private, or those of a shared folder.

    new folder    0700; 2770 in a folder that somebody shared with a group (setgid, group-writable)
    new file      the permissions of its folder without `x`: 0600 in 0700, 0660 in 2770

Existing folders keep their permissions: in a repository with 0755 new files get 0644. A file that root
creates in another user's folder belongs to that user. The umask stays as it is, since all threads of a
process share it; only in a shared folder is it overruled, by chmod.
"""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from pathlib import Path
from typing import Final

#: A folder that nobody else can enter.
PRIVATE: Final = 0o700
#: A folder whose group has its owner's rights; folders in it inherit the group.
SHARED: Final = 0o2770


def create(path: Path, flags: int, most: int = 0o666) -> int:
    """Open a file; create it if it is missing.

    Args:
        most: upper bound of its permissions.

    Raises:
        OSError: as `os.open`.
    """
    folder = os.stat(path.parent)
    mode = _file_mode(folder.st_mode) & most
    descriptor = os.open(path, flags | os.O_CREAT | os.O_CLOEXEC, mode)
    try:
        if _is_anothers(folder) and os.fstat(descriptor).st_uid == 0:
            os.fchown(descriptor, folder.st_uid, folder.st_gid)
        if _is_shared(folder.st_mode):
            _widen(descriptor, mode)
    except OSError:
        os.close(descriptor)
        if flags & os.O_EXCL:
            os.unlink(path)
        raise
    return descriptor


def copy(source: Path, descriptor: int, most: int = 0o666) -> None:
    """Give a new file the permissions, and if allowed the owner, of the file that it replaces.

    Args:
        most: upper bound of its permissions.
    """
    try:
        found = os.stat(source)
    except FileNotFoundError:
        return
    new = os.fstat(descriptor)
    if os.geteuid() == 0:
        # Do not copy root's ownership from a file that root once left in another user's folder.
        if found.st_uid != 0 and (new.st_uid, new.st_gid) != (found.st_uid, found.st_gid):
            os.fchown(descriptor, found.st_uid, found.st_gid)
    elif new.st_gid != found.st_gid:
        # Only a member may give a file to a group.
        with suppress(PermissionError):
            os.fchown(descriptor, -1, found.st_gid)
    mode = stat.S_IMODE(found.st_mode) & most
    if stat.S_ISREG(found.st_mode) and stat.S_IMODE(new.st_mode) != mode:
        os.fchmod(descriptor, mode)


def widen(descriptor: int, folder: Path) -> None:
    """Give a private new file the permissions of its folder, if that is shared."""
    around = os.stat(folder).st_mode
    if _is_shared(around):
        _widen(descriptor, _file_mode(around))


def make_folders(path: Path) -> None:
    """Create a folder and its missing parents.

    Raises:
        OSError: as `os.mkdir`.
    """
    if path.is_dir():
        return
    make_folders(path.parent)
    try:
        make_folder(path)
    except FileExistsError:
        # Another process made it meanwhile.
        if not path.is_dir():
            raise


def make_folder(path: Path) -> None:
    """Create one folder; its parent must exist.

    Raises:
        FileExistsError: it exists already, and is unchanged.
        OSError: as `os.mkdir`.
    """
    mode = folder_mode(path.parent)
    os.mkdir(path, mode)
    give_to_owner_of(path.parent, path)
    if mode == SHARED:
        os.chmod(path, mode)


def folder_mode(parent: Path) -> int:
    """The mode of a new folder in `parent`."""
    return SHARED if _is_shared(os.stat(parent).st_mode) else PRIVATE


def set_tree(path: Path, mode: int) -> None:
    """Give a new folder and its contents `mode`; files get it without `x`.

    As root, also give them the owner of the parent folder.
    """
    for folder, _folders, files in os.walk(path):
        give_to_owner_of(path.parent, Path(folder))
        os.chmod(folder, mode)
        for name in files:
            give_to_owner_of(path.parent, Path(folder, name))
            os.chmod(os.path.join(folder, name), mode & 0o666)


def give_to_owner_of(folder: Path, path: Path) -> None:
    """As root, give `path` to the owner of `folder`; as another user, do nothing."""
    if os.geteuid() == 0:
        around = os.stat(folder)
        if _is_anothers(around) and os.stat(path).st_uid == 0:
            os.chown(path, around.st_uid, around.st_gid)


def user_of(folder: Path) -> tuple[int, int] | None:
    """User and group as which root starts programs that write into a folder; None: do not switch.

    Such a program obeys the folder's configuration, through which its owner must not get root's rights.
    """
    found = os.stat(folder)
    return (found.st_uid, found.st_gid) if os.geteuid() == 0 and found.st_uid != 0 else None


def umask_for(folder: Path) -> int:
    """The umask that makes another program create files in `folder` with our permissions."""
    return 0o777 & ~(0o700 | os.stat(folder).st_mode)


def is_shared(folder: Path) -> bool:
    """Whether a folder is shared: setgid and group-writable."""
    return _is_shared(os.stat(folder).st_mode)


def is_open_to_others(folder: Path) -> bool:
    """Whether users other than the owner and the group may enter a folder."""
    return bool(os.stat(folder).st_mode & stat.S_IXOTH)


def _is_anothers(folder: os.stat_result) -> bool:
    """Whether we are root, and the folder is another user's."""
    return folder.st_uid != 0 and os.geteuid() == 0


def _is_shared(mode: int) -> bool:
    return bool(mode & stat.S_ISGID and mode & stat.S_IWGRP)


def _file_mode(around: int) -> int:
    return 0o600 | around & 0o066


def _widen(descriptor: int, mode: int) -> None:
    found = os.fstat(descriptor)
    # Leave another user's existing file alone.
    if found.st_uid == os.geteuid() and stat.S_IMODE(found.st_mode) & mode != mode:
        os.fchmod(descriptor, mode)
