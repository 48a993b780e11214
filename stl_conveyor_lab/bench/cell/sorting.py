# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Measure the whole cell: how well it sorts, in what time, and at what cost.

``python -m stl_conveyor_lab.bench.cell --items 500 --out out`` runs the cell over real DDS and
prints each row with its 95 % interval: Wilson's for a share of items, a bootstrap over items for
what is compared item by item. It writes OUT/cell.json and OUT/sorting.png beside the run's own
files.

The rows: *local only* sends every item where the device's answer says; *ours* is where the items
physically came to rest; *strong on everything* asks the strong model about every uncompressed
crop, which no link allows; *hindsight* lets the strong model answer about the same number of
items that ours offloaded, chosen with the answers known.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from stl_conveyor.assess.plotting import file_pyplot
from stl_conveyor.assess.scoring import ItemRecord, Quantiles, finite
from stl_conveyor.cell.description import CellDescription
from stl_conveyor.codec import Encoder
from stl_conveyor.decision.of_folder import detector_of
from stl_conveyor.decision.stranger_detector import LOCAL
from stl_conveyor.errors import ConfigError, exit_code
from stl_conveyor.models.classifier import Classifier
from stl_conveyor.models.model_folder import ModelFolder
from stl_conveyor.policy import PolicyInput, PolicySettings
from stl_conveyor.policy.for_cell import load_budgets, load_rewards, make_cell_policy
from stl_conveyor.policy.token_bucket import exact_fraction
from stl_conveyor.resources import share_path
from stl_conveyor.run.assess import RunResult
from stl_conveyor.run.cell_run import run_cell
from stl_conveyor.run.settings import RunSettings
from stl_conveyor.run.summary import Summary
from stl_conveyor.sim.arrivals import ARRIVALS
from stl_conveyor.sim.link import LINKS
from stl_conveyor.vision.image import resize_square
from stl_conveyor_lab.measure.machine import machine

RESAMPLES = 10_000
SEED = 70_001  # of the run and of the bootstrap; no model has seen items of this seed
WARM_UP = 5  # items that are not timed


@dataclass(frozen=True)
class Estimate:
    """A value with its 95 % interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class ItemOutcomes:
    """Whether each item was right in each way, bool[N] each, item by item."""

    local: np.ndarray
    ours: np.ndarray
    told: np.ndarray  # sent to the right lane, wherever it came to rest
    strong: np.ndarray
    offloaded: np.ndarray

    def __post_init__(self) -> None:
        """Check that there is something to compare.

        Raises:
            ConfigError: If there are no items.
        """
        if not len(self.local):
            raise ConfigError('no item was scored: nothing to measure')


def outcomes(
    records: Sequence[ItemRecord], strong: Mapping[int, tuple[str, float]], cell: CellDescription
) -> ItemOutcomes:
    """Return what became of the items, in order; an answer that is missing is a wrong one."""
    shown = [r for r in records if r.serial]

    def array(values: Iterable[object]) -> np.ndarray:
        return np.array(list(values), dtype=bool)

    return ItemOutcomes(
        local=array(
            r.local is not None and cell.lane_of(r.local.class_id) == r.lane for r in shown
        ),
        ours=array(r.correct for r in shown),
        told=array(r.action is not None and r.action.lane == r.lane for r in shown),
        strong=array(
            r.stamp_ns in strong and cell.lane_of(strong[r.stamp_ns][0]) == r.lane for r in shown
        ),
        offloaded=array(r.decision is not None and r.decision.offload for r in shown),
    )


def share(right: np.ndarray) -> Estimate:
    """Return the share of true values with Wilson's interval (JASA 22, 1927)."""
    count, total = int(right.sum()), len(right)
    interval = stats.binomtest(count, total).proportion_ci(method='wilson')
    return Estimate(count / total, float(interval.low), float(interval.high))


def hindsight_share(
    local: np.ndarray, strong: np.ndarray, offloaded: np.ndarray, axis: int = -1
) -> np.ndarray:
    """Return the share that is right if as many items as were offloaded are chosen in hindsight.

    The best choice takes items that the strong model alone gets right; an item that both get
    right or wrong changes nothing.
    """
    gains = (strong & ~local).sum(axis)
    return (local.sum(axis) + np.minimum(gains, offloaded.sum(axis))) / local.shape[axis]


