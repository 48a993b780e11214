# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""How far the belt has moved from one picture to the next, as the pictures show it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

#: Strips across the belt that vote, each with the same weight however strong its marks are.
STRIPS = 16
#: Grey values by which a strip counts at most, so that one glaring part does not decide alone.
LARGEST_DIFFERENCE = 60.0
#: A strip takes part when its pictures differ, at the worst shift, by this many times more than at
#: the best one; below, it shows nothing but the sensor's noise.
CLEAR = 2.0
#: The expected shift stands unless another one fits the pictures this many times better.
BETTER = 0.7
#: It stands, too, while it fits within so small a share of what a shift is off by on average:
#: items in a row fit at every pitch, and only noise tells one of these from another.
FITS = 0.02
#: A belt may stop or turn back at once, but it does not run faster than this many times its
#: largest speed of late, or a share of the picture, ...
FASTER, MARGIN = 1.5, 1 / 6
#: ... unless so many pictures say so one after the other.
INSISTING = 3
#: Share of the largest speed of late that is forgotten with every picture.
FORGOTTEN = 0.002


class BeltMotion:
    """Compare each picture with the one before, strip by strip.

    Everything on the belt moves by the same way, its texture and wear too. Each strip across the
    belt finds how well every shift fits (mean square difference over what both pictures show);
    what stands still in the picture has voices in its own strips only.
    """

    def __init__(self) -> None:
        """Know no picture."""
        self._previous: NDArray[np.float32] | None = None
        self._last: float | None = None
        self._largest = 0.0
        self._refused = 0

    def reset(self) -> None:
        """Forget the last picture, with which the next one cannot be compared."""
        self._previous = None

    def update(self, strips: NDArray[np.float32], expected: float | None) -> float | None:
        """Return the shift (pixels, with travel positive) since the last picture.

        Args:
            strips: Differences to the belt, float32 `[H, STRIPS]`, axis 0 along the belt.
            expected: Shift that is taken unless the pictures contradict it; None: the last one.

        Returns:
            The shift; None where the pictures show nothing that could tell.
        """
        strips = np.clip(strips, -LARGEST_DIFFERENCE, LARGEST_DIFFERENCE)
        previous, self._previous = self._previous, strips
        if previous is None or previous.shape != strips.shape:
            return None
        costs, shifts = _costs(previous, strips)
        best = costs.min(axis=0)
        clear = costs.max(axis=0) > CLEAR * best + 2.0
        if not clear.any():
            return None
        votes = (costs[:, clear] / costs[:, clear].mean(axis=0)).mean(axis=1)
        index = int(votes.argmin())
        limit = max(FASTER * max(self._largest, expected or 0.0), MARGIN * strips.shape[0])
        if self._last is not None and abs(shifts[index]) > limit:
            self._refused += 1
            if self._refused < INSISTING:
                votes[np.abs(shifts) > limit] = np.inf
                index = int(votes.argmin())
        else:
            self._refused = 0
        known = self._last if expected is None else expected
        if known is not None:
            near = np.abs(shifts - known) <= max(3.0, 0.15 * abs(known))
            if near.any():
                likely = int(np.flatnonzero(near)[votes[near].argmin()])
                if votes[index] > BETTER * votes[likely] or votes[likely] < FITS:
                    index = likely
        self._last = float(shifts[index]) + _vertex(votes, index)
        if self._refused < INSISTING and not self._late(expected):
            self._largest = max(abs(self._last), (1 - FORGOTTEN) * self._largest)
        return self._last

    def _late(self, expected: float | None) -> bool:
        """Return whether pictures are missing, so that the shift tells nothing of the speed."""
        return expected is not None and abs(expected) > FASTER * self._largest > 0


def _costs(
    before: NDArray[np.float32], after: NDArray[np.float32]
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Return the mean square difference `[shifts, strips]` of every shift, and the shifts."""
    length = before.shape[0]
    shifts = np.arange(-length // 2, 3 * length // 4)
    size = 2 * length
    spectrum = np.conj(np.fft.rfft(before, size, axis=0)) * np.fft.rfft(after, size, axis=0)
    product = np.fft.irfft(spectrum, size, axis=0)[shifts % size]
    zero = np.zeros((1, before.shape[1]))
    sums = [
        np.vstack([zero, np.cumsum(part.astype(float) ** 2, axis=0)]) for part in (before, after)
    ]
    first, last = np.maximum(0, shifts), np.minimum(length, length + shifts)  # of `after`
    energy = (sums[0][last - shifts] - sums[0][first - shifts]) + (sums[1][last] - sums[1][first])
    return np.maximum(0.0, energy - 2 * product) / (last - first)[:, None] + 0.01, shifts


def _vertex(values: NDArray[np.float64], index: int) -> float:
    """Return where, from the index of the least value, the parabola through it is least."""
    around = values[max(0, index - 1) : index + 2]
    if len(around) < 3 or not np.isfinite(around).all():
        return 0.0
    bend = around[0] - 2 * around[1] + around[2]
    if bend <= 0:
        return 0.0
    return float(np.clip((around[0] - around[2]) / (2 * bend), -0.5, 0.5))
