"""Writing files so that they last, and who may do it."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from confkeep.errors import StoreUnavailable
from worker.store.git import durable

STORE = Path(durable.__file__).parent


def test_only_one_module_of_the_store_syncs_and_renames() -> None:
    forbidden = re.compile(r"\b(?:os\.(?:f(?:data)?sync|rename|replace)|fsync\()|\.rename\(")
    found = [
        f"{file.name}: {line.strip()}"
        for file in STORE.glob("*.py")
        if file.name != "durable.py"
        for line in file.read_text().splitlines()
        if forbidden.search(line) and "durable.rename(" not in line
    ]
    assert found == []


def test_short_writes_are_gone_on_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real_write, real_writev = os.write, os.writev
    monkeypatch.setattr(os, "write", lambda fd, data: real_write(fd, data[:3]))
    monkeypatch.setattr(os, "writev", lambda fd, data: real_writev(fd, data[:1]))
    pieces = [b"%d " % number for number in range(2_500)]
    durable.create_file(tmp_path / "file", iter(pieces))
    assert (tmp_path / "file").read_bytes() == b"".join(pieces)


def test_a_file_that_is_there_is_left_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"old")
    with pytest.raises(FileExistsError):
        durable.create_file(tmp_path / "file", [b"new"])
    assert (tmp_path / "file").read_bytes() == b"old"


def test_a_tree_is_synced_while_others_take_temporary_files_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "folder").mkdir()
    for name in ("kept", "tmp_one", "tmp_two", "folder/tmp_three"):
        (tmp_path / name).touch()
    synced = set()
    real_fsync = os.fsync

    def fsync(descriptor: int) -> None:
        synced.add(os.readlink(f"/proc/self/fd/{descriptor}"))
        for path in tmp_path.rglob("tmp_*"):
            path.unlink()
        real_fsync(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    durable.sync_tree(tmp_path, living=True)
    assert {str(tmp_path), str(tmp_path / "folder"), str(tmp_path / "kept")} <= synced


@pytest.mark.parametrize("step", ["fsync", "writev", "rename"])
def test_nothing_is_left_of_a_replacement_that_failed(
    step: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_arguments: object) -> None:
        raise OSError(28, "injected")

    (tmp_path / "HEAD").write_bytes(b"old")
    monkeypatch.setattr(os, step, refuse)
    with (
        pytest.raises(StoreUnavailable, match="no space left"),
        durable.file_system_errors("a repository"),
    ):
        durable.replace_file(tmp_path / "HEAD", b"new")
    assert [file.name for file in tmp_path.iterdir()] == ["HEAD"]
    assert (tmp_path / "HEAD").read_bytes() == b"old"


def test_a_line_that_a_crash_cut_short_is_ended_before_the_next_one(tmp_path: Path) -> None:
    file = tmp_path / "audit"
    for line in (b"one\n", b"two\n"):
        durable.append_to_file(file, line)
    assert file.read_bytes() == b"one\ntwo\n"
    os.truncate(file, 6)
    durable.append_to_file(file, b"three\n")
    assert file.read_bytes() == b"one\ntw\nthree\n"
