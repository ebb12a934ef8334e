"""The five functions of `worker.git_store` beside the module that they replace: results and exceptions.

The old module is that of `tests.old_portal`, which answers as the callers of the real one know it. Where the two differ on purpose,
`docs/move-from-in-process.md` says so and a test here shows both.
"""

from __future__ import annotations

import random
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fakeredis
import pytest

from confkeep.errors import InvalidId, InvalidInput
from confkeep.settings import get_settings
from tests.old_portal.portal import git_store as old
from worker import git_store as new
from worker.engine import hold

SEED = 20_260_930
TENANTS = [str(uuid.UUID(int=number, version=4)) for number in (1, 2, 3)]
DEVICES = [str(uuid.UUID(int=number, version=4)) for number in range(11, 16)]
#: In the order of their weights below.
KINDS = ("commit", "read", "list", "delta", "create")
MESSAGES = ["poll", "", "  scheduled: r1 (10.0.0.1)\n", "\n\nbody\n\n", "café €", "a\r\nb\t"]
BINARIES = [b"", b"\x88\xac\xa1\xb1", bytes(range(256)), b"text\r\n"]
FILES = ["export.rsc", "backup.bin"]


@pytest.fixture
def both(
    tmp_path: Path, store: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[Path, Path]]:
    """A store for the old module and one for ours."""
    monkeypatch.setenv("GIT_STORE_PATH", str(tmp_path / "old-store"))
    monkeypatch.setenv("CONFKEEP_GIT_STORE_PATH", str(store))
    get_settings.cache_clear()
    # There ours would be an error for who reads, and the old module makes its own.
    store.mkdir(parents=True, exist_ok=True)
    with fakeredis.FakeRedis() as client:
        monkeypatch.setattr(hold, "get_client", lambda _settings: client)
        yield tmp_path / "old-store", store
    get_settings.cache_clear()


class Outcome:
    """What a call gave: a value or an error."""

    def __init__(self, call: Callable[..., Any], *arguments: object) -> None:
        self.value: Any = None
        self.error: Exception | None = None
        try:
            self.value = call(*arguments)
        except Exception as error:
            self.error = error


def assert_alike(theirs: Outcome, ours: Outcome, told: object) -> None:
    """Whoever catches the old module's error catches ours, and there is one where there was one."""
    if theirs.error is None:
        assert ours.error is None, told
    else:
        caught = next(kind for kind in (KeyError, ValueError) if isinstance(theirs.error, kind))
        assert isinstance(ours.error, caught), (told, theirs.error, ours.error)


