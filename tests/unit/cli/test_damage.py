"""Each file of a repository damaged in several ways: every reading command says so, and serves the others."""

from __future__ import annotations

import functools
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis
from click.testing import CliRunner, Result

from confkeep.errors import ConfkeepError, RepositoryDamaged
from confkeep.settings import get_settings
from tests.damage import flip
from tests.judge import git
from tests.unit.cli.conftest import OTHER_TENANT, ROUTER, SWITCH, TENANT, Confkeep, Store
from worker.cli import cli
from worker.figures.store_figures import StoreFigures
from worker.observe import metrics
from worker.store.repository.id_map import FILE_NAME
from worker.store.repository.tenant_repository import open_repository, repository_path
from worker.store.rewriting.retention import apply_retention
from worker.store.rewriting.retention_rules import policy_of
from worker.store.upkeep import verify_refs
from worker.store.upkeep.repack import repack
from worker.store.upkeep.verify import verify_repository
from worker.store.upkeep.verify_report import Report
from worker.store.writing.commit import Writer

LOST = "0123456789abcdef0123456789abcdef01234567"

#: What damages a file, given its path.
WAYS: dict[str, Callable[[Path], object]] = {
    "bit": flip,
    "first bit": lambda file: flip(file, 0),
    "cut": lambda file: file.write_bytes(file.read_bytes()[: file.stat().st_size // 2]),
    "empty": lambda file: file.write_bytes(b""),
    "garbage": lambda file: file.write_bytes(bytes(range(1, 256)) * 3),
    "folder": lambda file: _folder(file),
    "gone": lambda file: file.unlink(),
}

READING = (
    ["history", TENANT],
    ["history", TENANT, ROUTER],
    ["show", TENANT, ROUTER],
    ["diff", TENANT, ROUTER],
    ["restore", TENANT, ROUTER, "--force", "-o", "restored"],
    ["retention", "plan", TENANT],
    ["retention", "show", TENANT],
)
#: Those that go through all tenants.
OF_ALL = (
    ["verify"],
    ["history"],
    ["stale", "--older-than", "1d"],
    ["drill", "--sample", "2"],
    ["retention", "plan"],
)


def _folder(file: Path) -> None:
    file.unlink()
    file.mkdir()
    (file / "x").write_bytes(b"")


def _fill(store: Store) -> None:
    for round_ in range(3):
        for tenant in (TENANT, OTHER_TENANT):
            for device in (ROUTER, SWITCH):
                store.add(device, b"/ip address\nadd n=%d\n" % round_, b"\x88b", tenant_id=tenant)
    for tenant in (TENANT, OTHER_TENANT):
        path = repository_path(store.path, tenant)
        now_s = int(time.time()) + 10
        apply_retention(
            open_repository(path), policy_of({"keep_last": 2}), now_s=now_s, grace_s=86_400
        )
        store.add(ROUTER, b"/ip address\nadd last\n", None, tenant_id=tenant)
    # One pack each, with a multi-pack-index's helpers: a commit-graph.
    repack(repository_path(store.path, TENANT), full=True)
    store.add(SWITCH, b"/ip address\nadd last\n", None)


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of two tenants with every kind of file; nobody damages it."""
    folder = tmp_path_factory.mktemp("sound") / "store"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CONFKEEP_GIT_STORE_PATH", str(folder))
        get_settings.cache_clear()
        _fill(Store(folder))
    get_settings.cache_clear()
    return folder


@pytest.fixture
def damaged(
    sound: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[], Path]]:
    """Makes a copy of the sound store, in a place that was never used; the settings name it."""
    number = 0
    monkeypatch.chdir(tmp_path)

    def make() -> Path:
        nonlocal number
        number += 1
        copy = tmp_path / f"store{number}"
        shutil.copytree(sound, copy)
        for folder, _folders, names in os.walk(copy):
            for name in names:
                os.chmod(os.path.join(folder, name), 0o600)
        monkeypatch.setenv("CONFKEEP_GIT_STORE_PATH", str(copy))
        get_settings.cache_clear()
        return copy

    yield make
    get_settings.cache_clear()


def run(*words: str) -> Result:
    done = CliRunner().invoke(cli, list(words))
    unforeseen = done.exception is not None and not isinstance(done.exception, SystemExit)
    assert not unforeseen, (words, done.exc_info)
    assert "Traceback" not in done.output, words
    return done


def files_of(path: Path) -> list[str]:
    found = [file.relative_to(path).as_posix() for file in path.rglob("*") if file.is_file()]
    return sorted(name for name in found if "hooks/" not in name and "flock" not in name)


def look_at(store: Path, what: str) -> None:
    """Every reading command comes to an end that is declared, and the other tenant is served."""
    for words in READING:
        run(*words)
    for words in OF_ALL:
        done = run(*words, "--json")
        said = json.loads(done.stdout)
        served = [each["tenant_id"] for each in said.get("tenants", [])]
        if words[0] == "stale":
            assert said["devices"] >= 2, (what, words, done.output)
        else:
            assert OTHER_TENANT in served, (what, words, done.output)
        assert TENANT in [*served, *(each["tenant_id"] for each in said.get("errors", []))] or (
            words[0] == "stale"
        ), (what, words)
    figures = StoreFigures(store, stale_after_s=3600, worst=5)
    figures.look()
    samples = {sample.metric: sample.value for sample in figures.samples() if not sample.labels}
    assert samples[metrics.TENANTS] == 2
    assert samples[metrics.DEVICES] in (2, 4), (what, samples)


@pytest.mark.parametrize("part", [0, pytest.param(1, marks=pytest.mark.chaos)])
@pytest.mark.parametrize("way", WAYS)
def test_no_damage_ends_a_reading_command_or_keeps_another_tenant_from_it(
    way: str, part: int, sound: Path, damaged: Callable[[], Path]
) -> None:
    """Each way for every second kind of file, and each kind in every second way; the others in the long form."""
    names = files_of(repository_path(sound, TENANT))
    kinds = {name.rpartition(".")[2] if "pack/" in name else name for name in names}
    assert kinds >= {"pack", "idx", "HEAD", "config", FILE_NAME, "refs/heads/main"}
    # Of each kind of file one is enough: the others are read by the same code.
    one_of_each = {kind: name for name, kind in ((n, _kind(n)) for n in names)}.values()
    for name in [*one_of_each][([*WAYS].index(way) + part) % 2 :: 2]:
        store = damaged()
        WAYS[way](repository_path(store, TENANT) / name)
        look_at(store, f"{way} of {name}")


def _kind(name: str) -> str:
    return name.rpartition(".")[2] if "pack/" in name else name


MAINS: dict[str, Callable[[Path], object]] = {
    "garbage": lambda main: main.write_bytes(b"\xff\0garbage"),
    "empty": lambda main: main.write_bytes(b""),
    "a missing object": lambda main: main.write_bytes(LOST.encode() + b"\n"),
    "a symbolic ref": lambda main: main.write_bytes(b"ref: refs/heads/other\n"),
    "itself": lambda main: main.write_bytes(b"ref: refs/heads/main\n"),
    "a folder": lambda main: _folder(main),
    "a tree": lambda main: main.write_bytes(
        str(open_repository(main.parents[2]).git.head.peel().tree.id).encode() + b"\n"
    ),
}


@pytest.mark.parametrize("what", MAINS)
def test_a_damaged_main_is_told_by_its_tenant_alone(what: str, damaged: Callable[[], Path]) -> None:
    store = damaged()
    path = repository_path(store, TENANT)
    MAINS[what](path / "refs/heads/main")
    look_at(store, what)
    for words in READING[:5]:
        assert run(*words).exit_code == RepositoryDamaged.exit_code, words
    for words in OF_ALL[:4]:
        done = run(*words)
        assert done.exit_code in (RepositoryDamaged.exit_code, 43), words
        assert TENANT in done.output, words
    assert run("verify").exit_code == RepositoryDamaged.exit_code
    with pytest.raises(ConfkeepError):
        Writer(open_repository(path)).commit_backups([])
        open_repository(path).tip()


def test_what_nobody_foresaw_is_a_finding_of_its_repository_and_the_next_goes_on(
    damaged: Callable[[], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    damaged()
    real = verify_refs.check_refs

    def fail(report: Report) -> dict[str, bytes]:
        if report.path.stem == TENANT:
            raise ZeroDivisionError("nobody foresaw it")
        return real(report)

    monkeypatch.setattr("worker.store.upkeep.verify.check_refs", fail)
    done = run("verify", "--json")
    said = {each["tenant_id"]: each for each in json.loads(done.stdout)["tenants"]}
    assert done.exit_code == RepositoryDamaged.exit_code
    texts = [finding["text"] for finding in said[TENANT]["findings"]]
    assert "ZeroDivisionError: nobody foresaw it" in texts
    assert said[TENANT]["objects"] > 0, "the other parts were looked at"
    assert said[OTHER_TENANT]["outcome"] == "clean"


def test_a_damaged_map_of_ids_does_not_end_verify(damaged: Callable[[], Path]) -> None:
    store = damaged()
    (repository_path(store, TENANT) / FILE_NAME).write_bytes(b"no map" * 100)
    done = run("verify", "--json")
    said = {each["tenant_id"]: each for each in json.loads(done.stdout)["tenants"]}
    assert "ids" in {finding["kind"] for finding in said[TENANT]["findings"]}
    assert said[OTHER_TENANT]["outcome"] == "clean"


def test_status_bears_one_repository_that_cannot_be_read(
    store: Store, confkeep: Confkeep, client: redis.Redis
) -> None:
    for tenant in (TENANT, OTHER_TENANT):
        store.add(ROUTER, b"/ip\n", tenant_id=tenant)
    path = repository_path(store.path, TENANT)
    state, main = path / "confkeep.maintenance", path / "refs/heads/main"
    good = main.read_bytes()
    for damage in (state.mkdir, functools.partial(main.write_bytes, b"")):
        damage()
        done = confkeep("status")
        said = json.loads(confkeep("status", "--json").stdout)
        assert done.exit_code == 0, done.output
        assert f"{TENANT}: cannot be read: " in done.stdout
        assert list(said["unreadable"]) == [TENANT]
        assert said["tenants"] == [TENANT, OTHER_TENANT]
        if state.is_dir():
            state.rmdir()
    main.write_bytes(good)


def test_main_that_was_set_back_is_told_with_the_way_back(
    store: Store, filled: Store, confkeep: Confkeep
) -> None:
    path = repository_path(store.path, TENANT)
    main = path / "refs/heads/main"
    tip = main.read_text().strip()
    parent = git(path, "rev-parse", "main~1").decode().strip()
    main.write_text(f"{parent}\n")
    done = confkeep("verify", TENANT)
    assert done.exit_code == RepositoryDamaged.exit_code
    assert f"git update-ref refs/heads/main {tip} {parent}" in done.stdout
    assert confkeep("repair", TENANT).exit_code == RepositoryDamaged.exit_code
    assert main.read_text().strip() == parent, "no branch is moved"
    # Either it is brought back, or a person meant it.
    main.write_text(f"{tip}\n")
    assert confkeep("verify", TENANT).exit_code == 0
    main.write_text(f"{parent}\n")
    assert confkeep("reindex", TENANT).exit_code == 0
    assert confkeep("verify", TENANT).exit_code == 0
    main.write_text(f"{tip}\n")
    assert confkeep("verify", TENANT).exit_code == 0, "an index that is behind is no finding"


def test_a_damaged_configuration_is_mended_and_kept(
    store: Store, filled: Store, confkeep: Confkeep
) -> None:
    path = repository_path(store.path, TENANT)
    for damage in (
        b"[core\nbare =",
        b"",
        b"[core]\n\trepositoryformatversion = 7\n\tbare = true\n",
    ):
        (path / "config").write_bytes(damage)
        done = confkeep("verify", TENANT)
        assert done.exit_code == RepositoryDamaged.exit_code
        assert "config config: " in done.stdout
        done = confkeep("repair", TENANT)
        assert done.exit_code == 0, done.output
        assert "mended, and sound now" in done.stdout
        assert (path / "config.damaged").read_bytes() == damage
        store.add(ROUTER, b"/ip\nadd %d\n" % len(damage))
    (path / "config").unlink()
    (path / "config").mkdir()
    (path / "config" / "x").write_bytes(b"")
    done = confkeep("repair", TENANT)
    assert done.exit_code == RepositoryDamaged.exit_code
    assert "config config: it is a folder" in done.stdout
    shutil.rmtree(path / "config")
    assert confkeep("repair", TENANT).exit_code == 0


@pytest.mark.parametrize("kind", ["idx", "pack", "torn pack"])
def test_half_of_a_pack_that_no_ref_needs_is_tidied(
    store: Store, filled: Store, confkeep: Confkeep, kind: str
) -> None:
    path = repository_path(store.path, TENANT)
    verify_repository(path)
    folder = path / "objects/pack"
    before = {file.name for file in folder.iterdir()}
    tip = (path / "refs/heads/main").read_bytes()
    index = (path / "confkeep.index").read_bytes()
    store.add(ROUTER, b"/ip\nadd lost\n")
    # As after a kill before `main` moved, and a power cut.
    (path / "refs/heads/main").write_bytes(tip)
    (path / "confkeep.index").write_bytes(index)
    [stem] = {name.partition(".")[0] for name in {f.name for f in folder.iterdir()} - before}
    pack, idx = folder / f"{stem}.pack", folder / f"{stem}.idx"
    (pack if kind == "idx" else idx).unlink()
    if kind == "torn pack":
        pack.chmod(0o600)
        pack.write_bytes(pack.read_bytes()[:-30])
    done = confkeep("verify", TENANT)
    assert done.exit_code == RepositoryDamaged.exit_code
    assert f"confkeep repair {TENANT}" in done.stdout
    assert kind != "idx" or f"{idx.name}: its pack is missing; no ref needs it" in done.stdout
    done = confkeep("repair", TENANT)
    assert done.exit_code == 0, done.output
    # A whole pack may hold the only copy of something; nothing reads half of one.
    assert pack.exists() == (kind == "pack")
    assert idx.exists() == (kind == "pack")
    assert confkeep("verify", TENANT).exit_code == 0


@pytest.mark.parametrize("lost", ["pack", "idx", "torn pack"])
def test_half_of_a_pack_that_a_ref_needs_is_never_removed(
    damaged: Callable[[], Path], lost: str
) -> None:
    path = repository_path(damaged(), TENANT)
    pack = max(path.glob("objects/pack/*.pack"), key=lambda file: file.stat().st_size)
    idx = pack.with_suffix(".idx")
    (pack if lost == "pack" else idx).unlink()
    if lost == "torn pack":
        pack.write_bytes(pack.read_bytes()[:-30])
    left = pack if pack.exists() else idx
    done = run("verify", TENANT)
    assert done.exit_code == RepositoryDamaged.exit_code
    assert run("repair", TENANT).exit_code == (0 if lost == "idx" else 33)
    assert left.exists()
