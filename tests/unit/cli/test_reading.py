"""history, show, diff and restore on a store of the test's own."""

from __future__ import annotations

import datetime as dt
import json
import stat
import subprocess
from pathlib import Path

import pytest

from tests.terminals import OnTerminal
from tests.unit.cli.conftest import CAPTURED, ROUTER, SWITCH, TENANT, Confkeep, Store

OTHER_TENANT = "aaaa2222-0000-4000-8000-000000000002"


def test_history_lists_versions_newest_first(filled: Store, confkeep: Confkeep) -> None:
    done = confkeep("history", TENANT, ROUTER)

    assert done.exit_code == 0
    assert [line.split() for line in done.stdout.splitlines()] == [
        ["commit", "captured", "(UTC)", "changed", "+", "-", "message"],
        [filled.commits[4].sha[:10], "2026-09-30", "15:00:00", "config", "0", "1", "third"],
        [filled.commits[2].sha[:10], "2026-09-30", "13:00:00", "config", "2", "1", "second"],
        [filled.commits[0].sha[:10], "2026-09-30", "11:00:00", "config", "3", "0", "first"],
    ]


def test_history_as_json(filled: Store, confkeep: Confkeep) -> None:
    done = confkeep("history", TENANT, ROUTER, "--json", "--limit", "1")

    assert json.loads(done.stdout) == {
        "tenant_id": TENANT,
        "tenant_name": None,
        "device_id": ROUTER,
        "device_name": None,
        "more": True,
        "versions": [
            {
                "sha": filled.commits[4].sha,
                "message": "third",
                "captured_at": "2026-09-30T15:00:00Z",
                "valid_until": None,
                "committed_at": filled.commits[4].committed_at.isoformat().replace("+00:00", "Z"),
                "backup_id": filled.commits[4].backup_id,
                "lines_added": 0,
                "lines_removed": 1,
                "export_changed": True,
                "export_bytes": 24,
                "binary_bytes": 5,
                "removed": False,
                "suspect": None,
            }
        ],
    }


def test_history_judges_large_files_as_the_receipt_did(filled: Store, confkeep: Confkeep) -> None:
    size = 5_000_000
    binary = b"\x88\xac\xa1\xb1" + size.to_bytes(4, "little") + bytes(size - 8)
    filled.add(ROUTER, b"Bus error\n", binary, "failed")
    filled.add(ROUTER, b"/ip address\n", binary[:-1], "cut off")

    found = json.loads(confkeep("history", TENANT, ROUTER, "--json", "--limit", "2").stdout)

    assert [version["suspect"] for version in found["versions"]] == [
        "the binary has 4999999 bytes and says that it has 5000000",
        "the export holds an error: Bus error",
    ]


def listed(confkeep: Confkeep, *options: str) -> list[str]:
    done = confkeep("history", TENANT, ROUTER, "--json", *options)
    assert done.exit_code == 0, done.stderr
    return [version["message"] for version in json.loads(done.stdout)["versions"]]


def test_history_before_a_version_goes_on_below_it(filled: Store, confkeep: Confkeep) -> None:
    shas = [commit.sha for commit in filled.commits]

    assert listed(confkeep, "--before", shas[4]) == ["second", "first"]
    assert listed(confkeep, "--before", shas[4][:10].upper(), "--limit", "1") == ["second"]
    assert listed(confkeep, "--before", shas[0]) == []
    # That of another device is no version of this one.
    assert confkeep("history", TENANT, ROUTER, "--before", shas[1]).exit_code == 31


def test_history_before_a_date_goes_by_the_capture(filled: Store, confkeep: Confkeep) -> None:
    assert listed(confkeep, "--before", "2026-10-01") == ["third", "second", "first"]
    assert listed(confkeep, "--before", "2026-09-30T15:00") == ["second", "first"]
    assert listed(confkeep, "--before", "2026-09-30T15:00:01+00:00")[0] == "third"
    assert listed(confkeep, "--before", "2026-09-30T17:00+02:00", "--limit", "1") == ["second"]
    assert listed(confkeep, "--before", "2026-09-30") == []
    assert (
        "none of those asked for"
        in confkeep("history", TENANT, ROUTER, "--before", "2026-09-30").stderr
    )
    assert confkeep("history", TENANT, ROUTER, "--before", "soon").exit_code == 2


