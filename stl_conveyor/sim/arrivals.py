# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""What comes down the belt, and when.

The arrival processes are those of "Adaptive Edge Offloading for Image Classification Under
Rate Limit" (Qiu, Wang, Chakrabarti, Guerin, Lu, IEEE TCAD 2022): arrival times are whole
multiples of a time unit, and correlated difficulty follows its "location reset" sequence. Every
generator draws from the random generator it is given and from nothing else.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count as count_from
from itertools import islice

import numpy as np

from stl_conveyor.errors import ConfigError
from stl_conveyor.sim.strangers import draw_stranger

ARRIVALS = ('periodic', 'poisson', 'markov', 'correlated')


@dataclass(frozen=True)
class ItemPlan:
    """One item of a simulated run, before physics takes over."""

    serial: int  # from 1, in order of arrival
    arrival: int  # time units after the start
    class_id: str
    difficulty: float  # 0..1, the hardest is 1
    yaw: float  # radians about z, in [-pi, pi)
    lateral_offset: float  # metres from the belt's centre line, to its left
    appearance_seed: int  # of light, dirt and texture, 0 .. 2**32 - 1


@dataclass(frozen=True)
class ArrivalSettings:
    """Which items come, and how they are spaced; the defaults are the published parameters."""

    process: str = 'periodic'  # one of ARRIVALS
    period: int = 1  # time units between items: periodic and correlated
    mean_interval: float = 2.0  # time units: poisson
    intervals: tuple[int, int] = (1, 3)  # time units in each state: markov
    leaving: tuple[float, float] = (0.001, 0.0005)  # probability per time unit: markov
    spread: float = 0.1  # part of the sorted items that is within reach: correlated
    reset_probability: float = 0.01  # of a new location, per item: correlated
    pool: int = 1000  # items sorted by difficulty: correlated
    lateral_range: float = 0.010  # metres to either side of the centre line
    foreign_share: float = 0.0  # of things that do not belong on the belt (sim/strangers.py)

    def __post_init__(self) -> None:
        """Check every value.

        Raises:
            ConfigError: Naming the value and what it may be.
        """
        if self.process not in ARRIVALS:
            raise ConfigError(
                f"arrivals '{self.process}' is unknown: choose one of {', '.join(ARRIVALS)}"
            )
        for name, good, rule in (
            ('period', self.period >= 1, 'at least 1'),
            ('mean_interval', self.mean_interval >= 1, 'at least 1'),
            (
                'intervals',
                len(self.intervals) == 2 and min(self.intervals) >= 1,
                'two numbers of at least 1',
            ),
            (
                'leaving',
                len(self.leaving) == 2 and 0 <= min(self.leaving) and max(self.leaving) <= 1,
                'two probabilities',
            ),
            ('spread', 0 <= self.spread <= 1, 'in 0..1'),
            ('reset_probability', 0 <= self.reset_probability <= 1, 'in 0..1'),
            ('pool', self.pool >= 1, 'at least 1'),
            ('foreign_share', 0 <= self.foreign_share <= 1, 'in 0..1'),
            ('lateral_range', 0 <= self.lateral_range < 0.1, 'in 0..0.1 m'),
        ):
            if not good:
                raise ConfigError(f'{name} is {getattr(self, name)!r}: it must be {rule}')


def periodic(period: int = 1) -> Iterator[int]:
    """Yield arrival times at equal intervals.

    Args:
        period: Time units between two items.
    """
    return count_from(0, period)


def poisson(rng: np.random.Generator, mean_interval: float = 2.0) -> Iterator[int]:
    """Yield arrival times of a Poisson process, snapped to whole time units.

    Exponential intervals are rounded up, so none is shorter than one unit, the process stays
    memoryless (the intervals are geometric), and its mean is exact.

    Args:
        mean_interval: Time units between two items on average, at least 1.
    """
    now = 0
    while True:
        yield now
        now += int(rng.geometric(1.0 / mean_interval))


