# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""The benchmark of the decision counts right, on items made up for it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from stl_conveyor.cell.description import CellDescription
from stl_conveyor.decision import guarantee
from stl_conveyor.decision.calibration_record import CalibrationRecord
from stl_conveyor.decision.stranger_detector import EDGE, FORMAT, StrangerDetector
from stl_conveyor.errors import ConfigError
from stl_conveyor.outside_files import read_yaml
from stl_conveyor.policy import RewardEstimator
from stl_conveyor.resources import share_path
from stl_conveyor.sim.link import LinkSettings

command = pytest.importorskip(
    'stl_conveyor_lab.bench.decision.command', reason='takes what `make setup` installs'
)

from stl_conveyor.decision.drift import look_at  # noqa: E402
from stl_conveyor_lab.bench.decision import (  # noqa: E402
    adaptive,
    drift,
    lane_time,
    models,
    offloading,
    purity,
    strangers,
)
from stl_conveyor_lab.train.decision import LENGTHS, Looked, fit_detector  # noqa: E402

CELL = CellDescription.load(share_path('config/cell.yaml'))
LABELS = CELL.classes
LANES = Path(__file__).resolve().parents[2] / 'examples/lanes'


def told(rng, classes, share_right, sure):
    """Return answers of which a share is right, and that say how sure they are."""
    count = len(classes)
    right = rng.random(count) < share_right
    other = (classes + rng.integers(1, len(LABELS), count)) % len(LABELS)
    answers = np.full((count, len(LABELS)), 0.002)
    score = np.where(right, rng.uniform(sure, 0.99, count), rng.uniform(0.3, 0.8, count))
    answers[np.arange(count), np.where(right, classes, other)] = score
    return (answers / answers.sum(axis=1, keepdims=True)).astype(np.float32)


@pytest.fixture(scope='module')
def looked():
    rng = np.random.default_rng(3)
    classes = rng.integers(0, len(LABELS), 2400)
    edge = np.stack([told(rng, classes, 0.99, 0.7)] * len(LENGTHS))
    return Looked(
        classes,
        np.arange(2400) % 8,
        np.array([LABELS[k] for k in classes]),
        told(rng, classes, 0.8, 0.5),
        edge,
        [],
        [],
    )


@pytest.fixture(scope='module')
def record(looked):
    rng = np.random.default_rng(4)
    return CalibrationRecord(
        looked.classes,
        rng.random(len(looked.classes)) < 0.3,
        np.array(LENGTHS),
        looked.local.astype(float),
        looked.edge.astype(float),
    )


def test_fixed_score_rejects_no_more_than_it_must():
    scores = np.array([0.9, 0.8, 0.7, 0.6])
    right = np.array([True, True, False, True])
    assert purity.fixed_rejects(scores, right, 1.0) == 0.5
    assert purity.fixed_rejects(scores, right, 0.75) == 0.0
    assert purity.fixed_rejects(scores, ~right, 0.9) == 1.0


def test_promises_are_counted_over_splits(looked):
    rows = purity.measure_purity(CELL, LABELS, looked, targets=(0.95, 0.999), splits=4)
    easy, hard = rows
    assert easy.promised == 4 and easy.kept == 1.0 and easy.purity >= 0.95
    assert 0 <= easy.rejected < 0.2
    assert hard.promised + (hard.needed > 0) >= 1
    assert len(purity.purity_lines(rows)) == 4
    # Two classes of one lane look alike: the lane is sure where no class is.
    rng = np.random.default_rng(5)
    edge = told(rng, looked.classes, 0.92, 0.7)
    alike = looked.classes < 2
    assert {CELL.lane_of(LABELS[k]) for k in (0, 1)} == {CELL.lanes[0].name}
    share = rng.uniform(0.4, 0.6, alike.sum())
    edge[alike] = 0.002
    edge[alike, 0], edge[alike, 1] = 0.97 * share, 0.97 * (1 - share)
    (row,) = purity.measure_purity(
        CELL, LABELS, replace(looked, edge=np.stack([edge] * len(LENGTHS))), (0.95,), splits=4
    )
    assert row.promised == 4 and row.score_promised > 0
    assert row.both_rejected < row.score_rejected - 0.05 and row.no_more == 1.0


