"""What Celery runs; an alias of the package `confkeep` for producers that still import it."""

from confkeep import *  # noqa: F403
from confkeep import __all__ as __all__
