# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Reward estimators: calibration, regression, file format, refusal of nonsense."""

from __future__ import annotations

import json

import numpy as np
import pytest

from stl_conveyor.errors import BadProbabilities, ModelFileError
from stl_conveyor.policy import Distribution, RewardEstimator
from stl_conveyor.policy.regression import kernel_regression
from stl_conveyor.policy.reward import NetworkReward, tempered_entropy
from stl_conveyor_lab.train.reward.comparison import compare_metrics
from stl_conveyor_lab.train.reward.estimators import (
    fit_entropy_reward,
    fit_posterior_reward,
    fit_top_choice_temperature,
)


def classifier(count, classes=6, seed=0, temperature=1.0):
    """Draw a weak classifier's probabilities, and both results; calibrated at temperature 1."""
    generator = np.random.default_rng(seed)
    logits = generator.normal(0, 3, (count, classes))
    probabilities = np.exp(logits)
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    truth = (generator.random((count, 1)) > np.cumsum(probabilities, axis=1)).sum(axis=1)
    weak = probabilities.argmax(axis=1) == truth
    strong = generator.random(count) < 0.97
    sharp = probabilities ** (1 / temperature)
    return sharp / sharp.sum(axis=1, keepdims=True), weak, strong


def test_temperature_is_recovered():
    """Probabilities sharpened by 0.5 are calibrated again by 2."""
    probabilities, weak, _ = classifier(20000, temperature=0.5)
    assert fit_top_choice_temperature(probabilities, weak) == pytest.approx(2.0, rel=0.1)


def test_entropy_of_known_vectors():
    """Certain is 0, uniform over C is log C, at any temperature."""
    vectors = np.array([[1.0, 0, 0, 0], [0.25, 0.25, 0.25, 0.25]])
    np.testing.assert_allclose(tempered_entropy(vectors, 1.0), [0, np.log(4)], atol=1e-5)
    assert tempered_entropy(vectors, 3.0)[1] == pytest.approx(np.log(4))


def test_kernel_regression_finds_the_curve():
    """A known curve under noise is found within a few percent, gaps included."""
    generator = np.random.default_rng(3)
    x = np.concatenate([generator.uniform(0, 1, 8000), [3.0]])
    y = np.sin(3 * x) + generator.normal(0, 0.3, x.size)
    at = np.linspace(0.05, 0.95, 30)
    values, bandwidth = kernel_regression(x, y, at)
    assert np.abs(values - np.sin(3 * at)).max() < 0.08
    assert bandwidth > 0
    assert np.isfinite(kernel_regression(x, y, np.array([2.0]))[0]).all()


def test_expected_reward_is_calibrated():
    """In each tenth of the items the mean estimate is the mean reward."""
    probabilities, weak, strong = classifier(20000, seed=1)
    estimator = fit_entropy_reward(probabilities[:10000], weak[:10000], strong[:10000])
    estimates = estimator.expected_rewards(probabilities[10000:])
    rewards = strong[10000:].astype(float) - weak[10000:]
    for part in np.array_split(np.argsort(estimates), 10):
        assert estimates[part].mean() == pytest.approx(rewards[part].mean(), abs=0.06)
    assert estimator.distribution.mean == pytest.approx(rewards.mean(), abs=0.02)


def network(classes=6, seed=0):
    """Make a network estimator with random weights."""
    probabilities, weak, strong = classifier(500, classes)
    generator = np.random.default_rng(seed)
    return NetworkReward(
        classes=classes,
        distribution=Distribution.of(generator.random(50)),
        entropy=fit_entropy_reward(probabilities, weak, strong),
        layers=(
            (generator.normal(size=(8, 3 * classes)), generator.normal(size=8)),
            (generator.normal(size=(2, 8)), generator.normal(size=2)),
        ),
    )


def posterior_of(probabilities, seed=3):
    """Make posteriors that differ from the probabilities."""
    noise = np.random.default_rng(seed).dirichlet(
        np.ones(probabilities.shape[1]), len(probabilities)
    )
    return 0.5 * probabilities + 0.5 * noise


