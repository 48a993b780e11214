# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""What it is worth to offload an item, in the unit in which the cell decides.

Without costs in the cell description that is the expected gain in accuracy (`RewardEstimator`).
With costs or purity targets it is the expected fall in cost, from where the local answer sends the
item to where the edge's answer at that many bytes would, over the cost of an item in a wrong lane.
Both are for these lanes, costs and targets: what is confused within a lane brings nothing.

The fall in cost is learned from the calibration items of the model folder (`decision.npz`), whose
lane by the local answer and by the edge's at each length is known. What an item is expected to
cost where the local answer sends it, less what items of its likely classes still cost with the
edge's answer, is the first guess, by the posterior of the local model where it tells one; a kernel
regression of the fall that was seen on it corrects that, for items that the device sends into a
lane and those that it rejects apart.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from stl_conveyor.cell.description import Strangers
from stl_conveyor.decision.calibration_record import LOCAL, CalibrationRecord, CellDecider
from stl_conveyor.decision.temperature import fit_temperature, tempered
from stl_conveyor.errors import CalibrationError
from stl_conveyor.policy.base import Distribution
from stl_conveyor.policy.budget_fit import fit_table
from stl_conveyor.policy.byte_budget import STOP_SCORE, BudgetTable
from stl_conveyor.policy.regression import distribution_of_estimates, kernel_regression
from stl_conveyor.policy.reward import RewardEstimator, checked_probabilities

_KNOTS = 64
_PRIOR_ITEMS = 5
_LEAST_GROUP = 20  # items from which a group has a curve of its own


class ItemWorth(ABC):
    """What offloading items is expected to bring.

    Attributes:
        unit: Of the worth, for people.
        distribution: Of the worth of items.
        budgets: What byte budgets bring and cost in that unit; None = a token or nothing.
    """

    unit: str
    distribution: Distribution
    budgets: BudgetTable | None

    def of(
        self, probabilities: ArrayLike, posterior: ArrayLike | None = None, unknown: float = 0.0
    ) -> float:
        """Return what it is expected to bring to offload an item.

        Args:
            probabilities: [C] of the local model.
            posterior: [C] of a local model that has one, or None.
            unknown: The unknown score of the local answer.

        Raises:
            BadProbabilities: For a vector that no classifier can have sent.
        """
        posteriors = None if posterior is None else np.asarray(posterior)[None]
        return float(self.of_all(np.asarray(probabilities)[None], posteriors, [unknown])[0])

    @property
    def of_unclassified(self) -> float:
        """Return the worth of an item without a local answer: that of the most worth asking.

        Without an answer of the edge it goes to reject, whatever it is.
        """
        return float(self.distribution.values[-1])

    @abstractmethod
    def of_all(
        self,
        probabilities: ArrayLike,
        posteriors: ArrayLike | None = None,
        unknown: ArrayLike | None = None,
    ) -> NDArray[np.float64]:
        """Return the worth [N] of items; see `of`."""


class AccuracyWorth(ItemWorth):
    """The expected gain in accuracy; a stranger to the device is worth a token.

    What the device takes for a stranger goes to reject unless the edge knows it, and most of it
    is the cell's own. So it is worth as much as the item that is worth most.

    Examples:
        >>> from stl_conveyor import RewardEstimator, share_path
        >>> rewards = RewardEstimator.load(share_path('models/items/reward.json'))
        >>> worth = AccuracyWorth(rewards, Strangers())
        >>> sure = np.eye(rewards.classes)[0]
        >>> worth.of(sure, sure, unknown=0.5) < 0.1 < worth.of(sure, sure, unknown=0.99)
        True
    """

    unit = 'accuracy'

    def __init__(
        self,
        rewards: RewardEstimator,
        strangers: Strangers | None = None,
        budgets: BudgetTable | None = None,
    ) -> None:
        """Take the estimate of the model folder and how the cell treats strangers."""
        self.rewards, self.budgets = rewards, budgets
        self.distribution = rewards.distribution
        self._rejects = strangers.rejects if strangers is not None else 0.0

    def of_all(
        self,
        probabilities: ArrayLike,
        posteriors: ArrayLike | None = None,
        unknown: ArrayLike | None = None,
    ) -> NDArray[np.float64]:
        """Return the expected gains in accuracy [N]."""
        found = self.rewards.expected_rewards(probabilities, posteriors)
        if unknown is None or not self._rejects:
            return found
        stranger = np.asarray(unknown, np.float64) > 1.0 - self._rejects
        return np.where(stranger, np.maximum(found, self.distribution.values[-1]), found)


