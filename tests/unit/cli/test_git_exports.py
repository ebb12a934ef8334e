"""Plain git trees of exports: each commit is a version; and what an import's errors and questions say."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from pathlib import Path, PurePath

import pytest

from confkeep.errors import InvalidInput
from tests.judge import git
from tests.unit.cli.conftest import ROUTER, Confkeep
from tests.unit.cli.test_sources import Source, bare_copy, contents, made
from worker.cli import sources
from worker.cli.sources import git_exports
from worker.cli.sources.asking import Asker, Nobody, Person
from worker.cli.sources.found import Found
from worker.cli.sources.layouts import Layout, parse
from worker.cli.sources.names import Names


def read(
    folder: Path, tenant: str | None = None, layout: str | None = None, asker: Asker | None = None
) -> Found:
    return git_exports.read(
        folder,
        tenant=tenant,
        names=Names(),
        layout=None if layout is None else parse(layout),
        asker=asker or Nobody(),
    )


@pytest.fixture
def source(tmp_path: Path) -> Source:
    """Exports of two groups, in three commits, beside what is none."""
    source = Source(tmp_path / "exports").init()
    source.commit("first\n\nby cron", {"core1.rsc": b"1\n", "north/edge1.rsc": b"a\n"})
    source.commit("only core1", {"core1.rsc": b"2\n", "README.md": b"hello\n"})
    source.commit("only edge1", {"north/edge1.rsc": b"b\n", ".gitignore": b"*.tmp\n"})
    return source


@pytest.mark.parametrize("bare", [False, True], ids=["working copy", "bare"])
def test_each_commit_that_changed_a_file_is_a_version(
    source: Source, tmp_path: Path, bare: bool
) -> None:
    folder = bare_copy(source, tmp_path / "exports.git") if bare else source.path
    assert sources.detect(folder) == sources.GIT
    found = read(folder, "acme")
    assert contents(found, "acme/core1") == [b"1\n", b"2\n"]
    assert contents(found, "acme/north/edge1") == [b"a\n", b"b\n"]
    said = [(c.row.label, c.row.group, c.message.split("\n\nBy")[0]) for c in found.captures]
    assert sorted(said, key=str) == [
        ("core1", None, "first\n\nby cron"),
        ("core1", None, "only core1"),
        ("edge1", "north", "first\n\nby cron"),
        ("edge1", "north", "only edge1"),
    ]
    zone = dt.timezone(dt.timedelta(hours=5, minutes=30))
    dates = [c.captured_at for c in found.captures if c.row.label == "edge1"]
    assert dates == [dt.datetime.fromtimestamp(1_600_000_000 + s, zone) for s in (60, 180)]
    assert found.left_out == ["README.md was left out: it is no export"]


def test_a_folder_within_a_tree_has_its_part_of_the_history(source: Source) -> None:
    folder = source.path / "north"
    assert sources.detect(folder) == sources.GIT
    assert contents(read(folder, "acme"), "acme/edge1") == [b"a\n", b"b\n"]
    # What git does not know of is a folder of exports, whatever it lies in.
    (source.path / "new").mkdir()
    (source.path / "new" / "core2.rsc").write_bytes(b"x\n")
    assert sources.detect(source.path / "new") == sources.EXPORTS


def test_several_trees_are_told_apart_by_their_names(tmp_path: Path) -> None:
    for tenant in ("acme", "other"):
        tree = Source(tmp_path / "work" / tenant).init()
        tree.commit("new", {"core1.cfg": tenant.encode(), "edge1.cfg": b"x"})
        bare_copy(tree, tmp_path / "all" / f"{tenant}.git")
    assert sources.detect(tmp_path / "all") == sources.GIT
    found = read(tmp_path / "all")
    assert sorted(found.named_ids) == [
        *("acme", "acme/core1", "acme/edge1", "other", "other/core1", "other/edge1")
    ]
    assert contents(found, "other/core1") == [b"other"]
    bare_copy(Source(tmp_path / "work" / "acme"), tmp_path / "all" / "acme")
    with pytest.raises(InvalidInput, match=r"both hold acme/core1"):
        read(tmp_path / "all")


def test_a_binary_beside_an_export_comes_with_it(tmp_path: Path) -> None:
    source = Source(tmp_path / "exports").init()
    source.commit("no binary", {"core1.rsc": b"1\n"})
    source.commit("both", {"core1.rsc": b"2\n", "core1.backup": b"\x88two"})
    source.commit("binary only", {"core1.backup": b"\x88three"})
    source.commit("another device", {"edge1.rsc": b"x\n"})
    source.commit("no binary any more", {"core1.backup": None})
    found = read(source.path, "acme")
    its = [c for c in found.captures if c.row.label == "core1"]
    assert [c.read() for c in its] == [
        (b"1\n", None),
        (b"2\n", b"\x88two"),
        (b"2\n", b"\x88three"),
        (b"2\n", None),
    ]
    assert [c.has_binary for c in its] == [False, True, True, False]
    assert found.left_out == []


def test_removed_devices_keep_their_versions(source: Source) -> None:
    source.commit("gone", {"north/edge1.rsc": None})
    found = read(source.path, "acme")
    assert contents(found, "acme/north/edge1") == [b"a\n", b"b\n"]
    assert any("north/edge1.rsc was removed in" in note for note in found.notes)


def test_what_is_not_committed_is_told(source: Source) -> None:
    (source.path / "core1.rsc").write_bytes(b"3\n")
    (source.path / "new.rsc").write_bytes(b"x\n")
    (source.path / "notes.md").write_bytes(b"x\n")
    [_readme, line] = read(source.path, "acme").left_out
    assert "2 exports that git has not committed as now, such as core1.rsc" in line
    (source.path / ".git" / "index").write_bytes(b"damaged")
    [_readme, line] = read(source.path, "acme").left_out
    assert "git cannot compare the working copy" in line


@pytest.mark.parametrize(
    "files",
    [
        ["acme/core1/2026-10-01.rsc", "acme/core1/2026-10-02.rsc"],
        ["acme/core1/1.rsc", "acme/core1/2.rsc"],
        ["core1_2026-10-01.rsc"],
        ["2026-10-01/core1.cfg"],
    ],
)
def test_a_working_copy_with_a_file_for_each_capture_is_a_folder_of_exports(
    tmp_path: Path, files: list[str]
) -> None:
    source = Source(tmp_path / "exports").init()
    source.commit("all", dict.fromkeys(files, b"x\n"))
    assert sources.detect(source.path) == sources.EXPORTS
    # A bare repository has no folder.
    assert sources.detect(bare_copy(source, tmp_path / "exports.git")) == sources.GIT
    found = read(tmp_path / "exports.git", None if files[0].startswith("acme") else "acme")
    assert {capture.row.label for capture in found.captures} == {"core1"}


def test_oxidizeds_files_have_no_endings(tmp_path: Path) -> None:
    source = Source(tmp_path / "oxidized").init()
    source.commit("new", {"core1": b"1", "site/core-sw1.example.net": b"2", "README.txt": b"3"})
    assert sources.detect(source.path) == sources.OXIDIZED


def test_a_working_copy_without_a_commit_is_a_folder_of_exports(tmp_path: Path) -> None:
    source = Source(tmp_path / "exports").init()
    (source.path / "core1.rsc").write_bytes(b"1\n")
    assert sources.detect(source.path) == sources.EXPORTS


# --- questions


class Scripted(Person):
    """Answers as told, and keeps what it was asked."""

    def __init__(self, choice: int) -> None:
        self.choice = choice
        self.asked: list[str] = []

    def layout(
        self, found: Sequence[Layout], paths: Sequence[PurePath], *, with_tenant: bool
    ) -> Layout:
        assert paths
        assert not with_tenant
        self.asked += [layout.text for layout in found]
        return found[self.choice]

    def tenant(self, layout: Layout) -> str:
        self.asked.append(f"whose is {layout.text}")
        return "typed"


def test_a_lone_folder_may_be_a_tenant_or_none(tmp_path: Path) -> None:
    source = Source(tmp_path / "net").init()
    source.commit("new", {"configs/core1.cfg": b"1\n", "configs/edge1.cfg": b"1\n"})
    with pytest.raises(InvalidInput) as caught:
        read(source.path)
    said = str(caught.value)
    assert "{tenant}/{device} (device core1 of tenant configs)" in said
    assert "--layout '{tenant}/{device}' or --layout '{any}/{device}' --tenant NAME" in said
    asker = Scripted(1)
    assert made("typed/core1") in read(source.path, asker=asker).named_ids.values()
    assert asker.asked == ["{tenant}/{device}", "{any}/{device}", "whose is {any}/{device}"]
    # Each that the error names works.
    assert "configs/core1" in read(source.path, layout="{tenant}/{device}").named_ids
    assert "acme/core1" in read(source.path, "acme", "{any}/{device}").named_ids


def test_a_person_sees_two_examples_of_each_reading(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("click.termui.visible_prompt_func", lambda _text: "2")
    paths = [PurePath(f"acme/core{number}.rsc") for number in (1, 2, 3)]
    found = [parse("{tenant}/{device}"), parse("{device}/{any}")]
    chosen = Person().layout(found, paths, with_tenant=False)
    assert chosen is found[1]
    assert capsys.readouterr().err.splitlines()[:7] == [
        "The paths can be read in 2 ways:",
        "  1  {tenant}/{device}",
        "       acme/core1.rsc  is  device core1 of tenant acme",
        "       acme/core2.rsc  is  device core2 of tenant acme",
        "  2  {device}/{any}",
        "       acme/core1.rsc  is  device acme",
        "       acme/core2.rsc  is  device acme",
    ]


# --- errors: what was found, and what would work


def refused(confkeep: Confkeep, *arguments: str | Path) -> str:
    done = confkeep("import", *arguments)
    assert done.exit_code == 2, done.output
    assert done.stdout == ""
    return done.stderr


def test_a_device_that_looks_like_a_date_is_asked_about(tmp_path: Path, confkeep: Confkeep) -> None:
    for name in ("2026-10-01/core1.rsc", "latest/core1.rsc"):
        (tmp_path / "exports" / name).parent.mkdir(parents=True)
        (tmp_path / "exports" / name).write_bytes(b"/ip\n")
    folder = tmp_path / "exports"
    said = refused(confkeep, folder, "--tenant", "acme")
    assert "{date}/{device} (device core1 of 2026-10-01) or {device}/{any} (device 2026-10" in said
    assert "--layout '{date}/{device}' or --layout '{device}/{any}'\n" in said
    done = confkeep(
        "import", folder, "--tenant", "acme", "--layout", "{date}/{device}", "--dry-run"
    )
    assert "Would import from exports 1 backup of 1 device of 1 tenant" in done.stdout
    assert "latest/core1.rsc was left out: the paths are read as {date}/{device}" in done.stdout


def test_a_reading_that_leaves_a_file_out_says_so(tmp_path: Path, confkeep: Confkeep) -> None:
    for name in ("2026-10-01.rsc", "core1.rsc"):
        (tmp_path / name).write_bytes(b"/ip\n")
    said = refused(confkeep, tmp_path, "--tenant", "acme")
    assert "2026-10-01.rsc may be read as {device} (device 2026-10-01) or {date} (the only" in said


def test_the_errors_name_what_was_found(tmp_path: Path, confkeep: Confkeep) -> None:
    folder = tmp_path / "exports"
    folder.mkdir()
    assert "it holds no file" in refused(confkeep, folder)
    (folder / "core1.rsc.gz").write_bytes(b"x")
    said = refused(confkeep, folder)
    assert "they are looked for as .rsc" in said
    assert "it holds 1 with .gz: unpack them first" in said
    (folder / "core1.rsc.gz").unlink()
    (folder / "core1.backup").write_bytes(b"x")
    assert "a .backup needs its export beside it" in refused(confkeep, folder)

    (folder / "core1.rsc").write_bytes(b"/ip\n")
    said = refused(confkeep, folder, "--layout", "{tenant}/{device}")
    assert "fits none of the paths, such as core1.rsc; without --layout they are read as" in said
    assert "--tenant: NAME is needed" in refused(confkeep, folder)
    assert "--tenant: must not be blank" in refused(confkeep, folder, "--tenant", " ")
    assert "is a file; name its folder" in refused(confkeep, folder / "core1.rsc")
    assert "holds exports: did you mean that?" in refused(confkeep, tmp_path / "export")
    assert "is not there" in refused(confkeep, tmp_path / "x" / "y")

    said = refused(confkeep, folder, "--from", "rancid")
    assert "it holds no configs/ with a router.db beside it. Without --from it is taken as" in said
    assert "is no store" in refused(confkeep, folder, "--from", "store")
    assert "is no git" in refused(confkeep, folder, "--from", "git")
    assert "is no oxidized" in refused(confkeep, folder, "--from", "oxidized")

    deep = folder / "a" / "b" / "c"
    deep.mkdir(parents=True)
    (folder / "core1.rsc").rename(deep / "core1.rsc")
    assert "--layout '{tenant}/{any}/{any}/{device}'" in refused(confkeep, folder)
    assert "--layout '{group}/{device}'" in refused(confkeep, folder, "--tenant", ROUTER)


def test_a_tree_without_exports_and_one_that_git_cannot_read(
    tmp_path: Path, confkeep: Confkeep
) -> None:
    source = Source(tmp_path / "tree").init()
    source.commit("new", {"main.py": b"x"})
    said = refused(confkeep, source.path, "--from", "git", "--tenant", "acme")
    assert "has no export" in said
    assert "its history has 1 file" in said
    said = refused(confkeep, source.path, "--layout", "{device}", "--tenant", "acme")
    assert "has no export" in said

    source.commit("export", {"core1.rsc": b"1\n"})
    head = git(source.path, "rev-parse", "HEAD^{tree}").decode().strip()
    (source.path / ".git" / "objects" / head[:2] / head[2:]).unlink()
    assert "--from exports takes its files as they are" in refused(confkeep, source.path)
    planned = ("--from", "exports", "--tenant", "acme", "--dry-run")
    assert confkeep("import", source.path, *planned).exit_code == 0


def test_a_layout_is_for_exports(tmp_path: Path, confkeep: Confkeep) -> None:
    (tmp_path / "core" / "configs").mkdir(parents=True)
    (tmp_path / "core" / "router.db").write_bytes(b"r1;mikrotik;up\n")
    assert "--layout is for exports, and DIR is taken as rancid" in refused(
        confkeep, tmp_path / "core", "--layout", "{device}"
    )
