"""Traces by OpenTelemetry: of tasks, and of each backup from its enqueue to its commit. Off by default.

A backup's trace has the backup's own id: the producer's span `backup.enqueue` and the worker's span
`backup.commit` meet in it, though nothing of the trace travels with the backup. Both have the ids as
attributes and nothing of what the backup holds. Where spans go, and which are sampled, the standard
variables OTEL_* say; a program's own provider is left alone.
"""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable
from typing import Any, Final

from confkeep.errors import InvalidSettings
from confkeep.settings import Settings

_lock = threading.Lock()
_forced = threading.local()


#: What a span keeps when it is scrubbed.
_SAME: Final = (
    *("name", "context", "parent", "resource", "attributes", "links", "kind"),
    *("start_time", "end_time", "instrumentation_scope"),
)
#: What an exception says.
_SAID: Final = ("exception.message", "exception.stacktrace")

#: What gives out spans and sends them; None if nothing is traced.
_provider: Any = None


def start(
    settings: Settings, *, tasks: bool = False, exporter: Callable[[], Any] | None = None
) -> None:
    """Trace in this process; does nothing, and imports nothing, unless CONFKEEP_OTEL is set.

    Args:
        tasks: trace Celery's tasks too; for workers.
        exporter: makes what takes the spans, for tests; None: OTLP over HTTP.

    Raises:
        InvalidSettings: the extra is not installed.
    """
    global _provider
    with _lock:
        if not settings.otel or _provider is not None:
            return
        # A child made by fork goes on with its parent's: the SDK renews its thread.
        try:
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
            from opentelemetry.sdk.resources import Resource
            from opentelemetry.sdk.trace import TracerProvider

            if tasks:
                from opentelemetry.instrumentation.celery import CeleryInstrumentor
        except ImportError:
            raise InvalidSettings(
                "CONFKEEP_OTEL",
                "needs the extra: pip install 'confkeep[otel]'",
                hint="Install the extra where this program runs, or do not set the variable.",
            ) from None
        # OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES win.
        resource = Resource.create()
        if str(resource.attributes["service.name"]).startswith("unknown_service"):
            resource = resource.merge(Resource({"service.name": "confkeep"}))
        provider = TracerProvider(resource=resource, id_generator=_id_generator())
        provider.add_span_processor(_scrubbing((exporter or OTLPSpanExporter)()))
        if tasks:
            CeleryInstrumentor().instrument(tracer_provider=provider)  # type: ignore[no-untyped-call]
        _provider = provider


def stop() -> None:
    """Send what was gathered, and trace no more."""
    global _provider
    provider, _provider = _provider, None
    if provider is not None:
        provider.shutdown()


def enqueued(settings: Settings, began_ns: int, tenant_id: str, **ids: str) -> None:
    """A backup's enqueue, now that it is accepted; costs one comparison when tracing is off.

    Args:
        ids: `device_id` and `backup_id`.
    """
    if settings.otel:
        start(settings)
        _span("backup.enqueue", began_ns, tenant_id, ids)


def commit(settings: Settings, accepted_ms: int, tenant_id: str, **ids: str) -> None:
    """A backup's way from its acceptance to its commit, now that it is over.

    Args:
        ids: `device_id`, `backup_id` and `sha`.
    """
    if settings.otel:
        start(settings, tasks=True)
        _span("backup.commit", accepted_ms * 1_000_000, tenant_id, ids)


def _span(name: str, began_ns: int, tenant_id: str, ids: dict[str, str]) -> None:
    """Tell of what ends now: a root of its own in the backup's trace, linked to what runs here."""
    from opentelemetry import trace
    from opentelemetry.context import Context

    here = trace.get_current_span().get_span_context()
    _forced.trace_id = uuid.UUID(ids["backup_id"]).int
    try:
        span = _provider.get_tracer("confkeep").start_span(
            name,
            context=Context(),
            attributes={
                "confkeep.tenant_id": tenant_id,
                **{f"confkeep.{which}": value for which, value in ids.items()},
            },
            links=[trace.Link(here)] if here.is_valid else None,
            start_time=began_ns,
        )
    finally:
        _forced.trace_id = None
    span.end()


def _id_generator() -> Any:
    from opentelemetry.sdk.trace.id_generator import RandomIdGenerator

    class IdGenerator(RandomIdGenerator):
        """Gives the trace the id that a backup's span asks for."""

        def generate_trace_id(self) -> int:
            return getattr(_forced, "trace_id", None) or super().generate_trace_id()

    return IdGenerator()


def _scrubbing(exporter: Any) -> Any:
    """Sends spans without what exceptions say, which may be payload: Celery's instrumentation records it."""
    from opentelemetry.sdk.trace import Event, ReadableSpan
    from opentelemetry.sdk.trace.export import BatchSpanProcessor
    from opentelemetry.trace import Status

    class Scrubbing(BatchSpanProcessor):
        def on_end(self, span: ReadableSpan) -> None:
            if not span.events and not span.status.description:
                return super().on_end(span)
            events = [
                Event(
                    event.name,
                    {n: v for n, v in (event.attributes or {}).items() if n not in _SAID},
                    event.timestamp,
                )
                for event in span.events
            ]
            kinds = (dict(event.attributes or {}).get("exception.type") for event in events)
            kind = next((str(kind) for kind in kinds if kind), None)
            same: dict[str, Any] = {name: getattr(span, name) for name in _SAME}
            status = Status(span.status.status_code, kind)
            return super().on_end(ReadableSpan(**same, events=events, status=status))

    return Scrubbing(exporter)
