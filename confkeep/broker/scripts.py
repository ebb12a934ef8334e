"""The Lua scripts as text, read from the package once."""

from __future__ import annotations

import functools
import hashlib
import re
from dataclasses import dataclass
from importlib import resources
from typing import Any, Final

import redis

#: The line that stands for another file's text. The server offers scripts no way to share a function.
_REQUIRES: Final = re.compile(r"^-- requires (\w+)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Script:
    """A script and the name under which the server keeps it."""

    text: str
    sha1: str

    def run(self, client: redis.Redis, keys: list[str], arguments: list[Any]) -> Any:
        """Run it now; the server gets its text when it does not know it yet."""
        try:
            return client.evalsha(self.sha1, len(keys), *keys, *arguments)
        except redis.exceptions.NoScriptError:
            return client.eval(self.text, len(keys), *keys, *arguments)


@functools.cache
def load(name: str) -> Script:
    """The script `confkeep/broker/lua/<name>.lua`, with the parts that it requires in their places."""
    text = _REQUIRES.sub(lambda found: _read(found[1]), _read(name))
    return Script(text, hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest())


def _read(name: str) -> str:
    return resources.files("confkeep.broker").joinpath("lua", f"{name}.lua").read_text("utf-8")
