"""Whose name every commit carries."""

from confkeep.settings import Settings
from worker.store.repository.backup import Signature


def author_of(settings: Settings) -> Signature:
    """Author and committer of every commit."""
    return Signature(settings.author_name, settings.author_email)
