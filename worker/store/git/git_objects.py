"""Reads and checks git's objects with git itself, so that a damaged file can only crash git."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import re
import subprocess
import tempfile
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Final, Self

import pygit2

from worker.store.git.git_process import NICE, Finished, Git, Progress, end

BLOB, COMMIT, TREE = b"blob", b"commit", b"tree"
_KINDS: Final = {1: COMMIT, 2: TREE, 3: BLOB, 4: b"tag"}

#: Do not use files that only make reading faster: they may be damaged.
_PLAINLY: Final = ("-c", "core.commitGraph=false", "-c", "core.multiPackIndex=false")
#: Otherwise git maps whole packs: 681 MB for one of 656 MB, and no faster.
_BOUNDED: Final = ("-c", "core.packedGitLimit=64m", "-c", "core.packedGitWindowSize=8m")
#: Objects kept in memory, since a history asks for each commit and root tree twice.
_KEPT: Final = 8
#: Objects asked of one git process.
_ASKED: Final = 20_000
#: Objects read before libgit2's caches are dropped.
_LET_GO: Final = 4_096
_MOST_KEPT_BYTES: Final = 4 << 20
_LOOSE: Final = re.compile(r"[0-9a-f]{38}")


class BadObject(Exception):
    """An object is missing, or its bytes are not those that its id stands for."""


@contextmanager
def git_for_objects(
    path: Path,
    *,
    deadline: float = float("inf"),
    stop: Callable[[], bool] | None = None,
    held: int | None = None,
    nice: int = NICE,
) -> Iterator[Git]:
    """A git that reads only the objects of the repository at `path`.

    So it also works when HEAD, refs or configuration are damaged. Since it reads none of the
    owner's configuration, root may run it as itself.
    """
    with tempfile.TemporaryDirectory(prefix="confkeep-") as folder:
        for name in ("objects", "refs"):
            os.mkdir(os.path.join(folder, name))
        Path(folder, "HEAD").write_bytes(b"ref: refs/heads/main\n")
        own = {"GIT_DIR": folder, "GIT_OBJECT_DIRECTORY": str(path.absolute() / "objects")}
        yield Git(path, held, deadline, stop=stop, environment=own, as_owner=False, nice=nice)


def loose_ids(path: Path) -> Iterator[str]:
    """The ids of all loose objects of a repository, from their file names."""
    for folder in sorted((path / "objects").glob("[0-9a-f][0-9a-f]")):
        # A concurrent repack removes folders that it empties.
        with suppress(FileNotFoundError):
            for name in sorted(os.listdir(folder)):
                if _LOOSE.fullmatch(name):
                    yield folder.name + name


class GitObjects:
    """All objects of one repository, each checked against its id as it is read.

    What asks git raises what `Git.run` raises.
    """

    def __init__(self, git: Git) -> None:
        self._git = git
        self._process: subprocess.Popen[bytes] | None = None
        self._kept: dict[bytes, tuple[bytes, bytes]] = {}
        #: libgit2's view of the repository, if nothing is damaged: it is faster than another
        #: process.
        self.sound: pygit2.Repository | None = None
        self._read_soundly = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._end()

    def _end(self) -> None:
        if self._process is not None:
            end(self._process)
            self._process = None

    def ids(self, kinds: Sequence[bytes] = (BLOB, COMMIT, TREE, b"tag")) -> list[bytes]:
        """The ids of all objects of these kinds, each once, roughly in their order on disk.

        Includes objects that are so damaged that git cannot tell their kind.
        """
        asked = ("--batch-all-objects", "--unordered", "--batch-check=%(objecttype) %(objectname)")
        found = self._git.run(*_PLAINLY, "cat-file", *asked).splitlines()
        listed = (line.split(b" ") for line in found)
        # For an object whose kind it cannot tell, git prints `ID missing`.
        chosen = (
            first if second == b"missing" else second
            for first, second in listed
            if first in kinds or second == b"missing"
        )
        return list(dict.fromkeys(bytes.fromhex(id_.decode()) for id_ in chosen))

    def disk_bytes(self, ids: Collection[bytes]) -> int:
        """Bytes that these objects take on disk, packed or loose.

        Of an object that is there several times one copy counts, and of a missing one none.
        """
        if not ids:
            return 0
        asked = (b"%s\n" % id_.hex().encode() for id_ in sorted(ids))
        sizes = self._git.run(
            *_PLAINLY, "cat-file", "--batch-check=%(objectsize:disk)", "--buffer", stdin=asked
        )
        return sum(int(size) for size in sizes.splitlines() if size.isdigit())

    def read(self, id_: bytes, kind: bytes | None = None) -> bytes:
        """An object's bytes. Blobs are read faster by `each`.

        Raises:
            BadObject: it is missing, damaged or not of that kind.
        """
        real, data = self._kept.get(id_) or self._read_sound(id_) or self._read(id_)
        if kind is not None and real != kind:
            raise BadObject(f"it is a {real.decode()}")
        return data

    def _read_sound(self, id_: bytes) -> tuple[bytes, bytes] | None:
        if self.sound is None:
            return None
        self._read_soundly += 1
        if self._read_soundly % _LET_GO == 0:
            # libgit2 keeps up to 16 MB of trees for each pack.
            self.sound.free()
        try:
            # libgit2 also compares an object with its id.
            kind, data = self.sound.odb.read(pygit2.Oid(raw=id_))
        except (KeyError, ValueError, pygit2.GitError):
            return None
        return self._keep(id_, _KINDS[kind], data)

    def _keep(self, id_: bytes, kind: bytes, data: bytes) -> tuple[bytes, bytes]:
        if kind in (COMMIT, TREE) and len(data) <= _MOST_KEPT_BYTES:
            if len(self._kept) >= _KEPT:
                del self._kept[next(iter(self._kept))]
            self._kept[id_] = kind, data
        return kind, data

    def _read(self, id_: bytes) -> tuple[bytes, bytes]:
        header = self._ask(b"contents", id_)
        if header.split()[1:2] == [BLOB]:
            # Git may have announced more bytes than it prints; then it waits for the next question.
            self._end()
            return self._alone(id_.hex().encode())
        assert self._process is not None
        assert self._process.stdout is not None
        found = _next_object(self._process.stdout, header)
        if found is None:
            # Git exits at a damaged object. The next object gets a new git.
            self._end()
            raise BadObject("git cannot read it")
        kind, data = found
        _check(id_.hex().encode(), kind, data)
        return self._keep(id_, kind, data)

    def __contains__(self, id_: bytes) -> bool:
        return id_ in self._kept or len(self._ask(b"info", id_).split()) == 3

    def _ask(self, what: bytes, id_: bytes) -> bytes:
        """The first line of git's answer; empty if git has exited."""
        if self._process is None:
            arguments = (*_PLAINLY, *_BOUNDED, "cat-file", "--batch-command")
            self._process = self._git.start(
                *arguments, stdin=subprocess.PIPE, stderr=subprocess.DEVNULL
            )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(b"%s %s\n" % (what, id_.hex().encode()))
            self._process.stdin.flush()
        except BrokenPipeError:
            return b""
        return self._process.stdout.readline()

    def each(self, ids: Sequence[bytes]) -> Iterator[tuple[bytes, bytes, bytes | BadObject]]:
        """Yields each object's id, kind and bytes, or what is wrong with it."""
        found = self.named([id_.hex().encode() for id_ in ids])
        for id_, (kind, data) in zip(ids, found, strict=True):
            yield id_, kind, data

    def named(self, names: Sequence[bytes]) -> Iterator[tuple[bytes, bytes | BadObject]]:
        """Yields kind and bytes of what each name stands for, an id or `ID:PATH`; or what is wrong with it."""
        done = 0
        while done < len(names):
            end_at = min(done + _ASKED, len(names))
            with tempfile.TemporaryFile() as asked:
                asked.writelines(b"%s\n" % name for name in names[done:end_at])
                asked.seek(0)
                arguments = (*_PLAINLY, *_BOUNDED, "cat-file", "--batch", "--buffer")
                process = self._git.start(*arguments, stdin=asked, stderr=subprocess.DEVNULL)
            assert process.stdout is not None
            try:
                while done < end_at:
                    header = process.stdout.readline()
                    try:
                        found = _next_object(process.stdout, header)
                    except BadObject as error:
                        yield b"", error
                    else:
                        if found is None or not _is(header[:40], *found):
                            break
                        yield found
                    done += 1
            finally:
                end(process)
            # At a damaged object git exits, or its answers are out of step. A new one is asked for the rest.
            if done < end_at:
                try:
                    yield self._alone(names[done])
                except BadObject as error:
                    yield b"", error
                done += 1

    def _alone(self, name: bytes) -> tuple[bytes, bytes]:
        """Kind and bytes of one object, from a git that is asked for nothing else.

        Of an object that is in two packs, and damaged in one, git may announce the damaged one's
        size and print the other one: it is all that it prints.

        Raises:
            BadObject: git cannot read it, or its bytes are not those that its id stands for.
        """
        arguments = (*_PLAINLY, *_BOUNDED, "cat-file", "--batch")
        process = self._git.start(*arguments, stdin=subprocess.PIPE, stderr=subprocess.DEVNULL)
        try:
            printed, _ = process.communicate(name + b"\n")
        finally:
            end(process)
        header, _, data = printed.partition(b"\n")
        words = header.split()
        if len(words) != 3 or process.returncode:
            raise BadObject("git cannot read it")
        data = data.removesuffix(b"\n")
        _check(words[0], words[1], data)
        return words[1], data

    def fsck(self, tips: Sequence[bytes], progress: Progress) -> Finished:
        """What `git fsck` says about whether all that the tips lead to exists; hashes nothing."""
        heads = [tip.hex() for tip in tips]
        git = dataclasses.replace(self._git, progress=progress)
        how = ("--connectivity-only", "--no-dangling", "--progress")
        return git.finish(*_PLAINLY, *_BOUNDED, "fsck", *how, *heads)


def _next_object(answers: IO[bytes], header: bytes) -> tuple[bytes, bytes] | None:
    """Kind and bytes of the object that git prints; None if it exits, or prints more or fewer.

    Raises:
        BadObject: it is missing.
    """
    words = header.split()
    if len(words) == 2:
        raise BadObject("it is missing")
    if len(words) != 3:
        return None
    try:
        data = answers.read(int(words[2]))
    except (MemoryError, OverflowError):
        # The size is that of a damaged object.
        return None
    return (words[1], data) if answers.read(1) == b"\n" else None


def _check(id_: bytes, kind: bytes, data: bytes) -> None:
    if not _is(id_, kind, data):
        raise BadObject("its bytes are not those that its id stands for")


def _is(id_: bytes, kind: bytes, data: bytes) -> bool:
    """Whether the id, in hexadecimal, stands for these bytes."""
    hasher = hashlib.sha1(b"%s %d\0" % (kind, len(data)), usedforsecurity=False)
    hasher.update(data)
    return hasher.hexdigest().encode() == id_