def test_splits_by_belt_leave_whole_belts_to_the_test(looked, monkeypatch):
    # One belt of eight on which the edge is surely wrong.
    edge = looked.edge.copy()
    edge[:, looked.belts == 3] = np.roll(edge[:, looked.belts == 3], 8, axis=2)

    def measured(way):
        (row,) = purity.measure_purity(
            CELL, LABELS, replace(looked, edge=edge), (0.95,), splits=8, by=way
        )
        return row

    assert measured(purity.ITEM).promised == 0
    # It is also promised where that belt only fixes the order, and then it is kept.
    three_rows = measured(purity.BELT)
    monkeypatch.setattr(guarantee, 'ROWS', (0.8, 0.2, 0.0))
    by_belt = measured(purity.BELT)
    # It is promised where that belt is left to the test, and then it is not kept.
    assert 0 < by_belt.promised < 8 and by_belt.splits_kept == 0.0
    assert by_belt.promised < three_rows.promised < 8 and 0.0 < three_rows.splits_kept < 1.0


def test_models_are_counted_by_belt_beside_their_marks(looked):
    strong = looked.classes.copy()
    strong[looked.belts == 2] = (strong[looked.belts == 2] + 1) % len(LABELS)
    alone = np.stack([looked.classes] * len(LENGTHS))
    rows = {(row.model, row.length): row for row in models.measure_models(looked, strong, alone)}
    assert rows[models.STRONG, 0].accuracy == pytest.approx(7 / 8)
    assert rows[models.STRONG, 0].worst == 0.0 and rows[models.STRONG, 0].met is False
    assert rows[models.CODEC, 512].met and rows[models.CODEC, 512].worst_mark == 0.96
    assert rows[models.FUSED, 512].met is None
    row = rows[models.WEAK, 0]
    assert row.worst < row.accuracy < row.high and row.low < row.accuracy
    lines = models.model_lines(list(rows.values()))
    assert len(lines) == 2 + len(rows) + 2
    assert '| strong |  | 0.8750' in lines[3] and lines[3].endswith('| not met |')
    # The local answer harms here: the codec alone is always right.
    assert lines[-1].endswith('not met at 64, 128, 256, 512, 1024 B.')


def as_sure_as_right(rng, classes, share_right):
    """Return answers that doubt between two lanes, and are right as often as a function says."""
    count, half = len(classes), len(LABELS) // 2
    sure = 1 - 0.5 * rng.random(count) ** 3
    other = (classes + half) % len(LABELS)
    right = rng.random(count) < share_right(sure)
    answers = np.zeros((count, len(LABELS)))
    answers[np.arange(count), np.where(right, classes, other)] = sure
    answers[np.arange(count), np.where(right, other, classes)] = 1 - sure
    return answers


def test_verified_outcomes_keep_the_bound_where_the_world_has_changed():
    rng = np.random.default_rng(6)
    classes = rng.integers(0, len(LABELS), 3000)
    known = as_sure_as_right(rng, classes, lambda sure: sure)
    record = CalibrationRecord(
        classes, np.arange(3000) % 3 == 0, np.array(LENGTHS), known, np.stack([known] * 5)
    )
    # Answers are right less often than they say, and one item in twenty is none of the cell's.
    answers = as_sure_as_right(rng, np.append(classes, classes[:200]), lambda sure: sure**2)
    changed = adaptive.World(
        'poor light, strangers',
        answers,
        np.zeros(len(answers)),
        np.append(classes, np.full(200, -1)),
        strangers=0.05,
    )
    assert {-1, 0, 15} <= set(changed.classes[changed.draw(500, rng)])
    (row,) = adaptive.measure_adaptive(
        CELL, LABELS, record, [changed], items=1500, streams=2, purity=0.9
    )
    assert row.tracked > row.without + 0.05
    assert row.worst_without <= row.without and row.worst_tracked <= row.tracked
    assert row.kept == row.lanes and row.lanes + row.exhausted == 6
    assert row.rejected_tracked > row.rejected_without
    assert len(adaptive.adaptive_lines([row])) == 5


