# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Fit the reward estimator and the byte budgets of a model folder.

    python -m stl_conveyor_lab.train.reward.fit --models DIR --data FILE.npz [--seed 0]

FILE.npz holds, for N items that neither classifier was trained on (a few thousand):

    probabilities  float [N, C]  of the weak classifier, in the order of the folder's labels
    weak_correct   bool  [N]     whether the weak classifier's first choice is right
    edge_correct   bool  [N]     whether the edge's first choice is right, after compression
    posteriors     float [N, C]  of a weak model that tells them (optional)
    budgets, stream_*            what ``stl_conveyor_lab.data.streams`` recorded (optional)

The estimators of ``stl_conveyor.policy.reward`` are compared on items left out of their fit
(5-fold). The one that gains most accuracy when the best 5, 10 and 25 % of the items are offloaded
is written to DIR/reward.json, with the measurement. Where streams were recorded, what each byte
budget brings and costs over the estimate is written to DIR/budget.json. DIR/manifest.json is
brought up to date.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from stl_conveyor.errors import ConfigError, ConveyorError
from stl_conveyor.policy.byte_budget import BudgetTable
from stl_conveyor.policy.regression import distribution_of_estimates
from stl_conveyor.policy.reward import (
    NetworkReward,
    RewardEstimator,
    checked_probabilities,
    network_features,
)
from stl_conveyor_lab.data.streams import load_streams
from stl_conveyor_lab.train.manifest import update_manifest
from stl_conveyor_lab.train.reward.budgets import fit_budgets
from stl_conveyor_lab.train.reward.comparison import compare_metrics
from stl_conveyor_lab.train.reward.estimators import fit_entropy_reward, fit_posterior_reward
from stl_conveyor_lab.train.time_plan import UNLIMITED, Allowance

FOLDS = 5
MEMBERS = 4  # networks averaged in the logits, written as one block-diagonal network
HIDDEN = 16  # width of a member
EPOCHS = 400
PATIENCE = 60
LEARNING_RATE = 3e-3
WEIGHT_DECAY = 1e-2
HELD_OUT = 0.15  # of the fit, for early stopping


