"""Traces by OpenTelemetry: of tasks, and of each backup from its enqueue to its commit; off by default.

A backup's trace has the backup's own id: the producer's span `backup.enqueue` and the worker's span
`backup.commit` meet in it, though nothing of the trace travels with the backup. Both have the ids as
attributes and nothing of what the backup holds. Where spans go, and which are sampled, the standard
variables OTEL_* say; a program's own provider is left alone.
"""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from confkeep.errors import InvalidSettings
from confkeep.settings import Settings

_lock = threading.Lock()
_forced = threading.local()


@dataclass(frozen=True, slots=True)
class _Running:
    provider: Any
    tracer: Any


_running: _Running | None = None


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
    global _running
    with _lock:
        if not settings.otel or (_running is not None):
            return
        # A child made by fork goes on with its parent's: the SDK renews its thread.
        try:
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
            from opentelemetry.sdk.resources import Resource
            from opentelemetry.sdk.trace import TracerProvider
            from opentelemetry.sdk.trace.export import BatchSpanProcessor
        except ImportError:
            raise InvalidSettings(
                "CONFKEEP_OTEL", "needs the extra: pip install 'confkeep[otel]'"
            ) from None
        # OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES win.
        resource = Resource.create()
        if str(resource.attributes["service.name"]).startswith("unknown_service"):
            resource = resource.merge(Resource({"service.name": "confkeep"}))
        provider = TracerProvider(resource=resource, id_generator=_id_generator())
        provider.add_span_processor(
            BatchSpanProcessor(_scrubbing((exporter or OTLPSpanExporter)()))
        )
        if tasks:
            _trace_tasks(provider)
        _running = _Running(provider, provider.get_tracer("confkeep"))


def _trace_tasks(provider: Any) -> None:
    try:
        from opentelemetry.instrumentation.celery import CeleryInstrumentor
    except ImportError:
        raise InvalidSettings(
            "CONFKEEP_OTEL", "needs the extra: pip install 'confkeep[otel]'"
        ) from None
    CeleryInstrumentor().instrument(tracer_provider=provider)  # type: ignore[no-untyped-call]


def stop() -> None:
    """Send what was gathered, and trace no more."""
    global _running
    running, _running = _running, None
    if running is not None:
        running.provider.shutdown()


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

    assert _running is not None
    here = trace.get_current_span().get_span_context()
    _forced.trace_id = uuid.UUID(ids["backup_id"]).int
    try:
        span = _running.tracer.start_span(
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
    """An exporter that leaves out what exceptions say, which may be payload."""
    from opentelemetry.sdk.trace import Event, ReadableSpan
    from opentelemetry.sdk.trace.export import SpanExporter
    from opentelemetry.trace import Status

    def scrubbed(span: ReadableSpan) -> ReadableSpan:
        if not span.events and not span.status.description:
            return span
        kind = next(
            (dict(e.attributes or {}).get("exception.type") for e in span.events if e.attributes),
            None,
        )
        events = [
            Event(
                event.name,
                {
                    name: value
                    for name, value in (event.attributes or {}).items()
                    if name not in ("exception.message", "exception.stacktrace")
                },
                event.timestamp,
            )
            for event in span.events
        ]
        return ReadableSpan(
            name=span.name,
            context=span.context,
            parent=span.parent,
            resource=span.resource,
            attributes=span.attributes,
            events=events,
            links=span.links,
            kind=span.kind,
            status=Status(span.status.status_code, None if kind is None else str(kind)),
            start_time=span.start_time,
            end_time=span.end_time,
            instrumentation_scope=span.instrumentation_scope,
        )

    class Scrubbing(SpanExporter):
        def export(self, spans: Any) -> Any:
            return exporter.export([scrubbed(span) for span in spans])

        def shutdown(self) -> None:
            exporter.shutdown()

        def force_flush(self, timeout_millis: int = 30_000) -> bool:
            return bool(exporter.force_flush(timeout_millis))

    return Scrubbing()