def recovered(
    local: np.ndarray, ours: np.ndarray, strong: np.ndarray, offloaded: np.ndarray, axis: int = -1
) -> np.ndarray:
    """Return what ours gains over local only, as a part of what hindsight gains; nan if 0."""
    base = local.mean(axis)
    gain = hindsight_share(local, strong, offloaded, axis) - base
    with np.errstate(divide='ignore', invalid='ignore'):
        return np.where(gain > 0, (ours.mean(axis) - base) / gain, np.nan)


def bootstrap(statistic: Callable[..., Any], *samples: np.ndarray) -> Estimate:
    """Return a statistic of paired samples with its percentile interval over items."""
    rng = np.random.default_rng(SEED)
    size = len(samples[0])
    values = []
    for _ in range(0, RESAMPLES, 1000):  # in parts, to save memory
        chosen = rng.integers(size, size=(1000, size))
        values.append(statistic(*(sample[chosen] for sample in samples)))
    known = np.concatenate(values)
    known = known[np.isfinite(known)]
    if not known.size:
        return Estimate(*[float('nan')] * 3)
    low, high = np.percentile(known, (2.5, 97.5))
    return Estimate(float(statistic(*samples)), float(low), float(high))


def sorting_rows(items: ItemOutcomes) -> dict[str, Estimate]:
    """Return every row about sorting by its name."""
    paired = (items.local, items.ours, items.strong, items.offloaded)
    return {
        'local only': share(items.local),
        'ours': share(items.ours),
        'ours, as told to the diverters': share(items.told),
        'hindsight, same number of items': bootstrap(
            hindsight_share, items.local, items.strong, items.offloaded
        ),
        'strong on everything': share(items.strong),
        'ours over local only': bootstrap(
            lambda ours, local: ours.mean(-1) - local.mean(-1), items.ours, items.local
        ),
        'part of hindsight recovered': bootstrap(recovered, *paired),
    }


@dataclass(frozen=True)
class DeviceTimes:
    """Milliseconds per item on one core.

    Attributes:
        total: Weak model, policy and encoder.
        strangers: What it takes more to tell strangers, too: reading what the weak model computes,
            and the unknown score; of as many pairs of a call with and one without, none where
            the folder tells no strangers.
    """

    weak: Quantiles
    policy: Quantiles
    encoder: Quantiles
    total: Quantiles
    strangers: Quantiles


def device_times(models: Path, crops: Sequence[np.ndarray], settings: RunSettings) -> DeviceTimes:
    """Time the weak model, the policy and the encoder on crops, one thread, one after another."""
    folder = ModelFolder(models)
    classifier = Classifier(folder.path('weak'), threads=1)
    rewards = load_rewards(folder)
    policy = make_cell_policy(
        settings.policy,
        PolicySettings(rate=exact_fraction(settings.rate), depth=exact_fraction(settings.bucket)),
        rewards,
        load_budgets(folder, settings.policy),
    )
    encoder = Encoder(folder, threads=1)
    rows: list[tuple[float, float, float]] = []
    for crop in crops:
        begin = time.perf_counter()
        image = resize_square(crop, folder.image_size)
        answers, doubts = classifier.classify_doubting(image[np.newaxis])
        probabilities, posterior = answers[0], None if doubts is None else doubts[0]
        classified = time.perf_counter()
        policy.decide(
            PolicyInput(
                expected_reward=rewards.expected_reward(probabilities, posterior),
                level=1,
                denominator=1,
            )
        )
        decided = time.perf_counter()
        encoder.encode(image, probabilities)
        encoded = time.perf_counter()
        rows.append((classified - begin, decided - classified, encoded - decided))
    times = 1e3 * np.array(rows[WARM_UP:] or rows)
    weak, decide, encode = (Quantiles.of(column) for column in times.T)
    images = [resize_square(crop, folder.image_size)[np.newaxis] for crop in crops]
    return DeviceTimes(
        weak,
        decide,
        encode,
        Quantiles.of(times.sum(axis=1)),
        Quantiles.of(stranger_times(folder, images)),
    )