def _member(features, targets, generator, seed, allowance):
    """Train one small network with early stopping; return its layers as NumPy arrays."""
    torch.manual_seed(seed)
    order = generator.permutation(len(features))
    held = order[: max(1, int(HELD_OUT * len(order)))]
    used = order[held.size :]
    x, y = torch.from_numpy(features).float(), torch.from_numpy(targets).float()
    net = torch.nn.Sequential(
        torch.nn.Linear(x.shape[1], HIDDEN),
        torch.nn.ReLU(),
        torch.nn.Linear(HIDDEN, HIDDEN),
        torch.nn.ReLU(),
        torch.nn.Linear(HIDDEN, 2),
    )
    optimizer = torch.optim.AdamW(net.parameters(), LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    loss_of = torch.nn.functional.binary_cross_entropy_with_logits
    best, best_state, best_epoch = np.inf, None, 0
    for epoch in range(EPOCHS):
        for batch in np.array_split(generator.permutation(used), max(1, used.size // 256)):
            optimizer.zero_grad()
            loss_of(net(x[batch]), y[batch]).backward()
            optimizer.step()
        with torch.no_grad():
            loss = float(loss_of(net(x[held]), y[held]))
        if loss < best:
            best, best_epoch = loss, epoch
            best_state = {key: value.clone() for key, value in net.state_dict().items()}
        if epoch - best_epoch >= PATIENCE or allowance.is_over:
            break
    net.load_state_dict(best_state)
    linear = [module for module in net if isinstance(module, torch.nn.Linear)]
    return [
        (layer.weight.detach().double().numpy(), layer.bias.detach().double().numpy())
        for layer in linear
    ]


def _joined(members):
    """Average members in the logits: stack the first layer, block the second, mean the last."""
    first = (np.vstack([m[0][0] for m in members]), np.concatenate([m[0][1] for m in members]))
    size = HIDDEN * len(members)
    block = np.zeros((size, size))
    for place, member in enumerate(members):
        at = slice(place * HIDDEN, (place + 1) * HIDDEN)
        block[at, at] = member[1][0]
    second = (block, np.concatenate([m[1][1] for m in members]))
    last = (
        np.hstack([m[2][0] for m in members]) / len(members),
        np.mean([m[2][1] for m in members], axis=0),
    )
    return first, second, last


def fit_network(
    probabilities: NDArray[Any],
    weak_correct: NDArray[Any],
    strong_correct: NDArray[Any],
    seed: int,
    allowance: Allowance = UNLIMITED,
) -> NetworkReward:
    """Fit the learned estimator.

    probabilities [N, C]; weak_correct, strong_correct [N]. The result's distribution is that of
    the items fitted on; replace it by that of items left out. The members share the time.
    """
    probabilities = checked_probabilities(probabilities)
    entropy = fit_entropy_reward(probabilities, weak_correct, strong_correct)
    features = network_features(probabilities)
    targets = np.stack([strong_correct, weak_correct], axis=1).astype(float)
    generator = np.random.default_rng(seed)
    members = [
        _member(features, targets, generator, seed + k, allowance.part(1 / (MEMBERS - k)))
        for k in range(MEMBERS)
    ]
    network = NetworkReward(
        classes=probabilities.shape[1],
        distribution=entropy.distribution,
        layers=_joined(members),
        entropy=entropy,
    )
    return replace(
        network, distribution=distribution_of_estimates(network.expected_rewards(probabilities))
    )


def fit(
    probabilities: NDArray[Any],
    weak_correct: NDArray[Any],
    strong_correct: NDArray[Any],
    seed: int = 0,
    posteriors: NDArray[Any] | None = None,
    allowance: Allowance = UNLIMITED,
) -> tuple[RewardEstimator, dict, NDArray[Any]]:
    """Fit the estimators, compare them on items left out; the folds share the time.

    Returns the best, the measurement, and the best one's estimates [N] of items left out.

    Raises:
        ConfigError: With fewer than 100 items.
    """
    probabilities = checked_probabilities(probabilities)
    weak = np.asarray(weak_correct, dtype=bool)
    strong = np.asarray(strong_correct, dtype=bool)
    count = len(probabilities)
    if not count == len(weak) == len(strong) or count < 100:
        raise ConfigError("at least 100 items are needed, each with both classifiers' results")
    rewards = strong.astype(float) - weak
    generator = np.random.default_rng(seed)
    fold = generator.permutation(count) % FOLDS
    left_out = {'entropy': np.empty(count), 'network': np.empty(count)}
    if posteriors is not None:
        left_out['posterior'] = np.empty(count)
    for k in range(FOLDS):
        use, test = fold != k, fold == k
        # One part is left for the fit to all.
        share = allowance.part(1 / (FOLDS + 1 - k))
        network = fit_network(probabilities[use], weak[use], strong[use], seed + 100 * k, share)
        left_out['network'][test] = network.expected_rewards(probabilities[test])
        left_out['entropy'][test] = network.entropy.expected_rewards(probabilities[test])
        if posteriors is not None:
            left_out['posterior'][test] = fit_posterior_reward(
                probabilities[use], posteriors[use], weak[use], strong[use]
            ).expected_rewards(probabilities[test], posteriors[test])
    compared = compare_metrics(left_out, weak, strong, generator)
    measured: dict[str, Any] = {
        'seed': seed,
        'edge_accuracy': float(strong.mean()),
        **compared,
        **{
            f'squared_error_{kind}': float(np.mean((rewards - estimates) ** 2))
            for kind, estimates in left_out.items()
        },
    }
    chosen = max(left_out, key=lambda kind: sum(row[kind]['gain'] for row in compared['shares']))
    estimator: RewardEstimator
    if chosen == 'posterior' and posteriors is not None:
        estimator = fit_posterior_reward(probabilities, posteriors, weak, strong)
    else:
        network = fit_network(probabilities, weak, strong, seed, allowance)
        estimator = network if chosen == 'network' else network.entropy
    distribution = distribution_of_estimates(left_out[chosen])
    return replace(estimator, distribution=distribution), measured, left_out[chosen]


def fit_file(
    models: Path, path: Path, seed: int = 0, allowance: Allowance = UNLIMITED
) -> dict[str, Any]:
    """Fit estimator and byte budgets, and write them into a model folder.

    Args:
        models: The model folder.
        path: The .npz file that the module describes.
        seed: Of everything random.
        allowance: Time for the networks.

    Returns:
        What was measured.

    Raises:
        ConfigError: If the file lacks something, or has too few items.
    """
    # The networks are small: threads would wait for each other.
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        estimator, measured, table = _fitted(path, seed, allowance)
    finally:
        torch.set_num_threads(threads)
    estimator.save(models / 'reward.json', measured)
    update_manifest(models, 'reward', 'reward.json')
    if table is not None:
        table.save(models / 'budget.json')
        update_manifest(models, 'budget', 'budget.json')
    return {'kind': estimator.kind, **measured}


def _fitted(
    path: Path, seed: int, allowance: Allowance
) -> tuple[RewardEstimator, dict[str, Any], BudgetTable | None]:
    with np.load(path) as data:
        missing = {'probabilities', 'weak_correct', 'edge_correct'} - set(data.files)
        if missing:
            raise ConfigError(f'{path} lacks {", ".join(sorted(missing))}')
        estimator, measured, estimates = fit(
            data['probabilities'],
            data['weak_correct'],
            data['edge_correct'],
            seed,
            data['posteriors'] if 'posteriors' in data.files else None,
            allowance,
        )
        streams = load_streams(data)
        table = fit_budgets(estimates, data['weak_correct'], streams) if streams else None
    return estimator, measured, table


def main(arguments: list[str] | None = None) -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(
        prog='python -m stl_conveyor_lab.train.reward.fit',
        description='Fit the reward estimator and the byte budgets of a model folder.',
    )
    parser.add_argument('--models', type=Path, required=True, help='model folder to write to')
    parser.add_argument('--data', type=Path, required=True, help='.npz, see the module')
    parser.add_argument('--seed', type=int, default=0)
    options = parser.parse_args(arguments)
    try:
        measured = fit_file(options.models, options.data, options.seed)
    except ConveyorError as error:
        print(f'error: {error}', file=sys.stderr)
        return 2
    print(json.dumps(measured, indent=2))
    return 0


if __name__ == '__main__':
    sys.exit(main())
