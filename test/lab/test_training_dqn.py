# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Training of learned policies: samples, learning, export; and the node's side of them."""

from __future__ import annotations

import json
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest

torch = pytest.importorskip('torch')
onnx = pytest.importorskip('onnx')
pytest.importorskip('onnxruntime')

from stl_conveyor.errors import ConfigError, ModelFileError  # noqa: E402
from stl_conveyor.policy import Distribution, make_policy  # noqa: E402
from stl_conveyor.policy.history import History, HistoryFormat, RewardScale  # noqa: E402
from stl_conveyor.policy.mdp import solve_mdp  # noqa: E402
from stl_conveyor_lab.papers import dqn  # noqa: E402
from stl_conveyor_lab.papers.dqn import DqnSettings, make_network  # noqa: E402
from stl_conveyor_lab.papers.histories import history_of  # noqa: E402
from stl_conveyor_lab.papers.learned import token_values_along  # noqa: E402
from stl_conveyor_lab.papers.policy_file import export  # noqa: E402
from stl_conveyor_lab.papers.scenarios import CorrelatedRewards, Scenario, TwoStateArrivals  # noqa: E402
from stl_conveyor_lab.papers.simulate import (  # noqa: E402
    IntegerBucket,
    level_positions,
    play_policy,
    play_tables,
    play_thresholds,
)
from stl_conveyor_lab.papers.tasks import Task  # noqa: E402
from stl_conveyor_lab.train.policies.oracle import OraclePlan, OracleTrainer, values_at_knots  # noqa: E402
from stl_conveyor_lab.train.policies.returns import Trainer, TrainingPlan, coupled_returns  # noqa: E402
from stl_conveyor_lab.train.policies.universal import (  # noqa: E402
    UNIVERSAL_KNOTS,
    UNIVERSAL_LAYOUT,
    UniversalTasks,
    make_trainer,
)
from stl_conveyor_lab.train.policies.windows import token_values, windows_of  # noqa: E402

POOL = np.sort(np.random.default_rng(9).beta(0.4, 1.2, 800))
REWARDS = Distribution.of(POOL)
SCALE = RewardScale(REWARDS)
SCENARIO = Scenario(CorrelatedRewards(0.1, 0.1), TwoStateArrivals.published(3, 0.05))


@pytest.mark.parametrize(
    'layout', [HistoryFormat(), HistoryFormat(intervals=True), UNIVERSAL_LAYOUT]
)
def test_item_by_item_is_all_at_once(layout):
    """The node's history equals the training's, from the first item on."""
    sequences = SCENARIO.draw(POOL, 130, 2, np.random.default_rng(0))
    task = Task(SCENARIO, Fraction(1, 5), Fraction(3), POOL)
    windows = windows_of(sequences, layout, task)
    constants = layout.constants(SCALE, task.rate, task.depth)
    for s in range(2):
        history = History(layout, SCALE)
        before = float('nan')
        for t in range(130):
            item = history.push(float(sequences.rewards[t, s]), before, constants)
            before = int(sequences.intervals[t, s])
            together = windows(torch.tensor([s]), torch.tensor([t])).numpy()
            assert item.shape == together.shape == (1, layout.size)
            np.testing.assert_allclose(item, together, atol=2e-5)


def test_rows_of_a_sequence_and_picked_ones():
    """Both ways to read whole sequences give the same inputs."""
    sequences = SCENARIO.draw(POOL, 90, 3, np.random.default_rng(0))
    constants = UNIVERSAL_LAYOUT.constants(SCALE, Fraction(1, 5), Fraction(3))
    arrays = history_of(sequences, UNIVERSAL_LAYOUT, SCALE)
    block = arrays.block(10, 60, constants)
    for s in range(3):
        picked = arrays.pick(np.full(50, s), np.arange(10, 60), constants)
        np.testing.assert_array_equal(block[:, s], picked)


def test_rewards_at_ranks():
    """Ranks are even over the pool, also for a distribution with atoms."""
    ranks = SCALE.rank(POOL)
    assert np.abs(ranks - np.linspace(0, 1, POOL.size)).max() < 0.02
    atoms = RewardScale(Distribution.of([0.0, 0.0, 0.0, 0.5]))
    assert (np.diff(atoms.rank(np.array([0.0, 0.1, 0.5]))) > 0).all()