def test_history_since_and_until(filled: Store, confkeep: Confkeep) -> None:
    """Dates are those of the captures; a day without a time is a whole one."""
    assert listed(confkeep, "--since", "2026-09-30T13:00") == ["third", "second"]
    assert listed(confkeep, "--since", "2026-09-30") == ["third", "second", "first"]
    assert listed(confkeep, "--since", "2026-10-01") == []
    assert listed(confkeep, "--until", "2026-09-30") == ["third", "second", "first"]
    assert listed(confkeep, "--until", "2026-09-30T13:00", "--limit", "1") == ["second"]
    both = ("--since", "2026-09-30T12:00", "--until", "2026-09-30T14:00")
    table = confkeep("history", TENANT, ROUTER, *both).stdout
    assert "2026-09-30 13:00:00  2026-09-30 15:00:00  config" in table
    newest = confkeep("history", TENANT, ROUTER, "--since", "2026-09-30T14:00").stdout
    assert "2026-09-30 15:00:00  now" in newest
    assert listed(confkeep, *both) == ["second"]
    [row] = json.loads(confkeep("history", TENANT, ROUTER, *both, "--json").stdout)["versions"]
    assert (row["captured_at"], row["valid_until"]) == (
        "2026-09-30T13:00:00Z",
        "2026-09-30T15:00:00Z",
    )
    assert confkeep("history", TENANT, ROUTER, *both, "--before", "2026-09-30").exit_code == 2


def test_a_version_by_what_people_say(filled: Store, confkeep: Confkeep) -> None:
    def at(when: str) -> str:
        done = confkeep("show", TENANT, ROUTER, "--json", "--at", when)
        return str(json.loads(done.stdout)["message"]) if done.exit_code == 0 else done.stderr

    assert at("latest") == at("2026-09-30") == at("yesterday") == at("2 hours ago") == "third"
    assert at("LATEST~1") == at("2026-09-30T14:59") == at("2026-09-30T16:59+02:00") == "second"
    assert at("latest~2") == at("2026-09-30T11:00:00Z") == "first"
    assert "there is no latest~3" in at("latest~3")
    assert "its first was captured 2026-09-30 11:00 UTC" in at("2026-09-29")
    assert at("100000 years ago").startswith("error: --at: must be such as")
    changed = confkeep("diff", TENANT, ROUTER, "latest~2", "2026-09-30T14:00").stdout
    assert "+add c" in changed


def test_history_before_a_date_leaves_out_late_captures_below(
    filled: Store, confkeep: Confkeep
) -> None:
    """Captures may come out of order: each is judged by its own date, and pages go on."""
    for hour in (30, 10, 31, 11, 32, 12):
        filled.captured_at = CAPTURED + dt.timedelta(hours=hour)
        filled.add(ROUTER, f"/hour {hour}\n".encode(), None, str(hour))
    day = "2026-10-01T12:00"

    assert listed(confkeep, "--before", day) == ["12", "11", "10", "third", "second", "first"]
    for limit in range(1, 6):
        found = listed(confkeep, "--before", day, "--limit", str(limit))
        assert found == ["12", "11", "10", "third", "second", "first"][:limit]


def test_the_options_of_history_go_together(filled: Store, confkeep: Confkeep) -> None:
    filled.add(ROUTER, b"/ip address\nadd a\nadd c\n", b"\x88another", "only the binary")
    filled.add(ROUTER, b"/ip address\n", b"\x88another", "fourth")
    last = filled.commits[-1].sha

    found = listed(confkeep, "--before", last, "--config-changes-only", "--limit", "2")

    assert found == ["third", "second"]


def test_the_limit_says_that_there_is_more(filled: Store, confkeep: Confkeep) -> None:
    limited = confkeep("history", TENANT, ROUTER, "--limit", "2")
    exact = confkeep("history", TENANT, ROUTER, "--limit", "3")

    assert len(limited.stdout.splitlines()) == 3
    assert "older versions" in limited.stderr
    assert exact.stderr == ""


