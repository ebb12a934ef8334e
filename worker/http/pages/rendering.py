"""Renders the templates of the pages, and answers with them under a strict policy for browsers."""

from __future__ import annotations

import datetime as dt
from functools import cache, partial
from pathlib import Path
from typing import Any, Final

from fastapi import Request, Response
from fastapi.responses import HTMLResponse

from confkeep.wording import age_text, date_text, size_text, utc_text
from worker.http.access import Caller
from worker.http.pages.rows import pieces, shown, unified_rows
from worker.observe import states

FOLDER: Final = Path(__file__).parent
#: Nothing from elsewhere, nothing inline, in nobody's frame.
_HEADERS: Final = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "private, no-store",
}


def page(
    request: Request,
    template: str,
    *,
    caller: Caller | None = None,
    status: int = 200,
    **values: Any,
) -> Response:
    """A rendered page.

    Args:
        caller: who sees it; None before signing in.
    """
    text = (
        _environment()
        .get_template(template)
        .render(caller=caller, here=request.url.path, link=partial(link, request), **values)
    )
    return HTMLResponse(text, status, _HEADERS)


def problem_page(
    request: Request, status: int, title: str, detail: str, hint: str | None = None
) -> Response:
    """A page that says what went wrong."""
    return page(request, "problem.html", status=status, title=title, detail=detail, hint=hint)


def link(request: Request, **changes: object) -> str:
    """The address of this page with other parameters; None takes one away."""
    url = request.url
    for name, value in changes.items():
        url = url.remove_query_params(name)
        if value is not None:
            url = url.include_query_params(**{name: value})
    return url.path + (f"?{url.query}" if url.query else "")


def prepare() -> None:
    """Compile the templates: nobody's first page waits for that."""
    environment = _environment()
    for name in environment.list_templates():
        environment.get_template(name)


@cache
def _environment() -> Any:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    made = Environment(
        loader=FileSystemLoader(FOLDER / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    made.globals.update(q=None, states=states)
    made.filters.update(
        age=_age, count="{:,}".format, date=date_text, day=day, firstline=_first_line, iso=utc_text,
        pieces=pieces, sentence=_sentence, shown=shown, size=size_text, span=span,
        unified_rows=unified_rows,
    )  # fmt: skip
    return made


def _first_line(message: str) -> str:
    lines = message.strip().splitlines()
    return shown(lines[0]) + (" ..." if len(lines) > 1 else "") if lines else ""


def day(when: dt.datetime) -> str:
    """The day of a moment, as a page shows it."""
    return when.astimezone(dt.UTC).strftime("%Y-%m-%d")


def _age(when: dt.datetime) -> str:
    seconds = (dt.datetime.now(dt.UTC) - when).total_seconds()
    return f"{age_text(seconds)} ago" if seconds >= 60 else "just now"


def span(seconds: float) -> str:
    """A duration to the second."""
    whole = dt.timedelta(seconds=max(0, round(seconds)))
    return f"{whole.days} d" if whole.days else str(whole)


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}"