class CostWorth(ItemWorth):
    """The expected fall in cost, learned from the calibration items for one cell.

    Attributes:
        falls: float64 [P, N], by how much the cost of each calibration item falls from the local
            answer to the edge's at each length of the record.
    """

    unit = 'cost over that of a wrong lane'

    def __init__(
        self, decider: CellDecider, nominal_bytes: int = 512, stop_score: float = STOP_SCORE
    ) -> None:
        """Learn what an offload brings.

        Args:
            decider: The decision of the cell, with calibration items.
            nominal_bytes: What a token buys.
            stop_score: Confidence at which the edge ends a stream; above 1 it never does.

        Raises:
            CalibrationError: When the decision has no calibration items.
        """
        record = decider.record
        if record is None:
            raise CalibrationError(
                'what an offload saves is learned from calibration items, and the model folder '
                'has none (decision.npz); make them with python -m stl_conveyor_lab.train.decision'
            )
        self._decider, self._labels = decider, len(decider.labels)
        self._trust = (
            fit_temperature(record.local_posterior[record.fitted], record.classes[record.fitted])
            if record.local_posterior is not None
            else 1.0
        )
        table = decider.decider(None).table
        costs = table.costs[record.classes]  # [N, L + 1]
        rows = np.arange(len(record.classes))
        scale = self._scale = table.wrong or 1.0

        def cost_at(place: int) -> NDArray[np.float64]:
            received = None if place == LOCAL else int(record.lengths[place])
            choices = decider.decider(received).choose_all(
                record.answers(place), record.unknown(place)
            )
            return np.asarray(costs[rows, choices.lanes] / scale, np.float64)

        before = cost_at(LOCAL)
        after = np.stack([cost_at(place) for place in range(len(record.lengths))])
        self.falls = before - after
        whole = record.place(nominal_bytes)
        self._remains = _means_by_class(after[whole], record.classes, self._labels)
        guesses, rejected = self._guesses(
            record.local, record.local_posterior, record.local_unknown
        )
        self._curves = {
            group: _curve(guesses, self.falls[whole], rejected == group) for group in (False, True)
        }
        worth = self._corrected(guesses, rejected)
        self.distribution = distribution_of_estimates(worth)
        sizes = [int(b) for b in record.lengths if b <= max(nominal_bytes, record.lengths[0])]
        fitted = fit_table(worth, self._outcomes(record, sizes, stop_score), stop_score)
        self.budgets = fitted.for_token(max(nominal_bytes, sizes[0]))

    def _outcomes(
        self, record: CalibrationRecord, sizes: Sequence[int], stop_score: float
    ) -> dict[int, tuple[NDArray[np.float64], NDArray[np.float64]]]:
        """Return by how much the cost of each item falls at a budget, and the bytes it takes."""
        decider, rows = self._decider, np.arange(len(record.classes))
        scores = record.edge.max(axis=2)
        enough = np.stack(
            [
                decider.suffices(record.edge[p], record.unknown(p), int(length), stop_score)
                for p, length in enumerate(record.lengths)
            ]
        )
        outcomes = {}
        for size in sizes:
            # A stream ends at the first length at which the edge is sure, or the device of a lane.
            last = record.place(size)
            sure = (scores[: last + 1] >= stop_score) | enough[: last + 1]
            sure[last] = True
            at = sure.argmax(axis=0)
            outcomes[size] = (
                self.falls[at, rows],
                np.minimum(record.lengths[at], size).astype(np.float64),
            )
        return outcomes

    def _guesses(
        self,
        probabilities: NDArray[np.float64],
        posteriors: NDArray[np.float64] | None,
        unknown: ArrayLike | None,
    ) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """Return the first guess of the fall in cost [N], and whether the device rejects [N]."""
        decider = self._decider.decider(None)
        strange = None if unknown is None else np.asarray(unknown, np.float64)
        calibrated = self._decider.calibrated(probabilities, None)
        lanes = decider.choose_all(calibrated, strange).lanes
        belief = calibrated if posteriors is None else tempered(posteriors, self._trust)
        foreign = np.zeros(len(lanes)) if strange is None else decider.foreign(strange)
        expected = decider.table.expected(belief, foreign)[np.arange(len(lanes)), lanes]
        guesses = expected / self._scale - (1.0 - foreign) * (belief @ self._remains)
        return np.asarray(guesses, np.float64), lanes == len(decider.lanes) - 1

    def _corrected(
        self, guesses: NDArray[np.float64], rejected: NDArray[np.bool_]
    ) -> NDArray[np.float64]:
        sorted_fall, rejected_fall = (
            np.interp(guesses, *self._curves[group]) for group in (False, True)
        )
        return np.where(rejected, rejected_fall, sorted_fall)

    def of_all(
        self,
        probabilities: ArrayLike,
        posteriors: ArrayLike | None = None,
        unknown: ArrayLike | None = None,
    ) -> NDArray[np.float64]:
        """Return the expected falls in cost [N] with a whole token."""
        checked = checked_probabilities(probabilities, self._labels)
        trusted = None if posteriors is None else checked_probabilities(posteriors, self._labels)
        return self._corrected(*self._guesses(checked, trusted, unknown))


def _means_by_class(
    values: NDArray[np.float64], classes: NDArray[np.int64], labels: int
) -> NDArray[np.float64]:
    """Return the mean [C] by class, drawn to that of all where a class has few items."""
    count = np.bincount(classes, minlength=labels)
    total = np.bincount(classes, weights=values, minlength=labels)
    found: NDArray[np.float64] = (total + _PRIOR_ITEMS * values.mean()) / (count + _PRIOR_ITEMS)
    return found


def _curve(
    guesses: NDArray[np.float64], falls: NDArray[np.float64], group: NDArray[np.bool_]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return knots and values of the fall over its guess, within a group if it is large enough."""
    rows = group if group.sum() >= _LEAST_GROUP else np.ones(len(group), bool)
    knots = np.unique(np.quantile(guesses[rows], np.linspace(0.0, 1.0, _KNOTS)))
    return knots, kernel_regression(guesses[rows], falls[rows], knots)[0]
