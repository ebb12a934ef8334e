"""Makes up requests to the look-alike and the ingest: right ones, broken ones, and those of somebody curious."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from urllib.parse import quote, quote_from_bytes, unquote_to_bytes, urlencode

_ROUTES = (
    *("/nodes", "/nodes/stats", "/nodes/conf_search", "/nodes/group/{}", "/nodes/model/{}"),
    *("/nodes/{}/{}", "/node/show/{}", "/node/fetch/{}", "/node/fetch/{}/{}", "/node/next/{}"),
    *("/node/next/{}/{}", "/node/version", "/node/version/view", "/node/version/diffs"),
    *("/reload", "/ingest/oxidized", "/node/{}", "/{}"),
)
_KEYS = ("node", "group", "oid", "oid2", "node_full", "format", "num", "date", "epoch", "x")
_METHODS = ("GET", "PUT", "POST", "HEAD", "DELETE", "PATCH", "OPTIONS")
#: Routes that nothing else than these methods reaches.
_POSTED = {"/nodes/conf_search": "POST", "/ingest/oxidized": "POST"}
_ODD = (
    *(
        "",
        ".",
        "..",
        "/",
        "//",
        "../..",
        "%00",
        "\0",
        "\n",
        "\r\n",
        "a" * 300,
        "a" * 5_000,
        ".json",
    ),
    *("json", "default", "null", "*", "?", "#", "&", "latest", "latest~1", "2026-10-01", "HEAD"),
    *("main", "0" * 40, "f" * 40, "dead", "-1", "{}", "[]", "\ufeff", "é", "\U0001f600", "'\"<x>"),
    *("%2e%2e", "..%2f..%2f", "C:\\", "~", "$(id)", "\u202e", "1 day ago", "device:x", "previous"),
)
_PATTERNS = (
    "(",
    "a*",
    ".*",
    "(?i)x",
    "[[:alpha:]]",
    r"\pL",
    "(a|aa)*$",
    "^",
    "$",
    "x{1000}{9}",
    "\0",
)


@dataclass(frozen=True, slots=True)
class Request:
    """One request."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes = field(repr=False)

    def says(self, marker: bytes) -> bool:
        """Whether the request itself holds the marker, in whatever way it is written."""
        sent = unquote_to_bytes(unquote_to_bytes(self.target)) + self.body
        return marker in sent or marker in unquote_to_bytes(self.body)


class Fuzzer:
    """The same requests for the same seed.

    Args:
        words: names, addresses, groups and ids, also such as the tokens may not see.
        tokens: what is sent as tokens.
    """

    def __init__(self, seed: int, words: Sequence[str], tokens: Sequence[str]) -> None:
        self._random = random.Random(seed)
        self._words = words
        self._tokens = tokens

    def request(self) -> Request:
        """The next request."""
        choose = self._random.choice
        path = choose(_ROUTES)
        method = _POSTED.get(path) or ("PUT" if "next" in path else "GET")
        if self._random.random() < 0.1:
            method = choose(_METHODS)
        while "{}" in path:
            path = path.replace("{}", self._quoted(), 1)
        path += choose(("",) * 6 + (".json",) * 3 + ("/", ".text", ".json.json"))
        pairs = [(choose(_KEYS), self._word()) for _ in range(self._random.randrange(5))]
        if self._random.random() < 0.5:
            pairs.append(("format", choose(("json", "text", "html"))))
        query = urlencode(pairs, errors="replace")
        if self._random.random() < 0.05:
            query += "&" + quote_from_bytes(self._random.randbytes(9)) + "=%ff&&=&%"
        headers = self._login()
        body = b"" if method in ("GET", "HEAD") else self._body(headers)
        return Request(method, path + ("?" + query if query else ""), headers, body)

    def _word(self) -> str:
        draw = self._random.random()
        if draw < 0.65:
            return self._random.choice(self._words)
        if draw < 0.85:
            return self._random.choice(_ODD)
        if draw < 0.95:
            return "/".join(self._random.choice(self._words) for _ in range(2))
        return "".join(chr(self._random.randrange(1, 0x3000)) for _ in range(5))

    def _quoted(self) -> str:
        word = self._word()
        if self._random.random() < 0.05:
            return quote_from_bytes(self._random.randbytes(5))
        text = quote(word, safe=self._random.choice(("", "/", "/:@!$'()*,;=~")), errors="replace")
        return text.replace("%2F", "%252F") if self._random.random() < 0.02 else text

    def _login(self) -> dict[str, str]:
        token = self._random.choice(self._tokens)
        draw = self._random.random()
        if draw < 0.9:
            return {"X-Auth-Token": token}
        if draw < 0.95:
            return {"Authorization": f"Bearer {token}"}
        return self._random.choice(
            ({}, {"Authorization": "Basic"}, {"Authorization": "Basic ////"}, {"X-Auth-Token": ""})
        )

    def _body(self, headers: dict[str, str]) -> bytes:
        draw = self._random.random()
        if draw < 0.35:
            headers["Content-Type"] = "application/x-www-form-urlencoded"
            pattern = self._random.choice((*_PATTERNS, self._word()))
            return urlencode({"search_in_conf_textbox": pattern}, errors="replace").encode()
        if draw < 0.45:
            headers["Content-Type"] = self._random.choice(
                (
                    "multipart/form-data; boundary=x",
                    "multipart/form-data",
                    "multipart/form-data; boundary=",
                )
            )
            part = f'--x\r\nContent-Disposition: form-data; name="search_in_conf_textbox"\r\n\r\n{self._word()}'
            return (part + self._random.choice(("\r\n--x--\r\n", "\r\n--x", ""))).encode(
                "utf-8", "replace"
            )
        headers["Content-Type"] = "application/json"
        names = ("msg", "user", "email", "group", "node", "config", "model", "message", "from")
        said = {name: self._value() for name in names if self._random.random() < 0.7}
        text = json.dumps(said, ensure_ascii=self._random.random() < 0.5).encode("utf-8", "replace")
        if self._random.random() < 0.1:
            text = text[: self._random.randrange(len(text) + 1)] + self._random.randbytes(3)
        if self._random.random() < 0.1:
            headers["Idempotency-Key"] = self._random.choice(("x", self._words[0], "0" * 32))
        return text

    def _value(self) -> object:
        draw = self._random.random()
        if draw < 0.85:
            return self._word()
        return self._random.choice(
            (None, 1, -0.5, True, [], {}, ["x"], {"a": [1]}, 10**40, "\ud800")
        )
