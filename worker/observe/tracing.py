"""Traces tasks by OpenTelemetry's own instrumentation of Celery, without what exceptions say. Off by default.

That instrumentation records the texts of exceptions, which may be payload, and has no switch for it. Where
spans go, and which are sampled, the standard variables OTEL_* say; a program's own provider is left alone.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from confkeep.errors import InvalidSettings
from confkeep.settings import Settings

#: What a span keeps when it is sent: its events are exceptions.
_SAME: Final = (
    *("name", "context", "parent", "resource", "links", "kind"),
    *("start_time", "end_time", "instrumentation_scope"),
)
#: The attribute that says what exception a task tries again after.
_RETRY_REASON: Final = "celery.retry.reason"

#: What gives out spans and sends them; None if nothing is traced.
_provider: Any = None


def start(settings: Settings, *, exporter: Callable[[], Any] | None = None) -> None:
    """Trace this process's tasks; does nothing, and imports nothing, unless CONFKEEP_OTEL is set.

    A child made by fork goes on with its parent's provider: the SDK renews its thread.

    Args:
        exporter: makes what takes the spans, for tests; None: OTLP over HTTP.

    Raises:
        InvalidSettings: the extra is not installed.
    """
    global _provider
    if not settings.otel or _provider is not None:
        return
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.instrumentation.celery import CeleryInstrumentor
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
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
    _provider = TracerProvider(resource=resource)
    _provider.add_span_processor(_scrubbing((exporter or OTLPSpanExporter)()))
    CeleryInstrumentor().instrument(tracer_provider=_provider)  # type: ignore[no-untyped-call]


def stop() -> None:
    """Send what was gathered, and trace no more."""
    global _provider
    provider, _provider = _provider, None
    if provider is not None:
        provider.shutdown()


def _scrubbing(exporter: Any) -> Any:
    """Sends spans with the classes of exceptions, and without what they say."""
    from opentelemetry.sdk.trace import ReadableSpan
    from opentelemetry.sdk.trace.export import BatchSpanProcessor
    from opentelemetry.trace import Status

    class Scrubbing(BatchSpanProcessor):
        def on_end(self, span: ReadableSpan) -> None:
            kinds = [(event.attributes or {}).get("exception.type") for event in span.events]
            status = Status(span.status.status_code, str(kinds[0]) if kinds else None)
            same: dict[str, Any] = {name: getattr(span, name) for name in _SAME}
            attributes = {k: v for k, v in (span.attributes or {}).items() if k != _RETRY_REASON}
            super().on_end(ReadableSpan(**same, attributes=attributes, status=status))

    return Scrubbing(exporter)
