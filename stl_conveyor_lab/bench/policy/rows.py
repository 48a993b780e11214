# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""What the benchmark of the policies writes: one frozen row for each thing measured.

``as_json`` turns a row into the object of policy.json, ``PointRow.of_json`` reads one back. The
names in policy.json stay what they were in earlier results.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields, is_dataclass, replace
from typing import Any

ORACLE = 'told'  # what policy.json calls the oracle


@dataclass(frozen=True)
class Loss:
    """Loss of a policy or a bound; what was not measured is None, and is not written.

    Attributes:
        loss: Top-5 loss.
        ci95: Half the 95 % interval of the loss; 0 for what was solved for.
        difference: To the MDP, on the same sequences.
        difference_ci95: Half its 95 % interval.
        played: Loss of sequences that were played, beside one that was solved for.
        played_ci95: Half its 95 % interval.
    """

    loss: float
    ci95: float | None = None
    difference: float | None = None
    difference_ci95: float | None = None
    played: float | None = None
    played_ci95: float | None = None


@dataclass(frozen=True)
class PointRow:
    """What was measured at one point of a published figure.

    Attributes:
        figure: Name of the figure.
        panel: What the panel of the figure is for.
        x: Where the point lies in the panel.
        name: Of the scenario and the bucket.
        rate: Tokens per time unit, r, as a fraction.
        depth: Most tokens kept, b, as a fraction.
        published: Published loss by policy.
        measured: Our loss by policy or bound.
        networks: Beginning of the hash of the network that each learned policy was played with.
    """

    figure: str
    panel: float
    x: float
    name: str
    rate: str
    depth: str
    published: dict[str, float]
    measured: dict[str, Loss] = field(default_factory=dict)
    networks: dict[str, str] = field(default_factory=dict)

    @property
    def key(self) -> tuple[str, float, float]:
        """Return what tells the row from others: figure, panel and place."""
        return self.figure, self.panel, self.x

    def with_loss(self, policy: str, loss: Loss) -> PointRow:
        """Return the row with the loss of one more policy, or another loss of it."""
        return replace(self, measured={**self.measured, policy: loss})

    def with_network(self, policy: str, digest: str) -> PointRow:
        """Return the row with the hash of a policy's network."""
        return replace(self, networks={**self.networks, policy: digest})

    @classmethod
    def of_json(cls, content: dict[str, Any]) -> PointRow:
        """Make the row from its object in policy.json."""
        measured = {name: Loss(**value) for name, value in content['measured'].items()}
        return cls(**{**content, 'measured': measured})


@dataclass(frozen=True)
class TraceRow:
    """What policies earn on a published sequence.

    Attributes:
        trace: Name of the sequence.
        items: Its length.
        mean_interval: Mean inter-arrival time, in time units.
        sums: Sum of the metrics that each policy offloads.
        offloads: How many items each policy that was played offloads.
        bucket_kept: Whether its decisions never overdraw the bucket.
    """

    trace: str
    items: int
    mean_interval: float
    sums: dict[str, float]
    offloads: dict[str, int]
    bucket_kept: dict[str, bool]


@dataclass(frozen=True)
class SharedLoss:
    """Loss of cameras that share a network in one arrangement.

    Attributes:
        loss: Top-5 loss.
        difference_to_isolated: To a bucket for each camera.
        difference_ci95: Half its 95 % interval.
    """

    loss: float
    difference_to_isolated: float
    difference_ci95: float


@dataclass(frozen=True)
class CamerasRow:
    """What was measured with a number of cameras on one network.

    Attributes:
        cameras: How many there are.
        arrangements: Loss by arrangement or bound.
    """

    cameras: int
    arrangements: dict[str, SharedLoss]


@dataclass(frozen=True)
class DecisionTimes:
    """Time of single decisions.

    Attributes:
        median_us: Median, in microseconds.
        p99_us: 99 % quantile, in microseconds.
        decisions: How many were timed.
        put_aside: How often the process was put aside for others.
        load: Load of the machine.
        without_gc: The same without garbage collection.
        solve_ms: Time to solve the MDP, in milliseconds.
    """

    median_us: float
    p99_us: float
    decisions: int
    put_aside: int
    load: float
    without_gc: DecisionTimes | None = None
    solve_ms: float | None = None


def as_json(value: Any) -> Any:
    """Turn rows, and what holds them, into what policy.json holds; None is left out of rows."""
    if isinstance(value, CamerasRow):
        return {'cameras': value.cameras, **as_json(value.arrangements)}
    if is_dataclass(value):
        entries = ((item.name, getattr(value, item.name)) for item in fields(value))
        return {name: as_json(entry) for name, entry in entries if entry is not None}
    if isinstance(value, dict):
        return {name: as_json(entry) for name, entry in value.items()}
    if isinstance(value, list):
        return [as_json(entry) for entry in value]
    return value
