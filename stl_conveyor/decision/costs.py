# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""The costs of a cell as a table: what each class costs in each lane."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stl_conveyor.cell.description import FOREIGN, CellDescription, Costs
from stl_conveyor.errors import ConfigError


@dataclass(frozen=True, eq=False)
class CostTable:
    """Costs by class and lane; the last column is the reject lane, the last row a foreign item.

    Attributes:
        lanes: Names of the columns.
        labels: Names of the rows but the last.
        costs: float64 [C + 1, L + 1].
        members: bool [C, L], which class belongs in which lane; a class that no lane lists
            belongs in none.
        wrong: What an item in a wrong lane costs where nothing else is said.

    Examples:
        >>> from stl_conveyor import CellDescription, share_path
        >>> cell = CellDescription.load(share_path('config/cell.yaml'))
        >>> table = CostTable.of(cell, cell.classes)
        >>> [float(cost) for cost in table.costs[0]]  # of a class of lane A: A, B, C and reject
        [0.0, 1.0, 1.0, 0.5]
    """

    lanes: tuple[str, ...]
    labels: tuple[str, ...]
    costs: NDArray[np.float64]
    members: NDArray[np.bool_]
    wrong: float = 1.0

    @classmethod
    def of(cls, cell: CellDescription, labels: Sequence[str]) -> CostTable:
        """Return the table of a cell for the labels of its models, in their order.

        Raises:
            ConfigError: When a class that a lane lists is none of the labels.
        """
        unknown = [name for name in cell.classes if name not in labels]
        if unknown and cell.decides_by_cost:
            raise ConfigError(
                f'lanes: the models do not know the class {unknown[0]!r}, so that its cost cannot '
                f'be weighed; they know {", ".join(labels[:5])}, ...'
            )
        base = cell.costs or Costs()
        lanes = tuple(lane.name for lane in cell.lanes)
        count = len(labels)
        members = np.array(
            [[name in lane.classes for lane in cell.lanes] for name in labels], bool
        ).reshape(count, len(lanes))
        costs = np.full((count + 1, len(lanes) + 1), base.wrong)
        costs[:count, :-1][members] = 0.0
        costs[count, :-1] = base.foreign
        # Where it belongs nowhere else, an item in the reject lane is where it should be.
        costs[:count, -1] = np.where(members.any(axis=1), base.reject, 0.0)
        costs[count, -1] = 0.0
        rows = {name: row for row, name in enumerate(labels)} | {FOREIGN: count}
        for column, lane in enumerate(cell.lanes):
            for name, cost in lane.costs:
                costs[rows[name], column] = cost
        return cls((*lanes, cell.reject_lane), tuple(labels), costs, members, base.wrong)

    @property
    def foreign(self) -> int:
        """Return the row of a foreign item."""
        return len(self.labels)

    def lane_probabilities(
        self, probabilities: NDArray[np.floating], foreign: NDArray[np.floating] | float = 0.0
    ) -> NDArray[np.float64]:
        """Return how likely an item belongs in each lane.

        Args:
            probabilities: [..., C] of the classes.
            foreign: [...] probability that it is none of them.

        Returns:
            float64 [..., L].
        """
        known = 1.0 - np.asarray(foreign, np.float64)
        result: NDArray[np.float64] = known[..., None] * (
            np.asarray(probabilities, np.float64) @ self.members
        )
        return result

    def expected(
        self, probabilities: NDArray[np.floating], foreign: NDArray[np.floating] | float = 0.0
    ) -> NDArray[np.float64]:
        """Return the expected cost of each lane, the reject lane last.

        Args:
            probabilities: [..., C] of the classes.
            foreign: [...] probability that it is none of them.

        Returns:
            float64 [..., L + 1].
        """
        share = np.asarray(foreign, np.float64)[..., None]
        known = np.asarray(probabilities, np.float64) @ self.costs[:-1]
        result: NDArray[np.float64] = (1.0 - share) * known + share * self.costs[-1]
        return result