@pytest.mark.parametrize('learns', [False, True])
def test_detector_of_few_items_and_of_dead_channels_comes_back_from_its_file(tmp_path, learns):
    rng = np.random.default_rng(8)
    few = Looked(
        np.arange(9) % 3, np.arange(9) % 8, np.array(['x'] * 9), *(np.zeros((9, 3)),) * 2, [], []
    )
    layers = rng.random((9, 40)).astype(np.float32), rng.random((9, 12)).astype(np.float32)
    layers[0][:, :20] = 0.0  # channels that never answer, and one that hardly differs
    layers[0][:, 20] = 5.0 + 1e-6 * rng.random(9)
    inside = [list(layers)] * len(LENGTHS)
    decoys = [[layer + 1 for layer in layers]] * len(LENGTHS) if learns else None
    detector, scores = fit_detector(
        EDGE, ('last', 'block'), inside, LENGTHS, few, 3, decoys=decoys
    )
    assert ((0 <= scores) & (scores < 1)).all()
    np.savez(tmp_path / 'strangers.npz', format=np.int64(FORMAT), **detector.arrays(EDGE))
    again = StrangerDetector.load(tmp_path / 'strangers.npz', EDGE)
    assert np.isfinite(again.distances(list(layers), [512] * 9)).all()


def test_auroc_counts_ties_half():
    assert strangers.auroc(np.array([1.0, 2.0]), np.array([3.0, 4.0])) == 1.0
    assert strangers.auroc(np.array([1.0, 2.0]), np.array([2.0])) == 0.75
    assert strangers.auroc(np.array([1.0]), np.array([1.0])) == 0.5


def test_offloading_by_cost_saves_where_lanes_hold_several_classes(looked, record):
    cells = {f'{n} lanes': offloading.lanes_by_kind(CELL, LABELS, n) for n in (2, 8)}
    assert [len(cell.lanes) for cell in cells.values()] == [2, 8]
    rewards = RewardEstimator.load(share_path('models/items/reward.json'))
    rows = offloading.measure_offloading(cells, LABELS, record, rewards, looked)
    assert [row.rate for row in rows] == [*offloading.RATES] * 2
    for row in rows:
        assert row.hindsight <= min(row.by_class, row.by_cost) + 1e-9
        assert max(row.by_class, row.by_cost) <= row.local + 1e-9
        assert row.low <= row.fall <= row.high
    assert len(offloading.offload_lines(rows)) == 2 + len(rows)


def test_answers_over_a_wide_link_are_all_used_and_none_over_a_dead_one(
    looked, record, monkeypatch
):
    dead = LinkSettings(outage=True)
    monkeypatch.setattr(lane_time, 'LINKS', {'wide': LinkSettings(), 'dead': dead})
    few = Looked(
        looked.classes[:60],
        looked.belts[:60],
        looked.names[:60],
        looked.local[:60],
        looked.edge[:, :60],
        [],
        [],
    )
    rows = {
        (link, own): lane_time.play_lanes(CELL, LABELS, record, few, link, own)
        for link in ('wide', 'dead')
        for own in (False, True)
    }
    assert all(row.items == 60 and row.offloaded > 0.2 for row in rows.values())
    for own in (False, True):
        assert rows['wide', own].used == 1.0 and rows['dead', own].used == 0.0
        assert rows['wide', own].cost < rows['dead', own].cost
    # Where nothing arrives the local answer decides, whenever it is asked.
    assert rows['dead', True].cost == pytest.approx(rows['dead', False].cost)


