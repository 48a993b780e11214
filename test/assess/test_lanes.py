# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Purity, yield, rejects and cost, counted by hand."""

from __future__ import annotations

import numpy as np
import pytest

from stl_conveyor.assess.lanes import (
    Interval,
    cell_result,
    purity_curve,
    result_of_run,
    trusted_answers,
)
from stl_conveyor.assess.scoring import Action, ItemRecord
from stl_conveyor.assess.table import lane_text
from stl_conveyor.cell.description import CellDescription
from stl_conveyor.resources import share_path

CELL = CellDescription.load(share_path('config/cell.yaml'))


def test_lanes_are_counted_by_what_is_in_them():
    classes = ['hex_nut_m8'] * 6 + ['lock_nut_m8'] * 3 + ['spanner'] * 2
    found = ['A'] * 4 + ['B', 'reject', 'B', 'B', 'A', 'reject', 'A']
    result = cell_result(CELL, classes, found)
    a, b, c = result.lanes
    assert (a.entered, a.belong) == (6, 6)
    assert (a.purity.value, a.gain.value) == pytest.approx((4 / 6, 4 / 6))
    assert (b.purity.value, b.gain.value) == pytest.approx((2 / 3, 2 / 3))
    assert np.isnan(c.purity.value) and str(c.purity) == '-'
    assert result.rejected.value == pytest.approx(1 / 9)
    assert result.foreign_caught.value == pytest.approx(1 / 2)
    # Wrong lanes: one nut in B, one lock nut in A, one spanner in A; one reject of .5.
    assert result.cost.value == pytest.approx(1000 * 3.5 / 11)
    assert a.purity.low < a.purity.value < a.purity.high
    assert result.purity.value == pytest.approx(6 / 9)
    assert result.gain.value == pytest.approx(6 / 9)
    assert dict(result.rows())['all lanes: purity / yield'].startswith('0.667')
    assert result.as_json()['lanes']['A']['entered'] == 6


def test_run_is_scored_by_where_items_rest():
    records = [
        ItemRecord(1, serial=1, class_id='hex_nut_m8', lane='A', rest_lane='A'),
        ItemRecord(2, serial=2, class_id='hex_nut_m8', lane='A', rest_lane='lost'),
        ItemRecord(3, serial=3, class_id='hex_nut_m8', lane='A'),
    ]
    result = result_of_run(records, CELL)
    assert result.lanes[0].gain.value == 0.5 and result.rejected.value == 0.5


def test_curve_rises_to_purity_as_doubtful_items_are_rejected():
    rng = np.random.default_rng(1)
    probabilities = rng.random(4000)
    curve = purity_curve(probabilities, rng.random(4000) < probabilities)
    shares, purities = zip(*curve)
    assert list(shares) == sorted(shares, reverse=True) and shares[-1] == 0
    assert purities[0] > 0.95 and purities[-1] == pytest.approx(0.5, abs=0.03)


@pytest.mark.parametrize(
    'source, number, text',
    [(0, 8, 'no answer'), (2, 14, 'doubtful'), (1, 15, 'unknown'), (2, 16, 'too late')],
)
def test_reject_says_why(source, number, text):
    action = Action('reject', '', 0.0, source, 0.1, False, '', 0, reason_number=number)
    assert lane_text(action) == f'reject: {text}'


def test_sorted_item_shows_its_lane_alone():
    assert lane_text(Action('B', 'x', 0.9, 2, 0.1, False, '', 0)) == 'B'


def test_mean_has_an_interval_that_shrinks():
    rng = np.random.default_rng(2)
    few, many = (Interval.of_mean(rng.normal(size=n)) for n in (50, 5000))
    assert few.high - few.low > 5 * (many.high - many.low)


def test_answers_are_trusted_by_what_they_told_of_the_lane():
    def item(stamp, source, lane, told=0.0, score=0.7):
        action = Action(lane, 'x', score, source, 0.1, False, '', 0, lane_probability=told)
        return ItemRecord(stamp, serial=stamp, lane='A', rest_lane=lane, action=action)

    records = [item(1, 1, 'A'), item(2, 2, 'B', 0.9), item(3, 2, 'A', 0.95), item(4, 2, 'reject')]
    found = trusted_answers(records, CELL)
    assert [list(part) for part in found['local answer']] == [[0.7], [True]]
    assert [list(part) for part in found['answer of the edge']] == [[0.9, 0.95], [False, True]]