class Run:
    """Both modules, and which commit of one is which of the other."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.shas: list[tuple[str, str, str]] = []  # tenant, theirs, ours
        # libgit2 asks a clock of the kernel's that is some milliseconds behind.
        self.began = int(time.time() - 0.1)
        self.counts = dict.fromkeys(KINDS, 0)
        self.refused = 0

    def text(self) -> str:
        lines = [f"add name=r{self.random.randrange(40)}" for _ in range(self.random.randrange(9))]
        return self.random.choice(["\n", "\r\n"]).join(["# by RouterOS 7.16", *lines]) + "\n"

    def step(self) -> None:
        [kind] = self.random.choices(KINDS, weights=(25, 35, 12, 23, 5))
        self.counts[kind] += 1
        getattr(self, kind)()

    def commit(self) -> None:
        choose = self.random.choice
        tenant = choose(TENANTS)
        message = choose(MESSAGES)
        export = self.text()
        if self.random.random() < 0.1:
            # Neither can encode it: a lone surrogate that stands for no byte.
            message, export = choose([(message, "\ud800"), ("\ud800", export)])
        given = (tenant, choose(DEVICES), export, choose(BINARIES), message)
        theirs, ours = Outcome(old.commit_backup, *given), Outcome(new.commit_backup, *given)
        assert_alike(theirs, ours, given)
        if theirs.error is None:
            assert len(ours.value) == 40
            self.shas.append((tenant, theirs.value, ours.value))
        else:
            self.refused += 1

    def read(self) -> None:
        choose = self.random.choice
        tenant, their_sha, our_sha = (
            choose(self.shas) if self.shas else (TENANTS[0], "0" * 40, "0" * 40)
        )
        if self.random.random() < 0.2:
            their_sha = our_sha = choose(["f" * 40, "0" * 12, "HEAD", "main", "", "xyz", "../x"])
        elif self.random.random() < 0.3:
            digits = self.random.randrange(12, 40)
            their_sha, our_sha = their_sha[:digits], our_sha[:digits]
        if self.random.random() < 0.1:
            tenant = choose(TENANTS)
        device = choose([*DEVICES, str(uuid.UUID(int=99)), "router", ""])
        name = choose([*FILES, *FILES, "export.txt", "", ".."])
        theirs = Outcome(old.read_file, tenant, their_sha, device, name)
        ours = Outcome(new.read_file, tenant, our_sha, device, name)
        told = (tenant, their_sha, our_sha, device, name)
        assert_alike(theirs, ours, told)
        assert ours.value == theirs.value, told
        self.refused += theirs.error is not None

    def list(self) -> None:
        tenant = self.random.choice([*TENANTS, str(uuid.UUID(int=98))])
        device = self.random.choice([*DEVICES, str(uuid.UUID(int=99))])
        ours_of = {theirs: ours for _tenant, theirs, ours in self.shas}
        theirs = old.list_device_commits(tenant, device)
        ours = new.list_device_commits(tenant, device)
        expected = [(ours_of[each["sha"]], each["message"]) for each in theirs]
        assert [(each["sha"], each["message"]) for each in ours] == expected
        for each in (*theirs, *ours):
            assert set(each) == {"sha", "message", "timestamp"}
            assert type(each["timestamp"]) is int
            assert self.began <= each["timestamp"] <= time.time()

    def delta(self) -> None:
        choose = self.random.choice
        lines = [f"line {number}" for number in range(self.random.randrange(30))]
        changed = []
        for line in lines:
            kept, come = [line], [f"new {self.random.random()}"]
            changed += choose([kept, kept, kept, kept + come, come, []])
        texts: list[str | None] = ["\n".join(lines), "\r\n".join(changed), "", None]
        given = texts[:2] if self.random.random() < 0.7 else [choose(texts), choose(texts)]
        assert new.compute_line_delta(*given) == old.compute_line_delta(*given), given
        # Where lines move, there is more than one answer; git's is no larger edit.
        self.random.shuffle(changed)
        moved = ("\n".join(lines), "\n".join(changed))
        (added, removed), (most_added, most_removed) = (
            module.compute_line_delta(*moved) for module in (new, old)
        )
        assert added - removed == most_added - most_removed
        assert added <= most_added, moved

    def create(self) -> None:
        tenant = self.random.choice(TENANTS)
        theirs, ours = old.get_or_create_repo(tenant), new.get_or_create_repo(tenant)
        assert theirs.is_bare
        assert ours.is_bare
        assert Path(ours.path).name == Path(theirs.path).name == f"{tenant}.git"
        assert list(ours.references) == list(theirs.references)


@pytest.mark.parametrize("calls", [1_000, pytest.param(2_500, marks=pytest.mark.chaos)])
def test_random_calls_answer_alike(calls: int, both: tuple[Path, Path]) -> None:
    run = Run(SEED)
    for _ in range(calls):
        run.step()
    # So that a change of the weights leaves nothing untried.
    assert min(run.counts.values()) > calls / 50, run.counts
    assert run.refused > calls / 10
    assert len(run.shas) > calls / 5


def test_ours_also_takes_a_capture_without_binary_and_bytes_that_are_no_utf8(
    both: tuple[Path, Path],
) -> None:
    tenant, device = TENANTS[0], DEVICES[0]
    for export, binary in (("/ip\n", None), ("caf\udce9\n", b"x")):
        given = (tenant, device, export, binary, "m")
        assert isinstance(Outcome(old.commit_backup, *given).error, TypeError | UnicodeEncodeError)
        sha = new.commit_backup(*given)
        assert new.read_file(tenant, sha, device, "export.rsc") == export.encode(
            "utf-8", "surrogateescape"
        )
        if binary is None:
            with pytest.raises(KeyError):
                new.read_file(tenant, sha, device, "backup.bin")


def test_ours_takes_uuids_alone_in_either_case_and_makes_nothing_for_who_reads(
    both: tuple[Path, Path],
) -> None:
    their_store, our_store = both
    tenant, device = "AAAA1111-0000-4000-8000-00000000000A", DEVICES[0]
    assert old.list_device_commits(tenant, device) == new.list_device_commits(tenant, device) == []
    assert (their_store / f"{tenant}.git").exists()
    assert list(our_store.iterdir()) == []

    sha = new.commit_backup(tenant, device.upper(), "/ip\n", b"", "m")
    assert [each["sha"] for each in new.list_device_commits(tenant.lower(), device)] == [sha]

    calls: list[Callable[[Any], object]] = [
        lambda module: module.commit_backup("acme", device, "/ip\n", b"", "m"),
        lambda module: module.commit_backup(tenant, "router", "/ip\n", b"", "m"),
        lambda module: module.list_device_commits(tenant, "router"),
        lambda module: module.get_or_create_repo("acme"),
    ]
    for call in calls:
        call(old)
        with pytest.raises(InvalidId) as caught:
            call(new)
        assert isinstance(caught.value, ValueError)


def test_ours_refuses_a_message_that_the_old_module_cut_off(both: tuple[Path, Path]) -> None:
    given = (TENANTS[0], DEVICES[0], "/ip\n", b"", "poll\0of r1")
    old.commit_backup(*given)
    [kept] = old.list_device_commits(TENANTS[0], DEVICES[0])
    assert kept["message"] == "poll"
    with pytest.raises(InvalidInput, match="NUL"):
        new.commit_backup(*given)