def test_coupled_returns_average_to_the_mdp():
    """For i.i.d. items the mean sample under the optimal policy is the MDP's threshold."""
    bucket = IntegerBucket.of(Fraction(1, 4), Fraction(2))
    solution = solve_mdp(Fraction(1, 4), Fraction(2), REWARDS, Distribution.of([1.0]))
    sequences = Scenario().draw(POOL, 1500, 60, np.random.default_rng(0))
    worth = np.broadcast_to(solution.thresholds[4:].astype(np.float32), (60, 1500, 5))
    samples = coupled_returns(sequences, bucket, worth, solution.values)
    assert samples.shape == (60, 1500, 5)
    np.testing.assert_allclose(samples.mean(axis=(0, 1)), solution.thresholds[4:], atol=0.01)


def test_level_positions():
    """Knots are interpolated over the relative level, whole levels are kept as they are."""
    bucket = IntegerBucket.of(Fraction(1, 4), Fraction(2))
    np.testing.assert_array_equal(level_positions(bucket, None), np.eye(5))
    read = level_positions(bucket, np.array([0, 0.5, 1.0]))
    np.testing.assert_allclose(read @ np.array([0, 5.0, 10.0]), [0, 2.5, 5, 7.5, 10])
    single = level_positions(IntegerBucket.of(Fraction(1, 4), Fraction(1)), np.array([0, 1.0]))
    np.testing.assert_allclose(single, [[1.0, 0.0]])


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
    """Train a small DQN on correlated items; returns its file, task and trainer."""
    task = Task(Scenario(CorrelatedRewards(0.1, 0.1)), Fraction(1, 4), Fraction(2), POOL)
    layout = HistoryFormat(window=16)
    plan = TrainingPlan(
        iterations=2, sequences=32, items=700, tail=100, steps=250, batch=512, width=32, depth=2
    )
    trainer = Trainer(layout, None, lambda generator: [task], plan, log=lambda line: None)
    path = tmp_path_factory.mktemp('dqn') / 'dqn.onnx'
    trainer.iterate()
    trainer.save(path.with_suffix('.pt'))
    trainer.iterate()
    export(trainer.network, layout, None, path, {'rate': '1/4', 'depth': '2'})
    return path, task, trainer


def oracle_trainer(task, knots=None, layout=HistoryFormat(window=16), changes=1):
    """Make a small trainer by the values of the oracle."""
    plan = OraclePlan(
        iterations=6,
        rows=16384,
        batch=512,
        tasks=1,
        fresh=1,
        chosen=1,
        sequences=24,
        items=700,
        locations=50,
        width=32,
        depth=2,
    )
    return OracleTrainer(
        layout, knots, lambda generator: [task] * changes, plan, lambda line: None
    )


def published_dqn(task, **changes):
    """Train a small network as published."""
    settings = DqnSettings(
        window=16,
        iterations=4,
        sequences=32,
        items=700,
        copies=10,
        steps=30,
        batch=512,
        discount=0.97,
        width=32,
        depth=2,
    )
    return dqn.train(replace(settings, **changes), task, log=lambda line: None)


@pytest.mark.parametrize('method', ['returns', 'oracle', 'fitted-q'])
def test_learning_beats_the_mdp(trained, method):
    """After a few seconds of training the network earns more than the i.i.d. optimum."""
    _, task, trainer = trained
    network = trainer.network
    if method == 'fitted-q':
        network = published_dqn(task)
    if method == 'oracle':
        trainer = oracle_trainer(task)
        for _ in range(trainer.plan.iterations):
            trainer.iterate()
        network = trainer.network
    sequences = task.scenario.draw(POOL, 4000, 20, np.random.default_rng(7))
    bucket = IntegerBucket.of(task.rate, task.depth)
    windows = windows_of(sequences, trainer.layout, task)
    worth = token_values(network, windows, 20, 4000, level_positions(bucket, None))
    total, _ = play_thresholds(sequences, bucket, worth.transpose(1, 0, 2))
    solution = solve_mdp(task.rate, task.depth, REWARDS, Distribution.of([1.0]))
    mdp, _ = play_tables(sequences, [bucket], [solution.thresholds])
    gain = total / 4000 - mdp[0]
    assert gain.mean() - 2 * gain.std() / np.sqrt(len(gain)) > 0.001


def test_the_node_plays_what_was_trained(trained):
    """The exported network, run item by item without torch, decides as in training."""
    path, task, trainer = trained
    sequences = task.scenario.draw(POOL, 400, 1, np.random.default_rng(8))
    bucket = IntegerBucket.of(task.rate, task.depth)
    windows = windows_of(sequences, trainer.layout, task)
    worth = token_values(trainer.network, windows, 1, 400, level_positions(bucket, None))
    _, decisions = play_thresholds(sequences, bucket, worth.transpose(1, 0, 2))
    told = token_values_along(str(path), sequences, task.rate, task.depth, REWARDS, chunk=150)
    np.testing.assert_allclose(told, worth.transpose(1, 0, 2), atol=1e-5)
    policy = make_policy('dqn', rate='1/4', depth=2, rewards=REWARDS, model=str(path))
    played = play_policy(sequences, task.rate, task.depth, policy)
    assert (played != decisions[:, 0]).sum() <= 1
    assert 20 < played.sum() <= 400 // 4 + 2


