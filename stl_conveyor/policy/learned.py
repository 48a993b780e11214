# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Learned policies: a network gives the value of a token from what was seen so far.

``dqn`` serves the one bucket that it was trained for; ``adaptive`` serves every bucket, reward
distribution and arrival process: it reads them from its input. Both are ONNX files written by
``stl_conveyor_lab.train.policies`` and ``stl_conveyor_lab.papers.dqn``, run by ONNX Runtime;
their output is called ``worth``.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from stl_conveyor.errors import ConfigError, ModelFileError
from stl_conveyor.models.classifier import make_session
from stl_conveyor.policy.base import (
    Policy,
    PolicyDecision,
    PolicyInput,
    PolicySettings,
    decide_by_threshold,
)
from stl_conveyor.policy.history import History, HistoryFormat, RewardScale
from stl_conveyor.policy.token_bucket import exact_fraction

_COST_MEMORY = 50  # offloads over which the average cost is taken
_LEAST_COST = 0.05


class LearnedPolicy(Policy):
    """Offload when the reward reaches the value that the network gives a token.

    With refunds an offload costs less than a token; the policy follows the average cost c and
    counts in units of it: a bucket (r, b) with offloads of c tokens is one of (r/c, b/c).
    """

    universal: bool

    def __init__(self, settings: PolicySettings) -> None:
        if settings.model is None:
            raise ConfigError(
                f'policy {self.name!r} needs the path of its network: set the model parameter'
            )
        self._session, about = load_network(settings.model)
        self._layout = HistoryFormat(**about['layout'])
        if self._layout.universal != self.universal:
            raise ConfigError(
                f'{settings.model} was not trained for policy {self.name!r}; '
                'dqn serves one bucket, adaptive serves all'
            )
        self._rate, self._depth = settings.rate, settings.depth
        self._scale: RewardScale | None = None
        self._unit = 1.0
        if self.universal:
            self._scale = RewardScale(settings.need_rewards(self.name))
            self._unit = self._scale.unit
        else:
            if settings.rewards:
                self._scale = RewardScale(settings.rewards)
            trained = (exact_fraction(about['rate']), exact_fraction(about['depth']))
            if trained != (settings.rate, settings.depth):
                raise ConfigError(
                    f'{settings.model} was trained for (r, b) = ({trained[0]}, {trained[1]}), '
                    f'not ({settings.rate}, {settings.depth}); use policy adaptive'
                )
        self._knots = np.asarray(about['knots'], dtype=float)
        outputs = self._knots.size
        self._history = History(self._layout, self._scale)
        # Input and output stay where they are: nothing is allocated for a decision.
        self._values = np.zeros((1, outputs), dtype=np.float32)
        self._binding = self._session.io_binding()
        for bind, name, array in (
            (self._binding.bind_input, 'history', self._history.input),
            (self._binding.bind_output, 'worth', self._values),
        ):
            bind(name, 'cpu', 0, np.float32, array.shape, array.ctypes.data)
        self._first_cost = settings.costs.mean
        self.reset()

    def reset(self) -> None:
        """Forget the items seen so far."""
        self._history.reset()
        self._cost = self._first_cost
        self._describe()

    @property
    def cost(self) -> float:
        """Return what the threshold is the value of, in tokens."""
        return max(self._cost, _LEAST_COST) if self.universal else 1.0

    def _describe(self) -> None:
        cost = self.cost
        self._constants = self._layout.constants(
            self._scale, float(self._rate) / cost, float(self._depth) / cost
        )

    def settled(self, cost: float) -> None:
        """Learn what an offload cost after its refund, in tokens."""
        if cost > 0:  # a stream that never began tells nothing
            self._cost += (min(cost, 1.0) - self._cost) / _COST_MEMORY
            self._describe()

    def decide(self, state: PolicyInput) -> PolicyDecision:
        """Ask the network for the present value of a token."""
        self._history.push(state.expected_reward, state.interarrival, self._constants)
        self._session.run_with_iobinding(self._binding)
        cost = self.cost
        spare = state.level / state.denominator - cost
        room = float(self._depth) - cost
        relative = min(max(spare / room, 0.0), 1.0) if room > 0 else 0.0
        threshold = float(np.interp(relative, self._knots, self._values[0])) * self._unit
        return decide_by_threshold(state, threshold)


class DqnPolicy(LearnedPolicy):
    """The published DQN: a history of 96 metrics, one output for each level of one bucket.

    Examples:
        >>> from stl_conveyor.resources import share_path
        >>> network = share_path('models/policy/dqn_correlated_sp0.1_rprob0.1_r0.1_b4.onnx')
        >>> policy = DqnPolicy(PolicySettings(rate='0.1', depth=4, model=str(network)))
        >>> [policy.decide(PolicyInput(x, level=4, interarrival=1.0)).offload for x in (0.0, 0.9)]
        [False, True]
    """

    name = 'dqn'
    universal = False


class AdaptivePolicy(LearnedPolicy):
    """One network for all buckets, which adapts to the process that it sees.

    Examples:
        >>> from stl_conveyor.policy.base import Distribution
        >>> from stl_conveyor.resources import share_path
        >>> network = share_path('models/policy/adaptive.onnx')
        >>> rewards = Distribution.of([0.0, 0.0, 0.1, 0.4, 0.9])
        >>> policy = AdaptivePolicy(
        ...     PolicySettings(rate='1/4', depth=3, rewards=rewards, model=str(network))
        ... )
        >>> [policy.decide(PolicyInput(x, level=3, interarrival=1.0)).offload for x in (0.0, 0.9)]
        [False, True]
    """

    name = 'adaptive'
    universal = True


def load_network(path: str | Path) -> tuple[Any, dict[str, Any]]:
    """Open a network and read what was written with it.

    Args:
        path: The ONNX file.

    Returns:
        The session of ONNX Runtime; and what the file says: ``layout`` (fields of
        ``HistoryFormat``), ``knots``, and for one bucket ``rate`` and ``depth``.

    Raises:
        ModelFileError: For a file that is no policy network.
    """
    if not Path(path).is_file():
        raise ModelFileError(f'no policy network at {path}; give the path of an .onnx file')
    try:
        session = make_session(path)
        properties = session.get_modelmeta().custom_metadata_map
        about = json.loads(properties['about'])
        about['layout'] = json.loads(properties['layout'])
        about['layout']['horizons'] = tuple(about['layout']['horizons'])
        outputs = session.get_outputs()[0].shape[1]
        knots = json.loads(properties['knots'])
        about['knots'] = np.linspace(0, 1, outputs) if knots is None else knots
        return session, about
    except (ModelFileError, KeyError, ValueError, TypeError, IndexError, RecursionError) as error:
        raise ModelFileError(
            f'{path} is no policy network ({error}); export it with '
            'python -m stl_conveyor_lab.train.policies'
        ) from error
