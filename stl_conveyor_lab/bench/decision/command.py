# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Measure the decision by cost: models, promises, strangers, offloading and drift.

``python -m stl_conveyor_lab.bench.decision --out out`` renders belts and strangers that nothing
was trained or calibrated on, asks the models about them, and measures. Everything that takes time
is kept in WORK, so that the command can be stopped and run again; ``--part`` measures some parts
alone. It writes OUT/decision.md, OUT/decision.json and a picture for each part.

With ``--models DIR --data WORK/images`` it measures promises and offloading on items of your own:
the models of a training, and the images that it prepared. The folder must have ``strangers.npz``
and ``decision.npz``, which ``stl-conveyor train`` makes, and for a folder without them ``python -m
stl_conveyor_lab.train.decision --models DIR --images WORK/images --split val``. Their classes are
put into 3, 5 and 8 lanes in the order of their labels; ``--lanes FILE``, a YAML file with the lane
of each label, sorts them by kind.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from stl_conveyor.assess.plotting import file_pyplot
from stl_conveyor.assess.scoring import finite
from stl_conveyor.cell.description import CellDescription
from stl_conveyor.decision.calibration_record import ROLE, CalibrationRecord
from stl_conveyor.decision.of_folder import detector_of
from stl_conveyor.decision.stranger_detector import EDGE, LOCAL, StrangerDetector
from stl_conveyor.errors import ConfigError, exit_code
from stl_conveyor.models.model_folder import ModelFolder
from stl_conveyor.policy.for_cell import load_rewards
from stl_conveyor.resources import share_path, writing
from stl_conveyor_lab.bench.decision import (
    adaptive,
    drift,
    items,
    lane_time,
    models,
    offloading,
    purity,
    strangers,
)
from stl_conveyor_lab.train.decision import Looked, looked_split

PARTS = ('models', 'purity', 'adaptive', 'strangers', 'offloading', 'lane_time', 'drift')
OWN_ITEMS_PARTS = ('purity', 'offloading')
OWN_LANES = (3, 5, 8)
FEWEST_BELTS = 4  # of which splits by belt are drawn
TITLES = {
    'models': 'How often the models are right',
    'purity': 'What is promised about purity',
    'adaptive': 'What verified outcomes keep of it',
    'strangers': 'Strangers',
    'offloading': 'Offloading by cost and by class',
    'lane_time': 'Each lane its own time',
    'drift': 'Drift',
}


def as_json(rows: Sequence[Any]) -> list[dict[str, Any]]:
    """Return the rows of a part as mappings."""
    return [asdict(row) for row in rows]