def test_out_of_focus_is_less_sharp_and_as_bright():
    rng = np.random.default_rng(1)
    image = np.full((96, 96, 3), 60, np.uint8)
    image[np.indices((96, 96)).sum(axis=0) // 24 % 2 == 1] = 180
    sharp, soft = look_at(image), look_at(drift.blurred(image, rng))
    assert soft.sharpness < 0.7 * sharp.sharpness
    assert soft.light == pytest.approx(sharp.light, rel=0.05)


def test_changes_are_told_and_steady_streams_are_not(monkeypatch, tmp_path):
    monkeypatch.setattr(drift, 'BEFORE', 600)
    monkeypatch.setattr(drift, 'ALARM_ITEMS', 500)
    rng = np.random.default_rng(2)

    def stream(tint):
        def looks(light=1.0, sharpness=1.0):
            return [
                drift.ItemLook(
                    light * rng.normal(0.4, 0.01),
                    sharpness * rng.normal(0.4, 0.02),
                    rng.normal(tint, 0.002),
                )
                for _ in range(100)
            ]

        return drift.Stream(
            {
                'nothing': looks(),
                'lamp dimmer by a third': looks(light=0.67),
                'out of focus': looks(sharpness=0.7),
            },
            np.arange(100) % 4,
            np.array([LABELS[k % 4] for k in range(100)]),
            rng.random(100),
        )

    streams, strange = [stream(0.0), stream(0.02)], np.full(9, 1.0)
    found = drift.measure_drift(streams, strange, kept=tmp_path)
    rows, false_alarms, items = found
    assert items == 1000 and false_alarms == 0
    assert {row.told for row in rows} == {1.0}
    assert all(row.median <= row.late <= drift.AFTER for row in rows)
    assert 'False alarms: 0 in 1,000' in drift.drift_lines(rows, false_alarms, items)[-1]

    # Stopped after the first belt, it measures the second alone; otherwise asked, both anew.
    measured, measure_belt = [], drift.measure_belt

    def counted(streams, number, *rest):
        measured.append(number)
        return measure_belt(streams, number, *rest)

    monkeypatch.setattr(drift, 'measure_belt', counted)
    (second,) = tmp_path.glob('1_*.json')
    second.unlink()
    assert drift.measure_drift(streams, strange, kept=tmp_path) == found and measured == [1]
    monkeypatch.setattr(drift, 'ALARM_ITEMS', 400)
    assert drift.measure_drift(streams, strange, kept=tmp_path)[2] == 800 and measured == [1, 0, 1]


def test_lanes_of_a_file_hold_every_label_once(tmp_path):
    path = tmp_path / 'kinds.yaml'
    kinds = {label: 'round' if 'washer' in label else 'long' for label in LABELS}
    path.write_text(''.join(f'{label}: {kind}\n' for label, kind in kinds.items()))
    cell = offloading.lanes_of_file(CELL, LABELS, path)
    assert {lane.name for lane in cell.lanes} == {'round', 'long'}
    assert {label: cell.lane_of(label) for label in LABELS} == kinds
    for text, named in (
        ('hex_nut_m8: A\n', 'has no lane for'),
        (path.read_text() + 'teapot: A\n', "'teapot' is no label"),
        (path.read_text().replace('round', 'reject'), 'is the reject lane'),
        ('- a\n', 'give the lane of each label'),
        ('a: [', 'kinds.yaml'),
    ):
        path.write_text(text)
        with pytest.raises(ConfigError, match=named):
            offloading.lanes_of_file(CELL, LABELS, path)
        path.write_text(''.join(f'{label}: {kind}\n' for label, kind in kinds.items()))


def test_lanes_of_the_grocery_store_hold_every_kind():
    kinds = set()
    for count in (3, 5, 8):
        path = LANES / f'grocery_{count}.yaml'
        labels = tuple(read_yaml(path))
        kinds.add(tuple(sorted(labels)))
        cell = offloading.lanes_of_file(CELL, labels, path)
        assert len(cell.lanes) == count and all(lane.classes for lane in cell.lanes)
    (names,) = kinds
    assert len(names) == 43


def test_own_items_take_both_data_and_models(tmp_path, capsys):
    assert command.main(['--out', str(tmp_path), '--data', str(tmp_path)]) != 0
    assert 'MODELS' in capsys.readouterr().err
