# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""How sure an answer must be so that a lane is as pure as promised.

Learn then test (Angelopoulos, Bates, Candes, Jordan, Lei, "Learn then Test: Calibrating Predictive
Algorithms to Achieve Risk Control", arXiv 2110.01052; Annals of Applied Statistics 2025): the
thresholds are tried in rows that were fixed without the calibration items, from a strict one to
loose ones, each by an exact binomial test of "more than the promised share of what enters is
wrong". The first that fails ends the row (fixed sequence testing), and the last that held is
taken: then the chance that any threshold taken is worse than promised is at most 1 - confidence,
at whatever number of thresholds.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stl_conveyor.decision.binomial import at_most, least_trials, upper_bound
from stl_conveyor.errors import CalibrationError

LEVELS = 200  # thresholds that are tried at most
#: Shares of the error that is allowed, of the rows of tests (`threshold_order`).
ROWS = (0.7, 0.15, 0.15)
SENTENCE = (
    'With confidence {confidence:g}, at most {share:.4g} of what enters lane {lane} is wrong, as '
    'long as the items that come are drawn like the calibration items.'
)


class TooFewItems(CalibrationError):
    """The calibration items cannot promise a purity.

    Attributes:
        needed: How many calibration items of the lane would be needed, about.
    """

    def __init__(self, message: str, needed: int) -> None:
        """Take what is said to people and the number."""
        super().__init__(message)
        self.needed = needed


@dataclass(frozen=True)
class PurityThreshold:
    """The least lane probability with which an item may enter, and what stands behind it.

    Attributes:
        value: The threshold, 0..1.
        kept: How many calibration items entered with it.
        wrong: How many of these were wrong.
        offered: How many calibration items had the lane as their likeliest.
    """

    value: float
    kept: int
    wrong: int
    offered: int


@dataclass(frozen=True, eq=False)
class TestOrder:
    """In which order thresholds are tried.

    Attributes:
        values: float64 [K], falling.
        starts: Where a row of tests begins, and its share of the error that is allowed.
    """

    __test__ = False  # for pytest

    values: NDArray[np.float64]
    starts: tuple[tuple[int, float], ...]


def threshold_order(
    scores: NDArray[np.floating], wrong: NDArray[np.bool_], share: float, trials: int
) -> TestOrder:
    """Choose thresholds and where to begin.

    One row begins where these items make a test most likely to hold, a second one where it would
    hold even if the calibration items had more bad luck than these, and a third one where half of
    them enter: among few items there may be no mistake by luck, and then nothing else is strict.

    Args:
        scores: [N] of items that are not the calibration items.
        wrong: bool [N], whether each would be wrong in the lane.
        share: Of wrong items that is allowed.
        trials: How many calibration items the lane has.
    """
    order = np.argsort(-np.asarray(scores, np.float64), kind='stable')
    falling = np.asarray(scores, np.float64)[order]
    count = len(falling)
    if not count:
        return TestOrder(np.array([0.0]), ((0, 1.0),))
    ends = np.unique(np.linspace(1, count, min(LEVELS, count)).astype(int))
    mistakes = np.cumsum(np.asarray(wrong, bool)[order])[ends - 1]
    scale = trials / count
    trusting, wary = (
        int(
            np.argmin(
                [
                    at_most(
                        math.floor((bad + margin * (1 + math.sqrt(bad))) * scale),
                        max(1, round(end * scale)),
                        share,
                    )
                    for end, bad in zip(ends, mistakes)
                ]
            )
        )
        for margin in (0.0, 1.0)
    )
    half = int(np.searchsorted(ends, count / 2))
    starts: dict[int, float] = {}
    for start, weight in zip((trusting, wary, half), ROWS):
        starts[start] = starts.get(start, 0.0) + weight
    return TestOrder(np.append(falling[ends - 1], 0.0), tuple(starts.items()))


def purity_threshold(
    scores: NDArray[np.floating],
    wrong: NDArray[np.bool_],
    order: TestOrder,
    purity: float,
    confidence: float,
    lane: str = '',
) -> PurityThreshold:
    """Return the loosest threshold that keeps a lane as pure as promised.

    Args:
        scores: [N], lane probabilities of the calibration items that have this lane as their
            likeliest.
        wrong: bool [N], whether each belongs elsewhere.
        order: What to try, chosen without these items (`threshold_order`).
        purity: Share of what enters that must belong there.
        confidence: Of the promise.
        lane: For the message.

    Raises:
        TooFewItems: When not even the first threshold can be promised.
    """
    share, offered = 1.0 - purity, len(scores)
    found: PurityThreshold | None = None
    refused: PurityThreshold | None = None  # where the row that was trusted most ended
    for start, weight in order.starts:
        for value in order.values[start:]:
            enters = scores >= value
            kept, bad = int(enters.sum()), int((enters & wrong).sum())
            tried = PurityThreshold(float(value), kept, bad, offered)
            if not kept or at_most(bad, kept, share) > weight * (1.0 - confidence):
                refused = refused or tried
                break
            if found is None or tried.value < found.value:
                found = tried
    if found is not None:
        return found
    tried = refused or PurityThreshold(1.0, 0, 0, offered)
    least = least_trials(share, confidence)
    needed = _items_needed(tried, share, confidence, least)
    raise TooFewItems(
        f'lane {lane}: a purity of {purity:g} with confidence {confidence:g} cannot be promised: '
        f'{tried.wrong} of {tried.kept} calibration items that would enter are wrong, which says '
        f'no more than {1 - upper_bound(tried.wrong, max(tried.kept, 1), confidence):.4f}. '
        + (
            f'It takes about {needed} calibration items of this lane ({offered} are there), and '
            f'at least {least} without a mistake; add some, or lower the target'
            if needed
            else 'More items would not help, the models are not that sure; lower the target'
        ),
        needed,
    )


def _items_needed(tried: PurityThreshold, share: float, confidence: float, least: int) -> int:
    """Return how many items of the lane would do at the share of mistakes seen; 0 = none would."""
    kept = max(tried.kept, 1)
    enter = kept / max(tried.offered, 1)
    rate = tried.wrong / kept
    if rate >= share:
        return 0
    trials = max(least, kept)
    while trials < 10_000_000 and (
        at_most(math.ceil(rate * trials), trials, share) > 1.0 - confidence
    ):
        trials = math.ceil(trials * 1.1)
    return math.ceil(trials / max(enter, 1e-3))
