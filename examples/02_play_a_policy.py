# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Play policies over one trace of items, through the token bucket that the node uses.

    scripts/env python examples/02_play_a_policy.py [TRACE.csv]

A trace has a line for each item: its expected reward (what offloading gains in accuracy) and the
time units until the next item. Without one, 5,000 items come as the shipped model sees them.
"""

from __future__ import annotations

import sys
from fractions import Fraction

import numpy as np

from stl_conveyor import ModelFolder, RewardEstimator, make_policy, play, share_path

RATE, DEPTH = Fraction(1, 10), Fraction(4)
POLICIES = ('never', 'random', 'always', 'threshold', 'mdp', 'adaptive')


def main(arguments: list[str]) -> None:
    """Print the share of items that each policy offloads, and what that gains."""
    folder = ModelFolder(share_path('models/items'))
    seen = RewardEstimator.load(folder.path('reward')).distribution
    if arguments:
        trace = np.loadtxt(arguments[0], delimiter=',', ndmin=2)
        rewards, intervals = trace[:, 0], trace[:, 1].astype(int)
    else:
        rewards = np.random.default_rng(1).choice(seen.values, 5000, p=seen.weights)
        intervals = np.ones(rewards.size, int)

    print(f'{rewards.size} items, r = {RATE}, b = {DEPTH}')
    print('policy      offloaded  gain per item')
    for name in POLICIES:
        policy = make_policy(
            name,
            rate=RATE,
            depth=DEPTH,
            rewards=seen,
            model=str(share_path('models/policy/adaptive.onnx')),
        )
        chosen = play(rewards, intervals, RATE, DEPTH, policy)
        gain = rewards[chosen].sum() / rewards.size
        print(f'{name:10}  {chosen.mean():9.3f}  {gain:13.4f}')


if __name__ == '__main__':
    main(sys.argv[1:])