def test_resume_goes_on_as_if_never_stopped(trained):
    """A run continued from its checkpoint ends with the same weights."""
    path, task, trainer = trained
    again = Trainer(
        trainer.layout, None, lambda generator: [task], trainer.plan, log=lambda line: None
    )
    again.resume(path.with_suffix('.pt'))
    again.iterate()
    for one, two in zip(trainer.network.parameters(), again.network.parameters()):
        torch.testing.assert_close(one, two)


@pytest.fixture(scope='module')
def universal(tmp_path_factory):
    """Export an untrained universal network."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp('all') / 'adaptive.onnx'
    network = make_network(UNIVERSAL_LAYOUT.size, len(UNIVERSAL_KNOTS), 16, 2)
    export(network, UNIVERSAL_LAYOUT, UNIVERSAL_KNOTS, path)
    return path


def test_adaptive_policy_takes_any_bucket(universal):
    """One network decides for every (r, b), and never overspends."""
    sequences = SCENARIO.draw(POOL, 200, 1, np.random.default_rng(1))
    for rate, depth in (('1/20', 1), ('1/4', 4), ('7/10', '5/2')):
        policy = make_policy(
            'adaptive', rate=rate, depth=depth, rewards=REWARDS, model=str(universal)
        )
        first = play_policy(sequences, Fraction(rate), Fraction(depth), policy)
        again = play_policy(sequences, Fraction(rate), Fraction(depth), policy)
        np.testing.assert_array_equal(first, again)
        policy.settled(0.2)


def test_adaptive_policy_all_at_once(universal):
    """Whole sequences and item by item give the same decisions, also for a universal network."""
    sequences = SCENARIO.draw(POOL, 300, 1, np.random.default_rng(1))
    rate, depth = Fraction(1, 4), Fraction(4)
    policy = make_policy('adaptive', rate=rate, depth=depth, rewards=REWARDS, model=str(universal))
    told = token_values_along(str(universal), sequences, rate, depth, REWARDS)
    _, decisions = play_thresholds(sequences, IntegerBucket.of(rate, depth), told)
    played = play_policy(sequences, rate, depth, policy)
    assert (played != decisions[:, 0]).sum() <= 1


def test_universal_tasks_are_many_kinds():
    """Draws hold all kinds of scenarios and stay within what a bucket can be."""
    generator = np.random.default_rng(0)
    draws = [UniversalTasks(POOL)(generator) for _ in range(40)]
    kinds = {
        (task.scenario.rewards is None, task.scenario.arrivals is None)
        for tasks in draws
        for task in tasks
    }
    assert len(kinds) == 4
    for first, second in draws:
        assert (first.rate, first.depth) == (second.rate, second.depth)
        assert first.pool is second.pool
        assert 1 <= first.depth <= 20.5 and 0 < first.rate <= Fraction(3, 2)
        assert (np.diff(first.pool) >= 0).all()
        assert 0 <= first.pool[0] and first.pool[-1] <= 1


def test_values_at_knots():
    """Knots lie on the relative level; a single level is every knot's."""
    marginal = np.arange(5.0)[None, None]
    np.testing.assert_allclose(values_at_knots(marginal, np.array([0, 0.125, 1])), [[[0, 0.5, 4]]])
    np.testing.assert_array_equal(values_at_knots(marginal, None), marginal)
    np.testing.assert_array_equal(
        values_at_knots(marginal[..., :1], np.array([0, 0.5, 1])), np.zeros((1, 1, 3))
    )


def test_oracle_training_resumes_and_follows_a_change(tmp_path):
    """A checkpoint brings the network back; sequences may hold one scenario after another."""
    task = Task(SCENARIO, Fraction(1, 4), Fraction(2), POOL)
    trainer = oracle_trainer(task, UNIVERSAL_KNOTS, UNIVERSAL_LAYOUT, changes=2)
    first = trainer.iterate()
    assert trainer.iterate() < first
    trainer.save(tmp_path / 'oracle.pt')
    again = oracle_trainer(task, UNIVERSAL_KNOTS, UNIVERSAL_LAYOUT)
    again.resume(tmp_path / 'oracle.pt')
    assert again.iteration == 2
    for one, two in zip(trainer.network.parameters(), again.network.parameters()):
        torch.testing.assert_close(one, two)


