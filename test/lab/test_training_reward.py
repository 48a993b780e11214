# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Fitting of reward.json from classifier results."""

from __future__ import annotations

import json

import numpy as np
import pytest

pytest.importorskip('torch')

from stl_conveyor.policy import RewardEstimator  # noqa: E402
from stl_conveyor_lab.train.reward import fit as training  # noqa: E402


def confusable(count, seed):
    """Two pairs of classes: the strong classifier tells the first pair apart, not the second."""
    generator = np.random.default_rng(seed)
    truth = generator.integers(0, 4, count)
    partner = truth ^ 1
    sure = generator.uniform(0.3, 0.95, count)
    probabilities = np.full((count, 4), 0.01)
    probabilities[np.arange(count), truth] = sure
    probabilities[np.arange(count), partner] = 1 - sure
    weak = sure > 0.5
    # The weak classifier does not know which of the pair it is: swap half of them.
    strong = (truth < 2) | (generator.random(count) < 0.5)
    return probabilities, weak, strong


@pytest.mark.parametrize('count', [1500])
def test_command_chooses_by_measurement(tmp_path, monkeypatch, count, capsys):
    """Class identity decides the reward here, so the network must be chosen and win."""
    monkeypatch.setattr(training, 'EPOCHS', 40)
    monkeypatch.setattr(training, 'MEMBERS', 2)
    probabilities, weak, strong = confusable(count, 0)
    np.savez(
        tmp_path / 'data.npz', probabilities=probabilities, weak_correct=weak, edge_correct=strong
    )
    (tmp_path / 'manifest.json').write_text(json.dumps({'format': 1, 'files': {}}))
    assert training.main(['--models', str(tmp_path), '--data', str(tmp_path / 'data.npz')]) == 0
    measured = json.loads(capsys.readouterr().out)
    assert measured['kind'] == 'network'
    for row in measured['shares']:
        assert row['entropy']['gain'] < row['network']['gain'] <= row['perfect']['gain'] + 1e-9
    assert measured['shares'][-1]['network']['gap_closed_95'][0] > 0
    estimator = RewardEstimator.load(tmp_path / 'reward.json')
    known, weak, strong = confusable(500, 1)
    rewards = strong.astype(float) - weak
    better = np.mean((estimator.expected_rewards(known) - rewards) ** 2)
    assert better < np.mean((estimator.entropy.expected_rewards(known) - rewards) ** 2)
    entry = json.loads((tmp_path / 'manifest.json').read_text())['files']['reward']
    assert entry['path'] == 'reward.json' and len(entry['sha256']) == 64


def test_missing_arrays_are_named(tmp_path, capsys):
    """A data file without the arrays is refused by name."""
    np.savez(tmp_path / 'data.npz', probabilities=np.ones((3, 2)))
    assert training.main(['--models', str(tmp_path), '--data', str(tmp_path / 'data.npz')]) == 2
    assert 'edge_correct, weak_correct' in capsys.readouterr().err
