# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Hold what was measured against the published marks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from stl_conveyor_lab.bench.policy.rows import ORACLE, PointRow, TraceRow

TOLERANCE = 0.002  # of the surrogate check
DQN_TOLERANCE = 0.001


def check(rows: list[PointRow], traces: list[TraceRow]) -> dict[str, Any]:
    """Hold the measurements against the published marks.

    Args:
        rows: Points of the figures.
        traces: Published sequences.

    Returns:
        What was found by mark, as plain numbers for policy.json.
    """

    def misses(
        policy: str, excess_of: Callable[[float, float], float], limit: float
    ) -> dict[str, Any]:
        found: list[dict[str, Any]] = []
        largest = 0.0
        for row in rows:
            if policy in row.measured and policy in row.published:
                excess = excess_of(row.measured[policy].loss, row.published[policy])
                largest = max(largest, excess)
                if excess > limit:
                    found.append(
                        {
                            'cell': f'{row.figure} {row.panel:g} {row.x:g}',
                            'name': row.name,
                            'excess': excess,
                            # Below this no policy comes that does not know the future.
                            'published_below_told': row.measured[ORACLE].loss
                            - row.published[policy],
                        }
                    )
        return {'largest': largest, 'missed': found}

    def distance(ours: float, theirs: float) -> float:
        return abs(ours - theirs)

    def above(ours: float, theirs: float) -> float:
        return ours - theirs

    mdp = misses('mdp', above, 0.0)
    networks = {policy: _against_dqn(rows, policy) for policy in ('belief', 'dqn', 'adaptive')}
    return {
        'surrogate': {
            'tolerance': TOLERANCE,
            'lower_bound': misses('lower_bound', distance, TOLERANCE),
            'baseline': misses('baseline', distance, TOLERANCE),
            'mdp_above_published': mdp,
            # Of these, the published MDP earns more than the oracle of the hidden state.
            'mdp_out_of_reach': sum(miss['published_below_told'] > 0 for miss in mdp['missed']),
        },
        'within_0.001_of_published_dqn': {
            policy: compared for policy, compared in networks.items() if compared
        },
        'traces': {
            row.trace: {
                policy: row.sums[policy] >= row.sums['published_dqn']
                for policy in ('belief', 'dqn', 'adaptive')
                if policy in row.sums
            }
            for row in traces
        },
    }


def _against_dqn(rows: list[PointRow], policy: str) -> dict[str, Any]:
    """Compare a policy with the published DQN, cell by cell; {} where it was not measured.

    ``missed`` is by more than the tolerance; ``missed_within_reach`` the same, measured from the
    oracle of the hidden state where the published loss lies below that: no policy
    that does not know the future comes so far.
    """
    worst: dict[str, tuple[float, float, float]] = {}
    for row in rows:
        if policy in row.measured:
            measured, published = row.measured[policy], row.published['dqn']
            excess = measured.loss - published
            reachable = measured.loss - max(published, row.measured[ORACLE].loss)
            if row.name not in worst or excess > worst[row.name][0]:
                assert measured.difference_ci95 is not None
                worst[row.name] = excess, reachable, measured.difference_ci95
    if not worst:
        return {}

    def over(place: int) -> list[str]:
        ordered = sorted(worst.items(), key=lambda entry: -entry[1][place])
        return [
            f'{name} {values[place]:+.4f} ± {values[2]:.4f}'
            for name, values in ordered
            if values[place] > DQN_TOLERANCE
        ]

    return {
        'cells': len(worst),
        'largest': max(values[0] for values in worst.values()),
        'missed': over(0),
        'published_below_told': sum(values[0] > values[1] for values in worst.values()),
        'largest_within_reach': max(values[1] for values in worst.values()),
        'missed_within_reach': over(1),
        # Where the whole interval lies beyond the tolerance.
        'missed_for_certain': sum(
            values[1] - values[2] > DQN_TOLERANCE for values in worst.values()
        ),
    }
