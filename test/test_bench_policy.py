# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""The comparison of policies, on a small made-up reference."""

import json

import numpy as np
import pytest

from stl_conveyor.bench import policy as bench
from stl_conveyor.bench import policy_cells as cells

pytest.importorskip('scipy')
pytest.importorskip('matplotlib')


@pytest.fixture
def reference(tmp_path):
    """Write a reference folder with one point of each figure, and one sequence."""
    folder = tmp_path / 'reference'
    folder.mkdir()
    metrics = np.sort(np.random.default_rng(0).beta(0.4, 1.2, 500))
    rows = '\n'.join(f'0,0,{metric:.6f}' for metric in metrics)
    (folder / 'dqn_fig3_entropy_reward_metric.csv').write_text(f'entropy,reward,metric\n{rows}\n')

    def figure(x, panels):
        lines = {name: [0.2] * len(x) for name in ('DQN', 'MDP', 'BASE', 'LB')}
        return {'x': x, 'panels': [lines] * panels}

    figures = {
        'fig5a_sp': figure([0.1], 1), 'fig5b_log10 rprob': figure([-1.0], 1),
        'fig6_b': figure([1.0, 4.0], 1), 'fig8_log10 tprob1': figure([-1.0], 2),
        'fig9_b': figure([2.0], 1), 'fig11_log2 T': figure([1.0], 1),
    }
    (folder / 'dqn_paper_figures.json').write_text(json.dumps(figures))
    trace = '\n'.join(f'{t},{metric:.5f},{t % 10 == 0:d},0' for t, metric in enumerate(
        np.random.default_rng(1).permutation(metrics)[:200]))
    (folder / 'Fig7a_trace.csv').write_text(f'time,metric,off_first,off_second\n{trace}\n')
    return folder


def test_bench_measures_and_draws(tmp_path, reference, capsys):
    """Every cell has its policies and bounds in the right order; files and plots are written."""
    out = tmp_path / 'out'
    arguments = ['--out', str(out), '--reference', str(reference), '--items', '1500',
                 '--sequences', '3', '--part-items', '600', '--networks', str(tmp_path)]
    assert bench.main(arguments) == 0
    result = json.loads((out / 'policy.json').read_text())
    assert len(result['cells']) == 7
    for row in result['cells']:
        loss = {name: value['loss'] for name, value in row['measured'].items()}
        assert set(loss) == {'lower_bound', 'baseline', 'mdp', 'belief', 'clairvoyant', 'told'}
        assert loss['lower_bound'] < loss['mdp'] < loss['baseline'] + 0.01
        assert loss['clairvoyant'] < loss['belief'] < cells.WEAK_LOSS
    trace = result['traces'][0]
    assert trace['bucket_kept'] == {'belief': True}
    assert trace['sums']['published_dqn'] < trace['sums']['belief'] <= trace['sums']['clairvoyant']
    assert result['checks']['surrogate']['lower_bound']['missed']
    assert result['drift']['clairvoyant']['difference'] < 0
    assert [row['cameras'] for row in result['cameras']] == [1, 2, 4, 8]
    assert result['time']['mdp']['median_us'] > 0
    for name in ('fig5a', 'fig5b', 'fig6', 'fig8', 'fig9'):
        assert (out / f'policy_{name}.png').stat().st_size > 10_000
    assert 'correlated_sp0.1_rprob0.1_r0.1_b4' in (out / 'policy.md').read_text()
    capsys.readouterr()
    assert bench.main([*arguments, '--resume']) == 0
    again = json.loads((out / 'policy.json').read_text())
    assert again['cells'] == result['cells']
    assert '1/' not in capsys.readouterr().out.splitlines()[0]


def test_missing_reference_is_named(tmp_path, capsys):
    """Without the published numbers the command says what it needs."""
    assert bench.main(['--out', str(tmp_path / 'out'), '--reference', str(tmp_path)]) == 2
    assert 'dqn_fig3_entropy_reward_metric.csv' in capsys.readouterr().err


@pytest.mark.parametrize(
    ('decisions', 'kept'), [([1, 1, 1, 0, 0], True), ([1, 1, 1, 1, 0], False)]
)
def test_within_bucket(decisions, kept):
    """A bucket of two tokens that gains one in two units pays for three in a row, not four."""
    bucket = cells.IntegerBucket(cost=2, gain=1, full=4)
    assert cells.within_bucket(np.array(decisions), np.ones(5, int), bucket) is kept