def test_history_of_a_tenant_lists_devices_last_changed_first(
    filled: Store, confkeep: Confkeep
) -> None:
    rows = json.loads(confkeep("history", TENANT, "--json").stdout)["devices"]
    text = confkeep("history", TENANT).stdout

    assert [(row["device_id"], row["versions"], row["message"]) for row in rows] == [
        (ROUTER, 3, "third"),
        (SWITCH, 1, "the switch"),
    ]
    assert rows[0]["sha"] == filled.commits[4].sha
    assert ROUTER in text
    assert SWITCH in text


def test_history_of_a_tenant_counts_commits_of_plain_git(
    filled: Store, confkeep: Confkeep, tmp_path: Path
) -> None:
    clone = tmp_path / "clone"
    repository = filled.path / f"{TENANT}.git"
    subprocess.run(["git", "clone", "-q", repository, clone], check=True)
    (clone / SWITCH / "export.rsc").write_bytes(b"/interface\nby hand\n")
    git = ["git", "-C", str(clone), "-c", "user.name=A", "-c", "user.email=a@example.net"]
    subprocess.run([*git, "commit", "-qam", "by hand"], check=True)
    subprocess.run([*git, "push", "-q"], check=True)

    rows = json.loads(confkeep("history", TENANT, "--json").stdout)["devices"]

    assert [(row["device_id"], row["versions"]) for row in rows] == [(SWITCH, 2), (ROUTER, 3)]


def test_history_alone_lists_the_tenants(filled: Store, confkeep: Confkeep) -> None:
    assert json.loads(confkeep("history", "--json").stdout) == {
        "tenants": [{"tenant_id": TENANT, "tenant_name": None, "devices": 2}],
        "errors": [],
    }


def test_an_empty_store_is_said_so(store: Store, confkeep: Confkeep) -> None:
    store.path.mkdir(parents=True)
    done = confkeep("history")

    assert done.exit_code == 0
    assert "No tenant" in done.stdout


@pytest.mark.parametrize(
    "command",
    [
        ("history",),
        ("history", TENANT),
        ("history", "aaaa", ROUTER),
        ("show", TENANT, ROUTER),
        ("diff", TENANT, ROUTER),
        ("stale", "--older-than", "1d"),
        ("drill",),
        ("retention", "plan"),
    ],
    ids=" ".join,
)
def test_a_store_that_is_not_there_is_no_empty_one(
    store: Store, confkeep: Confkeep, command: tuple[str, ...]
) -> None:
    done = confkeep(*command)

    assert done.exit_code == 36
    assert str(store.path) in done.stderr
    assert "CONFKEEP_GIT_STORE_PATH" in done.stderr


class TestPrefixes:
    def test_a_prefix_of_one_tenant_and_device_is_enough(
        self, filled: Store, confkeep: Confkeep
    ) -> None:
        done = confkeep("history", "AAAA", "BEEF0001")
        assert done.exit_code == 0
        assert "third" in done.stdout
        assert confkeep("history", "aaaa", "beef00010000").exit_code == 0

    def test_an_ambiguous_prefix_lists_the_candidates(
        self, filled: Store, confkeep: Confkeep
    ) -> None:
        filled.add(ROUTER, b"x\n", tenant_id=OTHER_TENANT)

        tenant = confkeep("history", "aaaa")
        device = confkeep("history", TENANT, "beef")

        assert tenant.exit_code == device.exit_code == 2
        assert TENANT in tenant.stderr
        assert OTHER_TENANT in tenant.stderr
        assert ROUTER in device.stderr
        assert SWITCH in device.stderr

    def test_no_more_than_five_candidates_are_listed(
        self, store: Store, confkeep: Confkeep
    ) -> None:
        for number in range(7):
            store.add(f"beef000{number}-0000-4000-8000-000000000000", b"x\n")

        done = confkeep("history", TENANT, "beef")

        assert "7 devices" in done.stderr
        assert done.stderr.count("-8000-000000000000") == 5

    def test_an_unknown_prefix_lists_what_there_is(self, filled: Store, confkeep: Confkeep) -> None:
        done = confkeep("history", TENANT, "cafe")

        assert done.exit_code == 2
        assert ROUTER in done.stderr

    @pytest.mark.parametrize(
        "text", ["bee", "../x", "", "beef*", "main^{tree}", "\u0661\u0662\u0663\u0664"]
    )
    def test_what_is_neither_a_beginning_nor_a_name_is_refused(
        self, filled: Store, confkeep: Confkeep, text: str
    ) -> None:
        done = confkeep("history", TENANT, text)

        assert done.exit_code == 2
        shown = text or "''"
        assert f"no device is called {shown}" in done.stderr


