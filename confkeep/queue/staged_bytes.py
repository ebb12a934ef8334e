"""Encode and decode the staged bytes of a backup.

    as they are   export, then binary
    deflated      a zlib stream (RFC 1950) of the export, then the binary as it is

The second is used only if it is shorter. So the length tells them apart: bytes shorter than the sizes in
the inbox entry begin with a stream, which marks its own end. The entry's sizes and SHA-256s are always those
of the original files.

A reader inflates all of the stream, up to the size in the entry: a later release may deflate the binary in
the same stream.
"""

from __future__ import annotations

import contextlib
import zlib
from dataclasses import dataclass
from typing import Final

from isal import isal_zlib

#: Bytes of both files above which nothing is deflated: a large backup is read in pieces.
LARGEST_DEFLATED: Final = 4 * 1024 * 1024
#: Bytes of an export below which a stream saves nothing worth its time.
_SMALLEST: Final = 512
#: Level 1 costs 1 us a kB and leaves a sixth of an export; level 0 is a third quicker and leaves a
#: quarter, levels 2 and 3 leave as much as 1.
_LEVEL: Final = 1


#: Staged bytes on their way to Redis: whole, or in parts that our clients send one after the other.
Staged = bytes | tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Contents:
    """The two files of a backup."""

    export: bytes
    binary: bytes | None


def staged_export(contents: Contents) -> bytes:
    """The export as it is staged, in front of the binary."""
    export = contents.export
    size = len(export) + len(contents.binary or b"")
    if len(export) < _SMALLEST or size > LARGEST_DEFLATED:
        return export
    deflated: bytes = isal_zlib.compress(export, _LEVEL)
    return deflated if len(deflated) < len(export) else export


def contents_of(data: bytes, export_bytes: int, binary_bytes: int | None) -> Contents:
    """The two files in staged bytes, in either form.

    Checks nothing: damaged bytes give files of another size or content.

    Args:
        export_bytes: size of the export, from the inbox entry.
        binary_bytes: size of the binary; None if there is none.
    """
    size = export_bytes + (binary_bytes or 0)
    if len(data) < size:
        inflater = zlib.decompressobj()
        # Truncated bytes may be no stream: their size shows the damage later.
        with contextlib.suppress(zlib.error):
            data = inflater.decompress(data, size) + inflater.unused_data
    if binary_bytes is None:
        return Contents(data, None)
    return Contents(data[:export_bytes], data[export_bytes:])
