"""Goes through many tenants: one whose repository cannot be read does not stop the others."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from confkeep.errors import ConfkeepError, StoreError
from worker.cli.called import tenant_name, tenant_text
from worker.cli.terminal import Terminal
from worker.store.repository.tenant_repository import damage


class Failures:
    """The tenants that could not be looked at, each with why."""

    def __init__(self, terminal: Terminal, tenants: Collection[str]) -> None:
        """If there is only one tenant, its error ends the command at once."""
        self._terminal = terminal
        self._many = len(tenants) > 1
        self._errors: dict[str, ConfkeepError] = {}

    @contextmanager
    def noted(self, tenant_id: str, path: Path) -> Iterator[None]:
        """Note and print the store's error that ends the block."""
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
        """Why each could not be looked at."""
        return {tenant_id: str(error) for tenant_id, error in self._errors.items()}

    def to_json(self) -> list[dict[str, str | None]]:
        """As JSON values."""
        return [
            {"tenant_id": tenant_id, "tenant_name": tenant_name(tenant_id), "error": reason}
            for tenant_id, reason in self.reasons.items()
        ]

    def end(self) -> None:
        """If there was an error, end the command with the first one.

        Raises:
            StoreError: that error.
        """
        for error in self._errors.values():
            raise error
