# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Keep a lane's threshold honest while the world drifts, from outcomes that were verified.

Each verified item moves the threshold by `step` times (wrong - allowed share), in the log odds of
the lane probability: the quantile tracker of conformal control (Gibbs, Candes, "Adaptive Conformal
Inference Under Distribution Shift", NeurIPS 2021; Angelopoulos, Candes, Tibshirani, "Conformal PID
Control for Time Series Prediction", NeurIPS 2023). The steps add up: while the threshold stays
within its bounds, after T verified items that entered the lane the share of wrong ones is at most
the allowed share + (highest - lowest) / (step * T), whatever the items were, drawn alike or not.
The threshold never falls below the one that was promised from calibration items. Where that is
lower than START, often 0, the way to START would bar nobody; the first wrong item counts from
there.
"""

from __future__ import annotations

import math

LEAST, MOST = 1e-6, 1.0 - 1e-6
START = 0.5  # who belongs in a lane with less helps no target that can be set


def log_odds(probability: float) -> float:
    """Return ln(p / (1 - p)), with p kept off 0 and 1."""
    p = min(max(probability, LEAST), MOST)
    return math.log(p / (1.0 - p))


def from_log_odds(value: float) -> float:
    """Return the probability of log odds."""
    return 1.0 / (1.0 + math.exp(-value))


def raised(promised: float, shift: float) -> float:
    """Return a threshold that was promised, raised by log odds.

    Examples:
        >>> raised(0.0, 0.0), round(raised(0.0, 0.5), 3), round(raised(0.9, 0.5), 3)
        (0.0, 0.622, 0.937)
    """
    if shift <= 0.0:
        return promised
    return max(promised, from_log_odds(log_odds(max(promised, START)) + shift))


class AdaptiveThreshold:
    """A lane's threshold, as verified outcomes move it.

    Examples:
        >>> threshold = AdaptiveThreshold(promised=0.6, purity=0.9, highest=0.99)
        >>> for _ in range(8):
        ...     threshold.verified(wrong=True)  # something has changed
        >>> threshold.value > 0.9
        True
        >>> for _ in range(200):
        ...     threshold.verified(wrong=False)
        >>> round(threshold.value, 3)  # never below what was promised
        0.6
    """

    def __init__(
        self, *, promised: float, purity: float, highest: float = 0.9999, step: float = 0.5
    ) -> None:
        """Start at the promised threshold.

        Args:
            promised: The threshold from the calibration items.
            purity: The lane's target.
            highest: No higher than this, so that some items still enter and can be verified.
            step: Log odds by which a lane that is always wrong rises with each verified item.
        """
        self._allowed = 1.0 - purity
        self._lowest = log_odds(max(promised, START))
        self._highest = max(self._lowest, log_odds(highest))
        self._step = step
        self._at = self._lowest
        self._promised = promised
        self.verified_items = 0
        self.wrong_items = 0

    @property
    def value(self) -> float:
        """Return the threshold that holds now."""
        return raised(self._promised, self.shift)

    @property
    def shift(self) -> float:
        """Return by how much it was raised, in log odds."""
        return self._at - self._lowest

    @property
    def exhausted(self) -> bool:
        """Return whether the threshold can rise no further: the target is out of reach."""
        return self._at >= self._highest > self._lowest

    @property
    def bound(self) -> float:
        """Return the share of the verified items that cannot be exceeded by the wrong ones.

        It holds as long as the threshold was never `exhausted`.
        """
        if not self.verified_items:
            return 1.0
        room = (self._highest - self._lowest) / (self._step * self.verified_items)
        return min(1.0, self._allowed + room)

    def verified(self, wrong: bool) -> None:
        """Take in whether an item that entered the lane was wrong there."""
        self.verified_items += 1
        self.wrong_items += wrong
        moved = self._at + self._step * (float(wrong) - self._allowed)
        self._at = min(max(moved, self._lowest), self._highest)
