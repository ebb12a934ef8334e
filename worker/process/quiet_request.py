"""Celery's request of a task whose arguments are payload: monitors see who sent it, and no bytes.

`celery inspect active`, events and Flower repeat a task's arguments, and clients write what they
like into the headers that describe them.
"""

from __future__ import annotations

from typing import Any, Final

from celery.worker.request import Request

_SHOWN: Final = ("tenant_id", "device_id", "backup_id")
#: The length of a UUID; anything longer is no id.
_MOST_SHOWN: Final = 45


class QuietRequest(Request):  # type: ignore[misc]
    """Describes its arguments by their ids."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._argsrepr = self._request_dict["argsrepr"] = "()"
        self._kwargsrepr = self._request_dict["kwargsrepr"] = _described(self.kwargs)

    def info(self, safe: bool = False) -> dict[str, Any]:  # noqa: ARG002 - Celery's signature
        return dict(super().info(safe=True))


def _described(kwargs: Any) -> str:
    if not isinstance(kwargs, dict):
        return "{}"
    ids = {name: kwargs[name] for name in _SHOWN if isinstance(kwargs.get(name), str)}
    return repr({name: text for name, text in ids.items() if len(text) <= _MOST_SHOWN})
