"""Answers from models: to JSON in one step, since a page has many."""

from __future__ import annotations

from functools import cache
from typing import Any

from fastapi import Response
from fastapi.responses import JSONResponse
from pydantic import TypeAdapter

from worker.http.problems import MEDIA_TYPE, Problem, headers_of
from worker.reading.answers import Answer


def answer_of(problem: Problem, headers: dict[str, str] | None = None) -> JSONResponse:
    return JSONResponse(
        problem.model_dump(mode="json", exclude_none=True),
        problem.status,
        {**headers_of(problem.status), **(headers or {})},
        MEDIA_TYPE,
    )


@cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(list[kind])


def json_of(answer: Answer, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """A model as an answer."""
    body = type(answer).__pydantic_serializer__.to_json(answer)
    return Response(body, status, headers, "application/json")


def json_of_all(
    kind: type[Answer], answers: list[Any], headers: dict[str, str] | None = None
) -> Response:
    """Models of one kind as an answer."""
    return Response(_adapter(kind).dump_json(answers), 200, headers, "application/json")
