"""Messages as a hostile or broken client may send them: valid ones, spoiled at every level, from a seed."""

from __future__ import annotations

import base64
import bz2
import copy
import json
import lzma
import random
import uuid
import zlib
from collections.abc import Callable, Iterator
from typing import Any

from celery.app.task import Context

from confkeep.broker import keys

TENANTS = [str(uuid.UUID(int=0xF000 + number, version=4)) for number in range(4)]
DEVICE = str(uuid.UUID(int=0xD0, version=4))

#: Lists and other keys that a message would like a worker to push to.
TARGETS = [keys.LOAD, keys.DEAD, keys.inbox(TENANTS[0]), keys.backoff(TENANTS[1]), "somebody's key"]
#: One delivery tag for many.
_TAG = str(uuid.UUID(int=7))
#: Every name that Celery looks up somewhere on its way.
_NAMES = sorted(
    {name for name in vars(Context) if not name.startswith("__")}
    | {"lang", "task", "id", "argsrepr", "kwargsrepr", "compression", "redelivered", "timelimit"}
    | {"meth", "origin", "stamped_headers", "args", "__type__", "self", "taskset"}
)
TASKS = [
    *("backups.receive", "backups.commit_inbox", "backups.verify", "backups.history"),
    *("backups.read_file", "backups.diff", "backups.drill", "backups.retention", "backups.repack"),
    *("backups.unknown", "celery.chord_unlock", "celery.backend_cleanup", "celery.group", ""),
]


