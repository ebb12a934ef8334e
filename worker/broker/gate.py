"""The gate: judges each message of our queues before Celery acts on it, and makes what passes harmless.

Who may send a message chooses every byte of it, and Celery believes most of them: callbacks let a worker
push to any key, a header without its id ends the consumer, deep nesting ends the process, a routing key
decides where a message goes back to. So a message passes only if it is what our own code and plain
clients send, and what goes on is made anew from the parts that were looked at:

    bytes     at most the queue's size; nesting, strings and what is outside of them are counted before
              anything is decoded
    message   JSON, uncompressed, its body JSON too: `[args, kwargs, embed]` (protocol 2)
    task      one that belongs to the queue, with arguments that it takes
    id        a text that may be a key's name
    embed     empty: no callbacks, no chain, no chord; no group either
    headers   those that we know, each of its kind; an `eta` at most two minutes ahead, no time limits
    the rest  ours: routing, priority, reply, delivery tag

It talks to no server.
"""

from __future__ import annotations

import base64
import datetime as dt
import inspect
import json
import re
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from kombu.utils.json import loads as kombu_loads

from confkeep.broker import keys
from confkeep.errors import InvalidBackup, InvalidInput, MessageRefused
from worker.broker import received

_MIB: Final = 1024 * 1024
#: Most bytes of a message to `backups.receive`: an export of 16 MiB of which each character is written as
#: `\\u....`, and a binary of 64 MiB, base64 in JSON in base64, make 242 MiB.
MOST_BYTES: Final = 256 * _MIB
#: Most bytes of a message to a shard: it holds ids and numbers.
MOST_SHARD_BYTES: Final = 64 * 1024
#: Most characters of an id: it becomes the name of a key.
MOST_ID: Final = 255
#: Deepest nesting. Our own messages and those of plain clients have 5.
MOST_DEPTH: Final = 32
#: Most bytes outside of strings, and most strings: each becomes an object in memory.
_MOST_OUTSIDE: Final = 16 * 1024
_MOST_STRINGS: Final = 2_000
#: Most escapes: an export of 16 MiB that is all quotes has so many.
_MOST_ESCAPES: Final = 40 * _MIB
#: Most seconds that an `eta` may lie ahead. Our own retries ask for 60 at most; until then a message is
#: held in the worker's memory.
MOST_AHEAD_S: Final = 120
#: Enough for a task that is tried again each minute for two years.
_MOST_RETRIES: Final = 1_000_000
#: Most characters of a header that monitors show.
_MOST_SHOWN: Final = 2_048

#: Headers that go on as they are if they are short texts; the last three belong to traces.
_TEXTS: Final = (
    *("argsrepr", "kwargsrepr", "origin", "root_id", "parent_id"),
    *("traceparent", "tracestate", "baggage"),
)
#: Headers, and parts of `embed`, by which a message asks Celery to send others.
_FURTHER: Final = ("callbacks", "errbacks", "chain", "chord", "group")
_EMBED: Final = frozenset({"callbacks", "errbacks", "chain", "chord"})

#: A string, or the rest of the text when it does not end. Possessive: linear on any input.
_STRING: Final = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"?', re.DOTALL)
_SHARD: Final = re.compile(r"backups\.shard\.[0-9]{2,4}(\.high)?")

