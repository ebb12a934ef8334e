"""What the person who typed a command does about its error."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from confkeep.errors import BrokerUnavailable, ConfkeepError, StoreMissing
from confkeep.urls import DEFAULT_REDIS_URL, shown
from worker.cli.running import (
    DEFAULT_DATA,
    START_AGAIN,
    find,
    has_ended,
    probe_variable,
    store_is_chosen,
)

#: Where one piece of advice ends and the next one begins.
_BETWEEN: Final = re.compile(r"(?<=[.;]) ")
#: The address that `confkeep up` prints, and uses at each start.
_SERVER_OF_UP: Final = re.compile(r"^unix:///.*/confkeep-[0-9]+-[0-9a-f]{16}/redis\.sock")
#: Commands that start a server of their own, which no setting names.
_OWN_SERVER: Final = ("up", "demo")


def next_step(error: ConfkeepError, typed: Sequence[str]) -> str | None:
    """The hint to print; None if nothing is left of it.

    Args:
        typed: the command and its arguments. A hint never recommends the same command again, unless as
            `confkeep COMMAND` alone, which asks for less.
    """
    hint = error.hint
    if hint == type(error).hint:
        hint = _of_the_settings(error, typed) or hint
    advice = [one for one in _BETWEEN.split(hint) if not _recommends(one, typed)]
    return re.sub(r";$", ".", " ".join(advice)) or None


def _of_the_settings(error: ConfkeepError, typed: Sequence[str]) -> str | None:
    """The hint about what a setting names, or its default; None for other errors."""
    if type(error) is BrokerUnavailable and typed[0] not in _OWN_SERVER:
        url = probe_variable("CONFKEEP_REDIS_URL")
        if url is None:
            return (
                _unused_up()
                or (START_AGAIN if has_ended() else None)
                or (
                    f"{DEFAULT_REDIS_URL} was tried, the default, since CONFKEEP_REDIS_URL is not set: set it "
                    "to your server's address, or start a server and workers here with `confkeep up`."
                )
            )
        if _SERVER_OF_UP.search(url):
            return (
                f"{shown(url)} was tried, as CONFKEEP_REDIS_URL says, the server of a `confkeep up` that has "
                "ended: start that again with `confkeep up` in its folder."
            )
        return (
            f"{shown(url)} was tried, as CONFKEEP_REDIS_URL says: check that the server runs there, then "
            "run the command again."
        )
    if isinstance(error, StoreMissing):
        if store_is_chosen():
            return _unused_up()
        return (
            "That is the default, since CONFKEEP_GIT_STORE_PATH is not set: set it, or work in the folder "
            "where `confkeep up` was started."
        )
    return None


def _unused_up() -> str | None:
    """What to do where a `confkeep up` runs in this folder and a variable chooses another store; else None."""
    if not store_is_chosen() or find(DEFAULT_DATA) is None:
        return None
    return (
        "`confkeep up` runs in this folder, but a variable or `.env` chooses another store: take "
        "CONFKEEP_GIT_STORE_PATH, or GIT_STORE_PATH, away to use it."
    )


def _recommends(advice: str, typed: Sequence[str]) -> bool:
    for quoted in re.findall(r"`confkeep ([a-z -]*[a-z])[^`]*`(?! alone)", advice):
        words = quoted.split()
        if list(typed[: len(words)]) == words:
            return True
    return False
