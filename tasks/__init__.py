"""What Celery runs; for producers an alias of the package `confkeep`, which they install."""

from confkeep import *  # noqa: F403
from confkeep import __all__ as __all__