#: What a decoder of JSON raises, ours or kombu's for its own types.
_UNDECODABLE: Final = (
    *(ValueError, TypeError, LookupError, AttributeError, ArithmeticError),
    *(RecursionError, MemoryError),
)


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a message does not pass."""

    error: InvalidInput
    #: The message's task, if it is one of ours, and its id, if it may be a key's name.
    task: str | None = None
    task_id: str | None = None


class _Refused(Exception):
    def __init__(self, field: str, problem: str, kind: type[InvalidInput] = MessageRefused) -> None:
        super().__init__(field, problem)
        self.error = kind(field, problem)


class Gate:
    """Judges messages for the tasks of a worker. Thread-safe."""

    def __init__(self, tasks: Mapping[str, Callable[..., Any]]) -> None:
        """
        Args:
            tasks: the name and the function of each task of ours.
        """
        self._signatures = {name: inspect.signature(run) for name, run in tasks.items()}

    def judge(self, raw: bytes, queue: str) -> dict[str, Any] | Refusal:
        """The message that a worker may act on, or why it is refused.

        Args:
            raw: what lay in the queue.
            queue: one of ours.
        """
        name = task_id = None
        try:
            message = _decoded(raw, MOST_BYTES if queue == keys.RECEIVE_QUEUE else MOST_SHARD_BYTES)
            headers, properties = _parts(message)
            task_id, name = _sound_id(headers.get("id")), self._known(headers.get("task"))
            _check_names(task_id, name, queue)
            clean = {"lang": "py", "task": name, "id": task_id, **_headers(headers)}
            body, encoding = self._body(message, headers, properties, str(name))
            redelivered = headers.get("redelivered") is True
            return _made_anew(clean, body, encoding, queue, redelivered=redelivered)
        except _Refused as refused:
            return Refusal(refused.error, name, task_id)

    def _known(self, name: object) -> str | None:
        return name if isinstance(name, str) and name in self._signatures else None

    def _body(
        self, message: dict[str, Any], headers: Any, properties: dict[str, Any], name: str
    ) -> tuple[str, str]:
        """The body as it came and its encoding, once it is checked against what the task takes."""
        if headers.get("compression") is not None:
            raise _Refused("compression", "is not taken")
        if message.get("content-type") != "application/json":
            raise _Refused("content-type", "must be application/json")
        if str(message.get("content-encoding")).lower() != "utf-8":
            raise _Refused("content-encoding", "must be utf-8")
        body, encoding = message.get("body"), properties.get("body_encoding") or "utf-8"
        if not isinstance(body, str) or encoding not in ("base64", "utf-8"):
            raise _Refused("body", "must be a text, in base64 or not encoded")
        try:
            data = base64.b64decode(body) if encoding == "base64" else body.encode()
        except ValueError:
            raise _Refused("body", "is not encoded as it says") from None
        parts = _parsed("body", data, kombu_loads)
        if not isinstance(parts, list) or len(parts) != 3:
            raise _Refused("body", "must be [args, kwargs, embed]: task protocol 2")
        args, kwargs, embed = parts
        if not isinstance(args, list) or not isinstance(kwargs, dict):
            raise _Refused("body", "must hold a list and an object of arguments")
        if embed is not None and not isinstance(embed, dict):
            raise _Refused("embed", "must be an object")
        for key, value in (embed or {}).items():
            if key not in _EMBED or value:
                raise _Refused("embed", "must be empty: no callbacks, chains and chords")
        self._check_arguments(name, args, kwargs)
        return body, encoding

    def _check_arguments(self, name: str, args: list[Any], kwargs: dict[str, Any]) -> None:
        if name == received.RECEIVE_TASK:
            if args:
                problem = "must be empty: a backup is given as keyword arguments"
                raise _Refused("args", problem, InvalidBackup)
            if "self" in kwargs:
                # Celery could not hand it to the task.
                raise _Refused("self", "is no field of a backup", InvalidBackup)
        try:
            self._signatures[name].bind(*args, **kwargs)
        except TypeError:
            raise _Refused("arguments", "are not those that the task takes") from None


def is_ours(queue: str) -> bool:
    """Whether confkeep's workers serve the queue."""
    return queue == keys.RECEIVE_QUEUE or _SHARD.fullmatch(queue) is not None


def parse_unacked(text: bytes) -> tuple[Any, str, str] | None:
    """The message, exchange and routing key of kombu's note of a taken message; None if it is
    none."""
    try:
        _count("unacked", text, outside=None)
        # Decode as kombu will, with its own types.
        message, exchange, routing_key = kombu_loads(text)  # type: ignore[no-untyped-call]
        there = isinstance(message["headers"], dict), isinstance(message["properties"], dict)
        info = message["properties"]["delivery_info"]
    except (_Refused, *_UNDECODABLE):
        return None
    if not (all(there) and isinstance(info, dict)):
        return None
    if not isinstance(exchange, str) or not isinstance(routing_key, str):
        return None
    return message, exchange, routing_key


def _decoded(raw: bytes, most: int) -> dict[str, Any]:
    if len(raw) > most:
        raise _Refused("message", f"must be at most {most} bytes, is {len(raw)}")
    message = _parsed("message", raw, json.loads)
    if not isinstance(message, dict):
        raise _Refused("message", "must be a JSON object")
    return message


def _parsed(what: str, data: bytes, loads: Callable[[str], Any]) -> Any:
    _count(what, data, outside=_MOST_OUTSIDE)
    try:
        return loads(data.decode())
    except _UNDECODABLE:
        raise _Refused(what, "must be JSON in UTF-8") from None


def _count(what: str, data: bytes, *, outside: int | None) -> None:
    """Refuse what would cost a decoder its stack, its memory or its time; looks at each byte once.

    Args:
        outside: most bytes outside of strings; None for any number.
    """
    if data.count(b"\\") > _MOST_ESCAPES:
        raise _Refused(what, "has too many escapes")
    depth = strings = seen = end = 0
    for found in _STRING.finditer(data):
        seen += found.start() - end
        depth = _deeper(what, depth, data[end : found.start()])
        strings, end = strings + 1, found.end()
        if outside is not None and (seen > outside or strings > _MOST_STRINGS):
            raise _Refused(what, "has too many values")
    if outside is not None and seen + len(data) - end > outside:
        raise _Refused(what, "has too many values")
    _deeper(what, depth, data[end:])


