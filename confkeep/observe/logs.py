"""How log lines look, and what stands in them.

Every line of ours carries a stable `action` (docs/logs.md lists them), and while a task runs the ids
that its arguments name. Lines go through the standard library's logging: a program that imports
`tasks` has its own handlers, and finds our fields as attributes of the record. Neither payloads nor
secrets are ever given to a log; `confkeep.observe.log_scrub` keeps them out of Celery's lines too.
"""

from __future__ import annotations

import functools
import inspect
import logging
import re
import sys
from collections.abc import Mapping, MutableMapping, Sequence
from contextlib import suppress
from typing import Any, Final, Literal

import structlog

from confkeep.errors import InvalidId
from confkeep.ids import checked_uuid
from confkeep.observe.log_scrub import Scrub, exception_text
from confkeep.settings import Settings

#: How the names of our loggers begin.
PREFIX: Final = "confkeep."
#: Arguments of tasks that a line tells.
_IDS: Final = frozenset({"tenant_id", "device_id", "backup_id"})
_SHA: Final = re.compile(r"[0-9a-f]{4,40}")
#: Clients send this task under the id of the backup itself.
_RECEIVE: Final = "backups.receive"


def get_logger(name: str) -> structlog.stdlib.BoundLogger:
    """The logger `confkeep.<name>`; its keyword arguments become fields of the line."""
    logger: structlog.stdlib.BoundLogger = structlog.wrap_logger(
        logging.getLogger(PREFIX + name),
        processors=[
            structlog.stdlib.filter_by_level,
            structlog.stdlib.render_to_log_kwargs,
        ],
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    return logger


def configure(settings: Settings) -> None:
    """Send all log lines of the process to stderr, in the form that the settings name."""
    install(settings.log_format, settings.log_level)


def install(form: Literal["console", "json"], level: str) -> None:
    """Send all log lines of the process to stderr, in this form and from this level on."""
    renderer: Any = (
        structlog.processors.JSONRenderer()
        if form == "json"
        else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.addFilter(Scrub())
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[
                _add_fields,
                structlog.contextvars.merge_contextvars,
                structlog.stdlib.add_log_level,
                structlog.stdlib.add_logger_name,
                structlog.processors.TimeStamper(fmt="iso", utc=True),
                structlog.processors.ExceptionRenderer(exception_text),
            ],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())


def _add_fields(
    logger: Any, method: str, event: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    """Our own lines' fields. What others attach to theirs may be anything."""
    record: logging.LogRecord | None = event.get("_record")
    if record is not None and record.name.startswith(PREFIX):
        return structlog.stdlib.ExtraAdder()(logger, method, event)
    return event


def bind_task(
    task: Any, task_id: str, args: Sequence[Any], kwargs: Mapping[str, Any], **_: Any
) -> None:
    """Let all lines of this thread tell the running task and the ids that its arguments name."""
    given = dict(zip(_parameters_of(task), args, strict=False)) | dict(kwargs)
    ids = {}
    for name in _IDS & given.keys():
        # Arguments come from any client: what is no id is not repeated.
        with suppress(InvalidId):
            ids[name] = checked_uuid(name, given[name])
    sha = given.get("commit_sha")
    if isinstance(sha, str) and _SHA.fullmatch(sha):
        ids["sha"] = sha
    if task.name == _RECEIVE:
        ids.setdefault("backup_id", task_id)
    structlog.contextvars.bind_contextvars(task=task.name, task_id=task_id, **ids)


def unbind_task(**_: Any) -> None:
    """Forget them; a thread of the pool runs the next task."""
    structlog.contextvars.clear_contextvars()


@functools.lru_cache(maxsize=64)
def _parameters_of(task: Any) -> tuple[str, ...]:
    return tuple(inspect.signature(task.run).parameters)
