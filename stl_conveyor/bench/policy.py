# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""
Compare the offloading policies with each other, with their bounds and with published curves.

    python -m stl_conveyor.bench.policy --out OUT --reference DIR [--networks DIR]
        [--models DIR [--data FILE.npz]] [--items 100000] [--sequences 100] [--part-items 10000]
        [--figures fig5a ...] [--resume]

DIR holds the published numbers: dqn_paper_figures.json (Qiu et al., "Adaptive Edge Offloading for
Image Classification Under Rate Limit", IEEE TCAD 2022), the samples of rewards
dqn_fig3_entropy_reward_metric.csv and the sequences *_trace.csv. Written are OUT/policy.json,
OUT/policy.md and OUT/policy_*.png.

All policies of a cell see the same sequences. The table policies (baseline, MDP) and the lower
bound play all of them; what takes longer (belief, networks, clairvoyant) plays the first
``part-items`` of the first ``part-sequences``, and its loss is that of the MDP on everything plus
the paired difference to the MDP on the part. Intervals are 95 %, over sequences, of each loss and
of its paired difference to the MDP.
"""

import argparse
from dataclasses import asdict, dataclass
from fractions import Fraction
import hashlib
import json
from pathlib import Path
import sys
import time
import zlib

import numpy as np

from stl_conveyor.errors import ConfigError, ConveyorError
from stl_conveyor.policy import Distribution, make_policy, PolicyInput, RewardEstimator
from stl_conveyor.policy.belief import play_belief
from stl_conveyor.policy.bounds import clairvoyant, told_hidden_state, unlimited_burst
from stl_conveyor.policy.cameras import ARRANGEMENTS, merged, play_cameras
from stl_conveyor.policy.mdp import solve_mdp
from stl_conveyor.policy.network import worth_along
from stl_conveyor.policy.reward import compare_metrics
from stl_conveyor.policy.scenarios import (
    CorrelatedRewards, load_trace, Scenario, Sequences, TwoStateArrivals,
)
from stl_conveyor.policy.simulate import IntegerBucket, play_tables, play_thresholds
from stl_conveyor.resources import share_path

WEAK_LOSS = 0.2985       # the one fitted constant of the published curves
TOLERANCE = 0.002        # of the surrogate check
DQN_TOLERANCE = 0.001
# Published sequences: name, scenario they were drawn from; (r, b) is (0.1, 4).
TRACES = (
    ('Fig7a', Scenario(rewards=CorrelatedRewards(0.1, 0.01))),
    ('Fig10a', Scenario(arrivals=TwoStateArrivals.published(3))),
)
LABELS = {
    'lower_bound': 'unlimited burst', 'clairvoyant': 'clairvoyant', 'told': 'told hidden state',
    'baseline': 'constant threshold', 'mdp': 'MDP (i.i.d.)', 'belief': 'belief filter + DP',
    'dqn': 'DQN (one per cell)', 'adaptive': 'one network for all',
}
PUBLISHED = {'lower_bound': 'LB', 'baseline': 'BASE', 'mdp': 'MDP', 'dqn': 'DQN'}
BOUNDS = ('lower_bound', 'clairvoyant', 'told')


@dataclass(frozen=True, eq=False)
class Cell:
    """One point of a published figure."""

    figure: str
    panel: float
    x: float
    scenario: Scenario
    rate: Fraction
    depth: Fraction
    published: 'dict[str, float]'

    @property
    def name(self) -> str:
        """Name the scenario and the bucket, as the files of trained networks do."""
        rewards, arrivals = self.scenario.rewards, self.scenario.arrivals
        parts = []
        if rewards is not None:
            parts.append(f'correlated_sp{rewards.spread:g}_rprob{rewards.reset:.4g}')
        if arrivals is not None:
            parts.append(f'arrivals_{arrivals.slow_interval}')
            if abs(arrivals.leave_fast - 0.001) > 1e-9:
                parts.append(f'tprob{arrivals.leave_fast:.4g}')
        return '_'.join([*parts, f'r{float(self.rate):g}', f'b{float(self.depth):g}'])


def published_cells(path: Path) -> 'list[Cell]':
    """
    Read the points of the published figures 5, 6, 8 and 9.

    Raises ConfigError when the file is not what it should be.
    """
    try:
        figures = json.loads(path.read_text(encoding='utf-8'))
        by_name = {key.split('_')[0]: value for key, value in figures.items()}
        cells = []
        plan = (
            ('fig5a', (0.1, 0.01, 0.001),
             lambda panel, x: (CorrelatedRewards(x, panel), None, '0.1', 4)),
            ('fig5b', (0.1, 0.2, 0.5),
             lambda panel, x: (CorrelatedRewards(panel, 10**x), None, '0.1', 4)),
            ('fig6', (0.05, 0.1, 0.25),
             lambda panel, x: (CorrelatedRewards(0.1, 0.1), None, str(panel), int(x))),
            ('fig8', (3, 6),
             lambda panel, x: (None, TwoStateArrivals.published(panel, 10**x), '0.1', 4)),
            ('fig9', (0.05, 0.1, 0.25),
             lambda panel, x: (None, TwoStateArrivals.published(3), str(panel), int(x))),
        )
        for figure, panels, make in plan:
            curves = by_name[figure]
            for panel, lines in zip(panels, curves['panels']):
                for place, x in enumerate(curves['x']):
                    rewards, arrivals, rate, depth = make(panel, x)
                    cells.append(Cell(
                        figure, panel, x, Scenario(rewards, arrivals), Fraction(rate),
                        Fraction(depth),
                        {ours: lines[theirs][place] for ours, theirs in PUBLISHED.items()},
                    ))
        return cells
    except (OSError, ValueError, KeyError, IndexError, TypeError) as error:
        raise ConfigError(
            f'{path} does not hold the published figures ({error!r}); REFERENCE names the folder '
            'with dqn_paper_figures.json'
        ) from error


def load_pool(path: Path) -> np.ndarray:
    """Read the published metrics, sorted; raises ConfigError when they are not there."""
    try:
        header, *lines = path.read_text(encoding='utf-8').splitlines()
        return np.sort(np.loadtxt(lines, delimiter=',', usecols=header.split(',').index('metric')))
    except (OSError, ValueError) as error:
        raise ConfigError(f'{path} does not hold the published metrics ({error})') from error


def half_interval(values: np.ndarray) -> float:
    """Half the 95 % interval of the mean of independent values."""
    from scipy import stats

    if len(values) < 2:
        return float('nan')
    return float(stats.t.ppf(0.975, len(values) - 1) * stats.sem(values))


@dataclass(frozen=True)
class Effort:
    """How much to play."""

    items: int
    sequences: int
    part_items: int
    part_sequences: int
    seed: int


class Networks:
    """Trained networks of the model folder, by what they serve."""

    def __init__(self, folder: 'Path | None'):
        self._folder = folder

    def dqn(self, cell: Cell) -> 'str | None':
        """Return the path of the DQN of a cell, if one was trained."""
        return self._find(f'dqn_{cell.name}.onnx')

    @property
    def adaptive(self) -> 'str | None':
        """Return the path of the network for all buckets, if there is one."""
        return self._find('adaptive.onnx')

    def _find(self, name: str) -> 'str | None':
        path = self._folder / name if self._folder is not None else None
        return str(path) if path is not None and path.is_file() else None


def draw_sequences(
    scenario: Scenario, pool: np.ndarray, effort: Effort
) -> 'tuple[Sequences, Sequences]':
    """Draw the sequences of a scenario, and the part that the slow policies play."""
    seed = zlib.crc32(repr(scenario).encode()) ^ effort.seed
    whole = scenario.draw(pool, effort.items, effort.sequences, np.random.default_rng(seed))
    part = Sequences(
        whole.rewards[: effort.part_items, : effort.part_sequences],
        whole.intervals[: effort.part_items, : effort.part_sequences],
    )
    return whole, part


def enter(row: dict, policy: str, gains: np.ndarray, mdp: np.ndarray, on_part: bool) -> None:
    """
    Enter the reward per item of a policy [S] into a row, beside that of the MDP [S].

    on_part  both were measured on the part; the row's MDP on everything gives the level
    """
    difference = gains - mdp
    loss, interval = WEAK_LOSS - float(gains.mean()), half_interval(gains)
    if on_part:
        whole = row['measured']['mdp']
        loss = whole['loss'] - float(difference.mean())
        interval = float(np.hypot(whole['ci95'], half_interval(difference)))
    row['measured'][policy] = {
        'loss': loss, 'ci95': interval, 'difference': -float(difference.mean()),
        'difference_ci95': half_interval(difference),
    }


def measure_cells(cells: 'list[Cell]', pool: np.ndarray, effort: Effort) -> 'list[dict]':
    """
    Measure cells of one scenario on the same sequences, all but the networks.

    Returns for each cell a row: its place in the figures, published losses, and for each policy
    and bound {loss, ci95, difference, difference_ci95 (to the MDP)}.
    """
    scenario = cells[0].scenario
    sequences, part = draw_sequences(scenario, pool, effort)
    rewards = Distribution.of(pool)
    buckets = [IntegerBucket.of(cell.rate, cell.depth) for cell in cells]
    solutions = [
        solve_mdp(cell.rate, cell.depth, rewards, scenario.intervals).thresholds for cell in cells
    ]
    baselines = [
        np.full(bucket.full + 1, make_policy(
            'threshold', rate=cell.rate, depth=cell.depth, rewards=rewards,
            intervals=scenario.intervals,
        ).threshold)
        for bucket, cell in zip(buckets, cells)
    ]
    mdp, _ = play_tables(sequences, buckets, solutions)
    baseline, _ = play_tables(sequences, buckets, baselines)
    mdp_part, _ = play_tables(part, buckets, solutions)
    told = [told_hidden_state(scenario, pool, bucket, tolerance=1e-5) for bucket in buckets]
    belief, _ = play_belief(scenario, pool, part, buckets, told)
    rows = []
    for c, cell in enumerate(cells):
        row = {
            'figure': cell.figure, 'panel': cell.panel, 'x': cell.x, 'name': cell.name,
            'rate': str(cell.rate), 'depth': str(cell.depth), 'published': cell.published,
            'measured': {}, 'networks': {},
        }
        burst = unlimited_burst(sequences, cell.rate, cell.depth)
        enter(row, 'mdp', mdp[c], mdp[c], False)
        enter(row, 'baseline', baseline[c], mdp[c], False)
        enter(row, 'lower_bound', burst, mdp[c], False)
        enter(row, 'belief', belief[c], mdp_part[c], True)
        enter(row, 'clairvoyant', clairvoyant(part, buckets[c]), mdp_part[c], True)
        row['measured']['told'] = {'loss': WEAK_LOSS - told[c].gain}
        rows.append(row)
    return rows


def measure_networks(
    rows: 'list[dict]', cells: 'list[Cell]', pool: np.ndarray, networks: Networks, effort: Effort
) -> bool:
    """
    Add the networks to the rows of cells of one scenario, where a file is new.

    Returns whether there was anything to add.
    """
    wanted = []
    for row, cell in zip(rows, cells):
        for policy, path in (('dqn', networks.dqn(cell)), ('adaptive', networks.adaptive)):
            if path is not None:
                digest = hashlib.sha256(Path(path).read_bytes()).hexdigest()[:16]
                if row['networks'].get(policy) != digest:
                    wanted.append((row, cell, policy, path, digest))
    if not wanted:
        return False
    scenario = cells[0].scenario
    _, part = draw_sequences(scenario, pool, effort)
    rewards = Distribution.of(pool)
    for row, cell, policy, path, digest in wanted:
        bucket = IntegerBucket.of(cell.rate, cell.depth)
        table = solve_mdp(cell.rate, cell.depth, rewards, scenario.intervals).thresholds
        mdp, _ = play_tables(part, [bucket], [table])
        # As many sequences at once as keep the thresholds of all levels in 300 MB.
        n_items, n_sequences = part.rewards.shape
        several = max(1, int(75e6 / (n_items * (bucket.full + 1 - bucket.cost))))
        total = np.concatenate([
            play_thresholds(one, bucket, worth_along(path, one, cell.rate, cell.depth, rewards))[0]
            for one in (
                Sequences(part.rewards[:, s: s + several], part.intervals[:, s: s + several])
                for s in range(0, n_sequences, several)
            )
        ])
        enter(row, policy, total / len(part.rewards), mdp[0], True)
        row['networks'][policy] = digest
    return True


def measure_traces(reference: Path, pool: np.ndarray, networks: Networks) -> 'list[dict]':
    """Sum the metrics that each policy offloads on the published sequences, at (0.1, 4)."""
    rate, depth = Fraction(1, 10), Fraction(4)
    bucket = IntegerBucket.of(rate, depth)
    rewards = Distribution.of(pool)
    rows = []
    for name, scenario in TRACES:
        path = reference / f'{name}_trace.csv'
        if not path.is_file():
            continue
        sequences, recorded = load_trace(path)
        n_items = len(sequences.rewards)
        metrics = sequences.rewards[:, 0].astype(float)
        sums = {'published_dqn': float(metrics[recorded[:, 0]].sum()),
                'published_mdp': float(metrics[recorded[:, 1]].sum())}
        sums['clairvoyant'] = float(clairvoyant(sequences, bucket)[0] * n_items)
        intervals = Distribution.of(sequences.intervals[:, 0])
        solution = solve_mdp(rate, depth, rewards, scenario.intervals)
        sums['mdp'] = float(play_tables(sequences, [bucket], [solution.thresholds])[0][0, 0]
                            * n_items)
        told = told_hidden_state(scenario, pool, bucket, tolerance=1e-5)
        earned, decisions = play_belief(scenario, pool, sequences, [bucket], [told])
        sums['belief'] = float(earned[0, 0] * n_items)
        played = {'belief': decisions[0]}
        cell = Cell('trace', 0, 0, scenario, rate, depth, {})
        for policy, network in (('dqn', networks.dqn(cell)), ('adaptive', networks.adaptive)):
            if network is not None:
                worth = worth_along(network, sequences, rate, depth, rewards)
                total, played[policy] = play_thresholds(sequences, bucket, worth)
                sums[policy] = float(total[0])
        rows.append({
            'trace': name, 'items': n_items, 'mean_interval': intervals.mean, 'sums': sums,
            'offloads': {policy: int(done.sum()) for policy, done in played.items()},
            'bucket_kept': {policy: within_bucket(done[:, 0], sequences.intervals[:, 0], bucket)
                            for policy, done in played.items()},
        })
    return rows


def measure_drift(pool: np.ndarray, networks: Networks, effort: Effort) -> dict:
    """
    Let the process change every quarter of a sequence, at (0.1, 4).

    The quarters are correlated (0.1, 0.1), i.i.d., correlated (0.1, 0.01), two-state arrivals
    (1 and 6). No policy is told; the DQN was trained for the first quarter.
    """
    quarters = (
        Scenario(rewards=CorrelatedRewards(0.1, 0.1)), Scenario(),
        Scenario(rewards=CorrelatedRewards(0.1, 0.01)),
        Scenario(arrivals=TwoStateArrivals.published(6)),
    )
    rate, depth = Fraction(1, 10), Fraction(4)
    generator = np.random.default_rng(effort.seed + 77)
    drawn = [
        scenario.draw(pool, effort.part_items // 4, effort.part_sequences, generator)
        for scenario in quarters
    ]
    sequences = Sequences(
        np.concatenate([one.rewards for one in drawn]),
        np.concatenate([one.intervals for one in drawn]),
    )
    n_items = len(sequences.rewards)
    bucket = IntegerBucket.of(rate, depth)
    rewards = Distribution.of(pool)
    intervals = Distribution.of(sequences.intervals.ravel())
    mdp, _ = play_tables(
        sequences, [bucket], [solve_mdp(rate, depth, rewards, intervals).thresholds]
    )
    row = {'measured': {}}
    enter(row, 'mdp', mdp[0], mdp[0], False)
    enter(row, 'clairvoyant', clairvoyant(sequences, bucket), mdp[0], False)
    cell = Cell('drift', 0, 0, quarters[0], rate, depth, {})
    for policy, path in (('dqn', networks.dqn(cell)), ('adaptive', networks.adaptive)):
        if path is not None:
            worth = worth_along(path, sequences, rate, depth, rewards)
            total, _ = play_thresholds(sequences, bucket, worth)
            enter(row, policy, total / n_items, mdp[0], False)
    return row['measured']


def measure_cameras(pool: np.ndarray, effort: Effort) -> 'list[dict]':
    """Share the network between 1 to 8 cameras with correlated rewards, at (0.1, 4) each."""
    rate, depth = Fraction(1, 10), Fraction(4)
    scenario = Scenario(rewards=CorrelatedRewards(0.1, 0.1))
    rewards = Distribution.of(pool)
    rows = []
    for count in (1, 2, 4, 8):
        generator = np.random.default_rng(effort.seed + count)
        items = np.stack([
            scenario.draw(pool, effort.part_items // 2, effort.part_sequences, generator).rewards
            for _ in range(count)
        ], axis=1)
        gains = {
            arrangement: play_cameras(items, rate, depth, rewards, arrangement)[0].mean(axis=0)
            for arrangement in ARRANGEMENTS
        }
        bound = clairvoyant(merged(items), IntegerBucket.of(rate, depth * count))
        rows.append({
            'cameras': count,
            **{name: {
                'loss': WEAK_LOSS - float(gain.mean()),
                'difference_to_isolated': -float((gain - gains['isolated']).mean()),
                'difference_ci95': half_interval(gain - gains['isolated']),
            } for name, gain in {**gains, 'clairvoyant, shared': bound}.items()},
        })
    return rows


def within_bucket(decisions: np.ndarray, intervals: np.ndarray, bucket: IntegerBucket) -> bool:
    """Return whether decisions never overdraw the bucket."""
    level = bucket.full
    for offload, interval in zip(decisions, intervals):
        level -= bucket.cost * int(offload)
        if level < 0:
            return False
        level = min(bucket.full, level + bucket.gain * int(interval))
    return True


def measure_time(pool: np.ndarray, networks: Networks, repeat: int = 2000) -> 'dict[str, dict]':
    """Time single decisions as the node makes them; microseconds, median and 99 %."""
    rewards = Distribution.of(pool)
    metrics = np.random.default_rng(0).choice(pool, repeat).tolist()
    candidates = {'mdp': {}}
    if networks.adaptive is not None:
        candidates['adaptive'] = {'model': networks.adaptive}
    dqn = networks.dqn(Cell('', 0, 0, Scenario(CorrelatedRewards(0.1, 0.1)), Fraction(1, 10),
                            Fraction(4), {}))
    if dqn is not None:
        candidates['dqn'] = {'model': dqn}
    result = {}
    for name, extra in candidates.items():
        policy = make_policy(name, rate='1/10', depth=4, rewards=rewards, **extra)
        spent = []
        for t, metric in enumerate(metrics):
            state = PolicyInput(metric, 23, 10, t, 1.0)
            start = time.perf_counter()
            policy.decide(state)
            spent.append((time.perf_counter() - start) * 1e6)
        result[name] = {'median_us': float(np.median(spent)),
                        'p99_us': float(np.quantile(spent, 0.99))}
    start = time.perf_counter()
    make_policy('mdp', rate='1/10', depth=4, rewards=rewards)
    result['mdp']['solve_ms'] = (time.perf_counter() - start) * 1e3
    return result


def check(rows: 'list[dict]', traces: 'list[dict]') -> 'dict[str, dict]':
    """Hold the measurements against the published marks."""
    def worst(policy, within=None):
        misses = []
        largest = 0.0
        for row in rows:
            if policy in row['measured'] and policy in row['published']:
                difference = row['measured'][policy]['loss'] - row['published'][policy]
                excess = abs(difference) if within is not None else difference
                largest = max(largest, excess)
                if excess > (within if within is not None else 0.0):
                    misses.append(f'{row["figure"]} {row["panel"]:g} {row["x"]:g}')
        return {'largest': largest, 'missed': misses}

    dqn_misses, dqn_cells = {}, {}
    for policy in ('belief', 'dqn', 'adaptive'):
        compared = [
            (row['name'], row['measured'][policy]['loss'] - row['published']['dqn'])
            for row in rows if policy in row['measured']
        ]
        dqn_cells[policy] = len({name for name, _ in compared})
        dqn_misses[policy] = sorted({
            f'{name} {excess:+.4f}' for name, excess in compared if excess > DQN_TOLERANCE
        })
    return {
        'surrogate': {
            'tolerance': TOLERANCE,
            'lower_bound': worst('lower_bound', TOLERANCE),
            'baseline': worst('baseline', TOLERANCE),
            'mdp_above_published': worst('mdp'),
        },
        'within_0.001_of_published_dqn': {
            policy: {'cells': dqn_cells[policy], 'missed': dqn_misses[policy]}
            for policy in dqn_cells if dqn_cells[policy]
        },
        'traces': {
            row['trace']: {
                policy: row['sums'][policy] >= row['sums']['published_dqn']
                for policy in ('belief', 'dqn', 'adaptive') if policy in row['sums']
            }
            for row in traces
        },
    }


def measure_metrics(models: 'Path | None', data: 'Path | None') -> dict:
    """
    Compare reward estimates for the cell's own models.

    Loss per item when the best share r of the items by each metric is offloaded, and the part of
    the gap between entropy and perfect knowledge that the learned metric closes. Without ``data``
    (.npz as for ``stl_conveyor.training.policy``) these are what the fit measured on items left
    out; nothing is returned where no reward.json is.
    """
    if models is None or not (models / 'reward.json').is_file():
        return {}
    estimator = RewardEstimator.load(models / 'reward.json')
    if data is None:
        content = json.loads((models / 'reward.json').read_text(encoding='utf-8'))
        return content.get('measured', {})
    try:
        with np.load(data) as arrays:
            probabilities = arrays['probabilities']
            weak = arrays['weak_correct'].astype(bool)
            edge = arrays['edge_correct'].astype(bool)
    except (OSError, ValueError, KeyError) as error:
        raise ConfigError(f'{data} lacks classifier results ({error})') from error
    estimates = {
        'entropy': getattr(estimator, 'entropy', estimator).expected_rewards(probabilities)
    }
    if estimator.kind == 'network':
        estimates['network'] = estimator.expected_rewards(probabilities)
    return compare_metrics(estimates, weak, edge, np.random.default_rng(0))


def shipped(folder: str) -> 'Path | None':
    """Return a shipped folder, or None where there is none."""
    try:
        return share_path(folder)
    except ConfigError:
        return None


def plot(rows: 'list[dict]', out: Path) -> 'list[Path]':
    """Redraw the published figures with our curves in them."""
    import matplotlib

    matplotlib.use('Agg')
    from matplotlib import pyplot

    colours = {'lower_bound': 'black', 'clairvoyant': 'dimgray', 'told': 'darkgray',
               'baseline': 'tab:orange', 'mdp': 'tab:blue', 'belief': 'tab:green',
               'dqn': 'tab:red', 'adaptive': 'tab:purple'}
    axes_of = {
        'fig5a': ('spread sp', 'rprob = {:g}; r = 0.1, b = 4'),
        'fig5b': ('log10 rprob', 'sp = {:g}; r = 0.1, b = 4'),
        'fig6': ('bucket depth b', 'r = {:g}; sp = 0.1, rprob = 0.1'),
        'fig8': ('log10 tprob', 'intervals 1 and {:g}; r = 0.1, b = 4'),
        'fig9': ('bucket depth b', 'r = {:g}; intervals 1 and 3'),
    }
    paths = []
    for figure, (x_label, title) in axes_of.items():
        chosen = [row for row in rows if row['figure'] == figure]
        panels = sorted({row['panel'] for row in chosen}, reverse=figure == 'fig5a')
        if not panels:
            continue
        canvas, axes = pyplot.subplots(
            1, len(panels), figsize=(5.2 * len(panels), 4.4), squeeze=False
        )
        for axis, panel in zip(axes[0], panels):
            points = sorted(
                (row for row in chosen if row['panel'] == panel), key=lambda row: row['x']
            )
            for policy, colour in colours.items():
                measured = [
                    (row['x'], row['measured'][policy]) for row in points
                    if policy in row['measured']
                ]
                if measured:
                    x = [at for at, _ in measured]
                    y = [value['loss'] for _, value in measured]
                    error = [value.get('ci95', 0.0) for _, value in measured]
                    axis.errorbar(
                        x, y, yerror_safe(error), color=colour, lw=1.4, capsize=2, ms=5,
                        marker='s' if policy == 'dqn' else None, label=LABELS[policy],
                        ls='none' if policy == 'dqn' else '--' if policy in BOUNDS else '-',
                    )
                theirs = [(row['x'], row['published'][policy]) for row in points
                          if policy in row['published']]
                if theirs:
                    axis.plot(*zip(*theirs), 'x', color=colour, ms=5,
                              label=f'published {PUBLISHED[policy]}')
            axis.set_xlabel(x_label)
            axis.set_title(title.format(panel), fontsize=10)
            axis.grid(alpha=0.3)
        axes[0][0].set_ylabel('top-5 loss')
        entries = {}
        for axis in axes[0]:
            for handle, label in zip(*axis.get_legend_handles_labels()):
                entries.setdefault(label, handle)
        axes[0][-1].legend(entries.values(), entries.keys(), fontsize=7, loc='center left',
                           bbox_to_anchor=(1.01, 0.5))
        canvas.tight_layout()
        path = out / f'policy_{figure}.png'
        canvas.savefig(path, dpi=110)
        pyplot.close(canvas)
        paths.append(path)
    return paths


def yerror_safe(errors: 'list[float]') -> 'list[float]':
    """Replace what is not a number by 0: one sequence has no interval."""
    return [error if np.isfinite(error) else 0.0 for error in errors]


def table(result: dict) -> str:
    """Write the measurements as Markdown."""
    lines = ['# Offloading policies', '', 'Top-5 loss; in brackets the published value. '
             'Intervals are 95 %, of the paired difference to the MDP.', '']
    columns = [name for name in LABELS
               if any(name in row['measured'] for row in result['cells'])]
    lines.append('| cell | ' + ' | '.join(LABELS[name] for name in columns) + ' |')
    lines.append('|---' * (len(columns) + 1) + '|')
    for row in result['cells']:
        entries = []
        for name in columns:
            value = row['measured'].get(name)
            text = '' if value is None else f'{value["loss"]:.4f}'
            if value is not None and name not in (*BOUNDS, 'mdp'):
                text += f' ± {value["difference_ci95"]:.4f}'
            if name in row['published']:
                text += f' ({row["published"][name]:.4f})'
            entries.append(text)
        lines.append(f'| {row["figure"]} {row["name"]} | ' + ' | '.join(entries) + ' |')
    if result['traces']:
        lines += ['', '## Published sequences: sum of the offloaded metric', '']
        for row in result['traces']:
            sums = ', '.join(f'{name} {value:.2f}' for name, value in row['sums'].items())
            lines.append(f'- {row["trace"]}: {sums}')
    lines += ['', '## A process that changes every quarter: loss, and difference to the MDP', '']
    for name, value in result['drift'].items():
        lines.append(f'- {LABELS[name]}: {value["loss"]:.4f}, {value["difference"]:+.4f} ± '
                     f'{value["difference_ci95"]:.4f}')
    lines += ['', '## Several cameras, MDP: loss, and difference to isolated buckets', '']
    for row in result['cameras']:
        losses = ', '.join(
            f'{name} {value["loss"]:.4f} ({value["difference_to_isolated"]:+.4f} ± '
            f'{value["difference_ci95"]:.4f})'
            for name, value in row.items() if name != 'cameras'
        )
        lines.append(f'- {row["cameras"]}: {losses}')
    lines += ['', '## Time of one decision', '']
    for name, value in result['time'].items():
        numbers = ', '.join(f'{key} {number:.1f}' for key, number in value.items())
        lines.append(f'- {name}: {numbers}')
    lines += ['', '## Marks', '', '```', json.dumps(result['checks'], indent=1), '```', '']
    return '\n'.join(lines)


def main(arguments: 'list[str] | None' = None) -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(
        prog='python -m stl_conveyor.bench.policy', description='Compare offloading policies.'
    )
    parser.add_argument('--out', type=Path, required=True)
    parser.add_argument('--reference', type=Path, required=True,
                        help='folder of published numbers')
    parser.add_argument('--networks', type=Path, default=None,
                        help='folder with adaptive.onnx and dqn_<cell>.onnx (default: shipped)')
    parser.add_argument('--models', type=Path, default=None,
                        help='model folder with reward.json (default: shipped)')
    parser.add_argument('--data', type=Path, default=None,
                        help='.npz of classifier results on other items, to compare metrics on; '
                        'without it, what the fit measured on items left out is repeated')
    parser.add_argument('--items', type=int, default=100_000, help='length of a sequence')
    parser.add_argument('--sequences', type=int, default=100)
    parser.add_argument('--part-items', type=int, default=10_000,
                        help='items of each sequence that the slow policies play')
    parser.add_argument('--part-sequences', type=int, default=20,
                        help='sequences that the slow policies play')
    parser.add_argument('--figures', nargs='*', default=None,
                        help='only these: fig5a fig5b fig6 fig8 fig9')
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--resume', action='store_true',
                        help='keep what a run with the same settings has measured')
    options = parser.parse_args(arguments)
    try:
        return run(options)
    except ConveyorError as error:
        print(f'error: {error}', file=sys.stderr)
        return 2


def run(options: argparse.Namespace) -> int:
    """Measure everything that the options ask for and write it."""
    reference = options.reference
    pool = load_pool(reference / 'dqn_fig3_entropy_reward_metric.csv')
    cells = published_cells(reference / 'dqn_paper_figures.json')
    if options.figures is not None:
        cells = [cell for cell in cells if cell.figure in options.figures]
    effort = Effort(
        options.items, options.sequences, options.part_items, options.part_sequences,
        options.seed,
    )
    folder = options.networks or shipped('models/policy')
    models = options.models or shipped('models/items')
    networks = Networks(folder)
    options.out.mkdir(parents=True, exist_ok=True)
    settings = {**asdict(effort), 'weak_loss': WEAK_LOSS}
    path = options.out / 'policy.json'
    known = {}
    if options.resume and path.is_file():
        before = json.loads(path.read_text(encoding='utf-8'))
        if before['settings'] == settings:
            known = {(row['figure'], row['panel'], row['x']): row for row in before['cells']}
    groups: 'dict[str, list[Cell]]' = {}
    for cell in cells:
        groups.setdefault(repr(cell.scenario), []).append(cell)
    rows = list(known.values())
    result = {'settings': settings, 'cells': rows, 'traces': [], 'time': {}, 'checks': {}}
    for place, group in enumerate(groups.values()):
        start = time.perf_counter()
        keys = [(cell.figure, cell.panel, cell.x) for cell in group]
        news = [cell for key, cell in zip(keys, group) if key not in known]
        if news:
            fresh = measure_cells(news, pool, effort)
            rows += fresh
            known.update(((row['figure'], row['panel'], row['x']), row) for row in fresh)
        added = measure_networks([known[key] for key in keys], group, pool, networks, effort)
        if news or added:
            path.write_text(json.dumps(result, indent=1) + '\n', encoding='utf-8')
            print(f'{place + 1}/{len(groups)} {group[0].name} and {len(group) - 1} more: '
                  f'{time.perf_counter() - start:.0f} s', flush=True)
    result['traces'] = measure_traces(reference, pool, networks)
    result['drift'] = measure_drift(pool, networks, effort)
    result['cameras'] = measure_cameras(pool, effort)
    result['time'] = measure_time(pool, networks)
    result['checks'] = check(rows, result['traces'])
    result['metrics'] = measure_metrics(models, options.data)
    path.write_text(json.dumps(result, indent=1) + '\n', encoding='utf-8')
    (options.out / 'policy.md').write_text(table(result), encoding='utf-8')
    plot(rows, options.out)
    print(json.dumps({key: result[key] for key in ('checks', 'traces', 'time')}, indent=1))
    return 0


if __name__ == '__main__':
    sys.exit(main())
