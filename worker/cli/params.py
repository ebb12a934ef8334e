"""The arguments TENANT and DEVICE, and what shells complete them with."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import click
from click.shell_completion import CompletionItem

from confkeep.errors import ConfkeepError
from confkeep.settings import get_settings
from worker.engine.directory import Called, names_of
from worker.engine.resolver import open_tenant, tenants


class Tenant(click.ParamType):  # type: ignore[type-arg]
    """A tenant as people type it. The resolver tells what is wrong with it."""

    name = "tenant"

    def shell_complete(
        self,
        ctx: click.Context,  # noqa: ARG002 - click's signature
        param: click.Parameter,  # noqa: ARG002
        incomplete: str,
    ) -> list[CompletionItem]:
        """The store's tenants that begin so."""
        try:
            return _items(tenants(get_settings().git_store_path), incomplete)
        except (ConfkeepError, OSError):
            # A shell that asks for words has no use for an error.
            return []


class Device(click.ParamType):  # type: ignore[type-arg]
    """A device of the tenant that was typed before it."""

    name = "device"

    def shell_complete(
        self,
        ctx: click.Context,
        param: click.Parameter,  # noqa: ARG002
        incomplete: str,
    ) -> list[CompletionItem]:
        """The tenant's devices that begin so."""
        try:
            _tenant, repository = open_tenant(get_settings().git_store_path, ctx.params["tenant"])
            return _items(names_of(repository).values(), incomplete)
        except (ConfkeepError, OSError, KeyError, TypeError):
            return []


TENANT: Final = Tenant()
DEVICE: Final = Device()


def _items(known: Iterable[Called], incomplete: str) -> list[CompletionItem]:
    """Their names, where a shell takes them for one word, else their ids; the ids only once asked for."""
    found = []
    for one in known:
        # A shell parts words at spaces, and zsh the help at a colon.
        name = (
            one.name if one.name and not set(one.name) & set(" \t:\"'\\$`;&|<>()*?[]#~!") else None
        )
        word = name or one.id
        if word.startswith(incomplete):
            found.append(CompletionItem(word, help=one.short if name else None))
        elif incomplete and one.id.startswith(incomplete):
            found.append(CompletionItem(one.id, help=one.name))
    return sorted(found, key=lambda item: item.value)
