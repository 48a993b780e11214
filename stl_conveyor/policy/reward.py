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
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from stl_conveyor.errors import BadProbabilities, ConfigError, ModelFileError
from stl_conveyor.policy.base import Distribution

_FORMAT = 1
_SMALLEST = 1e-7
_DISTRIBUTION_SIZE = 256


def checked_probabilities(probabilities: np.ndarray, classes: int | None = None) -> np.ndarray:
    """Return probabilities [..., C] as float64, normalised.

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
    return result / total


def tempered_entropy(probabilities: np.ndarray, temperature: float) -> np.ndarray:
    """Entropy in nats [...] of probabilities [..., C] after calibration by a temperature."""
    logits = np.log(np.maximum(probabilities, _SMALLEST)) / temperature
    logits -= logits.max(axis=-1, keepdims=True)
    weights = np.exp(logits)
    total = weights.sum(axis=-1)
    return np.log(total) - (weights * logits).sum(axis=-1) / total


def fit_temperature(probabilities: np.ndarray, correct: np.ndarray) -> float:
    """Find the temperature at which the top probability best predicts being right.

    probabilities [N, C], correct [N]; minimises the log loss of the top-1 probability.
    """
    logits = np.log(np.maximum(probabilities, _SMALLEST))
    correct = np.asarray(correct, dtype=bool)

    def log_loss(log_temperature: float) -> float:
        scaled = logits / np.exp(log_temperature)
        scaled = scaled - scaled.max(axis=1, keepdims=True)
        top = np.clip(1.0 / np.exp(scaled).sum(axis=1), 1e-6, 1 - 1e-6)
        return -float(np.where(correct, np.log(top), np.log1p(-top)).mean())

    grid = np.linspace(-2.5, 2.5, 41)
    for _ in range(3):
        best = int(np.argmin([log_loss(point) for point in grid]))
        step = grid[1] - grid[0]
        grid = np.linspace(grid[best] - step, grid[best] + step, 21)
    best = int(np.argmin([log_loss(point) for point in grid]))
    return float(np.exp(grid[best]))


def kernel_regression(
    x: np.ndarray, y: np.ndarray, at: np.ndarray, bandwidth: float | None = None
) -> tuple[np.ndarray, float]:
    """Nadaraya-Watson regression with a Gaussian kernel, of y [N] on x [N], at points [K].

    Without a bandwidth the one with the least leave-one-out error is taken. Returns the values
    [K] and the bandwidth.
    """
    edges = np.linspace(x.min(), x.max() + 1e-9, 401)
    place = np.clip(np.searchsorted(edges, x, side='right') - 1, 0, 399)
    count = np.bincount(place, minlength=400).astype(float)
    total = np.bincount(place, weights=y, minlength=400)
    square = np.bincount(place, weights=y * y, minlength=400)
    centre = np.bincount(place, weights=x, minlength=400) / np.maximum(count, 1)
    used = count > 0
    count, total, square, centre = count[used], total[used], square[used], centre[used]

    def smooth(points, width):
        distance = ((points[:, None] - centre[None, :]) / width) ** 2
        # The nearest sample always has weight one, so that gaps in x are bridged.
        return np.exp(-0.5 * (distance - distance.min(axis=1, keepdims=True)))

    if bandwidth is None:
        span = max(float(np.ptp(x)), 1e-6)
        best = np.inf
        for width in span * np.geomspace(0.005, 0.3, 15):
            kernel = np.exp(-0.5 * ((centre[:, None] - centre[None, :]) / width) ** 2)
            weight, moment = kernel @ count - 1.0, kernel @ total
            lonely = weight < 1e-9
            weight = np.where(lonely, 1.0, weight)
            # Sum over the samples of a bin of (y - (moment - y) / weight)^2.
            scale = 1.0 + 1.0 / weight
            mean = moment / weight
            error = scale**2 * square - 2 * scale * mean * total + count * mean**2
            error = float(np.where(lonely, square, error).sum())
            if error < best:
                best, bandwidth = error, float(width)
    kernel = smooth(np.asarray(at, dtype=float), bandwidth)
    return (kernel @ total) / (kernel @ count), bandwidth


@dataclass(frozen=True, eq=False)
class RewardEstimator(ABC):
    """Expected reward from class probabilities.

    Attributes:
        classes: Number of classes C.
        distribution: Expected rewards over items that were not fitted on.
    """

    classes: int
    distribution: Distribution

    def expected_reward(
        self, probabilities: np.ndarray, posterior: np.ndarray | None = None
    ) -> float:
        """Return the expected gain in accuracy, -1..1, of offloading the item with these [C].

        Args:
            posterior: [C] of a weak model that tells one, or None.

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
        self, probabilities: np.ndarray, posteriors: np.ndarray | None = None
    ) -> np.ndarray:
        """Return the expected gains [N] of items with probabilities and posteriors [N, C]."""
        checked = checked_probabilities(probabilities, self.classes)
        if posteriors is not None:
            posteriors = checked_probabilities(posteriors, self.classes)
        return self._estimate(checked, posteriors)

    @abstractmethod
    def _estimate(self, probabilities: np.ndarray, posteriors: np.ndarray | None) -> np.ndarray:
        """Estimate for checked, normalised probabilities [N, C]."""

    @staticmethod
    def fit(
        probabilities: np.ndarray, weak_correct: np.ndarray, strong_correct: np.ndarray
    ) -> EntropyReward:
        """Fit the published estimator.

        probabilities [N, C] of the weak classifier, and whether the weak and the strong
        classifier were right [N].
        """
        return EntropyReward.fit(probabilities, weak_correct, strong_correct)

    @staticmethod
    def load(path: str | Path) -> RewardEstimator:
        """Read reward.json.

        Raises:
            ModelFileError: When the file is missing or is not of this format.
        """
        try:
            content = json.loads(Path(path).read_text(encoding='utf-8'))
            if content['format'] != _FORMAT:
                raise ValueError(f'format {content["format"]!r}, not {_FORMAT}')
            common = {
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
        except (OSError, ValueError, KeyError, TypeError, ConfigError) as error:
            raise ModelFileError(
                f'{path} is no usable reward.json ({error}); fit it again with '
                'python -m stl_conveyor_lab.train.reward.fit'
            ) from error

    def save(self, path: str | Path, measured: dict | None = None) -> None:
        """Write reward.json; ``measured`` is kept in it for people."""
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
        """Name of the kind in reward.json."""

    @abstractmethod
    def _parameters(self) -> dict:
        """Return the part of reward.json that belongs to this kind."""


def _rounded(values: np.ndarray) -> list:
    return [float(f'{value:.9g}') for value in values]


def distribution_of_estimates(estimates: np.ndarray) -> Distribution:
    """Summarise estimates [N] by at most 256 equally likely values."""
    ordered = np.sort(np.asarray(estimates, dtype=np.float64))
    if ordered.size > _DISTRIBUTION_SIZE:
        ordered = np.array([part.mean() for part in np.array_split(ordered, _DISTRIBUTION_SIZE)])
    return Distribution.of(ordered)


@dataclass(frozen=True, eq=False)
class EntropyReward(RewardEstimator):
    """Kernel regression of the reward on the calibrated entropy, as published.

    Attributes:
        temperature: Calibration of the weak classifier.
        knots: float64 [n], entropies in nats, ascending.
        values: float64 [n], expected reward at the knots.
    """

    temperature: float
    knots: np.ndarray
    values: np.ndarray

    @property
    def kind(self) -> str:
        """Name of the kind in reward.json."""
        return 'entropy'

    @classmethod
    def fit(
        cls, probabilities: np.ndarray, weak_correct: np.ndarray, strong_correct: np.ndarray
    ) -> EntropyReward:
        """Fit temperature, then the curve; see ``RewardEstimator.fit``."""
        probabilities = checked_probabilities(probabilities)
        weak = np.asarray(weak_correct, dtype=bool)
        reward = np.asarray(strong_correct, dtype=float) - weak
        temperature = fit_temperature(probabilities, weak)
        entropy = tempered_entropy(probabilities, temperature)
        knots = np.linspace(entropy.min(), entropy.max() + 1e-9, 65)
        values, _ = kernel_regression(entropy, reward, knots)
        estimates = np.interp(entropy, knots, values)
        return cls(
            classes=probabilities.shape[1],
            distribution=distribution_of_estimates(estimates),
            temperature=temperature,
            knots=knots,
            values=values,
        )

    def _estimate(self, probabilities, posteriors):
        del posteriors
        return np.interp(
            tempered_entropy(probabilities, self.temperature), self.knots, self.values
        )

    def _parameters(self) -> dict:
        return {
            'entropy': {
                'temperature': self.temperature,
                'knots': _rounded(self.knots),
                'values': _rounded(self.values),
            }
        }


def network_features(probabilities: np.ndarray) -> np.ndarray:
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
    """

    layers: tuple[tuple[np.ndarray, np.ndarray], ...]
    entropy: EntropyReward

    def __post_init__(self):
        size = 3 * self.classes
        for weight, bias in self.layers:
            if weight.ndim != 2 or weight.shape != (bias.size, size):
                raise ConfigError(f'network layer of shape {weight.shape} after {size} values')
            size = bias.size
        if size != 2:
            raise ConfigError(f'the network has {size} outputs, not 2')

    @property
    def kind(self) -> str:
        """Name of the kind in reward.json."""
        return 'network'

    def _estimate(self, probabilities, posteriors):
        del posteriors
        x = network_features(probabilities)
        for weight, bias in self.layers[:-1]:
            x = np.maximum(x @ weight.T + bias, 0.0)
        weight, bias = self.layers[-1]
        right = 1.0 / (1.0 + np.exp(-np.clip(x @ weight.T + bias, -40, 40)))
        return right[:, 0] - right[:, 1]

    def _parameters(self) -> dict:
        layers = [
            {'weight': [_rounded(row) for row in weight], 'bias': _rounded(bias)}
            for weight, bias in self.layers
        ]
        return {**self.entropy._parameters(), 'network': {'layers': layers}}

    def with_distribution(self, distribution: Distribution) -> NetworkReward:
        """Return this estimator with another distribution of expected rewards."""
        return replace(self, distribution=distribution)


@dataclass(frozen=True, eq=False)
class PosteriorReward(RewardEstimator):
    """Expected reward from what the weak model's posterior says about its first choice.

    Attributes:
        entropy: The published estimator, fitted on the same items; it answers where an item comes
            without a posterior.
        knots: float64 [n], doubts, ascending.
        values: float64 [n], expected reward at the knots.
    """

    entropy: EntropyReward
    knots: np.ndarray
    values: np.ndarray

    def __post_init__(self):
        if self.knots.ndim != 1 or self.knots.shape != self.values.shape or not self.knots.size:
            raise ConfigError('knots and values of the posterior must be as many')

    @property
    def kind(self) -> str:
        """Name of the kind in reward.json."""
        return 'posterior'

    @classmethod
    def fit_posterior(
        cls,
        probabilities: np.ndarray,
        posteriors: np.ndarray,
        weak_correct: np.ndarray,
        strong_correct: np.ndarray,
    ) -> PosteriorReward:
        """Fit both curves.

        probabilities, posteriors [N, C] of the weak model; weak_correct, strong_correct [N].
        """
        entropy = EntropyReward.fit(probabilities, weak_correct, strong_correct)
        reward = np.asarray(strong_correct, dtype=float) - np.asarray(weak_correct, dtype=bool)
        doubt = doubts(checked_probabilities(probabilities), checked_probabilities(posteriors))
        knots = np.linspace(doubt.min(), doubt.max() + 1e-9, 65)
        values, _ = kernel_regression(doubt, reward, knots)
        # More doubt never means less to gain; what falls is noise.
        values = np.maximum.accumulate(values) + 1e-6 * np.arange(values.size)
        return cls(
            classes=probabilities.shape[1],
            distribution=distribution_of_estimates(np.interp(doubt, knots, values)),
            entropy=entropy,
            knots=knots,
            values=values,
        )

    def _estimate(self, probabilities, posteriors):
        if posteriors is None:
            return self.entropy._estimate(probabilities, None)
        return np.interp(doubts(probabilities, posteriors), self.knots, self.values)

    def _parameters(self) -> dict:
        curve = {'knots': _rounded(self.knots), 'values': _rounded(self.values)}
        return {**self.entropy._parameters(), 'posterior': curve}


def doubts(probabilities: np.ndarray, posteriors: np.ndarray) -> np.ndarray:
    """Return 1 - q [N] of the first choices by probabilities [N, C] in posteriors [N, C]."""
    first = probabilities.argmax(axis=-1)
    return 1.0 - np.take_along_axis(posteriors, first[..., None], axis=-1)[..., 0]


def compare_metrics(
    estimates: dict[str, np.ndarray],
    weak_correct: np.ndarray,
    strong_correct: np.ndarray,
    generator: np.random.Generator,
    shares: tuple[float, ...] = (0.05, 0.1, 0.25),
    resamples: int = 1000,
) -> dict:
    """Measure how well estimates choose the items to offload.

    Returns, as plain numbers for a JSON file: the loss of the weak classifier; for each share and
    each metric, perfect knowledge among them, the gain in accuracy and the loss, with 95 %
    bootstrap intervals over items; and the part of the gap between entropy and perfect knowledge
    that each of the others closes. Equal estimates are ordered at random.

    Args:
        estimates: By name, [N] each: 'entropy' and those to be compared with it.
        shares: Of the items that are offloaded, those with the best estimates.
    """
    weak = np.asarray(weak_correct, dtype=bool)
    rewards = np.asarray(strong_correct, dtype=float) - weak
    count = rewards.size
    tie = generator.random(count)
    metrics = {**estimates, 'perfect': rewards}
    counts = [max(1, round(share * count)) for share in shares]

    def gains(pick: np.ndarray) -> dict[str, np.ndarray]:
        result = {}
        for name, metric in metrics.items():
            order = np.lexsort((tie[pick], -metric[pick]))
            result[name] = np.cumsum(rewards[pick][order])[np.array(counts) - 1] / count
        return result

    whole = gains(np.arange(count))
    samples = [gains(generator.integers(0, count, count)) for _ in range(resamples)]

    def interval(values: np.ndarray) -> list[float]:
        return [float(value) for value in np.quantile(values, [0.025, 0.975])]

    weak_loss = float(1 - weak.mean())
    result = {'items': count, 'weak_loss': weak_loss, 'shares': []}
    for place, share in enumerate(shares):
        row = {'share': share}
        for name in metrics:
            drawn = np.array([sample[name][place] for sample in samples])
            gain = float(whole[name][place])
            row[name] = {'gain': gain, 'gain_95': interval(drawn), 'loss': weak_loss - gain}
        for name in estimates:
            if name == 'entropy':
                continue

            def closed(gain, name=name):
                gap = gain['perfect'] - gain['entropy']
                won = gain[name] - gain['entropy']
                return np.divide(won, gap, out=np.zeros_like(won), where=gap > 1e-12)

            row[name]['gap_closed'] = float(closed(whole)[place])
            row[name]['gap_closed_95'] = interval(
                np.array([closed(sample)[place] for sample in samples])
            )
        result['shares'].append(row)
    return result
