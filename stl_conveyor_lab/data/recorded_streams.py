# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""What the edge answered to the streams of many items, packet by packet."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class RecordedStreams:
    """What the edge answered after each packet of N items' streams.

    Attributes:
        bytes: Int [N, K], payload bytes up to and with each packet, rising; after the end of a
            stream the last value repeats.
        correct: Bool [N, K], whether the answer after each packet is right.
        score: Float [N, K], the edge's confidence after each packet.
    """

    bytes: NDArray[np.integer]
    correct: NDArray[np.bool_]
    score: NDArray[np.floating]

    def stop(
        self, budget: int, stop_score: float
    ) -> tuple[NDArray[np.integer], NDArray[np.bool_]]:
        """End each stream at a byte budget, or earlier when the edge is sure.

        Args:
            budget: Bytes.
            stop_score: Confidence at which the edge ends a stream; above 1 it never does.

        Returns:
            The bytes used int [N] and whether the last answer is right bool [N]; an item without
            a packet that fits uses nothing and is never right.
        """
        fits = self.bytes <= budget
        sure = self.score >= stop_score
        # The first packet at which the edge is sure, else the last that fits.
        last = np.where(
            (sure & fits).any(axis=1), (sure & fits).argmax(axis=1), fits.sum(axis=1) - 1
        )
        each = np.arange(len(self.bytes))
        used = np.where(last >= 0, self.bytes[each, last], 0)
        return used, np.where(last >= 0, self.correct[each, last], False)
