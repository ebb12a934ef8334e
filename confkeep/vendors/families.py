"""All makers' rules, and whose an export is."""

from __future__ import annotations

import re
from typing import Final

from confkeep.vendors.arista import EOS
from confkeep.vendors.aruba import ARUBAOS
from confkeep.vendors.cisco import IOS, IOSXR, NXOS
from confkeep.vendors.comware import COMWARE
from confkeep.vendors.fortinet import FORTIOS
from confkeep.vendors.juniper import JUNOS
from confkeep.vendors.opnsense import OPNSENSE
from confkeep.vendors.palo_alto import PANOS
from confkeep.vendors.rules import Family
from confkeep.vendors.vyatta import EDGEOS, VYOS

#: Those whose form leaves the least doubt come first.
FAMILIES: Final = (
    OPNSENSE,
    PANOS,
    FORTIOS,
    IOSXR,
    NXOS,
    EOS,
    EDGEOS,
    VYOS,
    JUNOS,
    COMWARE,
    ARUBAOS,
    IOS,
)
#: So many bytes tell whose an export is.
_HEAD_BYTES: Final = 16 * 1024
_ROUTEROS: Final = re.compile(
    rb"^#[^\r\n]*\bby RouterOS\b"
    rb"|^/[a-z][a-z0-9 /-]*[ \t\r]*\n(?:#[^\n]*\n|\s)*(?:add|set|remove)\b"
    rb"|^/[a-z][a-z0-9 /-]* (?:add|set|remove)\b"
    rb"|^:(?:local|global|put|log|if|foreach|do|error|delay)\b",
    re.MULTILINE,
)


def is_routeros(export: bytes) -> bool:
    """Whether an export is one of RouterOS by its form."""
    return _ROUTEROS.search(export[:_HEAD_BYTES]) is not None


def family_of(export: bytes, model: str | None = None) -> Family | None:
    """Whose an export is: by its form, which a label cannot change, else by the device's model label."""
    head = export[:_HEAD_BYTES]
    for family in FAMILIES:
        if re.search(family.shape.encode(), head, re.MULTILINE):
            return family
    name = re.sub(r"[-_\s]", "", model or "").lower()
    return next((family for family in FAMILIES if name in family.models), None)
