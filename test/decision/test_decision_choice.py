# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Costs and targets of a cell, and the lane that follows from them."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from stl_conveyor.cell.description import CellDescription
from stl_conveyor.decision.costs import CostTable
from stl_conveyor.decision.decide import Decider, Doubt
from stl_conveyor.decision.strangeness import foreign_probability, unknown_scores
from stl_conveyor.errors import ConfigError

CELL_FILE = Path(__file__).parents[2] / 'config' / 'cell.yaml'
CONTENT = yaml.safe_load(CELL_FILE.read_text())
LABELS = tuple(name for lane in CONTENT['lanes'] for name in lane['classes'])


def cell_with(lanes=(), **sections):
    content = copy.deepcopy(CONTENT)
    for lane, changes in zip(content['lanes'], lanes):
        lane.update(changes)
    return CellDescription.from_mapping({**content, **sections})


def certainly(name):
    return np.eye(len(LABELS))[LABELS.index(name)]


@st.composite
def distributions(draw):
    weights = np.array(
        draw(
            st.lists(st.floats(0, 1, allow_nan=False), min_size=len(LABELS), max_size=len(LABELS))
        )
    )
    return (weights + 1e-6) / (weights + 1e-6).sum()


def test_shipped_cell_has_no_costs_and_sorts_by_class():
    cell = cell_with()
    assert not cell.decides_by_cost
    assert cell.strangers.rejects == 0.02


@pytest.mark.parametrize(
    'sections, lane, named',
    [
        ({'costs': {'reject': float('nan')}}, {}, 'costs.reject'),
        ({'costs': {'wrong': 1e308}}, {}, r'costs.wrong: 1e\+308 is not within'),
        ({'costs': {'wrong': -1}}, {}, 'costs.wrong'),
        ({'costs': {'wrong': 10**400}}, {}, 'costs.wrong: 10{400} is not a finite number'),
        ({'costs': {'wrnog': 1}}, {}, "costs: unknown key 'wrnog'"),
        ({'costs': [1]}, {}, 'costs: give keys and values'),
        ({}, {'purity': 1.0}, r'lanes\[0\].purity: 1.0 .* never wrong'),
        ({}, {'purity': 0.2}, r'lanes\[0\].purity'),
        ({}, {'purity': float('nan')}, r'lanes\[0\].purity'),
        ({}, {'costs': {'teapot': 2}}, r"lanes\[0\].costs: 'teapot' is no class"),
        ({}, {'costs': {'hex_nut_m8': 1e308}}, r'lanes\[0\].costs.hex_nut_m8'),
        ({}, {'costs': {'foreign': 'much'}}, r'lanes\[0\].costs.foreign'),
        ({}, {'costs': 3}, r'lanes\[0\].costs: give classes'),
        ({'strangers': {'rejects': 0.7}}, {}, 'strangers.rejects'),
        ({'strangers': {'share': float('inf')}}, {}, 'strangers.share'),
        ({'purity_confidence': 1.0}, {}, 'purity_confidence'),
    ],
)
def test_bad_costs_are_refused_by_name(sections, lane, named):
    with pytest.raises(ConfigError, match=named):
        cell_with([lane], **sections)


def test_costs_of_a_lane_stand_beside_those_of_the_cell():
    cell = cell_with(
        [{'costs': {'hex_screw_m8x40': 7, 'foreign': 20}}],
        costs={'wrong': 2, 'reject': 0.4, 'foreign': 3},
    )
    table = CostTable.of(cell, LABELS)
    row = LABELS.index('hex_screw_m8x40')
    assert table.lanes == ('A', 'B', 'C', 'reject')
    assert table.costs[row].tolist() == [7, 0, 2, 0.4]
    assert table.costs[table.foreign].tolist() == [20, 3, 3, 0]


def test_class_that_no_lane_lists_belongs_in_the_reject_lane():
    table = CostTable.of(cell_with(costs={}), (*LABELS, 'teapot'))
    assert table.costs[LABELS.index('hex_nut_m8')].tolist() == [0, 1, 1, 0.5]
    assert table.costs[len(LABELS)].tolist() == [1, 1, 1, 0]


def test_models_that_lack_a_class_are_refused_only_where_costs_matter():
    assert CostTable.of(cell_with(), LABELS[1:]).members.shape == (15, 3)
    with pytest.raises(ConfigError, match=LABELS[0]):
        CostTable.of(cell_with(costs={}), LABELS[1:])