class Bench:
    """One measurement: what is asked, and what is read once and used by several parts."""

    def __init__(self, options: argparse.Namespace) -> None:
        """Open the model folder.

        Raises:
            ConfigError: When models and images do not belong together, or items are missing.
        """
        self.out: Path = options.out
        self.work: Path = options.work or options.out / 'work'
        self.data: Path | None = options.data
        if (options.data is None) != (options.models is None):
            raise ConfigError(
                'own items take both: DATA (images/ of the work folder of a training) and MODELS '
                '(its model folder)'
            )
        self.folder = ModelFolder(options.models or share_path('models/items'))
        if ROLE not in self.folder.roles:
            raise ConfigError(
                f'{self.folder.name}: has no calibration items (decision.npz); make them with '
                'python -m stl_conveyor_lab.train.decision'
            )
        self.cell = CellDescription.load(share_path('config/cell.yaml'))
        self.belts, self.stranger_belts = options.belts, options.stranger_belts
        self.render, self.splits = not options.no_render, options.splits
        self.own_lanes: list[Path] = options.lanes or []

    @property
    def shards(self) -> list[Path]:
        """Return the shards of own items."""
        found = items.own_shards(self.work, self.belts, self.render)
        if not found:
            raise ConfigError(f'{self.work}: has no rendered belts; leave --no-render out')
        return found

    @cached_property
    def own(self) -> Looked:
        """Return what the models say of the own items."""
        if self.data is None:
            return items.looked(self.folder, self.shards, self.work)
        return looked_split(self.folder, self.data, 'test', 0)

    @cached_property
    def strange(self) -> Looked:
        """Return what the models say of strangers."""
        shards = items.stranger_shards(self.work, self.stranger_belts, self.render)
        if not shards:
            raise ConfigError(f'{self.work}: has no rendered strangers; leave --no-render out')
        return items.looked(self.folder, shards, self.work)

    def of_own_lanes(self) -> dict[str, CellDescription]:
        """Return the cell with the models' classes in lanes, by kind or as the files say."""
        labels = self.folder.labels
        if self.own_lanes:
            return {
                path.stem: offloading.lanes_of_file(self.cell, labels, path)
                for path in self.own_lanes
            }
        return {
            f'{n} lanes{" by kind" if self.data is None else ""}': offloading.lanes_by_kind(
                self.cell, labels, n
            )
            for n in OWN_LANES
        }

    @property
    def record(self) -> CalibrationRecord:
        """Return the calibration items of the folder."""
        return CalibrationRecord.load(self.folder.path(ROLE))

    def models(self, pyplot: Any) -> tuple[list[str], Any, Any]:
        """Return lines, figure and content of the part."""
        rows = models.measure_models(self.own, *models.asked(self.folder, self.shards, self.work))
        return (models.model_lines(rows), models.draw_models(pyplot, rows), as_json(rows))

    def purity(self, pyplot: Any) -> tuple[list[str], Any, Any]:
        """Return lines, figure and content of the part."""
        cell = self.cell if self.data is None else next(iter(self.of_own_lanes().values()))
        ways = [purity.ITEM]
        # What stands for belts of own items is dealt at random.
        if self.data is None and len(np.unique(self.own.belts)) >= FEWEST_BELTS:
            ways.append(purity.BELT)
        rows = [
            row
            for by in ways
            for row in purity.measure_purity(
                cell, self.folder.labels, self.own, splits=self.splits, by=by
            )
        ]
        return (purity.purity_lines(rows), purity.draw_purity(pyplot, rows), as_json(rows))

    def adaptive(self, pyplot: Any) -> tuple[list[str], Any, Any]:
        """Return lines, figure and content of the part."""
        detector = self._detector(EDGE)
        rows = adaptive.measure_adaptive(
            self.cell,
            self.folder.labels,
            self.record,
            adaptive.worlds(
                self.own,
                self.strange,
                detector,
                adaptive.out_of_focus(self.folder, detector, self.shards, self.work),
            ),
        )
        return (adaptive.adaptive_lines(rows), adaptive.draw_adaptive(pyplot, rows), as_json(rows))

    def _detector(self, source: str) -> StrangerDetector:
        detector = detector_of(self.folder, source)
        if detector is None:
            raise ConfigError(f'{self.folder.name}: tells no strangers (strangers.npz)')
        return detector

    def strangers(self, pyplot: Any) -> tuple[list[str], Any, Any]:
        """Return lines, figure and content of the part."""
        rows = strangers.measure_strangers(self.folder, self.own, self.strange)
        return (
            strangers.stranger_lines(rows),
            strangers.draw_strangers(pyplot, rows),
            as_json(rows),
        )

    def offloading(self, pyplot: Any) -> tuple[list[str], Any, Any]:
        """Return lines, figure and content of the part."""
        cells = {'3 lanes, hard pairs apart (shipped)': self.cell} if self.data is None else {}
        rows = offloading.measure_offloading(
            {**cells, **self.of_own_lanes()},
            self.folder.labels,
            self.record,
            load_rewards(self.folder),
            self.own,
        )
        return (
            offloading.offload_lines(rows),
            offloading.draw_offloading(pyplot, rows),
            as_json(rows),
        )

    def lane_time(self, pyplot: Any) -> tuple[list[str], Any, Any]:
        """Return lines, figure and content of the part."""
        rows = lane_time.measure_lane_time(self.cell, self.folder.labels, self.record, self.own)
        return (
            lane_time.lane_time_lines(rows),
            lane_time.draw_lane_time(pyplot, rows),
            as_json(rows),
        )

    def drift(self, pyplot: Any) -> tuple[list[str], Any, Any]:
        """Return lines, figure and content of the part."""
        detector = self._detector(LOCAL)
        own = self.own
        unknown = detector.unknown(own.local_inside)
        told = own.local.argmax(axis=1)
        belief = own.local if own.posterior is None else own.posterior
        trust = belief[np.arange(len(told)), told]
        streams = [
            drift.stream_of(
                shard,
                trust[own.belts == belt],
                told[own.belts == belt],
                unknown[own.belts == belt],
                self.folder.labels,
            )
            for belt, shard in enumerate(self.shards)
        ]
        # A kind that is as strange to the device as strangers are on the whole.
        rows, false_alarms, count = drift.measure_drift(
            streams, detector.unknown(self.strange.local_inside), kept=self.work / 'drift'
        )
        return (
            drift.drift_lines(rows, false_alarms, count),
            drift.draw_drift(pyplot, rows),
            drift.as_json(rows, false_alarms, count),
        )


