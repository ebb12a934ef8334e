"""Signals that end a command: none is lost, and none strikes where something is half done."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.unit.cli.conftest import Confkeep
from worker.cli.interrupts import NUMBERS, noted
from worker.cli.sending import Sender, Sent
from worker.http import server


@pytest.mark.parametrize("number", NUMBERS)
def test_a_signal_is_acted_on_where_the_block_looks(number: signal.Signals) -> None:
    done = []
    with pytest.raises(KeyboardInterrupt), noted() as asked:
        asked.check()
        signal.raise_signal(number)
        done.append("what was begun")
        asked.check()
        done.append("what comes after")
    assert done == ["what was begun"]


def test_a_signal_in_a_finalizer_is_not_lost() -> None:
    class Finalized:
        def __del__(self) -> None:
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt), noted():
        Finalized()


def test_a_second_signal_does_not_wait() -> None:
    with pytest.raises(KeyboardInterrupt), noted():
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGTERM)
        pytest.fail("went on")


def test_no_signal_strikes_what_must_not_stay_half_done() -> None:
    done = []
    with pytest.raises(KeyboardInterrupt), noted() as asked, asked.held():
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGTERM)
        done.append("all")
    assert done == ["all"]


def test_a_service_hears_of_its_end_while_it_starts(
    confkeep: Confkeep, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel keeps a signal without a handler from a container's first process."""

    def starts(*_: object) -> None:
        assert callable(signal.getsignal(signal.SIGTERM)), "there is no handler yet"
        signal.raise_signal(signal.SIGTERM)
        pytest.fail("went on")

    monkeypatch.setattr(server, "server_of", starts)
    before = signal.getsignal(signal.SIGTERM)
    try:
        assert confkeep("http").exit_code == 0
    finally:
        signal.signal(signal.SIGTERM, before)


def test_afterwards_the_handlers_are_those_from_before() -> None:
    before = [signal.getsignal(number) for number in NUMBERS]
    with noted():
        assert [signal.getsignal(number) for number in NUMBERS] != before
    assert [signal.getsignal(number) for number in NUMBERS] == before


def test_what_nohup_ignores_stays_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with noted() as asked:
            os.kill(os.getpid(), signal.SIGHUP)
            asked.check()
    finally:
        signal.signal(signal.SIGHUP, before)


#: Packs commands full of numbers while a signal comes again and again whose handler raises.
_PACK = """
import random, signal, time
from confkeep.broker import connections
from confkeep.settings import load_settings

client = connections.open_client(load_settings(redis_url="unix:///nowhere"))
pack = client.connection_pool.make_connection().pack_command
assert b"".join(pack("SET", "k", 1, 2.5, b"b")) == (
    b"*5\\r\\n$3\\r\\nSET\\r\\n$1\\r\\nk\\r\\n$1\\r\\n1\\r\\n$3\\r\\n2.5\\r\\n$1\\r\\nb\\r\\n"
)
arguments = [argument for number in range(2000) for argument in (number, bytes(2000))]
armed = False

def ring(*_):
    if armed:
        raise KeyboardInterrupt

signal.signal(signal.SIGALRM, ring)
interrupted = 0
began = time.monotonic()
pack("EVALSHA", *arguments)
once_s = time.monotonic() - began
while interrupted < 50 and time.monotonic() < began + 30:
    try:
        armed = True
        signal.setitimer(signal.ITIMER_REAL, max(1e-6, random.random() * once_s))
        pack("EVALSHA", *arguments)
        armed = False
    except KeyboardInterrupt:
        armed = False
        interrupted += 1
print(interrupted)
"""


def test_an_interrupt_while_a_command_is_packed_does_not_crash_the_process() -> None:
    done = subprocess.run(
        [sys.executable, "-c", _PACK], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout) == (0, "50\n"), done.stderr


def test_an_import_that_is_interrupted_says_that_it_goes_on(
    confkeep: Confkeep, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(sender: Sender, captures: object) -> Sent:
        raise KeyboardInterrupt

    monkeypatch.setattr(Sender, "send", interrupted)
    (tmp_path / "exports" / "acme" / "core1").mkdir(parents=True)
    (tmp_path / "exports" / "acme" / "core1" / "1.rsc").write_text("/ip address\n")

    done = confkeep("import", tmp_path / "exports")

    assert done.exit_code == 130
    assert "run the same command again and it goes on" in done.stderr
