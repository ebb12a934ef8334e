"""Answers as JSON, in one step, since a page has many."""

from __future__ import annotations

from functools import cache
from typing import Any

from fastapi import Response
from fastapi.responses import JSONResponse
from pydantic import TypeAdapter

from worker.http.problems import MEDIA_TYPE, Problem, headers_of
from worker.reading.answers import Answer, DeviceEntry


def answer_of(problem: Problem, headers: dict[str, str] | None = None) -> JSONResponse:
    return JSONResponse(
        problem.model_dump(mode="json", exclude_none=True),
        problem.status,
        {**headers_of(problem.status), **(headers or {})},
        MEDIA_TYPE,
    )


@cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)


def json_of(
    answer: Answer | DeviceEntry, status: int = 200, headers: dict[str, str] | None = None
) -> Response:
    """What was found as an answer."""
    kind: Any = type(answer)
    body = _adapter(kind).dump_json(answer)
    return Response(body, status, headers, "application/json")


def json_of_all(kind: Any, answers: list[Any], headers: dict[str, str] | None = None) -> Response:
    """All of one kind as an answer."""
    body = _adapter(list[kind]).dump_json(answers)
    return Response(body, 200, headers, "application/json")
