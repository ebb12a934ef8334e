"""What Celery runs; an alias of the package `confkeep` for producers that still import it."""

from typing import TYPE_CHECKING, Any

import confkeep
from confkeep import __all__ as __all__

if TYPE_CHECKING:
    from confkeep import *  # noqa: F403


def __getattr__(name: str) -> Any:
    """A public name of `confkeep`; found when it is first asked for, as there."""
    if name in __all__:
        return getattr(confkeep, name)
    raise AttributeError(f"module 'tasks' has no attribute {name!r}")