class TestHostileMessages:
    MESSAGE = "evil \x1b[31mred\x1b[0m [bold]no[/bold] \u202egnp.exe \udcff\n\nsecond line"
    SHOWN = r"evil \x1b[31mred\x1b[0m [bold]no[/bold] \u202egnp.exe \xff ..."

    def test_are_escaped_in_tables(self, store: Store, confkeep: Confkeep) -> None:
        store.add(ROUTER, b"x\n", message=self.MESSAGE)

        done = confkeep("history", TENANT, ROUTER)

        assert self.SHOWN in done.stdout
        assert "\x1b" not in done.output

    def test_are_whole_in_json(self, store: Store, confkeep: Confkeep) -> None:
        store.add(ROUTER, b"x\n", message=self.MESSAGE)

        done = confkeep("history", TENANT, ROUTER, "--json")

        assert json.loads(done.stdout)["versions"][0]["message"] == self.MESSAGE

    def test_do_not_steer_a_terminal(self, store: Store) -> None:
        store.add(ROUTER, b"\x1b]0;title\x07 y\r\n", message=self.MESSAGE)
        colours = {"TERM": "xterm-256color", "COLUMNS": "200", "NO_COLOR": ""}

        for command in (["history"], ["show"], ["diff"]):
            seen = on_a_terminal(*command, TENANT, ROUTER, **colours)
            assert "\x1b]0" not in seen
            assert "\x1b[31mred" not in seen
            assert "\u202e" not in seen
        assert self.SHOWN in on_a_terminal("history", TENANT, ROUTER, **colours)
        assert r"\x1b]0;title\x07 y" in on_a_terminal("show", TENANT, ROUTER, **colours)


class TestColours:
    def test_are_there_on_a_terminal(self, filled: Store) -> None:
        seen = on_a_terminal("diff", TENANT, ROUTER, TERM="xterm-256color", NO_COLOR="")

        assert "\x1b[31m-add d" in seen

    @pytest.mark.parametrize(
        ("options", "variables"),
        [
            ([], {"NO_COLOR": "1", "TERM": "xterm"}),
            ([], {"TERM": "dumb"}),
            (["--no-color"], {"TERM": "xterm"}),
        ],
    )
    def test_can_be_switched_off(
        self, filled: Store, options: list[str], variables: dict[str, str]
    ) -> None:
        for command in ("history", "diff"):
            seen = on_a_terminal(*options, command, TENANT, ROUTER, **variables)
            assert "\x1b" not in seen

    @pytest.mark.parametrize("width", [80, 40])
    @pytest.mark.parametrize("typed", [("history", TENANT, ROUTER), ("history", TENANT)])
    def test_a_table_is_folded_and_loses_nothing(
        self, filled: Store, confkeep: Confkeep, typed: tuple[str, ...], width: int
    ) -> None:
        filled.add(ROUTER, b"/system identity\nset name=" + b"core" * 30, message="long " * 40)

        seen = on_a_terminal(*typed, TERM="xterm", NO_COLOR="1", COLUMNS=str(width))
        whole = confkeep(*typed)

        lines = seen.splitlines()
        assert max(len(line) for line in lines) <= width
        assert sorted(letters_of(seen)) == sorted(letters_of(whole.output))
        assert ("long " * 40).strip() in whole.stdout, "a pipe gets each row on one line"
        start = next(line.index("mess") for line in lines if "mess" in line)
        assert "long" * 40 in letters_of("".join(line[start:] for line in lines))


