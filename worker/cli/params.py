"""Tenants, devices, versions and ages as people type them, and what shells complete them with."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import click
from click.shell_completion import CompletionItem

from confkeep.errors import ConfkeepError
from confkeep.settings import get_settings
from worker.engine.directory import Called, names_of
from worker.engine.moments import seconds_of
from worker.engine.resolver import open_tenant, tenants


class Tenant(click.ParamType):  # type: ignore[type-arg]
    """A tenant as people type it. The resolver reports what is wrong with it."""

    name = "tenant"

    def shell_complete(
        self,
        ctx: click.Context,  # noqa: ARG002 - click's signature
        param: click.Parameter,  # noqa: ARG002
        incomplete: str,
    ) -> list[CompletionItem]:
        """The store's tenants whose names or ids begin with `incomplete`."""
        try:
            return _items(tenants(get_settings().git_store_path), incomplete)
        except (ConfkeepError, OSError):
            # A shell cannot show an error while it completes a word.
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
        """The tenant's devices whose names or ids begin with `incomplete`."""
        try:
            _tenant, repository = open_tenant(get_settings().git_store_path, ctx.params["tenant"])
            return _items(names_of(repository).values(), incomplete)
        except (ConfkeepError, OSError, KeyError, TypeError):
            return []


class Age(click.ParamType):  # type: ignore[type-arg]
    """A duration such as `26h`, as seconds."""

    name = "age"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """The duration in seconds; a wrong text ends the command."""
        if isinstance(value, float):
            return value
        found = seconds_of(str(value))
        if found is None:
            self.fail("must be a number with s, m, h, d or w behind it, such as 26h", param, ctx)
        return found


TENANT: Final = Tenant()
DEVICE: Final = Device()
#: Which version of a device.
at_option = click.option(
    "--at",
    metavar="WHEN",
    default="latest",
    help="As it was then: 2026-10-03, '2 days ago', latest~1, or a commit.",
)


def _items(known: Iterable[Called], incomplete: str) -> list[CompletionItem]:
    """Their names, or the ids of those whose names are no single word for a shell. The ids of the others
    come only when `incomplete` begins one."""
    found = []
    for one in known:
        # A shell splits words at spaces, and zsh takes what follows a colon for help.
        name = (
            one.name if one.name and not set(one.name) & set(" \t:\"'\\$`;&|<>()*?[]#~!") else None
        )
        word = name or one.id
        if word.startswith(incomplete):
            found.append(CompletionItem(word, help=one.short if name else None))
        elif incomplete and one.id.startswith(incomplete):
            found.append(CompletionItem(one.id, help=one.name))
    return sorted(found, key=lambda item: item.value)
