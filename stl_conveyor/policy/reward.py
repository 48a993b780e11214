# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Expected reward of offloading an item, from what the weak classifier said about it.

The reward is loss(weak) - loss(strong): 1 when only the strong classifier is right, -1 when only
the weak one is, else 0. Three estimators share one interface and one file format:

* ``EntropyReward``: temperature-calibrated entropy, then kernel regression of the reward on it
  (Qiu et al., "Adaptive Edge Offloading for Image Classification Under Rate Limit", IEEE TCAD
  2022).
* ``NetworkReward``: a small network on the whole probability vector, sorted and by class, which
  predicts whether each classifier is right; trained by ``stl_conveyor_lab.train.reward.fit``.
* ``PosteriorReward``: kernel regression of the reward on the doubt 1 - q, where q is the
  probability that the weak model's posterior (``stl_conveyor_lab.train.classifiers.posterior``)
  gives to the weak classifier's first choice.

reward.json, all numbers as JSON numbers, arrays in row-major order::

    {"format": 1,
     "kind": "entropy" | "network" | "posterior",
     "classes": C,
     "distribution": {"values": [K], "weights": [K]},  expected rewards of items not fitted on
     "entropy": {"temperature": T,                      p ** (1/T), normalised
                 "knots": [n], "values": [n]},          nats -> expected reward, interpolated
     "network": {"layers": [{"weight": [out][in], "bias": [out]}, ...]},
     "posterior": {"knots": [n], "values": [n]},        doubt -> expected reward, interpolated
     "measured": {...}}                                 how the kinds compared, for people

"entropy" is always there; the others may be. ``kind`` says which one answers.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from stl_conveyor.errors import BadProbabilities, ConfigError, ConveyorError, ModelFileError
from stl_conveyor.outside_files import read_json
from stl_conveyor.policy.base import Distribution

_FORMAT = 1
_SMALLEST = 1e-7


def checked_probabilities(
    probabilities: ArrayLike, classes: int | None = None
) -> NDArray[np.float64]:
    """Return probabilities as float64, normalised.

    Args:
        probabilities: [..., C], those of one item along the last axis.
        classes: How many there must be, C.

    Returns:
        float64 [..., C] with sum 1 along the last axis.

    Raises:
        BadProbabilities: When they are not finite, negative, all 0 or not one per class.
    """
    result = np.asarray(probabilities, dtype=np.float64)
    if result.ndim == 0 or result.shape[-1] < 2:
        raise BadProbabilities('probabilities of at least two classes are needed')
    if classes is not None and result.shape[-1] != classes:
        raise BadProbabilities(
            f'{result.shape[-1]} probabilities where reward.json knows {classes} classes; '
            'use the classifier that it was fitted for'
        )
    total = result.sum(axis=-1, keepdims=True)
    # A NaN or an infinity fails the comparison of its row's sum.
    if result.size and not (result.min() >= 0 and total.min() > 0 and total.max() < np.inf):
        raise BadProbabilities('probabilities must be finite, 0 or more, and not all 0')
    normalised: NDArray[np.float64] = result / total
    return normalised


def tempered_entropy(
    probabilities: NDArray[np.float64], temperature: float
) -> NDArray[np.float64]:
    """Return the entropy of probabilities after calibration by a temperature.

    Args:
        probabilities: float64 [..., C].
        temperature: T of p ** (1/T).

    Returns:
        float64 [...], nats.
    """
    logits = np.log(np.maximum(probabilities, _SMALLEST)) / temperature
    logits -= logits.max(axis=-1, keepdims=True)
    weights = np.exp(logits)
    total = weights.sum(axis=-1)
    entropy: NDArray[np.float64] = np.log(total) - (weights * logits).sum(axis=-1) / total
    return entropy


