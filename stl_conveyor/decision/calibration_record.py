# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""What device and edge said about calibration items, kept in the model folder.

The file ``decision.npz`` (role ``decision`` of the manifest) holds, for N items that no model was
trained on, the answers of the local model and of the edge at each of P lengths of the prefix. From
it each cell derives, for its own lanes, costs and targets, how far an answer is to be trusted:

    format          int64 []         1
    classes         int16 [N]        the true class
    fitted          bool [N]         used for temperatures and orders, not for promises
    lengths         int32 [P]        payload bytes received, rising
    local           float16 [N, C]   probabilities
    edge            float16 [P, N, C]
    local_unknown   float32 [N]      unknown scores; empty where the folder tells none
    edge_unknown    float32 [P, N]   likewise
    local_posterior float16 [N, C]   of a local model that tells it; empty or missing where not

An answer of the edge counts as one at the longest length that is not above what had arrived.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stl_conveyor.cell.description import CellDescription
from stl_conveyor.decision.adaptive import AdaptiveThreshold, raised
from stl_conveyor.decision.decide import Choice, Decider
from stl_conveyor.decision.guarantee import (
    PurityThreshold,
    TooFewItems,
    purity_threshold,
    threshold_order,
)
from stl_conveyor.decision.temperature import fit_temperature, tempered
from stl_conveyor.errors import CalibrationError, ModelFileError
from stl_conveyor.outside_files import UnusableFile, read_arrays

FORMAT = 1
ROLE = 'decision'
LOCAL = -1  # in place of a length
_ARRAYS = (
    'format',
    'classes',
    'fitted',
    'lengths',
    'local',
    'edge',
    'local_unknown',
    'edge_unknown',
)
_POSTERIOR = 'local_posterior'


