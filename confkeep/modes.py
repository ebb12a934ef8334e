"""The permissions of new files and folders: private, or those of the folder around them.

    new folder    0700; 2770 in a folder that somebody shared with a group (setgid, group-writable)
    new file      the permissions of its folder without `x`: 0600 in 0700, 0660 in 2770

What others made stays as they made it: in a repository with 0755 new files are 0644, as before.
What root creates in another user's folder belongs to that user, who else could not go on with it.
Modes are given outright: a process has one umask for all its threads, so none is set, and only in a
shared folder is it overruled.
"""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from pathlib import Path
from typing import Final

#: A folder that nobody else can enter.
PRIVATE: Final = 0o700
#: A folder whose group may do what its owner may, as may that of all below it.
SHARED: Final = 0o2770


def create(path: Path, flags: int, most: int = 0o666) -> int:
    """A descriptor of a file; when it is not there it is created.

    Args:
        most: the permissions that it gets at most.

    Raises:
        OSError: as `os.open`.
    """
    folder = os.stat(path.parent)
    mode = _file_mode(folder.st_mode) & most
    descriptor = os.open(path, flags | os.O_CREAT | os.O_CLOEXEC, mode)
    try:
        if _is_roots(folder, os.fstat(descriptor)):
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
    """Give a new file the permissions, and as far as we may the owner, of the one that it replaces.

    Args:
        most: the permissions that it gets at most.
    """
    try:
        found = os.stat(source)
    except FileNotFoundError:
        return
    new = os.fstat(descriptor)
    if os.geteuid() == 0:
        # A file that root once left among another user's is no example.
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
    """Give a file that was made for its own user alone the permissions of its folder, if that is shared."""
    around = os.stat(folder).st_mode
    if _is_shared(around):
        _widen(descriptor, _file_mode(around))


def make_folders(path: Path) -> None:
    """Create a folder and those above it, as far as they are missing.

    Raises:
        OSError: as `os.mkdir`.
    """
    if path.is_dir():
        return
    make_folders(path.parent)
    try:
        make_folder(path)
    except FileExistsError:
        # Somebody else made it meanwhile.
        if not path.is_dir():
            raise


def make_folder(path: Path) -> None:
    """Create one folder; the one above it must be there.

    Raises:
        FileExistsError: it is there already, and stays as it is.
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
    """Give a new folder and all that is in it `mode`; files get it without `x`.

    As root, also the owner of the folder in which it is.
    """
    for folder, _folders, files in os.walk(path):
        give_to_owner_of(path.parent, Path(folder))
        os.chmod(folder, mode)
        for name in files:
            give_to_owner_of(path.parent, Path(folder, name))
            os.chmod(os.path.join(folder, name), mode & 0o666)


def give_to_owner_of(folder: Path, path: Path) -> None:
    """Let what root made for another user's folder belong to that user; for others does nothing."""
    if os.geteuid() == 0:
        around = os.stat(folder)
        if _is_roots(around, os.stat(path)):
            os.chown(path, around.st_uid, around.st_gid)


def user_of(folder: Path) -> tuple[int, int] | None:
    """User and group as whom root starts programs that write into a folder; None: as ourselves.

    Such a program obeys the folder's configuration, which must not give its owner root's rights.
    """
    found = os.stat(folder)
    return (found.st_uid, found.st_gid) if os.geteuid() == 0 and found.st_uid != 0 else None


def umask_for(folder: Path) -> int:
    """The umask with which another program creates in `folder` what we would."""
    return 0o777 & ~(0o700 | os.stat(folder).st_mode)


def is_shared(folder: Path) -> bool:
    """Whether somebody shared a folder with a group that may write."""
    return _is_shared(os.stat(folder).st_mode)


def is_open_to_others(folder: Path) -> bool:
    """Whether users beside the owner and its group may enter a folder."""
    return bool(os.stat(folder).st_mode & stat.S_IXOTH)


def _is_roots(folder: os.stat_result, made: os.stat_result) -> bool:
    """Whether root made something in the folder of somebody else."""
    return os.geteuid() == 0 and made.st_uid == 0 and folder.st_uid != 0


def _is_shared(mode: int) -> bool:
    return bool(mode & stat.S_ISGID and mode & stat.S_IWGRP)


def _file_mode(around: int) -> int:
    return 0o600 | around & 0o066


def _widen(descriptor: int, mode: int) -> None:
    found = os.fstat(descriptor)
    # Another user's file, which was there before, is not ours to change.
    if found.st_uid == os.geteuid() and stat.S_IMODE(found.st_mode) & mode != mode:
        os.fchmod(descriptor, mode)