def stranger_times(folder: ModelFolder, images: Sequence[np.ndarray]) -> list[float]:
    """Return the milliseconds that it takes more to tell strangers, picture by picture.

    Both ways look at each picture [1, S, S, 3] in turn, the one that is first changing, so that
    what else the machine does meets both.
    """
    detector = detector_of(folder, LOCAL)
    if detector is None:
        return []
    plain = Classifier(folder.path('weak'), threads=1)
    telling = Classifier(folder.path('weak'), threads=1, inside=detector.tensors)

    def look(image: np.ndarray) -> None:
        detector.unknown(telling.look_inside(image)[2])

    ways = (plain.classify_doubting, look)
    found = []
    for k, image in enumerate(images):
        seconds = [0.0, 0.0]
        for which in (0, 1) if k % 2 else (1, 0):
            begin = time.perf_counter()
            ways[which](image)
            seconds[which] = time.perf_counter() - begin
        found.append(1e3 * (seconds[1] - seconds[0]))
    return found[WARM_UP:] or found


@dataclass(frozen=True)
class Promise:
    """A number that this package promises, and what was measured."""

    name: str
    measured: float
    wanted: str
    met: bool


def marks(summary: Summary, rows: Mapping[str, Estimate], device: DeviceTimes) -> list[Promise]:
    """Return every promise with what was measured; what could not be measured is not met."""
    part = rows['part of hindsight recovered'].value
    overhead = summary.latency_ms['overhead'].p99
    score, slack = summary.score, summary.slack_ms.p01
    return [
        Promise('part of hindsight recovered', part, 'at least 0.60', part >= 0.60),
        Promise('missed deadlines', score.missed_deadlines, '0', score.missed_deadlines == 0),
        Promise('unacted', score.unacted, '0', score.unacted == 0),
        Promise('slack p01, ms', slack, 'above 0', slack > 0),
        Promise('middleware and Python p99, ms', overhead, 'under 20', overhead < 20),
        Promise(
            'weak model, policy and encoder, ms',
            device.total.p50,
            'under 25',
            device.total.p50 < 25,
        ),
        Promise(
            'telling strangers beside the weak model, ms',
            device.strangers.p50,
            'at most 0.1',
            device.strangers.p50 <= 0.1,
        ),
    ]


def print_table(result: RunResult, rows: Mapping[str, Estimate], device: DeviceTimes) -> None:
    """Print everything that was measured."""
    summary = result.summary
    settings, score = summary.settings, summary.score
    print(
        f'\n{score.items} items, seed {settings.seed}, (r, b) = ({settings.rate:g}, '
        f'{settings.bucket:g}), policy {settings.policy}, link {settings.link}\n'
    )
    print(f'{"right lane":36}{"share":>8}   95 % interval')
    for name, estimate in rows.items():
        print(f'{name:36}{estimate.value:8.3f}   {estimate.low:.3f} .. {estimate.high:.3f}')
    for name, value in () if summary.lanes is None else summary.lanes.rows():
        print(f'{name:36}   {value}')
    print(
        f'\nmissed deadlines {score.missed_deadlines}, unacted {score.unacted}, outcomes beyond '
        f'the first {score.repeated_outcomes}, slack p01 {summary.slack_ms.p01:.1f} ms'
    )
    sent = score.bytes_sent / score.offloaded if score.offloaded else float('nan')
    print(
        f'offloaded {score.offloaded} ({score.offloaded / score.items:.1%}), '
        f'{sent:.0f} bytes each (payload), {score.edge_answers} edge answers'
    )
    print(f'\n{"ms":24}{"p50":>9}{"p99":>9}{"items":>8}')
    for name, q in summary.latency_ms.items():
        if q.n:
            print(f'{name.replace("_", " "):24}{q.p50:9.2f}{q.p99:9.2f}{q.n:8d}')
    print(f'\n{"one core, ms per item":24}{"p50":>9}{"p99":>9}')
    for name, q in vars(device).items():
        if q.n:
            print(f'{name:24}{q.p50:9.2f}{q.p99:9.2f}')
    print(
        '\nCPU seconds per item: '
        + ', '.join(f'{name} {used:.3f}' for name, used in summary.cpu_seconds_per_item.items())
    )
    print(f'\n{"mark":36}{"measured":>9}   wanted')
    for mark in marks(summary, rows, device):
        print(
            f'{mark.name:36}{mark.measured:9.3f}   {mark.wanted}: '
            + ('met' if mark.met else 'NOT MET')
        )


