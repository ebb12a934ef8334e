"""A worker answers the questions that are listed, and nothing else that its reader could."""

from __future__ import annotations

from pathlib import Path

import pytest

from confkeep.errors import InvalidInput
from worker.reading import questions


@pytest.mark.parametrize("what", ["tenants", "tenant", "receipt", "let_go", "_open", "__init__"])
def test_nothing_else_is_answered(tmp_path: Path, what: str) -> None:
    """Each names one tenant, whose queue its message came by: these may tell of all."""
    with pytest.raises(InvalidInput, match="is no question"):
        questions.answer(tmp_path, what, {"among": None})
