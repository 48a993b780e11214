# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""The comparison of policies, on a small made-up reference."""

from __future__ import annotations

import json

import numpy as np
import pytest

from stl_conveyor.errors import ConfigError
from stl_conveyor_lab.bench.policy import cells as cells
from stl_conveyor_lab.bench.policy import comparison as bench
from stl_conveyor_lab.bench.policy import items as items
from stl_conveyor_lab.bench.policy import marks as marks
from stl_conveyor_lab.bench.policy import plots as plots
from stl_conveyor_lab.bench.policy.rows import Loss, PointRow
from stl_conveyor_lab.data.recorded_streams import RecordedStreams
from stl_conveyor_lab.data.streams import stream_arrays
from stl_conveyor_lab.train.reward.budgets import fit_budgets
from stl_conveyor_lab.train.reward.estimators import fit_posterior_reward
from stl_conveyor_lab.train.tiny import write_manifest

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
        'fig5a_sp': figure([0.1], 1),
        'fig5b_log10 rprob': figure([-1.0], 1),
        'fig6_b': figure([1.0, 4.0], 1),
        'fig8_log10 tprob1': figure([-1.0], 2),
        'fig9_b': figure([2.0], 1),
        'fig11_log2 T': figure([1.0], 1),
    }
    (folder / 'dqn_paper_figures.json').write_text(json.dumps(figures))
    trace = '\n'.join(
        f'{t},{metric:.5f},{t % 10 == 0:d},0'
        for t, metric in enumerate(np.random.default_rng(1).permutation(metrics)[:200])
    )
    (folder / 'Fig7a_trace.csv').write_text(f'time,metric,off_first,off_second\n{trace}\n')
    return folder


def test_bench_measures_and_draws(tmp_path, reference, capsys):
    """Every cell has its policies and bounds in the right order; files and plots are written."""
    out = tmp_path / 'out'
    arguments = [
        '--out',
        str(out),
        '--reference',
        str(reference),
        '--items',
        '1500',
        '--sequences',
        '3',
        '--part-items',
        '600',
        '--networks',
        str(tmp_path),
    ]
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
    timed = result['time']['mdp']
    assert 0 < timed['median_us'] <= timed['p99_us'] and timed['decisions'] == 20_000
    assert timed['without_gc']['put_aside'] >= 0
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


def test_misses_are_told_from_what_is_out_of_reach():
    """Where the published loss lies below the told optimum, the distance to that one counts."""

    def row(name, loss, told):
        return PointRow(
            figure='fig6',
            panel=0.1,
            x=1,
            name=name,
            rate='1/10',
            depth='4',
            published={'dqn': 0.2},
            measured={'adaptive': Loss(loss, difference_ci95=0.0003), 'told': Loss(told)},
        )

    rows = [
        row('near', 0.2008, 0.199),
        row('far', 0.2012, 0.199),
        row('bound', 0.2015, 0.201),
        row('bound', 0.2014, 0.201),
        row('wide', 0.2034, 0.2006),
    ]
    against = marks.check(rows, [])['within_0.001_of_published_dqn']
    assert set(against) == {'adaptive'}
    against = against['adaptive']
    assert against['cells'] == 4 and against['published_below_told'] == 2
    assert [miss.split()[0] for miss in against['missed']] == ['wide', 'bound', 'far']
    assert [miss.split()[0] for miss in against['missed_within_reach']] == ['wide', 'far']
    assert against['missed_for_certain'] == 1
    assert against['largest_within_reach'] == pytest.approx(0.0028)


@pytest.mark.parametrize(
    ('decisions', 'kept'), [([1, 1, 1, 0, 0], True), ([1, 1, 1, 1, 0], False)]
)
def test_within_bucket(decisions, kept):
    """A bucket of two tokens that gains one in two units pays for three in a row, not four."""
    bucket = cells.IntegerBucket(cost=2, gain=1, full=4)
    assert cells.within_bucket(np.array(decisions), np.ones(5, int), bucket) is kept