@pytest.mark.parametrize('kind', ['entropy', 'network', 'posterior'])
def test_save_and_load(tmp_path, kind):
    """What is loaded answers as what was saved."""
    probabilities, _, _ = classifier(50, seed=5)
    estimator = network() if kind == 'network' else network().entropy
    if kind == 'posterior':
        many, weak, strong = classifier(500, seed=5)
        estimator = fit_posterior_reward(many, posterior_of(many), weak, strong)
    estimator.save(tmp_path / 'reward.json', {'items': 50})
    loaded = RewardEstimator.load(tmp_path / 'reward.json')
    assert loaded.kind == kind
    np.testing.assert_allclose(
        loaded.expected_rewards(probabilities),
        estimator.expected_rewards(probabilities),
        atol=1e-6,
    )
    one = loaded.expected_reward(probabilities[0])
    assert one == pytest.approx(loaded.expected_rewards(probabilities)[0])
    np.testing.assert_allclose(
        loaded.distribution.values, estimator.distribution.values, rtol=1e-6
    )


@pytest.mark.parametrize(
    'vector',
    [
        [np.nan] + [0.2] * 5,
        [np.inf] + [0.0] * 5,
        [-0.1, 1.1, 0, 0, 0, 0],
        [0.0] * 6,
        [0.5, 0.5],
        [],
        1.0,
    ],
)
def test_nonsense_is_refused(vector):
    """Vectors that no classifier can have sent raise the named error."""
    with pytest.raises(BadProbabilities):
        network().expected_reward(np.array(vector))


@pytest.mark.parametrize(
    'damage',
    [
        lambda c: c.pop('entropy'),
        lambda c: c.update(format=2),
        lambda c: c.update(kind='oracle'),
        lambda c: c['network']['layers'].pop(),
        lambda c: c['distribution'].update(values=[]),
    ],
)
def test_damaged_files_are_refused(tmp_path, damage):
    """A file that does not fit the format is refused with the remedy."""
    path = tmp_path / 'reward.json'
    network().save(path)
    content = json.loads(path.read_text())
    damage(content)
    path.write_text(json.dumps(content))
    with pytest.raises(ModelFileError, match='fit it again'):
        RewardEstimator.load(path)
    with pytest.raises(ModelFileError):
        RewardEstimator.load(tmp_path / 'none.json')


def test_posterior_knows_better():
    """Doubt from the posterior orders the items; without one the entropy answers."""
    generator = np.random.default_rng(4)
    truth = generator.integers(0, 5, 8000)
    posteriors = generator.dirichlet(np.full(5, 0.3), 8000)
    truth = (posteriors.cumsum(1) < generator.random((8000, 1))).sum(1)
    blurred = 0.3 * posteriors + 0.7 * generator.dirichlet(np.ones(5), 8000)
    weak = blurred.argmax(1) == truth
    strong = np.ones(8000, bool)
    fitted = fit_posterior_reward(blurred[:4000], posteriors[:4000], weak[:4000], strong[:4000])
    told = fitted.expected_rewards(blurred[4000:], posteriors[4000:])
    untold = fitted.expected_rewards(blurred[4000:])
    np.testing.assert_allclose(untold, fitted.entropy.expected_rewards(blurred[4000:]))
    rewards = strong[4000:].astype(float) - weak[4000:]
    for part in np.array_split(np.argsort(told), 8):
        assert told[part].mean() == pytest.approx(rewards[part].mean(), abs=0.07)
    measured = compare_metrics(
        {'entropy': untold, 'posterior': told},
        weak[4000:],
        strong[4000:],
        np.random.default_rng(1),
        resamples=50,
    )
    assert all(row['posterior']['gap_closed'] > 0.3 for row in measured['shares'])
    with pytest.raises(BadProbabilities):
        fitted.expected_reward(blurred[0], np.full(5, np.nan))


def test_compare_metrics():
    """Perfect knowledge gains most, its own estimate closes the whole gap, noise none of it."""
    generator = np.random.default_rng(0)
    weak = generator.random(4000) < 0.7
    strong = generator.random(4000) < 0.97
    rewards = strong.astype(float) - weak
    for estimate, closed in ((rewards, 1.0), (generator.random(4000), 0.0)):
        measured = compare_metrics(
            {'entropy': generator.random(4000), 'network': estimate},
            weak,
            strong,
            np.random.default_rng(1),
            resamples=200,
        )
        assert measured['weak_loss'] == pytest.approx(1 - weak.mean())
        for row in measured['shares']:
            assert row['perfect']['gain'] == pytest.approx(row['share'], abs=1e-3)
            assert row['network']['gap_closed'] == pytest.approx(closed, abs=0.1)
            low, high = row['entropy']['gain_95']
            assert low <= row['entropy']['gain'] <= high
    json.dumps(measured)
