"""The form of a maker's rules: what in an export changes by itself, and what in it is secret."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

#: Communities of BGP, which are no secrets as SNMP's are.
BGP_COMMUNITIES: Final = (
    r"""["'\[]*\s*\d+:\d+.*|["']?(?:no-export|no-advertise|local-as|internet|none|additive)["']?"""
)

#: Words that stand behind those for passwords in other commands, and in prose.
OTHER_WORDS: Final = (
    "address|and|chain|common|encryption|encryption-key|expiry|for|has|history|in|is|level|manager|must|name|not|of|on|operator|or|policy|prompt|required"
    "|rotation|strength|the|to|was"
)


@dataclass(frozen=True, slots=True)
class Volatile:
    """Text that differs from capture to capture of one configuration."""

    #: A text that the line holds: to look for it takes a tenth of the time that an expression takes.
    marker: str
    #: A regular expression for the whole line, which is left out of comparisons; of one with a group, what
    #: the group matches. Of a block the first line is not looked at.
    line: str
    #: Where the rule comes from.
    source: str
    #: Of a block that is left out: its last text. It begins with `marker`.
    end: str | None = None


@dataclass(frozen=True, slots=True)
class Secret:
    """Where a secret stands in an export."""

    #: A regular expression of re2; `^` and `$` are a line's ends. Each group is a secret.
    pattern: str
    #: Where the rule comes from.
    source: str
    #: A regular expression: what matches it as a whole is no secret.
    unless: str | None = None


@dataclass(frozen=True, slots=True)
class Family:
    """The exports of one operating system."""

    title: str
    #: What Oxidized, RANCID, netmiko and NAPALM call it, in lower case and without `-`, `_`, spaces.
    models: frozenset[str]
    #: A regular expression that finds something in the first kilobytes of its exports, and of no other's.
    shape: str
    volatile: tuple[Volatile, ...] = ()
    secrets: tuple[Secret, ...] = ()


@dataclass(frozen=True, slots=True)
class SecretProperties:
    """Properties of RouterOS that hold secrets."""

    #: The menu in which they stand; empty: in any.
    menu: str
    names: tuple[str, ...]
    #: Where MikroTik says so, or that this is not confirmed.
    source: str
