"""The permissions of what is created: its own user's alone, or what the folder around it says; it syncs nothing.

    new folder    0700; 2770 in a folder that somebody shared with a group (setgid, group-writable)
    new file      the permissions of its folder without `x`: 0600 in 0700, 0660 in 2770

What others made stays as they made it: in a repository with 0755 new files are 0644, as before.
Modes are given outright: a process has one umask for all its threads, so none is set, and only in a
shared folder is it overruled.
"""

from __future__ import annotations

import os
import stat
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
    around = os.stat(path.parent).st_mode
    mode = _file_mode(around) & most
    descriptor = os.open(path, flags | os.O_CREAT | os.O_CLOEXEC, mode)
    if _is_shared(around):
        _widen(descriptor, mode)
    return descriptor


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
    if mode == SHARED:
        os.chmod(path, mode)


def folder_mode(parent: Path) -> int:
    """The mode of a new folder in `parent`."""
    return SHARED if _is_shared(os.stat(parent).st_mode) else PRIVATE


def set_tree(path: Path, mode: int) -> None:
    """Give a new folder and all that is in it `mode`; files get it without `x`."""
    for folder, _folders, files in os.walk(path):
        os.chmod(folder, mode)
        for name in files:
            os.chmod(os.path.join(folder, name), mode & 0o666)


def narrow(path: Path) -> None:
    """Take from a file what its folder does not grant; for what a library made by the umask."""
    allowed, found = _file_mode(os.stat(path.parent).st_mode), stat.S_IMODE(os.stat(path).st_mode)
    if found & ~allowed & 0o077:
        os.chmod(path, found & (allowed | 0o700))


def umask_for(folder: Path) -> int:
    """The umask with which another program creates in `folder` what we would."""
    return 0o777 & ~(0o700 | os.stat(folder).st_mode)


def is_open_to_others(folder: Path) -> bool:
    """Whether users beside the owner and its group may enter a folder."""
    return bool(os.stat(folder).st_mode & stat.S_IXOTH)


def _is_shared(mode: int) -> bool:
    return bool(mode & stat.S_ISGID and mode & stat.S_IWGRP)


def _file_mode(around: int) -> int:
    return 0o600 | around & 0o066


def _widen(descriptor: int, mode: int) -> None:
    found = os.fstat(descriptor)
    # Another user's file, which was there before, is not ours to change.
    if found.st_uid == os.geteuid() and stat.S_IMODE(found.st_mode) & mode != mode:
        os.fchmod(descriptor, mode)
