"""The tables of `docs/masking.md`, from the makers' rules."""

from __future__ import annotations

from confkeep.vendors.common import SHAPES, WORDS
from confkeep.vendors.families import FAMILIES
from confkeep.vendors.mikrotik import IN_ONE_MENU, PROPERTIES
from docs.markdown import table


def routeros_secrets() -> str:
    """RouterOS's secret properties, and where MikroTik says that they are."""
    rows = []
    for rule in (*PROPERTIES, *IN_ONE_MENU):
        names = ", ".join(f"`{name}`" for name in rule.names)
        only = ", in this menu alone" if rule in IN_ONE_MENU else ""
        rows.append((rule.menu, names + only, rule.source))
    return table(("menu", "properties", "source"), rows)


def shaped_secrets() -> str:
    """What is masked in any text, with its source."""
    rows = [(rule.source, "form") for rule in SHAPES]
    rows += [(rule.source, "words before it, but in RouterOS") for rule in WORDS]
    return table(("source", "looked for by"), rows)


def vendor_secrets() -> str:
    """Other makers' systems: what they are called, and where their secrets are described."""
    rows = []
    for family in FAMILIES:
        models = ", ".join(f"`{model}`" for model in sorted(family.models))
        sources = "; ".join(dict.fromkeys(rule.source for rule in family.secrets))
        rows.append((family.title, models, sources))
    return table(("system", "model labels", "secrets, by"), rows)


def vendor_volatile() -> str:
    """What other makers' exports change by themselves."""
    rows = []
    for family in FAMILIES:
        for source in dict.fromkeys(rule.source for rule in family.volatile):
            markers = ", ".join(
                f"`{rule.marker.strip()}`" for rule in family.volatile if rule.source == source
            )
            rows.append((family.title, markers, source))
    return table(("system", "lines or blocks with", "source"), rows)
