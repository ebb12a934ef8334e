"""Sentry and OpenTelemetry: off and not imported by default, and without payload when on."""

from __future__ import annotations

import json
import subprocess
import sys
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from celery import signals
from sentry_sdk.envelope import Envelope
from sentry_sdk.transport import Transport

from confkeep.errors import InvalidInput, InvalidSettings, StoreUnavailable
from confkeep.observe import logs
from confkeep.settings import load_settings
from tests.planted import SECRET
from worker.app import app
from worker.observe import error_reports, telemetry, tracing

DSN = "https://key@sentry.invalid/1"
TENANT = str(uuid.UUID(int=1, version=4))


def test_nothing_is_imported_unless_it_is_asked_for() -> None:
    code = (
        # redis-py imports a part of OpenTelemetry by itself where that is installed.
        "import sys, redis, redis.asyncio, redis.sentinel\n"
        "before = set(sys.modules)\n"
        "import tasks\n"
        "from worker.observe import telemetry\n"
        "from confkeep.settings import load_settings\n"
        "telemetry.start(load_settings())\n"
        "print(*sorted({n.split('.')[0] for n in set(sys.modules) - before}))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "worker" in done.stdout.split()
    assert not {"sentry_sdk", "opentelemetry"} & set(done.stdout.split())


@pytest.mark.parametrize(
    ("values", "missing", "variable"),
    [
        ({"sentry_dsn": DSN}, "sentry_sdk", "CONFKEEP_SENTRY_DSN"),
        ({"otel": True}, "opentelemetry.sdk.trace", "CONFKEEP_OTEL"),
    ],
)
def test_a_missing_extra_is_said(
    monkeypatch: pytest.MonkeyPatch, values: dict[str, Any], missing: str, variable: str
) -> None:
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(InvalidSettings, match=f"{variable}: needs the extra: pip install"):
        telemetry.start(load_settings(**values))


def test_a_dsn_that_is_none_is_said_without_repeating_it() -> None:
    with pytest.raises(InvalidSettings) as caught:
        error_reports.start(load_settings(sentry_dsn=f"nonsense-{SECRET}"))
    assert SECRET not in str(caught.value)
    assert SECRET not in repr(load_settings(sentry_dsn=f"nonsense-{SECRET}"))


class Kept(Transport):
    """Keeps what would be sent."""

    sent: list[dict[str, Any]]

    def __init__(self) -> None:
        super().__init__()
        self.sent = []

    def capture_envelope(self, envelope: Envelope) -> None:
        event = envelope.get_event()
        if event is not None:
            self.sent.append(dict(event))


class Surprise(Exception):
    """Says what it was given."""


@app.task(name="tests.fails", throws=(InvalidInput,), ignore_result=True)  # type: ignore[untyped-decorator]
def fails(tenant_id: str, kind: str, payload: str) -> None:
    """Fail with the payload in the exception, in its cause, and in local variables."""
    local = payload
    if kind == "foreseen":
        raise InvalidInput("field", "wrong")

    def inner() -> None:
        raise Surprise(local)

    try:
        inner()
    except Surprise as error:
        if kind == "ours":
            raise StoreUnavailable("x.git: no space left on the device") from error
        raise Surprise(local, tenant_id) from error


def test_sentry_gets_the_failure_and_no_payload() -> None:
    kept = Kept()
    error_reports.start(load_settings(sentry_dsn=DSN), transport=kept)
    # As in a worker of ours.
    signals.task_prerun.connect(logs.bind_task)
    signals.task_postrun.connect(logs.unbind_task)
    try:
        for kind in ("foreseen", "ours", "surprise"):
            fails.apply(args=(TENANT, kind, SECRET))
    finally:
        signals.task_prerun.disconnect(logs.bind_task)
        signals.task_postrun.disconnect(logs.unbind_task)
        import sentry_sdk

        sentry_sdk.get_client().close(timeout=0)
        # Without it, this would patch FastAPI and more for all further tests of the process.
        sentry_sdk.init(default_integrations=False, auto_enabling_integrations=False)
    ours, surprise = kept.sent
    assert SECRET not in json.dumps(kept.sent, default=str)
    last = ours["exception"]["values"][-1]
    assert (last["type"], last["value"]) == (
        "StoreUnavailable",
        "x.git: no space left on the device",
    )
    assert ours["tags"]["tenant_id"] == TENANT
    assert ours["tags"]["task"] == "tests.fails"
    assert [value["value"] for value in surprise["exception"]["values"]] == ["", ""]
    frames = surprise["exception"]["values"][-1]["stacktrace"]["frames"]
    assert frames[-1]["function"] == "fails"
    assert not any("vars" in frame for frame in frames)
    assert not {"extra", "request", "breadcrumbs", "user"} & set(surprise)


@pytest.fixture
def spans(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Tracing into memory."""
    from opentelemetry.instrumentation.celery import CeleryInstrumentor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "service.namespace=tests")
    exporter = InMemorySpanExporter()
    tracing.start(load_settings(otel=True), exporter=lambda: exporter)

    def finished() -> list[Any]:
        tracing._provider.force_flush()
        return list(exporter.get_finished_spans())

    yield finished
    CeleryInstrumentor().uninstrument()  # type: ignore[no-untyped-call]
    tracing.stop()


def test_a_task_is_traced_without_its_payload(spans: Any) -> None:
    fails.apply(args=(TENANT, "surprise", SECRET))
    [span] = spans()
    assert span.name == "run/tests.fails"
    assert span.status.description.endswith("Surprise")
    assert span.resource.attributes["service.name"] == "confkeep"
    assert span.resource.attributes["service.namespace"] == "tests"
    assert SECRET not in span.to_json()


def test_a_task_that_tries_again_is_traced_without_its_payload(spans: Any) -> None:
    @app.task(name="tests.retries", bind=True, max_retries=1, ignore_result=True)  # type: ignore[untyped-decorator]
    def retries(self: Any, payload: str) -> None:
        self.retry(exc=Surprise(payload), countdown=0)

    retries.apply(args=(SECRET,))
    names = {span.name for span in spans()}
    assert names == {"run/tests.retries"}
    assert SECRET not in "".join(span.to_json() for span in spans())
