"""The tables of `docs/masking.md`, from the makers' rules."""

from __future__ import annotations

from confkeep.vendors.common import SHAPES, WORDS
from confkeep.vendors.families import FAMILIES
from confkeep.vendors.mikrotik import IN_ONE_MENU, PROPERTIES


def routeros_secrets() -> str:
    """RouterOS's secret properties, and where MikroTik says that they are."""
    rows = ["| menu | properties | source |", "|---|---|---|"]
    for rule in (*PROPERTIES, *IN_ONE_MENU):
        names = ", ".join(f"`{name}`" for name in rule.names)
        only = ", in this menu alone" if rule in IN_ONE_MENU else ""
        rows.append(f"| {rule.menu} | {names}{only} | {rule.source} |")
    return "\n".join(rows) + "\n"


def shaped_secrets() -> str:
    """What is masked in any text, with its source."""
    rows = ["| source | looked for by |", "|---|---|"]
    rows += [f"| {rule.source} | form |" for rule in SHAPES]
    rows += [f"| {rule.source} | words before it, but in RouterOS |" for rule in WORDS]
    return "\n".join(rows) + "\n"


def vendor_secrets() -> str:
    """Other makers' systems: what they are called, and where their secrets are described."""
    rows = ["| system | model labels | secrets, by |", "|---|---|---|"]
    for family in FAMILIES:
        models = ", ".join(f"`{model}`" for model in sorted(family.models))
        sources = "; ".join(dict.fromkeys(rule.source for rule in family.secrets))
        rows.append(f"| {family.title} | {models} | {sources} |")
    return "\n".join(rows) + "\n"


def vendor_volatile() -> str:
    """What other makers' exports change by themselves."""
    rows = ["| system | lines or blocks with | source |", "|---|---|---|"]
    for family in FAMILIES:
        for source in dict.fromkeys(rule.source for rule in family.volatile):
            markers = ", ".join(
                f"`{rule.marker.strip()}`" for rule in family.volatile if rule.source == source
            )
            rows.append(f"| {family.title} | {markers} | {source} |")
    return "\n".join(rows) + "\n"
