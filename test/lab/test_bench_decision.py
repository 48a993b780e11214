# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""The benchmark of the decision counts right, on items made up for it."""

from __future__ import annotations

import numpy as np
import pytest

from stl_conveyor.cell.description import CellDescription
from stl_conveyor.decision.calibration_record import CalibrationRecord
from stl_conveyor.policy import RewardEstimator
from stl_conveyor.resources import share_path
from stl_conveyor.sim.link import LinkSettings

command = pytest.importorskip(
    'stl_conveyor_lab.bench.decision.command', reason='takes what `make setup` installs'
)

from stl_conveyor.decision.drift import look_at  # noqa: E402
from stl_conveyor_lab.bench.decision import drift, lane_time, offloading, purity, strangers  # noqa: E402
from stl_conveyor_lab.train.decision import LENGTHS, Looked  # noqa: E402

CELL = CellDescription.load(share_path('config/cell.yaml'))
LABELS = CELL.classes


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


def test_changes_are_told_and_steady_streams_are_not(monkeypatch):
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

    rows, false_alarms, items = drift.measure_drift([stream(0.0), stream(0.02)], np.full(9, 1.0))
    assert items == 1000 and false_alarms == 0
    assert {row.told for row in rows} == {1.0}
    assert all(row.median <= row.late <= drift.AFTER for row in rows)
    assert 'False alarms: 0 in 1,000' in drift.drift_lines(rows, false_alarms, items)[-1]


def test_own_items_take_both_data_and_models(tmp_path, capsys):
    assert command.main(['--out', str(tmp_path), '--data', str(tmp_path)]) != 0
    assert 'MODELS' in capsys.readouterr().err