def markov_modulated(
    rng: np.random.Generator,
    intervals: Sequence[int] = (1, 3),
    leaving: Sequence[float] = (0.001, 0.0005),
) -> Iterator[int]:
    """Yield arrival times of a two-state Markov-modulated process ("scenario 2").

    In each state items come at that state's interval. Every time unit the state is left with
    its probability, so that stays are geometric; a change takes effect from the next interval.

    Args:
        intervals: Time units between items in each state.
        leaving: Probability per time unit of leaving each state.
    """
    now = state = 0
    while True:
        yield now
        interval = intervals[state]
        now += interval
        if rng.random() >= (1.0 - leaving[state]) ** interval:
            state = 1 - state


def location_reset(
    rng: np.random.Generator, pool: int, spread: float = 0.1, reset_probability: float = 0.01
) -> Iterator[int]:
    """Yield indices into items sorted by difficulty, neighbours in time being alike.

    "Scenario 1": around a location L, index = (L + U[0, spread * pool]) mod pool; L is uniform
    and drawn anew with the given probability before each item.

    Args:
        pool: Number of sorted items.
        spread: Reach of the draw beyond the location, as a part of the pool.
        reset_probability: Probability of a new location, per item.
    """
    location = int(rng.integers(pool))
    reach = int(spread * pool)
    while True:
        if rng.random() < reset_probability:
            location = int(rng.integers(pool))
        yield (location + int(rng.integers(reach + 1))) % pool


def plan_items(
    count: int, seed: int, classes: Sequence[str], settings: ArrivalSettings = ArrivalSettings()
) -> tuple[ItemPlan, ...]:
    """Plan a run: the same arguments always give the same items.

    When, what and how hard are drawn from separate streams of the seed, so that another arrival
    process brings the same items at other times.

    Args:
        count: Number of items, at least 1.
        seed: Of everything random, 0 or more.
        classes: Class names to draw from, with equal probability.

    Raises:
        ConfigError: If there is nothing to plan.
    """
    if count < 1:
        raise ConfigError(f'a run of {count} items is empty: ask for at least 1')
    if seed < 0:
        raise ConfigError(f'seed is {seed}: it must be 0 or more')
    if not classes:
        raise ConfigError('no classes to draw items from: name at least one in a lane')
    times_rng, difficulty_rng, kind_rng, pose_rng, look_rng, foreign_rng = (
        np.random.default_rng(s) for s in np.random.SeedSequence(seed).spawn(6)
    )
    if settings.process == 'poisson':
        arrivals = poisson(times_rng, settings.mean_interval)
    elif settings.process == 'markov':
        arrivals = markov_modulated(times_rng, settings.intervals, settings.leaving)
    else:
        arrivals = periodic(settings.period)
    if settings.process == 'correlated':
        indices = location_reset(
            difficulty_rng, settings.pool, settings.spread, settings.reset_probability
        )
        difficulties = ((index + 0.5) / settings.pool for index in indices)
    else:
        difficulties = (float(difficulty_rng.random()) for _ in count_from())
    names = tuple(classes)

    def name_of_next() -> str:
        name = names[int(kind_rng.integers(len(names)))]
        if settings.foreign_share and foreign_rng.random() < settings.foreign_share:
            return draw_stranger(foreign_rng)
        return name

    return tuple(
        ItemPlan(
            serial=serial,
            arrival=arrival,
            class_id=name_of_next(),
            difficulty=difficulty,
            yaw=float(pose_rng.uniform(-math.pi, math.pi)),
            lateral_offset=float(
                pose_rng.uniform(-settings.lateral_range, settings.lateral_range)
            ),
            appearance_seed=int(look_rng.integers(2**32)),
        )
        for serial, arrival, difficulty in islice(
            zip(count_from(1), arrivals, difficulties), count
        )
    )
