"""Goes through many tenants, and on to the next one when a repository cannot be read."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from confkeep.errors import ConfkeepError, StoreError
from worker.cli.called import tenant_json, tenant_text
from worker.cli.terminal import Terminal
from worker.store.repository.tenant_repository import damage


class Failures:
    """The tenants whose repositories could not be read, each with the reason."""

    def __init__(self, terminal: Terminal, tenants: Collection[str]) -> None:
        """With a single tenant, its error ends the command at once."""
        self._terminal = terminal
        self._many = len(tenants) > 1
        self._errors: dict[str, ConfkeepError] = {}

    @contextmanager
    def noted(self, tenant_id: str, path: Path) -> Iterator[None]:
        """Print and note an error of the store that ends the block, and go on after the block."""
        try:
            with damage(path):
                yield
        except StoreError as error:
            if not self._many:
                raise
            self._errors[tenant_id] = error
            self._terminal.error(f"{tenant_text(tenant_id)}: {error}", None)

    @property
    def reasons(self) -> Mapping[str, str]:
        """Tenant -> why its repository could not be read."""
        return {tenant_id: str(error) for tenant_id, error in self._errors.items()}

    def to_json(self) -> list[dict[str, str | None]]:
        """As JSON values."""
        return [
            {**tenant_json(tenant_id), "error": reason}
            for tenant_id, reason in self.reasons.items()
        ]

    def end(self) -> None:
        """End the command with the first error, if there was one.

        Raises:
            StoreError: that error.
        """
        for error in self._errors.values():
            raise error
