"""Who is asked what a source's paths do not say: a person at a terminal, or nobody."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from pathlib import PurePath
from typing import Final

import click

from confkeep.errors import InvalidInput
from worker.cli.capture_dates import dates_in_name
from worker.cli.sources.layouts import Layout
from worker.cli.terminal import printable

#: Paths that are shown of each reading.
_EXAMPLES: Final = 2


class Nobody:
    """Nobody can answer: what the paths leave open is an error that says which option decides."""

    def layout(
        self, found: Sequence[Layout], paths: Sequence[PurePath], *, with_tenant: bool
    ) -> Layout:
        """Refuse to choose one of several ways in which the paths can be read.

        Args:
            with_tenant: whether the tenant is known from elsewhere.

        Raises:
            InvalidInput: always; it names each reading, and the options that choose it.
        """
        # A path on which they differ.
        path = max(paths, key=lambda path: len({_said(layout, path) for layout in found}))
        readings = " or ".join(f"{layout.text} ({_said(layout, path)})" for layout in found)
        options = " or ".join(
            f"--layout '{layout.text}'"
            + ("" if with_tenant or layout.has_tenant else " --tenant NAME")
            for layout in found
        )
        raise InvalidInput(
            "DIR",
            f"{path} may be read as {readings}: say which with {options}",
            hint="`confkeep import --help` says what the words of a layout mean.",
        )

    def tenant(self, layout: Layout) -> str:
        """Refuse to say whose the devices are.

        Raises:
            InvalidInput: always.
        """
        raise InvalidInput(
            "--tenant",
            f"NAME is needed: the paths ({layout.text}) do not say whose the devices are",
            hint="Any name will do: --tenant acme makes all devices acme's.",
        )


class Guess(Nobody):
    """A demo asks nothing and has no such options: it takes the first reading, and any name for the tenant."""

    def layout(
        self,
        found: Sequence[Layout],
        paths: Sequence[PurePath],  # noqa: ARG002
        *,
        with_tenant: bool,  # noqa: ARG002
    ) -> Layout:
        return found[0]

    def tenant(self, layout: Layout) -> str:  # noqa: ARG002
        return "demo"


class Person:
    """Somebody sits at the terminal and answers."""

    def layout(
        self,
        found: Sequence[Layout],
        paths: Sequence[PurePath],
        *,
        with_tenant: bool,  # noqa: ARG002 - a tenant is asked for next
    ) -> Layout:
        """Show what each reading makes of some paths, and ask for one by its number."""
        click.echo(f"The paths can be read in {len(found)} ways:", err=True)
        for number, layout in enumerate(found, start=1):
            click.echo(f"  {number}  {layout.text}", err=True)
            read = (path for path in paths if layout.read(path) is not None)
            for path in islice(read, _EXAMPLES):
                said = f"       {path}  is  {_said(layout, path)}"
                click.echo(printable(said), err=True)
        choice = click.IntRange(1, len(found))
        number = click.prompt("Which one?", type=choice, prompt_suffix=" ", err=True)
        click.echo(f"--layout '{found[number - 1].text}' says so without a question.", err=True)
        return found[number - 1]

    def tenant(self, layout: Layout) -> str:
        """Ask for a name."""
        click.echo(f"The paths ({layout.text}) do not say whose the devices are.", err=True)
        name = ""
        while not name:
            name = click.prompt("The tenant's name", err=True).strip()
        return name


#: Who decides where the paths leave something open.
Asker = Nobody | Person


def _said(layout: Layout, path: PurePath) -> str:
    """What a layout makes of a path, for a person."""
    place = layout.read(path)
    if place is None:
        return "left out"
    device = "the only device" if place.device is None else f"device {place.device}"
    group = "" if place.group is None else f" in group {place.group}"
    date = f" of {place.date}" if place.date and dates_in_name(place.date) else ""
    whose = "" if place.tenant is None else f" of tenant {place.tenant}"
    return f"{device}{group}{whose}{date}"