@dataclass(frozen=True, eq=False)
class RewardEstimator(ABC):
    """Expected reward from class probabilities.

    Attributes:
        classes: Number of classes C.
        distribution: Expected rewards over items that were not fitted on.

    Examples:
        The shipped estimator expects less of the edge where the shipped weak model is sure.

        >>> import numpy as np
        >>> from stl_conveyor import RewardEstimator, share_path
        >>> estimator = RewardEstimator.load(share_path('models/items/reward.json'))
        >>> sure = np.eye(estimator.classes)[0]
        >>> doubtful = np.full(estimator.classes, 1 / estimator.classes)
        >>> estimator.expected_reward(sure) < estimator.expected_reward(doubtful)
        True
    """

    classes: int
    distribution: Distribution

    def expected_reward(
        self, probabilities: ArrayLike, posterior: ArrayLike | None = None
    ) -> float:
        """Return the expected gain in accuracy of offloading an item.

        Args:
            probabilities: [C] of the weak model.
            posterior: [C] of a weak model that has one, or None.

        Returns:
            The expected gain, -1..1.

        Raises:
            BadProbabilities: For a vector that no classifier can have sent.
        """
        return float(
            self.expected_rewards(
                np.asarray(probabilities)[None],
                None if posterior is None else np.asarray(posterior)[None],
            )[0]
        )

    def expected_rewards(
        self, probabilities: ArrayLike, posteriors: ArrayLike | None = None
    ) -> NDArray[np.float64]:
        """Return the expected gains in accuracy of offloading items.

        Args:
            probabilities: [N, C] of the weak model.
            posteriors: [N, C] of a weak model that has them, or None.

        Returns:
            float64 [N], -1..1.

        Raises:
            BadProbabilities: For vectors that no classifier can have sent.
        """
        checked = checked_probabilities(probabilities, self.classes)
        if posteriors is None:
            return self._estimate(checked, None)
        return self._estimate(checked, checked_probabilities(posteriors, self.classes))

    @abstractmethod
    def _estimate(
        self, probabilities: NDArray[np.float64], posteriors: NDArray[np.float64] | None
    ) -> NDArray[np.float64]:
        """Estimate for checked, normalised probabilities [N, C]."""

    @staticmethod
    def load(path: str | Path) -> RewardEstimator:
        """Read reward.json.

        Args:
            path: The file.

        Returns:
            The estimator of the kind that the file names.

        Raises:
            ModelFileError: When the file is missing or is not of this format.
        """
        try:
            content = read_json(path)
            if content['format'] != _FORMAT:
                raise ValueError(f'format {content["format"]!r}, not {_FORMAT}')
            common: dict[str, Any] = {
                'classes': int(content['classes']),
                'distribution': Distribution.of(**content['distribution']),
            }
            curve = content['entropy']
            entropy = EntropyReward(
                **common,
                temperature=float(curve['temperature']),
                knots=np.asarray(curve['knots'], dtype=np.float64),
                values=np.asarray(curve['values'], dtype=np.float64),
            )
            if content['kind'] == 'entropy':
                return entropy
            if content['kind'] == 'network':
                return NetworkReward(
                    **common,
                    entropy=entropy,
                    layers=tuple(
                        (np.asarray(layer['weight'], float), np.asarray(layer['bias'], float))
                        for layer in content['network']['layers']
                    ),
                )
            if content['kind'] == 'posterior':
                curve = content['posterior']
                return PosteriorReward(
                    **common,
                    entropy=entropy,
                    knots=np.asarray(curve['knots'], float),
                    values=np.asarray(curve['values'], float),
                )
            raise ValueError(f'unknown kind {content["kind"]!r}')
        except (ValueError, KeyError, TypeError, OverflowError, ConveyorError) as error:
            raise ModelFileError(
                f'{path} is no usable reward.json ({error}); fit it again with '
                'python -m stl_conveyor_lab.train.reward.fit'
            ) from error

    def save(self, path: str | Path, measured: dict[str, Any] | None = None) -> None:
        """Write reward.json.

        Args:
            path: The file.
            measured: How the kinds compared; kept in the file for people.
        """
        content = {
            'format': _FORMAT,
            'kind': self.kind,
            'classes': self.classes,
            'distribution': {
                'values': _rounded(self.distribution.values),
                'weights': _rounded(self.distribution.weights),
            },
            **self._parameters(),
            'measured': measured or {},
        }
        Path(path).write_text(json.dumps(content) + '\n', encoding='utf-8')

    @property
    @abstractmethod
    def kind(self) -> str:
        """Return the name of the kind in reward.json."""

    @abstractmethod
    def _parameters(self) -> dict[str, Any]:
        """Return the part of reward.json that belongs to this kind."""


def _rounded(values: NDArray[np.float64]) -> list[float]:
    return [float(f'{value:.9g}') for value in values]


@dataclass(frozen=True, eq=False)
class EntropyReward(RewardEstimator):
    """Kernel regression of the reward on the calibrated entropy, as published.

    Attributes:
        temperature: Calibration of the weak classifier.
        knots: float64 [n], entropies in nats, ascending.
        values: float64 [n], expected reward at the knots.

    Examples:
        >>> estimator = EntropyReward(
        ...     classes=2,
        ...     distribution=Distribution.of([0.0, 0.4]),
        ...     temperature=1.0,
        ...     knots=np.array([0.0, np.log(2)]),
        ...     values=np.array([0.0, 0.4]),
        ... )
        >>> [round(estimator.expected_reward(p), 3) for p in ([1.0, 0.0], [0.5, 0.5])]
        [0.0, 0.4]
    """

    temperature: float
    knots: NDArray[np.float64]
    values: NDArray[np.float64]

    @property
    def kind(self) -> str:
        """Return the name of the kind in reward.json."""
        return 'entropy'

    def _estimate(
        self, probabilities: NDArray[np.float64], posteriors: NDArray[np.float64] | None
    ) -> NDArray[np.float64]:
        del posteriors
        return np.interp(
            tempered_entropy(probabilities, self.temperature), self.knots, self.values
        )

    def _parameters(self) -> dict[str, Any]:
        return {
            'entropy': {
                'temperature': self.temperature,
                'knots': _rounded(self.knots),
                'values': _rounded(self.values),
            }
        }