def measure(bench: Bench, parts: Sequence[str]) -> None:
    """Measure parts, each kept in OUT/parts, and write the report of all that were measured."""
    pyplot = file_pyplot()
    kept = bench.out / 'parts'
    with writing(kept):
        kept.mkdir(parents=True, exist_ok=True)
    for part in parts:
        run: Callable[[Any], tuple[list[str], Any, Any]] = getattr(bench, part)
        lines, figure, content = run(pyplot)
        name = f'{part}.json'
        with writing(kept / name):
            (kept / name).write_text(
                json.dumps({'lines': lines, 'content': finite(content)}, indent=1) + '\n',
                encoding='utf-8',
            )
        with writing(bench.out / f'decision_{part}.png'):
            figure.savefig(bench.out / f'decision_{part}.png', dpi=110, bbox_inches='tight')
        pyplot.close(figure)
        print('\n'.join(['', TITLES[part], *lines]), flush=True)
    _write(bench, kept)


def _write(bench: Bench, kept: Path) -> None:
    own = bench.own
    page = [
        f'# The decision by cost: {bench.folder.name}',
        '',
        f'{len(own.classes)} items of {len(np.unique(own.belts))} '
        f'{"belts" if bench.data is None else "parts of a test split"} that no training and no '
        'calibration has seen.',
    ]
    result: dict[str, Any] = {'models': bench.folder.name, 'items': len(own.classes)}
    for part in PARTS:
        path = kept / f'{part}.json'
        if not path.exists():
            continue
        found = json.loads(path.read_text(encoding='utf-8'))
        result[part] = found['content']
        page += ['', f'## {TITLES[part]}', '', *found['lines']]
        page += ['', f'![{TITLES[part]}](decision_{part}.png)']
    for name, text in (
        ('decision.md', '\n'.join(page) + '\n'),
        ('decision.json', json.dumps(finite(result), indent=1) + '\n'),
    ):
        with writing(bench.out / name):
            (bench.out / name).write_text(text, encoding='utf-8')
    print(f'report: {bench.out / "decision.md"}')


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Return the command line."""
    parser = argparse.ArgumentParser(
        prog='stl-conveyor bench decision',
        description='Measure models, promises, strangers, offloading by cost, and drift.',
    )
    parser.add_argument('--out', type=Path, default=Path('out'), help='folder for the results')
    parser.add_argument('--work', type=Path, help='what is kept between runs (OUT/work)')
    parser.add_argument('--part', action='append', choices=PARTS, help='may be repeated')
    parser.add_argument('--belts', type=int, default=20, help='unseen belts of own items')
    parser.add_argument('--stranger-belts', type=int, default=4)
    parser.add_argument('--splits', type=int, default=purity.SPLITS)
    parser.add_argument('--no-render', action='store_true', help='take what was rendered before')
    parser.add_argument('--data', type=Path, help='images/ of the work folder of a training')
    parser.add_argument('--models', type=Path, help='its model folder')
    parser.add_argument(
        '--lanes',
        type=Path,
        action='append',
        metavar='FILE',
        help='YAML with the lane of each label, in place of 3, 5 and 8 lanes; may be repeated',
    )
    options = parser.parse_args(arguments)
    if options.belts < 1 or options.stranger_belts < 1 or options.splits < 1:
        parser.error('belts, stranger-belts and splits are 1 at least')
    return options


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; return its exit code."""
    options = parse(arguments)

    def run() -> None:
        bench = Bench(options)
        wanted = options.part or (PARTS if options.data is None else OWN_ITEMS_PARTS)
        if options.data is not None and (left := set(wanted) - set(OWN_ITEMS_PARTS)):
            raise ConfigError(
                f'{", ".join(sorted(left))}: is measured on the shipped items alone; leave DATA '
                'and MODELS out'
            )
        measure(bench, wanted)

    return exit_code('stl-conveyor bench decision', run)


if __name__ == '__main__':
    sys.exit(main())