def test_confusion_within_a_lane_is_no_doubt():
    nuts = 0.5 * certainly('hex_nut_m8') + 0.5 * certainly('plain_washer_m8')  # both lane A
    choice = Decider(cell_with(costs={}), LABELS).choose(nuts, 0.3)
    assert (choice.lane, choice.doubt) == (0, Doubt.NONE)
    assert choice.probability > 0.98
    across = 0.5 * certainly('hex_nut_m8') + 0.5 * certainly('lock_nut_m8')
    doubted = Decider(cell_with(costs={'reject': 0.3}), LABELS).choose(across, 0.3)
    assert doubted.doubt is Doubt.DOUBTFUL
    assert doubted.cost == pytest.approx(0.3, abs=0.02)


def test_dear_mistake_moves_an_item_away_from_its_likeliest_lane():
    doubt = 0.6 * certainly('hex_nut_m8') + 0.4 * certainly('lock_nut_m8')
    cheap = cell_with(costs={'reject': 10})
    assert Decider(cheap, LABELS).choose(doubt).lane == 0
    dear = cell_with([{'costs': {'lock_nut_m8': 50}}], costs={'reject': 10})
    assert Decider(dear, LABELS).choose(doubt).lane == 1


def test_dear_strangers_are_rejected_at_less_suspicion():
    sure = certainly('hex_nut_m8')
    assert Decider(cell_with(costs={}), LABELS).choose(sure, 0.95).doubt is Doubt.NONE
    dear = Decider(cell_with([{'costs': {'foreign': 100}}]), LABELS)
    assert dear.choose(sure, 0.95).doubt is Doubt.UNKNOWN
    assert dear.choose(sure, 0.2).doubt is Doubt.UNKNOWN or dear.choose(sure, 0.2).lane == 0


def test_threshold_of_a_lane_keeps_doubtful_items_out_of_it():
    decider = Decider(cell_with(costs={}), LABELS, {'A': 0.9})
    doubt = 0.85 * certainly('hex_nut_m8') + 0.15 * certainly('lock_nut_m8')
    assert decider.choose(doubt).doubt is Doubt.DOUBTFUL
    assert decider.choose(certainly('hex_nut_m8')).lane == 0
    assert (
        decider.choose(0.85 * certainly('lock_nut_m8') + 0.15 * certainly('hex_nut_m8')).lane == 1
    )


@settings(max_examples=60, deadline=None)
@given(distributions(), st.floats(0, 0.97))
def test_without_costs_the_likeliest_class_decides(probabilities, unknown):
    cell = cell_with()
    decider = Decider(cell, LABELS)
    choice = decider.choose(probabilities, unknown)
    assert decider.lanes[choice.lane] == cell.lane_of(LABELS[int(probabilities.argmax())])
    assert choice.doubt is Doubt.NONE


@settings(max_examples=60, deadline=None)
@given(distributions(), st.floats(0, 1), st.floats(0, 5), st.floats(0, 50))
def test_choice_costs_no_more_than_any_other(probabilities, unknown, reject, foreign):
    cell = cell_with(costs={'reject': reject, 'foreign': foreign}, strangers={'rejects': 0})
    decider = Decider(cell, LABELS)
    choice = decider.choose(probabilities, unknown)
    costs = decider.table.expected(probabilities, decider.foreign(unknown))
    assert choice.cost <= costs.min() + 1e-6
    assert (choice.lane == 3) == (choice.doubt is not Doubt.NONE)


@settings(max_examples=40, deadline=None)
@given(distributions(), st.floats(0.981, 1))
def test_stranger_is_rejected_with_and_without_costs(probabilities, unknown):
    for cell in (cell_with(), cell_with(costs={})):
        choice = Decider(cell, LABELS).choose(probabilities, unknown)
        assert (choice.lane, choice.doubt) == (3, Doubt.UNKNOWN)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=2, max_size=9), st.floats(1e-4, 0.5))
def test_foreign_probability_rises_with_the_unknown_score(scores, share):
    found = foreign_probability(np.sort(scores), share)
    assert (np.diff(found) >= -1e-12).all()
    assert (found >= share * 0.999).all() and (found <= 1).all()


def test_own_items_exceed_an_unknown_score_no_oftener_than_it_says():
    rng = np.random.default_rng(3)
    exceeded = [
        float((unknown_scores(rng.normal(size=50), np.sort(rng.normal(size=199))) > 0.9).mean())
        for _ in range(400)
    ]
    assert np.mean(exceeded) == pytest.approx(0.1, abs=0.01)
    assert unknown_scores(np.nan, np.arange(99.0)) == pytest.approx(0.99)
