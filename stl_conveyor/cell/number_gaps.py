# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Which items were never heard of, by the numbers of those that were."""

from __future__ import annotations

from stl_conveyor.cell.ledger import ItemKey

MOST_MISSING = 1_000_000  # a belt that brings ten items a second takes a day for them


class NumberGaps:
    """Finds the numbers that are missing between two captures.

    Examples:
        >>> gaps = NumberGaps()
        >>> list(gaps.heard(ItemKey(1, 100))), list(gaps.heard(ItemKey(4, 200)))
        ([], [2, 3])
        >>> list(gaps.heard(ItemKey(1, 300)))  # the camera was started again
        []
        >>> list(gaps.heard(ItemKey(3, 50)))  # its clock was set back
        [2]
    """

    def __init__(self, last: ItemKey | None = None) -> None:
        """Begin behind an item; None: the first one that is heard."""
        self._last = last

    @property
    def last(self) -> ItemKey | None:
        """Return the newest item."""
        return self._last

    def heard(self, key: ItemKey) -> range:
        """Take in a capture; return the numbers between the newest one and it.

        What has neither a newer stamp nor a higher number came late, or again, and changes
        nothing. A higher number with an older stamp is of a camera whose clock was set back: it
        counts on. A number so far ahead that no belt brought the items between begins anew.
        """
        last = self._last
        if last is not None and key.stamp_ns <= last.stamp_ns and key.item_id <= last.item_id:
            return range(0)
        self._last = key
        if last is None or key.item_id - last.item_id > MOST_MISSING:
            return range(0)
        return range(last.item_id + 1, key.item_id)