@pytest.mark.parametrize('cell', [False, True])
@pytest.mark.parametrize('method', ['oracle', 'returns', 'fitted-q'])
def test_a_plan_can_be_changed(method, cell):
    """Rounds, seed and learning rate of every method are those that were asked for."""
    task = Task(SCENARIO, Fraction(1, 4), Fraction(2), POOL) if cell else None

    def make():
        return make_trainer(
            'any', method, POOL, task, print, iterations=3, seed=5, learning_rate=2e-4
        )

    if method == 'fitted-q':
        with pytest.raises(ConfigError, match='oracle and returns'):
            make()
    else:
        plan = make()[0].plan
        assert (plan.iterations, plan.seed, plan.learning_rate) == (3, 5, 2e-4)


def test_the_published_dqn_by_command(tmp_path, capsys):
    """The command trains the cells asked for with the hyper-parameters given, and goes on."""
    metrics = tmp_path / 'metrics.csv'
    metrics.write_text('metric\n' + '\n'.join(f'{metric:.6f}' for metric in POOL))
    small = ['--sequences', '4', '--items', '60', '--copies', '2', '--steps', '2', '--batch', '16']
    small += ['--metrics', str(metrics), '--width', '8', '--depth', '1', '--iterations', '2']
    cell = 'arrivals_3_r0.1_b4'

    def weights(folder, *changes):
        out = tmp_path / folder
        assert dqn.main([*small, '--out', str(out), '--only', cell, *changes]) == 0
        model = onnx.load(str(out / f'dqn_{cell}.onnx'))
        about = {p.key: p.value for p in model.metadata_props}['about']
        assert json.loads(about)['method'] == 'fitted-q'
        return [onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer]

    first = weights('one')
    assert 'round 2' in capsys.readouterr().out
    for one, two in zip(first, weights('two')):
        np.testing.assert_array_equal(one, two)
    assert (first[0] != weights('seed', '--seed', '5')[0]).any()
    assert (first[0] != weights('rate', '--learning-rate', '2e-4')[0]).any()
    capsys.readouterr()
    for one, two in zip(first, weights('one')):
        np.testing.assert_array_equal(one, two)
    assert 'round' not in capsys.readouterr().out  # all rounds were in the checkpoint
    assert dqn.main([*small, '--out', str(tmp_path), '--only', 'none']) == 2
    assert "no cell 'none'" in capsys.readouterr().err


def test_attention_goes_where_decisions_are_close():
    """Where the reward is far from the worth, errors hardly move the network."""
    task = Task(SCENARIO, Fraction(1, 4), Fraction(2), POOL)
    errors = {}
    for elsewhere in (0.0, 1.0):
        trainer = oracle_trainer(task)
        trainer.plan = replace(trainer.plan, focus=0.1, elsewhere=elsewhere)
        for _ in range(4):
            trainer.iterate()
        errors[elsewhere] = trainer.iterate()
    # With all alike the plain squared error is the one that falls most.
    assert errors[1.0] < errors[0.0]


def test_files_that_do_not_fit_are_refused(trained, universal, tmp_path):
    """A network for another bucket or another policy, or none at all, is refused by name."""
    path = str(trained[0])
    with pytest.raises(ConfigError, match='trained for'):
        make_policy('dqn', rate='1/5', depth=2, rewards=REWARDS, model=path)
    with pytest.raises(ConfigError, match='adaptive'):
        make_policy('adaptive', rate='1/4', depth=2, rewards=REWARDS, model=path)
    with pytest.raises(ConfigError, match='dqn'):
        make_policy('dqn', rate='1/4', depth=2, rewards=REWARDS, model=str(universal))
    with pytest.raises(ConfigError, match='path'):
        make_policy('adaptive', rewards=REWARDS)
    with pytest.raises(ModelFileError):
        make_policy('adaptive', rewards=REWARDS, model=str(tmp_path / 'none.onnx'))
    damaged = tmp_path / 'damaged.onnx'
    damaged.write_bytes(b'not a network')
    with pytest.raises(ModelFileError, match='export it'):
        make_policy('adaptive', rewards=REWARDS, model=str(damaged))


def test_what_is_written_with_the_network(trained):
    """The layout travels in the file."""
    properties = {p.key: p.value for p in onnx.load(str(trained[0])).metadata_props}
    assert json.loads(properties['layout'])['window'] == 16
    assert json.loads(properties['about']) == {'rate': '1/4', 'depth': '2'}
