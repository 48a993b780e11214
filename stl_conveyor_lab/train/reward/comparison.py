# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Compare reward estimates by the accuracy that they gain."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def compare_metrics(
    estimates: dict[str, NDArray[Any]],
    weak_correct: NDArray[Any],
    strong_correct: NDArray[Any],
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

    def gains(pick: NDArray[Any]) -> dict[str, NDArray[Any]]:
        result = {}
        for name, metric in metrics.items():
            order = np.lexsort((tie[pick], -metric[pick]))
            result[name] = np.cumsum(rewards[pick][order])[np.array(counts) - 1] / count
        return result

    whole = gains(np.arange(count))
    samples = [gains(generator.integers(0, count, count)) for _ in range(resamples)]

    def interval(values: NDArray[Any]) -> list[float]:
        return [float(value) for value in np.quantile(values, [0.025, 0.975])]

    weak_loss = float(1 - weak.mean())
    rows: list[dict[str, Any]] = []
    for place, share in enumerate(shares):
        row: dict[str, Any] = {'share': share}
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
        rows.append(row)
    return {'items': count, 'weak_loss': weak_loss, 'shares': rows}