@pytest.fixture
def recorded(tmp_path):
    """Write a model folder with reward and budgets, and items that it was not fitted on."""
    folder = tmp_path / 'models'
    folder.mkdir()

    def draw(count, seed):
        generator = np.random.default_rng(seed)
        posteriors = generator.dirichlet(np.full(4, 0.25), count)
        truth = (posteriors.cumsum(1) < generator.random((count, 1))).sum(1)
        probabilities = 0.4 * posteriors + 0.6 * generator.dirichlet(np.full(4, 0.5), count)
        weak = probabilities.argmax(1) == truth
        edge = generator.random(count) < 0.99
        need = 40 + 300 * generator.random(count) ** 4
        streams = {
            budget: RecordedStreams(
                np.minimum(budget, steps) * np.ones((count, 1), int),
                (np.minimum(budget, steps) >= need[:, None]) & edge[:, None],
                np.where(np.minimum(budget, steps) >= need[:, None], 0.99, 0.5),
            )
            for budget, steps in ((64, [64]), (128, [128]), (256, [256]), (512, [256, 512]))
        }
        return probabilities, posteriors, weak, edge, streams

    probabilities, posteriors, weak, edge, streams = draw(1500, 0)
    reward = fit_posterior_reward(probabilities, posteriors, weak, edge)
    reward.save(folder / 'reward.json')
    fit_budgets(reward.expected_rewards(probabilities, posteriors), weak, streams).save(
        folder / 'budget.json'
    )
    write_manifest(
        folder, 'made up', list('abcd'), 64, {'reward': 'reward.json', 'budget': 'budget.json'}
    )
    probabilities, posteriors, weak, edge, streams = draw(500, 1)
    np.savez(
        tmp_path / 'items.npz',
        probabilities=probabilities,
        posteriors=posteriors,
        weak_correct=weak,
        edge_correct=edge,
        **stream_arrays(streams),
    )
    return folder, tmp_path / 'items.npz'


def test_recorded_items(tmp_path, recorded):
    """Metrics, calibration and byte budgets are measured on items; every bucket is kept."""
    folder, data = recorded
    result = items.measure_items(folder, data, sequences=2)
    for row in result['metrics']['shares']:
        assert row['entropy']['gain'] < row['posterior']['gain'] <= row['perfect']['gain']
        assert 0.1 < row['posterior']['gap_closed'] <= 1
    assert len(result['calibration']['posterior']) == 10
    assert [row['budget'] for row in result['bytes']] == [64, 128, 256, 512]
    assert result['bytes'][0]['accuracy'] < result['bytes'][-1]['accuracy']
    for row in result['policies']:
        policies = row['policies']
        assert set(policies) == {name for name, _, _ in items.CONTENDERS}
        mean_interval = 1.0 if row['arrivals'] == 'steady' else 2.4
        for measured in policies.values():
            # What the bucket brings and began with is the most that can be sent.
            most = (row['rate'] * mean_interval + 4 / 500) * 512
            assert measured['payload_bytes'] <= most
            assert measured['wire_bytes'] > measured['payload_bytes']
        assert policies[items.REFERENCE]['ci95'] == 0
        if row['rate'] == 0.05:
            won = policies['one for all, byte budgets']
            assert won['difference'] < -0.01
    text = '\n'.join(bench.items_table(result))
    assert 'one for all, byte budgets' in text and 'closes' in text
    for path in plots.plot_items(result, tmp_path):
        assert path.stat().st_size > 10_000


def test_items_without_results_are_named(tmp_path, recorded):
    """A file of other arrays is refused with the remedy."""
    np.savez(tmp_path / 'other.npz', probabilities=np.ones((2, 4)))
    with pytest.raises(ConfigError, match='data.streams'):
        items.measure_items(recorded[0], tmp_path / 'other.npz')