#: All bytes but brackets.
_NO_BRACKETS: Final = bytes(set(range(256)) - set(b"[]{}"))


def _deeper(what: str, depth: int, text: bytes) -> int:
    """The nesting depth after a text without strings."""
    for bracket in text.translate(None, _NO_BRACKETS):
        depth += 1 if bracket in b"[{" else -1
        if depth > MOST_DEPTH:
            raise _Refused(what, f"must be nested at most {MOST_DEPTH} deep")
    return depth


def _parts(message: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    headers, properties = message.get("headers"), message.get("properties")
    if not isinstance(headers, dict) or not isinstance(properties, dict):
        raise _Refused("headers", "are missing: Celery's task protocol 2 is wanted")
    return headers, properties


def _check_names(task_id: str | None, name: str | None, queue: str) -> None:
    if task_id is None:
        raise _Refused("id", f"must be a text of 1 to {MOST_ID} printable characters")
    if name is None:
        raise _Refused("task", "is none of ours")
    if (name == received.RECEIVE_TASK) != (queue == keys.RECEIVE_QUEUE):
        raise _Refused("task", "does not belong to this queue")


def _sound_id(given: object) -> str | None:
    """An id that may be a key's name and a field of a log; else None."""
    if not isinstance(given, str) or not 0 < len(given) <= MOST_ID or not given.isprintable():
        return None
    return given


def _headers(given: dict[str, Any]) -> dict[str, Any]:
    """The headers that are passed on, each checked for its type.

    Raises:
        _Refused: one asks for what no message may.
    """
    for name in _FURTHER:
        if given.get(name):
            raise _Refused(name, "is not taken: a message asks for nothing further")
    limits = given.get("timelimit")
    if limits is not None and (
        not isinstance(limits, list) or any(limit is not None for limit in limits)
    ):
        raise _Refused("timelimit", "is not taken")
    retries = given.get("retries") or 0
    if type(retries) is not int or not 0 <= retries <= _MOST_RETRIES:
        raise _Refused("retries", f"must be a number from 0 to {_MOST_RETRIES}")
    ignore = given.get("ignore_result")
    if ignore is not None and not isinstance(ignore, bool):
        raise _Refused("ignore_result", "must be true or false")
    eta, expires = _date("eta", given.get("eta")), _date("expires", given.get("expires"))
    if eta is not None and eta > dt.datetime.now(dt.UTC) + dt.timedelta(seconds=MOST_AHEAD_S):
        raise _Refused("eta", f"must lie at most {MOST_AHEAD_S} s ahead")
    texts = {name: text for name in _TEXTS if _is_shown(text := given.get(name))}
    return {
        "argsrepr": "",
        "kwargsrepr": "",
        **texts,
        "retries": retries,
        "ignore_result": ignore,
        "eta": None if eta is None else eta.isoformat(),
        "expires": None if expires is None else expires.isoformat(),
        "timelimit": [None, None],
        "group": None,
    }


def _is_shown(text: object) -> bool:
    return isinstance(text, str) and len(text) <= _MOST_SHOWN and text.isprintable()


def _date(name: str, given: Any) -> dt.datetime | None:
    if given is None:
        return None
    try:
        date = dt.datetime.fromisoformat(given)
        # As in Celery, a date without a time zone is UTC.
        return date.replace(tzinfo=dt.UTC) if date.tzinfo is None else date.astimezone(dt.UTC)
    except (TypeError, ValueError, OverflowError):
        raise _Refused(name, "must be a date in ISO 8601") from None


def _made_anew(
    headers: dict[str, Any], body: str, encoding: str, queue: str, *, redelivered: bool
) -> dict[str, Any]:
    """The message as kombu expects it; nothing that decides where it goes is the sender's."""
    task_id = headers["id"]
    if redelivered:
        headers["redelivered"] = True
    return {
        "body": body,
        "content-encoding": "utf-8",
        "content-type": "application/json",
        "headers": headers,
        "properties": {
            "correlation_id": task_id,
            "reply_to": "",
            "delivery_mode": 2,
            # A restored message goes to its queue, not where a table of bindings says.
            "delivery_info": {"exchange": "", "routing_key": queue, "redelivered": redelivered},
            "priority": 0,
            "body_encoding": encoding,
            "delivery_tag": str(uuid.uuid4()),
        },
    }
