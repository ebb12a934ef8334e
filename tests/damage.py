"""What tests damage in a repository, and where in its files the things stand that they damage."""

from __future__ import annotations

from pathlib import Path

from tests.judge import git


def loosen(path: Path) -> None:
    """Make all objects of a repository loose, as git's own tools and adopted stores have them."""
    folder = path / "objects" / "pack"
    for pack in folder.glob("*.pack"):
        whole = pack.read_bytes()
        for file in folder.glob(f"{pack.stem}.*"):
            file.unlink()
        git(path, "unpack-objects", "-q", stdin=whole)


def loose(path: Path, id_: str) -> Path:
    """The file of a loose object, which may be written to."""
    file = path / "objects" / id_[:2] / id_[2:]
    file.chmod(0o644)
    return file


def flipped(data: bytes, bit: int) -> bytes:
    """With one bit flipped: the first byte has those from 0 to 7."""
    changed = bytearray(data)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def flip(file: Path, at: int | None = None, *, bit: int = 0) -> None:
    """Flip a bit of the byte there, or in the file's middle. An empty file stays as it is."""
    data = file.read_bytes()
    if data:
        file.chmod(0o644)  # git's own files may not be written to
        file.write_bytes(flipped(data, 8 * (len(data) // 2 if at is None else at) + bit))


def offset_at(idx: bytes, id_: bytes) -> int:
    """Where an idx has the four bytes that say where in the pack an object begins."""
    count = int.from_bytes(idx[1028:1032], "big")
    return 1032 + 24 * count + 4 * ((idx.index(id_, 1032) - 1032) // 20)


def contents_of(folder: Path) -> dict[str, bytes]:
    """All files by their names, to see whether something changed."""
    return {
        file.relative_to(folder).as_posix(): file.read_bytes()
        for file in sorted(folder.rglob("*"))
        if file.is_file()
    }