@dataclass(frozen=True, eq=False)
class CalibrationRecord:
    """The arrays of the file; see the module."""

    classes: NDArray[np.int64]
    fitted: NDArray[np.bool_]
    lengths: NDArray[np.int64]
    local: NDArray[np.float64]
    edge: NDArray[np.float64]
    local_unknown: NDArray[np.float64] | None = None
    edge_unknown: NDArray[np.float64] | None = None
    local_posterior: NDArray[np.float64] | None = None

    def __post_init__(self) -> None:
        """Check that the arrays belong together.

        Raises:
            CalibrationError: Naming the array that does not fit.
        """
        count, lengths = len(self.classes), len(self.lengths)
        labels = self.local.shape[-1] if self.local.ndim == 2 else 0
        shapes = {
            'classes': (self.classes, (count,)),
            'fitted': (self.fitted, (count,)),
            'local': (self.local, (count, labels)),
            'edge': (self.edge, (lengths, count, labels)),
        }
        if self.local_unknown is not None:
            shapes['local_unknown'] = (self.local_unknown, (count,))
        if self.edge_unknown is not None:
            shapes['edge_unknown'] = (self.edge_unknown, (lengths, count))
        if self.local_posterior is not None:
            shapes['local_posterior'] = (self.local_posterior, (count, labels))
        for name, (array, shape) in shapes.items():
            if array.shape != shape or not np.isfinite(array.astype(np.float64)).all():
                raise CalibrationError(
                    f'{name} has shape {array.shape}, not {shape}, or holds what is no number'
                )
        if labels < 2 or not lengths or (np.diff(self.lengths) <= 0).any():
            raise CalibrationError('lengths must rise, and there must be two classes at least')
        if count and not 0 <= self.classes.min() <= self.classes.max() < labels:
            raise CalibrationError(f'classes are not within 0..{labels - 1}')
        if self.fitted.all() or not self.fitted.any():
            raise CalibrationError('some items must be fitted, and some must not')

    @classmethod
    def load(cls, path: str | Path) -> CalibrationRecord:
        """Read the file.

        Raises:
            ModelFileError: When it is missing or cannot be used.
        """
        try:
            found = read_arrays(path, (*_ARRAYS, _POSTERIOR))
            missing = sorted(set(_ARRAYS) - set(found))
            if missing:
                raise CalibrationError(f'{missing[0]} is missing')
            if int(found['format']) != FORMAT:
                raise CalibrationError(f'format is not {FORMAT}')
            numbers: dict[str, NDArray[Any]] = {
                name: found[name].astype(np.float64) for name in ('local', 'edge')
            }
            return cls(
                found['classes'].astype(np.int64),
                found['fitted'].astype(bool),
                found['lengths'].astype(np.int64),
                numbers['local'],
                numbers['edge'],
                _present(found['local_unknown']),
                _present(found['edge_unknown']),
                _present(found.get(_POSTERIOR, np.zeros(0))),
            )
        except (UnusableFile, CalibrationError, ValueError, TypeError) as error:
            raise ModelFileError(
                f'{path} is no usable record of calibration items ({error}); make it again with '
                'python -m stl_conveyor_lab.train.decision'
            ) from error

    def save(self, path: str | Path) -> None:
        """Write the file."""
        empty = np.zeros(0, np.float32)
        np.savez_compressed(
            Path(path),
            format=np.int64(FORMAT),
            classes=self.classes.astype(np.int16),
            fitted=self.fitted,
            lengths=self.lengths.astype(np.int32),
            local=self.local.astype(np.float16),
            edge=self.edge.astype(np.float16),
            local_unknown=empty
            if self.local_unknown is None
            else self.local_unknown.astype(np.float32),
            edge_unknown=empty
            if self.edge_unknown is None
            else self.edge_unknown.astype(np.float32),
            local_posterior=empty
            if self.local_posterior is None
            else self.local_posterior.astype(np.float16),
        )

    def place(self, received: int | None) -> int:
        """Return which answers count for an answer: LOCAL or an index into `lengths`.

        Args:
            received: Payload bytes behind an answer of the edge; None = the local answer.
        """
        if received is None:
            return LOCAL
        return max(0, int(np.searchsorted(self.lengths, received, side='right')) - 1)

    def answers(self, place: int) -> NDArray[np.float64]:
        """Return the calibrated probabilities [N, C] at a place."""
        return self.tempered(self.local if place == LOCAL else self.edge[place], place)

    def tempered(self, raw: NDArray[np.floating], place: int) -> NDArray[np.float64]:
        """Return probabilities [..., C] of other items as calibrated at a place."""
        return tempered(raw, self.temperatures[place])

    def unknown(self, place: int) -> NDArray[np.float64] | None:
        """Return the unknown scores [N] at a place, or None."""
        if place == LOCAL:
            return self.local_unknown
        return None if self.edge_unknown is None else self.edge_unknown[place]

    @cached_property
    def temperatures(self) -> Mapping[int, float]:
        """Return the temperature of the answers at each place."""
        rows, classes = self.fitted, self.classes[self.fitted]
        fitted = {LOCAL: fit_temperature(self.local[rows], classes)}
        for place in range(len(self.lengths)):
            fitted[place] = fit_temperature(self.edge[place][rows], classes)
        return fitted

    def thresholds(
        self, cell: CellDescription, labels: tuple[str, ...], place: int
    ) -> Mapping[str, PurityThreshold]:
        """Return what keeps each lane with a target as pure as promised, at a place.

        Raises:
            TooFewItems: Naming the lane and how many items would be needed.
        """
        decider = Decider(cell, labels)
        choices = decider.choose_all(self.answers(place), self.unknown(place))
        belongs = decider.table.members[self.classes]
        found: dict[str, PurityThreshold] = {}
        for column, lane in enumerate(cell.lanes):
            if lane.purity is None:
                continue
            offered = choices.lanes == column
            wrong = ~belongs[:, column]
            probe, proof = offered & self.fitted, offered & ~self.fitted
            scores = self._lane_probabilities(decider, place)[:, column]
            order = threshold_order(
                scores[probe], wrong[probe], 1.0 - lane.purity, int(proof.sum())
            )
            found[lane.name] = purity_threshold(
                scores[proof], wrong[proof], order, lane.purity, cell.purity_confidence, lane.name
            )
        return found

    def _lane_probabilities(self, decider: Decider, place: int) -> NDArray[np.float64]:
        unknown = self.unknown(place)
        foreign = 0.0 if unknown is None else decider.foreign(unknown)
        return decider.table.lane_probabilities(self.answers(place), foreign)


def _present(array: NDArray[Any]) -> NDArray[np.float64] | None:
    return array.astype(np.float64) if array.size else None