def bombs(unpacked_mib: int) -> dict[str, bytes]:
    """By Celery's name of the compression, a body of few bytes that unpacks to many."""
    mib = b"A" * 2**20
    head, tail = b'[[],{"export_text":"', b'"},{}]'
    packers: dict[str, tuple[Any, int]] = {
        "application/x-gzip": (zlib.compressobj(1), unpacked_mib),
        "application/x-bz2": (bz2.BZ2Compressor(), unpacked_mib // 25),
        "application/x-lzma": (lzma.LZMACompressor(preset=0), unpacked_mib // 25),
    }
    found = {}
    for name, (packer, count) in packers.items():
        packed = [packer.compress(head), *(packer.compress(mib) for _ in range(count))]
        found[name] = b"".join([*packed, packer.compress(tail), packer.flush()])
    return found


class Hostile:
    """Makes messages; the same seed makes the same ones."""

    def __init__(self, seed: int, packed: dict[str, bytes]) -> None:
        self._random = random.Random(seed)
        self._bombs = packed
        self._ids: list[str] = [str(uuid.UUID(int=9))]

    def messages(self, number: int) -> Iterator[tuple[str, bytes]]:
        """Pairs of a queue and what is pushed there; some come twice in a row."""
        made = 0
        while made < number:
            queue, raw = self._one()
            for _ in range(self._random.choice([1, 1, 1, 1, 1, 1, 2, 3])):
                yield queue, raw
                made += 1

    def odd(self, depth: int = 0) -> Any:
        """A value that is not what anybody expects."""
        pick = self._random
        simple: list[Any] = [
            *(None, True, False, 0, -1, 1, 10**18, 2**63, 10**400, 1e308),
            *(float("nan"), float("inf")),
            *("", "x", "\0", "\ud800", "\u202e", "é" * 300, "A" * 70_000, "confkeep:load"),
            *(TENANTS[0], "2026-01-01T00:00:00", "0001-01-01T00:00:00+14:00", "9999-12-31"),
            *([], {}, [[]], [None, None], ["x"], {"": ""}, [1, "x"], [0.02, None]),
            *({"__type__": "base64", "__value__": 5}, {"__type__": "uuid", "__value__": []}),
            {"__type__": "decimal", "__value__": "1E+999999999999999999999"},
        ]
        if depth < 3 and pick.random() < 0.25:
            if pick.random() < 0.5:
                return [self.odd(depth + 1) for _ in range(pick.randrange(4))]
            return {pick.choice(_NAMES): self.odd(depth + 1) for _ in range(pick.randrange(4))}
        if pick.random() < 0.03:
            return self._nested(pick.choice([20, 40, 100, 500, 3_000]))
        return pick.choice(simple)

    def valid(self, task: str | None = None) -> tuple[str, dict[str, Any], list[Any]]:
        """A queue, a message as a plain client sends it, and its body."""
        pick = self._random
        task = task or pick.choice(TASKS[:5])
        tenant = pick.choice(TENANTS)
        id_ = pick.choice(self._ids) if pick.random() < 0.1 else self._new_id()
        args: list[Any] = [tenant]
        kwargs: dict[str, Any] = {}
        queue = keys.queue_of(tenant, 16)
        if task == "backups.receive":
            queue, args = keys.RECEIVE_QUEUE, []
            kwargs = {"tenant_id": tenant, "device_id": DEVICE, "message": "m"}
            kwargs["export_text"] = f"/ip {pick.random()} [find]\n"
        elif task == "backups.history":
            args.append(DEVICE)
        elif task == "backups.read_file":
            args += ["0" * 40, DEVICE, "export.rsc"]
        message = {
            "body": "",
            "content-encoding": "utf-8",
            "content-type": "application/json",
            "headers": {
                "lang": "py",
                "task": task,
                "id": id_,
                "shadow": None,
                "eta": None,
                "expires": None,
                "group": None,
                "group_index": None,
                "retries": 0,
                "timelimit": [None, None],
                "root_id": id_,
                "parent_id": None,
                "argsrepr": "()",
                "kwargsrepr": "{}",
                "origin": "gen1@host",
                "ignore_result": None,
                "replaced_task_nesting": 0,
                "stamped_headers": None,
                "stamps": {},
            },
            "properties": {
                "correlation_id": id_,
                "reply_to": str(uuid.UUID(int=8)),
                "delivery_mode": 2,
                "delivery_info": {"exchange": "", "routing_key": queue},
                "priority": 0,
                "body_encoding": "base64",
                "delivery_tag": self._new_id(),
            },
        }
        embed = {"callbacks": None, "errbacks": None, "chain": None, "chord": None}
        return queue, message, [args, kwargs, embed]

    def _one(self) -> tuple[str, bytes]:
        pick = self._random
        queue, message, body = self.valid(pick.choice(TASKS) if pick.random() < 0.3 else None)
        if pick.random() < 0.1:
            queue = pick.choice([keys.RECEIVE_QUEUE, keys.shard_queue(0), keys.shard_queue(5)])
        ways: list[Callable[[Any, Any], bytes]] = [
            *(self._sent, self._bytes, self._text, self._top, self._headers, self._headers),
            *(self._properties, self._body, self._body, self._embed, self._embed, self._packed),
            *(self._several, self._unlike),
        ]
        return queue, pick.choice(ways)(message, body)

    def _new_id(self) -> str:
        self._ids = [*self._ids[-20:], str(uuid.UUID(int=self._random.getrandbits(128), version=4))]
        return self._ids[-1]

    def _nested(self, depth: int) -> Any:
        value: Any = []
        for _ in range(min(depth, 900)):
            value = [value]
        return value

    def _sent(self, message: Any, body: Any) -> bytes:
        if isinstance(message, dict) and message.get("body") == "":
            message["body"] = base64.b64encode(json.dumps(body).encode()).decode()
        return json.dumps(message).encode()

    def _bytes(self, message: Any, body: Any) -> bytes:
        pick, raw = self._random, bytearray(self._sent(message, body))
        for _ in range(pick.choice([1, 1, 2, 5, 30])):
            at = pick.randrange(len(raw) + 1)
            match pick.randrange(5):
                case 0:
                    del raw[at:]
                case 1:
                    raw[at : at + 1] = bytes([pick.randrange(256)])
                case 2:
                    raw[at:at] = pick.choice(
                        [b"\xff", b"\0", b'"', b"{", b"]", b"\\u", b"1" * 6_000]
                    )
                case 3:
                    raw[at : at + pick.randrange(40)] = b""
                case 4:
                    raw[at:at] = raw[: pick.randrange(200)]
        return bytes(raw)

    def _text(self, message: Any, body: Any) -> bytes:
        """No message at all."""
        pick = self._random
        deep = pick.choice([50, 400, 5_000, 100_000])
        sent = self._sent(message, body)
        return pick.choice(
            [
                *(b"x", b"\0", b"null", b"[]", b"{}", b"1", b'"', b"\xff\xfe", b"\xef\xbb\xbf{}"),
                *(b"[" * deep, b'{"a":' * deep, b"[" * deep + b"]" * deep, b"]" * deep + sent),
                *(b"9" * 20_000, b"[" + b"0," * 200_000 + b"0]", b" " * 2_000_000 + sent),
                *(b'["' + b'\\"' * 500_000, b"[" + b'"",' * 100_000 + b'""]', sent[::-1]),
                *(sent + sent, sent.replace(b'"headers"', b'"body"'), b'{"headers":' + sent + b"}"),
                b'{"headers": {"id": ' + b"[" * deep + b"]" * deep + b"}}",
                pick.randbytes(pick.choice([1, 20, 3_000, 100_000])),
            ]
        )

    def _top(self, message: Any, body: Any) -> bytes:
        name = self._random.choice([*message, "redelivered"])
        if self._random.random() < 0.4:
            message.pop(name, None)
        else:
            message[name] = self.odd()
        return self._sent(message, body)

    def _headers(self, message: Any, body: Any) -> bytes:
        pick = self._random
        for _ in range(pick.choice([1, 1, 2, 4])):
            name = pick.choice([*message["headers"], *_NAMES])
            if pick.random() < 0.2:
                message["headers"].pop(name, None)
            else:
                message["headers"][name] = self.odd()
        return self._sent(message, body)

    def _properties(self, message: Any, body: Any) -> bytes:
        pick, properties = self._random, message["properties"]
        name = pick.choice([*properties, "delivery_tag", "delivery_info", "expiration"])
        match pick.randrange(4):
            case 0:
                properties.pop(name, None)
            case 1:
                properties["delivery_info"] = {"exchange": "", "routing_key": pick.choice(TARGETS)}
                properties["reply_to"] = pick.choice(TARGETS)
            case 2:
                properties["delivery_tag"] = _TAG
            case _:
                properties[name] = self.odd()
        return self._sent(message, body)

    def _body(self, message: Any, body: Any) -> bytes:
        pick = self._random
        match pick.randrange(8):
            case 0:
                body[pick.randrange(3)] = self.odd()
            case 1:
                body[1][pick.choice([*_NAMES, "self", "cls", "tenant_id", "sent_ms"])] = self.odd()
            case 2:
                body[0].append(self.odd())
            case 3:
                body = pick.choice([self.odd(), body[:2], [*body, 1], {"args": [], "kwargs": {}}])
            case 4:
                message["body"] = pick.choice(["%%%", "A", "é", self.odd()])
            case 5:
                depth = pick.choice([40, 100, 500, 5_000])
                text = '[[],{"tenant_id":' + "[" * depth + "]" * depth + "},{}]"
                message["body"] = base64.b64encode(text.encode()).decode()
            case 6:
                message["body"] = base64.b64encode(pick.randbytes(300)).decode()
            case 7:
                message["body"] = json.dumps(body)
                message["properties"]["body_encoding"] = pick.choice([None, "utf-8", "zip", 5, "x"])
        return self._sent(message, body)

    def _embed(self, message: Any, body: Any) -> bytes:
        """Asks for what a worker would then do."""
        pick = self._random
        asked: dict[str, Any] = {
            "task": "x",
            "args": [],
            "kwargs": {},
            "subtask_type": None,
            "immutable": True,
            "options": {"queue": pick.choice(TARGETS), "task_id": self._new_id()},
        }
        name = pick.choice(["callbacks", "errbacks", "chain", "chord", *_NAMES])
        value = pick.choice([[asked], asked, [asked, asked], self.odd()])
        if pick.random() < 0.6:
            body[2][name] = value
        else:
            message["headers"][name] = value
            body[2] = pick.choice([{}, None, body[2]])
        return self._sent(message, body)

    def _packed(self, message: Any, body: Any) -> bytes:
        pick = self._random
        name = pick.choice([*self._bombs, "zlib", "application/zstd", "brotli", "x"])
        message["headers"]["compression"] = name
        if name in self._bombs and pick.random() < 0.2:
            message["body"] = base64.b64encode(self._bombs[name]).decode()
        return self._sent(message, body)

    def _several(self, message: Any, body: Any) -> bytes:
        """Two spoilt places in one message."""
        first = json.loads(self._headers(copy.deepcopy(message), copy.deepcopy(body)))
        return self._properties(first, body) if "properties" in first else b"{}"

    def _unlike(self, message: Any, body: Any) -> bytes:
        """Another protocol, serializer or encoding."""
        pick = self._random
        message[pick.choice(["content-type", "content-encoding"])] = pick.choice(
            ["application/x-python-serialize", "application/x-yaml", "binary", "utf-16", "us-ascii"]
        )
        if pick.random() < 0.3:
            old = {"task": message["headers"]["task"], "id": message["headers"]["id"]}
            message["headers"] = {}
            body = {**old, "args": body[0], "kwargs": body[1], "retries": 0}
        return self._sent(message, body)