def plot_shares(path: Path, rows: Mapping[str, Estimate]) -> None:
    """Draw the shares with their intervals.

    Raises:
        MissingDependency: If matplotlib is not installed.
    """
    pyplot = file_pyplot()
    shown = {
        name: rows[name]
        for name in (
            'local only',
            'ours',
            'hindsight, same number of items',
            'strong on everything',
        )
    }
    figure, axes = pyplot.subplots(figsize=(7, 2.6))
    values = np.array([e.value for e in shown.values()])
    whiskers = np.array([[e.value - e.low, e.high - e.value] for e in shown.values()]).T
    places = np.arange(len(shown))[::-1]
    axes.barh(places, values, color=['#9aa5b1', '#1f4e79', '#9aa5b1', '#9aa5b1'])
    axes.errorbar(
        values, places, xerr=np.maximum(whiskers, 0), fmt='none', color='black', capsize=3
    )
    axes.set_yticks(places, list(shown))
    axes.set_xlim(max(0.0, values.min() - 0.15), 1.0)
    axes.set_xlabel('items in the right lane')
    figure.savefig(path, dpi=120, bbox_inches='tight')
    pyplot.close(figure)


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Return the command line."""
    parser = argparse.ArgumentParser(
        prog='stl-conveyor bench cell', description='Measure the whole cell.'
    )
    parser.add_argument('--items', type=int, default=500, help='number of items')
    parser.add_argument('--out', type=Path, default=Path('out'), help='folder for the results')
    parser.add_argument('--seed', type=int, default=SEED, help='of the run')
    parser.add_argument('--policy', default='adaptive', help='which policy decides')
    parser.add_argument('--rate', type=float, default=0.25, help='tokens per time unit')
    parser.add_argument('--bucket', type=float, default=4.0, help='most tokens kept')
    parser.add_argument('--link', default='light', choices=LINKS, help='the link')
    parser.add_argument('--arrivals', default='periodic', choices=ARRIVALS, help='arrival process')
    parser.add_argument(
        '--set',
        action='append',
        default=[],
        metavar='NODE.PARAMETER=VALUE',
        dest='overrides',
        help='any parameter of any node; may be repeated',
    )
    parser.add_argument('--models', default='', metavar='DIR', help='model folder')
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run, measure, print and write; return the exit code."""
    options = parse(arguments)
    settings = RunSettings(
        items=options.items,
        seed=options.seed,
        policy=options.policy,
        rate=options.rate,
        bucket=options.bucket,
        link=options.link,
        arrivals=options.arrivals,
        models=options.models,
        overrides=tuple(options.overrides),
    )

    def work() -> int:
        result = run_cell(settings, options.out, 'auto')
        cell = CellDescription.load(share_path('config/cell.yaml'))
        models = Path(options.models) if options.models else Path(share_path('models/items'))
        rows = sorting_rows(outcomes(result.records, result.strong, cell))
        device = device_times(
            models, [result.crops[stamp] for stamp in sorted(result.crops)][:200], settings
        )
        print(f'\n{machine()}')
        print_table(result, rows, device)
        (options.out / 'cell.json').write_text(
            json.dumps(
                finite(
                    {
                        'machine': machine(),
                        'sorting': {name: asdict(estimate) for name, estimate in rows.items()},
                        'device_ms': {name: asdict(q) for name, q in vars(device).items()},
                        'marks': [asdict(mark) for mark in marks(result.summary, rows, device)],
                        'run': result.summary.as_json(),
                    }
                ),
                indent=1,
            )
            + '\n',
            encoding='utf-8',
        )
        plot_shares(options.out / 'sorting.png', rows)
        return 0 if result.summary.complete else 1

    return exit_code('bench-cell', work)


if __name__ == '__main__':
    sys.exit(main())