class CellDecider:
    """The decision of one cell: calibrated by source and length of the prefix, as promised.

    Places at which the targets cannot be promised let nothing into the lanes that have one; when
    the last length is one of them, the cell is refused, since then no answer at all would enter.
    """

    def __init__(
        self,
        cell: CellDescription,
        labels: tuple[str, ...],
        record: CalibrationRecord | None = None,
    ) -> None:
        """Derive temperatures and thresholds.

        Args:
            record: What the model folder says of calibration items, or None.

        Raises:
            ConfigError: When a target is set and the folder has no calibration items.
            TooFewItems: When a target cannot be promised at the longest prefix.
        """
        self.cell, self.labels, self.record = cell, labels, record
        self.refused: dict[int, TooFewItems] = {}
        self.thresholds: dict[int, Mapping[str, PurityThreshold]] = {}
        targets = [lane for lane in cell.lanes if lane.purity is not None]
        if record is not None and record.local.shape[1] != len(labels):
            raise ModelFileError(
                f'the calibration items have {record.local.shape[1]} classes, the models '
                f'{len(labels)}; make decision.npz again'
            )
        if targets and record is None:
            raise CalibrationError(
                f'lanes: {targets[0].name} has a purity target, and the model folder has no '
                'calibration items (decision.npz) to promise it from; make them with '
                'python -m stl_conveyor_lab.train.decision, or leave purity out'
            )
        places = [LOCAL] if record is None else [LOCAL, *range(len(record.lengths))]
        self._deciders = {}
        for place in places:
            self._deciders[place] = Decider(cell, labels)
            if record is None or not targets:
                continue
            try:
                self.thresholds[place] = record.thresholds(cell, labels, place)
                values = {lane: found.value for lane, found in self.thresholds[place].items()}
            except TooFewItems as error:
                self.refused[place] = error
                values = {lane.name: 2.0 for lane in targets}
            for lane_name, value in values.items():
                self._deciders[place].set_threshold(lane_name, value)
        if places[-1] in self.refused:
            raise self.refused[places[-1]]
        self.adaptive = {
            lane.name: AdaptiveThreshold(
                promised=self.thresholds[places[-1]][lane.name].value, purity=lane.purity
            )
            for lane in targets
            if lane.purity is not None
        }

    def verified(self, lane: str, wrong: bool) -> None:
        """Take in whether an item that entered a lane was wrong there, and move its thresholds.

        Nothing comes of it for a lane without a purity target. A lane's thresholds, one for the
        local answer and for each length of the prefix, rise and fall together in log odds, and
        none falls below the promised one.

        Args:
            lane: That the item was sent to.
        """
        adaptive = self.adaptive.get(lane)
        if adaptive is None:
            return
        adaptive.verified(wrong)
        for place, promised in self.thresholds.items():
            value = raised(promised[lane].value, adaptive.shift)
            self._deciders[place].set_threshold(lane, value)

    @property
    def lanes(self) -> tuple[str, ...]:
        """Return the names of the lanes, the reject lane last."""
        return self._deciders[LOCAL].lanes

    def decider(self, received: int | None) -> Decider:
        """Return the decision for an answer; see `CalibrationRecord.place`."""
        return self._deciders[LOCAL if self.record is None else self.record.place(received)]

    def choose(
        self, probabilities: NDArray[np.floating], unknown: float, received: int | None
    ) -> Choice:
        """Decide about an item.

        Args:
            probabilities: [C] as the answer tells them.
            unknown: The unknown score.
            received: Payload bytes behind an answer of the edge; None = the local answer.
        """
        return self.decider(received).choose(self.calibrated(probabilities, received), unknown)

    def suffices(
        self,
        probabilities: NDArray[np.floating],
        unknown: NDArray[np.floating] | None,
        received: int,
        score: float,
    ) -> NDArray[np.bool_]:
        """Return whether answers of the edge are so sure of their lane that no more is worth it.

        A decision that is expected to cost no more than a wrong lane with probability 1 - `score`
        suffices, whatever classes it leaves open; a reject never does.

        Args:
            probabilities: [N, C] as the answers tell them.
            unknown: [N] unknown scores, or None.
            received: Payload bytes behind the answers.
            score: How sure is sure enough, as the edge has it for a class; above 1 nothing is.
        """
        decider = self.decider(received)
        choices = decider.choose_all(self.calibrated(probabilities, received), unknown)
        least = (1.0 - score) * decider.table.wrong
        result: NDArray[np.bool_] = (choices.costs <= least) & (
            choices.lanes < len(decider.lanes) - 1
        )
        return result

    def calibrated(
        self, probabilities: NDArray[np.floating], received: int | None
    ) -> NDArray[np.float64]:
        """Return the calibrated probabilities [..., C] of an answer.

        Args:
            received: Payload bytes behind an answer of the edge; None = the local answer.
        """
        if self.record is None or not self.cell.decides_by_cost:
            return np.asarray(probabilities, np.float64)
        return tempered(probabilities, self.record.temperatures[self.record.place(received)])
