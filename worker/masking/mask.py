"""Replaces the secrets in an export by `***`, and keeps its lines."""

from __future__ import annotations


def mask(export: bytes, model: str | None = None) -> bytes:
    """The export with each secret replaced by `***`. It has as many lines as the real one.

    Where secrets stand is told by the maker's rules, and by names that look secret. The same text gives
    the same masked text, and nothing in it depends on a secret, so a search in it tells nothing of one.

    Args:
        model: the device's model label; it is asked only where the text does not tell its maker.
    """
    raise NotImplementedError(model)
