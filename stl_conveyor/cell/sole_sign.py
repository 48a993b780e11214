# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""What a node that must be alone leaves in a file for others of its machine, as a line."""

from __future__ import annotations

import zlib
from typing import NamedTuple

LONGEST = 96  # characters of a line
LEAVES = -1  # since when one acts that ends


class SoleSign(NamedTuple):
    """A sign of life; each differs from the one before.

    Attributes:
        instance: Number that was drawn for the node.
        acts_for_ns: Since when it acts; 0: it stands by, LEAVES: it is about to end.
        number: Of the sign, among those of the node.

    Examples:
        >>> sign_of(SoleSign(7, 2_000_000_000, 12).line())
        SoleSign(instance=7, acts_for_ns=2000000000, number=12)
        >>> sign_of('7 2000 half a li') is None
        True
    """

    instance: int
    acts_for_ns: int
    number: int

    def line(self) -> str:
        """Return the line, with a checksum: it may be read while it is written over."""
        text = ' '.join(str(value) for value in self)
        return f'{text} {zlib.crc32(text.encode()):08x}'


def sign_of(line: str) -> SoleSign | None:
    """Return what a line says; None: it is none, or only half of one."""
    text, _, checksum = line.strip().rpartition(' ')
    try:
        instance, acts_for_ns, number = (int(word) for word in text.split(' '))
        is_whole = int(checksum, 16) == zlib.crc32(text.encode())
    except ValueError:
        return None
    return SoleSign(instance, acts_for_ns, number) if is_whole else None