def network_features(probabilities: NDArray[np.float64]) -> NDArray[np.float64]:
    """Turn probabilities [N, C] into the network's input [N, 3 C].

    The probabilities in falling order, their logarithms (scaled to about 0..1), and the
    probabilities by class: which classes compete says whether the strong classifier would know.
    """
    ordered = -np.sort(-probabilities, axis=-1)
    logs = np.log(np.maximum(ordered, _SMALLEST)) / -np.log(_SMALLEST) + 1.0
    return np.concatenate([ordered, logs, probabilities], axis=-1)


@dataclass(frozen=True, eq=False)
class NetworkReward(RewardEstimator):
    """Expected reward from a small network, run by NumPy.

    Attributes:
        layers: Weights [out, in] and biases [out]; ReLU between them. The two outputs are the
            logits of 'the strong classifier is right' and 'the weak classifier is right'.
        entropy: The published estimator, fitted on the same items.

    Raises:
        ConfigError: For layers that do not fit each other.

    Examples:
        Logits from the first probability: the weak model is the better, the surer it is.

        >>> curve = np.array([0.0, np.log(2)]), np.array([0.0, 0.4])
        >>> everywhere = Distribution.of([0.0, 0.4])
        >>> weights = np.array([[0.0] * 6, [9.0, 0, 0, 0, 0, 0]])
        >>> estimator = NetworkReward(
        ...     classes=2,
        ...     distribution=everywhere,
        ...     layers=((weights, np.array([3.0, -5.0])),),
        ...     entropy=EntropyReward(2, everywhere, 1.0, *curve),
        ... )
        >>> [round(estimator.expected_reward(p), 3) for p in ([1.0, 0.0], [0.5, 0.5])]
        [-0.029, 0.575]
    """

    layers: tuple[tuple[NDArray[np.float64], NDArray[np.float64]], ...]
    entropy: EntropyReward

    def __post_init__(self) -> None:
        size = 3 * self.classes
        for weight, bias in self.layers:
            if weight.ndim != 2 or weight.shape != (bias.size, size):
                raise ConfigError(f'network layer of shape {weight.shape} after {size} values')
            size = bias.size
        if size != 2:
            raise ConfigError(f'the network has {size} outputs, not 2')

    @property
    def kind(self) -> str:
        """Return the name of the kind in reward.json."""
        return 'network'

    def _estimate(
        self, probabilities: NDArray[np.float64], posteriors: NDArray[np.float64] | None
    ) -> NDArray[np.float64]:
        del posteriors
        x = network_features(probabilities)
        for weight, bias in self.layers[:-1]:
            x = np.maximum(x @ weight.T + bias, 0.0)
        weight, bias = self.layers[-1]
        right: NDArray[np.float64] = 1.0 / (1.0 + np.exp(-np.clip(x @ weight.T + bias, -40, 40)))
        return right[:, 0] - right[:, 1]

    def _parameters(self) -> dict[str, Any]:
        layers = [
            {'weight': [_rounded(row) for row in weight], 'bias': _rounded(bias)}
            for weight, bias in self.layers
        ]
        return {**self.entropy._parameters(), 'network': {'layers': layers}}


@dataclass(frozen=True, eq=False)
class PosteriorReward(RewardEstimator):
    """Expected reward from what the weak model's posterior says about its first choice.

    Attributes:
        entropy: The published estimator, fitted on the same items; it answers where an item comes
            without a posterior.
        knots: float64 [n], doubts, ascending.
        values: float64 [n], expected reward at the knots.

    Raises:
        ConfigError: For knots and values that are not as many.

    Examples:
        >>> everywhere = Distribution.of([0.0, 0.8])
        >>> estimator = PosteriorReward(
        ...     classes=2,
        ...     distribution=everywhere,
        ...     entropy=EntropyReward(2, everywhere, 1.0, np.array([0.0, 1.0]), np.zeros(2)),
        ...     knots=np.array([0.0, 1.0]),
        ...     values=np.array([0.0, 0.8]),
        ... )
        >>> round(estimator.expected_reward([0.9, 0.1], posterior=[0.5, 0.5]), 3)
        0.4
    """

    entropy: EntropyReward
    knots: NDArray[np.float64]
    values: NDArray[np.float64]

    def __post_init__(self) -> None:
        if self.knots.ndim != 1 or self.knots.shape != self.values.shape or not self.knots.size:
            raise ConfigError('knots and values of the posterior must be as many')

    @property
    def kind(self) -> str:
        """Return the name of the kind in reward.json."""
        return 'posterior'

    def _estimate(
        self, probabilities: NDArray[np.float64], posteriors: NDArray[np.float64] | None
    ) -> NDArray[np.float64]:
        if posteriors is None:
            return self.entropy._estimate(probabilities, None)
        return np.interp(doubts(probabilities, posteriors), self.knots, self.values)

    def _parameters(self) -> dict[str, Any]:
        curve = {'knots': _rounded(self.knots), 'values': _rounded(self.values)}
        return {**self.entropy._parameters(), 'posterior': curve}


def doubts(
    probabilities: NDArray[np.float64], posteriors: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return 1 - q [N] of the first choices by probabilities [N, C] in posteriors [N, C]."""
    first = probabilities.argmax(axis=-1)
    return 1.0 - np.take_along_axis(posteriors, first[..., None], axis=-1)[..., 0]
