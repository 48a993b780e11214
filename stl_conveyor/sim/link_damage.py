# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Change bytes of a message, as a radio with a weak checksum would."""

from __future__ import annotations

import numpy as np

# CDR's encapsulation header: with another one there the message is none at all.
_KEPT = 4


def damaged(message: bytes, rng: np.random.Generator) -> bytes:
    """Return a message with one to eight of its bytes changed, anywhere but in the first four.

    Args:
        message: At least five bytes; a shorter one is returned as it is.
    """
    if len(message) <= _KEPT:
        return message
    changed = bytearray(message)
    for place in rng.integers(_KEPT, len(message), size=int(rng.integers(1, 9))):
        changed[place] ^= int(rng.integers(1, 256))
    return bytes(changed)
