"""Goes through many tenants, and on to the next one when a repository cannot be read."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from confkeep.errors import ConfkeepError, StoreError
from worker.cli.called import tenant_json, tenant_text
from worker.cli.terminal import Terminal
from worker.store.repository.tenant_repository import damage

_Answer = TypeVar("_Answer")


class Failures:
    """The tenants whose repositories could not be read, each with the reason."""

    def __init__(self, terminal: Terminal, paths: Mapping[str, Path]) -> None:
        """With a single tenant, its error ends the command at once."""
        self._terminal = terminal
        self._paths = paths
        self._errors: dict[str, ConfkeepError] = {}

    @contextmanager
    def noted(self, tenant_id: str) -> Iterator[None]:
        """Print and note an error of the store that ends the block, and go on after the block."""
        try:
            with damage(self._paths[tenant_id]):
                yield
        except StoreError as error:
            if len(self._paths) == 1:
                raise
            self._errors[tenant_id] = error
            self._terminal.error(f"{tenant_text(tenant_id)}: {error}", None)

    def each(self, ask: Callable[[str, Path], _Answer]) -> Iterator[tuple[str, _Answer]]:
        """What `ask` answers for each tenant and its path, without those that cannot be read."""
        for tenant_id, path in self._paths.items():
            with self.noted(tenant_id):
                yield tenant_id, ask(tenant_id, path)

    def to_json(self) -> list[dict[str, str | None]]:
        return [
            {**tenant_json(tenant_id), "error": str(error)}
            for tenant_id, error in self._errors.items()
        ]

    def end(self) -> None:
        """Raise the first error, if there was one, which ends the command."""
        for error in self._errors.values():
            raise error
