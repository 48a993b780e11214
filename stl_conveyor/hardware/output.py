# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""What an output is: its settings, their check, and how it is opened.

`hardware/outputs/` has one file for each, and lists them in its registry.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Generic, Protocol, TypeVar

from stl_conveyor.errors import ConfigError
from stl_conveyor.hardware.diverter import DiverterEvents, Diverters, StrokeReport

SettingsT = TypeVar('SettingsT')


class MessagePublisher(Protocol):
    """Publishes messages of `msg_type` on one topic."""

    @property
    def msg_type(self) -> Any:
        """Return the class of the messages."""

    def publish(self, message: Any, /) -> None:
        """Publish a message."""

    def get_subscription_count(self) -> int:
        """Return how many listen."""


class Looks(Protocol):
    """A topic at which is looked now and then."""

    def every(self, period: float) -> None:
        """Look once in `period` seconds from now on."""


class Graph(Protocol):
    """The ROS graph, as a node hands it to an output; what is made ends with the activation.

    Type and quality of service of a topic are those of the table `nodes/base/topics.py`.
    """

    def publish_on(self, topic: str, /) -> MessagePublisher:
        """Return a publisher."""

    def listen(self, topic: str, callback: Callable[[Any], None], /) -> object:
        """Call back with every message, one after the other."""

    def listen_outside(
        self,
        topic: str,
        callback: Callable[[Any, int], None],
        /,
        *,
        concerns: Callable[[Any], bool],
        unstamped: bool,
        remedy: str,
        alike: Callable[[bytes], Hashable | None],
        period: float,
    ) -> Looks:
        """Call back with the messages of something outside the cell, and their times (ns).

        Those with a stamp that cannot be right are refused and reported.

        Args:
            concerns: Whether a message is for us at all.
            unstamped: Whether the stamp zero is taken for that of the arrival, and any order.
            remedy: What to do, beside starting its driver, if nobody publishes.
            alike: Returns the same for serialised messages of which the latest is enough, and None
                for those that are not wanted.
            period: Seconds between two looks at what has come.
        """


@dataclass(frozen=True)
class Site:
    """Where diverters are opened, and for what.

    Attributes:
        lanes: Names of the lanes with a diverter, in the order of the cell description.
        events: Where the diverters report.
        confirm_time: Seconds for which a confirmation is awaited.
        useful_time: Seconds by which a command may be late and still hit its item.
        graph: None where no node runs, as in a calibration.
        alive: When the node was last seen to work (monotonic s).
    """

    lanes: tuple[str, ...]
    events: DiverterEvents
    confirm_time: float
    useful_time: float
    graph: Graph | None = None
    alive: Callable[[], float] = time.monotonic


def accept(settings: Any) -> None:
    """Find nothing wrong."""


@dataclass(frozen=True, kw_only=True)
class Output(Generic[SettingsT]):
    """A way to reach the diverters: a `DirectOutput` or a `DriverOutput`.

    Attributes:
        settings: Frozen dataclass of `stl_conveyor.parameters.parameter` fields; the actuator
            declares each of them as a parameter.
        check: Raises ConfigError, naming the parameter, if values cannot be or do not fit
            together.
        per_lane: Names of the parameters that name something for every lane, in the order of
            the cell description.
    """

    settings: type[SettingsT]
    check: Callable[[SettingsT], None] = accept
    per_lane: tuple[str, ...] = ()

    def verify(self, settings: SettingsT, lanes: Sequence[str]) -> None:
        """Check settings for a cell with these lanes.

        Raises:
            ConfigError: Naming the parameter.
        """
        for name in self.per_lane:
            values = getattr(settings, name)
            if len(values) != len(lanes):
                raise ConfigError(
                    f'{name}: {list(values)} must name one for each of the {len(lanes)} '
                    f'lanes {", ".join(lanes)}'
                )
        self.check(settings)

    def read(self, parameters: Mapping[str, Any]) -> SettingsT:
        """Return the settings among the parameters of an actuator, by name."""
        given = {
            item.name: parameters[item.name]
            for item in fields(self.settings)  # type: ignore[arg-type]  # a dataclass
            if item.name in parameters
        }
        return self.settings(
            **{
                name: tuple(value) if isinstance(value, list) else value
                for name, value in given.items()
            }
        )


@dataclass(frozen=True, kw_only=True)
class DirectOutput(Output[SettingsT]):
    """The actuator commands each diverter itself, at the time at which its item gets there.

    Attributes:
        open: Returns the diverters; raises ConveyorError if they cannot be had.
        needs_graph: Whether `site.graph` must be there, because a node moves the diverters.
    """

    open: Callable[[SettingsT, Site], Diverters]
    needs_graph: bool = False


@dataclass(frozen=True, kw_only=True)
class DriverOutput(Output[SettingsT]):
    """A driver of its own moves the diverters, and reports on each stroke.

    Attributes:
        listen: Has every report handed to a function.
    """

    listen: Callable[[SettingsT, Graph, Callable[[StrokeReport], None]], None]