class TestShow:
    EXPORT = b"caf\xe9\r\nno end\x00 of line"

    def test_prints_the_exact_bytes(self, store: Store, confkeep: Confkeep) -> None:
        store.add(ROUTER, self.EXPORT, b"\x88\x00\xff")

        assert confkeep("show", TENANT, ROUTER).stdout_bytes == self.EXPORT
        assert confkeep("show", TENANT, ROUTER, "--binary").stdout_bytes == b"\x88\x00\xff"

    def test_as_of_a_commit(self, filled: Store, confkeep: Confkeep) -> None:
        short = filled.commits[0].sha[:8]

        assert confkeep("show", TENANT, ROUTER, "--at", short).stdout_bytes == (
            b"/ip address\nadd a\nadd b\n"
        )

    def test_writes_a_new_file_only(
        self, filled: Store, confkeep: Confkeep, tmp_path: Path
    ) -> None:
        target = tmp_path / "out"

        assert confkeep("show", TENANT, ROUTER, "--binary", "-o", target).exit_code == 0
        assert target.read_bytes() == b"\x88two+"
        assert stat.S_IMODE(target.stat().st_mode) == 0o600
        assert confkeep("show", TENANT, ROUTER, "-o", target).exit_code == 2
        assert target.read_bytes() == b"\x88two+"

    def test_a_terminal_gets_no_binary(self, filled: Store) -> None:
        assert "cannot show a binary" in on_a_terminal("show", TENANT, ROUTER, "--binary")

    def test_what_is_known_as_json(self, filled: Store, confkeep: Confkeep) -> None:
        known = json.loads(confkeep("show", TENANT, ROUTER, "--json").stdout)

        assert known["sha"] == filled.commits[4].sha
        assert known["backup_id"] == filled.commits[4].backup_id
        assert (known["export_bytes"], known["binary_bytes"]) == (24, 5)

    @pytest.mark.parametrize("commit", ["main", "main^{tree}", "HEAD~1", "../x", "abc"])
    def test_only_a_commit_id_names_a_commit(
        self, filled: Store, confkeep: Confkeep, commit: str
    ) -> None:
        done = confkeep("show", TENANT, ROUTER, "--at", commit)

        assert done.exit_code == 2
        assert "2 days ago" in done.stderr

    def test_a_device_without_a_binary(self, filled: Store, confkeep: Confkeep) -> None:
        done = confkeep("show", TENANT, SWITCH, "--binary")

        assert done.exit_code == 31
        assert "no backup.bin" in done.stderr


class TestDiff:
    def test_the_last_change(self, filled: Store, confkeep: Confkeep) -> None:
        lines = confkeep("diff", TENANT, ROUTER).stdout.splitlines()

        old, new = filled.commits[2].sha[:10], filled.commits[4].sha[:10]
        assert lines == [
            f"--- a/export.rsc\t2026-09-30 13:00:00 UTC  {old}",
            f"+++ b/export.rsc\t2026-09-30 15:00:00 UTC  {new}",
            "@@ -1,4 +1,3 @@ /ip address",
            " /ip address",
            " add a",
            " add c",
            "-add d",
            "backup.bin: differs, 4 bytes before, 5 bytes now",
        ]

    def test_since_a_commit(self, filled: Store, confkeep: Confkeep) -> None:
        lines = confkeep("diff", TENANT, ROUTER, filled.commits[0].sha).stdout.splitlines()

        assert lines[3:-1] == [" /ip address", " add a", "-add b", "+add c"]

    def test_between_two_commits(self, filled: Store, confkeep: Confkeep) -> None:
        first, second = filled.commits[0].sha[:7], filled.commits[2].sha[:7]
        done = confkeep("diff", TENANT, ROUTER, first, second, "-U", "0")

        assert "+add d" in done.stdout
        assert done.stdout.endswith("backup.bin: differs in 3 of 4 bytes\n")

    def test_of_the_first_version_adds_all(self, filled: Store, confkeep: Confkeep) -> None:
        lines = confkeep("diff", TENANT, SWITCH).stdout.splitlines()

        assert lines[0] == "--- /dev/null"
        assert lines[-2:] == ["+/interface", "backup.bin: none"]

    def test_of_two_equal_versions(self, filled: Store, confkeep: Confkeep) -> None:
        last = filled.commits[4].sha
        done = confkeep("diff", TENANT, ROUTER, last, last)

        assert done.stdout == ("export.rsc: no difference\nbackup.bin: the same 5 bytes\n")

    def test_in_a_pipe_is_what_patch_takes(
        self, store: Store, confkeep: Confkeep, tmp_path: Path
    ) -> None:
        old = b"a\r\ncaf\xe9\r\nc\n-- x\n@@ y\nno end"
        new = b"a\r\ncaf\xe8\r\nc\n-- x\n@@ z\nend now\n"
        store.add(ROUTER, old)
        store.add(ROUTER, new)

        patch = confkeep("diff", TENANT, ROUTER).stdout_bytes
        target = tmp_path / "export.rsc"
        target.write_bytes(old)
        subprocess.run(
            ["git", "apply", "-p1", "-"], input=patch, cwd=tmp_path, check=True, capture_output=True
        )

        assert target.read_bytes() == new

    def test_line_ends_are_shown_on_a_terminal_where_they_differ(self, store: Store) -> None:
        store.add(ROUTER, b"one\r\ntwo\r\n")
        store.add(ROUTER, b"one\r\n2\r\n")
        assert "\\r" not in on_a_terminal("diff", TENANT, ROUTER, TERM="dumb")

        store.add(ROUTER, b"one\n2\n")
        assert "-one\\r\n" in on_a_terminal("diff", TENANT, ROUTER, TERM="dumb")


