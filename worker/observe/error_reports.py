"""Reports unforeseen failures of tasks to Sentry, if a DSN is set.

What leaves the machine: the exception's class, the places in the code, the task's name and the ids
that its arguments name. Local variables, arguments and the exception's text stay here; only the
text of exceptions that are known to hold no payload is sent.
"""

from __future__ import annotations

from typing import Any

from celery import signals

from confkeep.errors import ConfkeepError, InvalidSettings
from confkeep.observe.log_scrub import chain_of, says
from confkeep.settings import Settings

#: Everything else of an event is left out.
_KEPT = {
    *("event_id", "timestamp", "platform", "level", "exception", "tags", "release"),
    *("environment", "server_name", "sdk", "contexts", "fingerprint"),
}


def start(settings: Settings, **options: Any) -> None:
    """Report from this process; does nothing, and imports nothing, without a DSN.

    Args:
        options: more options of `sentry_sdk.init`, such as a test's transport.

    Raises:
        InvalidSettings: the extra is not installed, or the DSN is none.
    """
    if settings.sentry_dsn is None:
        return
    try:
        import sentry_sdk
        from sentry_sdk.utils import BadDsn
    except ImportError:
        raise InvalidSettings(
            "CONFKEEP_SENTRY_DSN",
            "needs the extra: pip install 'confkeep[sentry]'",
            hint="Install the extra where this program runs, or do not set the variable.",
        ) from None
    try:
        sentry_sdk.init(
            dsn=settings.sentry_dsn,
            # The SDK's own integrations would send tasks' arguments, Redis commands and log lines.
            default_integrations=False,
            auto_enabling_integrations=False,
            include_local_variables=False,
            max_request_body_size="never",
            max_breadcrumbs=0,
            before_send=scrub,
            **options,
        )
    except BadDsn:
        raise InvalidSettings("CONFKEEP_SENTRY_DSN", "is no DSN of Sentry") from None
    signals.task_failure.connect(_report, dispatch_uid="confkeep.sentry")


def _report(sender: Any, exception: BaseException, **_: Any) -> None:
    """Report a failure, unless the task foresees it, such as a client's wrong argument."""
    import sentry_sdk
    import structlog

    if isinstance(exception, getattr(sender, "throws", ()) or ()):
        return
    with sentry_sdk.new_scope() as scope:
        for name, value in structlog.contextvars.get_contextvars().items():
            scope.set_tag(name, str(value))
        scope.set_tag("retryable", isinstance(exception, ConfkeepError) and exception.retryable)
        sentry_sdk.capture_exception(exception)


def scrub(event: Any, hint: dict[str, Any]) -> Any:
    """The event, reduced to what may leave the machine."""
    kept = {name: value for name, value in event.items() if name in _KEPT}
    known: dict[str, str] = {}
    if hint.get("exc_info"):
        known = {type(error).__name__: says(error) for error in chain_of(hint["exc_info"][1])}
    for value in kept.get("exception", {}).get("values", ()):
        value["value"] = known.get(value.get("type"), "")
        value.pop("mechanism", None)
        for frame in value.get("stacktrace", {}).get("frames", ()):
            frame.pop("vars", None)
    return kept