class TestRestore:
    def test_writes_both_files_for_the_owner_alone(
        self, filled: Store, confkeep: Confkeep, tmp_path: Path
    ) -> None:
        target = tmp_path / "new" / "folder"
        done = confkeep("restore", TENANT, ROUTER, "-o", target)

        assert done.exit_code == 0
        assert sorted(path.name for path in target.iterdir()) == ["backup.bin", "export.rsc"]
        assert (target / "export.rsc").read_bytes() == b"/ip address\nadd a\nadd c\n"
        assert (target / "backup.bin").read_bytes() == b"\x88two+"
        for path in target.iterdir():
            assert stat.S_IMODE(path.stat().st_mode) == 0o600

    def test_as_of_a_commit(self, filled: Store, confkeep: Confkeep, tmp_path: Path) -> None:
        confkeep("restore", TENANT, ROUTER, "--at", filled.commits[0].sha[:6], "-o", tmp_path / "x")

        assert (tmp_path / "x" / "backup.bin").read_bytes() == b"\x88one"

    def test_a_folder_that_cannot_be_made_is_to_be_named_anew(
        self, filled: Store, confkeep: Confkeep, tmp_path: Path
    ) -> None:
        (tmp_path / "file").write_bytes(b"mine")

        done = confkeep("restore", TENANT, SWITCH, "-o", tmp_path / "file" / "x")

        assert done.exit_code == 34
        assert "Not a directory" in done.stderr
        assert done.stderr.endswith("hint: Name another folder with -o.\n")

    def test_overwrites_nothing_unless_told_to(
        self, filled: Store, confkeep: Confkeep, tmp_path: Path
    ) -> None:
        (tmp_path / "backup.bin").write_bytes(b"mine")

        refused = confkeep("restore", TENANT, SWITCH, "-o", tmp_path)
        assert refused.exit_code == 2
        assert "--force" in refused.stderr
        assert not (tmp_path / "export.rsc").exists()

        assert confkeep("restore", TENANT, SWITCH, "-o", tmp_path, "--force").exit_code == 0
        assert (tmp_path / "export.rsc").read_bytes() == b"/interface\n"
        # Another version's binary must not pass for this one's.
        assert not (tmp_path / "backup.bin").exists()


def letters_of(text: str) -> str:
    return "".join(text.split())


def on_a_terminal(*arguments: str, **variables: str) -> str:
    """What a command prints, both streams, when it runs on a terminal."""
    shown = OnTerminal(*arguments, **variables)  # type: ignore[arg-type]
    try:
        return shown.rest()
    finally:
        shown.close()


def test_captured_dates_are_the_authors(filled: Store) -> None:
    log = subprocess.run(
        ["git", "-C", filled.path / f"{TENANT}.git", "log", "-1", "--format=%at"],
        capture_output=True,
        check=True,
    )
    assert int(log.stdout) == int(CAPTURED.timestamp()) + 5 * 3600
