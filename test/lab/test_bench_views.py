# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""The parts of the benchmark of the views."""

from __future__ import annotations

from dataclasses import replace

import pytest

from stl_conveyor_lab.bench.views.marks import (
    Looks,
    Memory,
    controls,
    marks,
    pooled_p99,
    shown_after,
    table,
)
from stl_conveyor_lab.measure.browser import CHROMIUM, MISSING, browser, session_cpu

MEMORY = Memory('operator_panel', 100_000.0, 100_500.0)
GOOD = Looks(
    loads=(1.2, 0.8),
    shown_ms=(50.0, 90.0, 120.0),
    missed=(0, 0, 0),
    overheads_ms=(12.0, 12.9, 14.0),
    memories=(MEMORY,),
    differing={'mqtt': ()},
    compared={'mqtt': 8},
)


def test_each_outcome_is_shown_when_the_page_counts_it():
    commands = [10.0, 20.0, 30.0, 40.0]
    assert shown_after(commands, [(5.0, 0), (18.0, 1), (55.0, 3)]) == [8.0, 35.0, 25.0]
    assert shown_after(commands, [(5.0, 4), (60.0, 6)]) == []  # items of nobody
    assert shown_after(commands, []) == []


@pytest.mark.skipif(CHROMIUM is None, reason=MISSING)
def test_a_page_is_loaded_when_it_shows_a_number():
    command = pytest.importorskip('stl_conveyor_lab.bench.views.command')
    with browser(('env',)) as new_tab:
        tab = new_tab()
        tab.open('data:text/html,<b data-count=outcomes>-</b>')
        assert not tab.get(command.LOADED)
        tab.get(f"{command.SHOWN}.innerText = '0'")
        assert tab.get(command.LOADED)
        assert session_cpu(new_tab.session) > session_cpu(1_000_000_000) == 0


def test_what_browsers_take_is_told_beside_the_marks_and_is_none():
    looks = replace(GOOD, still_ms=12.34, cores={'the page itself': 0.1, 'browsers': 1.5})
    assert marks(looks) == marks(GOOD) and controls(GOOD) == {}
    text = table(marks(looks), controls(looks))
    assert '| overhead p99, ten browsers that show a still page | 12.3 ms | | |' in text
    assert 'the page itself 0.10; browsers 1.50' in text


def test_what_two_runs_have_in_common_decides_and_no_item_of_one():
    quiet, noisy = [10.0] * 120, [10.0] * 118 + [40.0] * 2
    assert pooled_p99([noisy]) > 30 and pooled_p99([quiet, noisy]) == 10.0
    slower = [12.0] * 120
    looks = replace(
        GOOD,
        overheads_ms=(pooled_p99([quiet, quiet]), pooled_p99([quiet, noisy]), 0.0),
        rounds_ms=((10.0, 10.0), (10.0, pooled_p99([noisy]))),
    )
    (mark,) = [mark for mark in marks(looks) if mark.name.startswith('overhead')]
    assert mark.met and mark.value == '10.0 ms (10.0 ms); 10.0 (10.0); 34.3 (10.0)'
    looks = replace(looks, overheads_ms=(10.0, pooled_p99([slower, slower]), 0.0))
    assert not all(mark.met for mark in marks(looks))
    # What was not measured is not met.
    looks = replace(looks, overheads_ms=(10.0, pooled_p99([]), 0.0))
    assert not all(mark.met for mark in marks(looks))


def test_marks_that_are_kept_are_met():
    found = marks(GOOD)
    assert all(mark.met for mark in found)
    assert '| missed deadlines, ten viewers (without) | 0 (0) | 0 | yes |' in table(found)


@pytest.mark.parametrize(
    'changes, named',
    [
        ({'loads': (0.5, 2.1)}, 'page loaded'),
        ({'loads': ()}, 'page loaded'),
        ({'shown_ms': (10.0,) * 10 + (400.0,)}, 'outcome on the page'),
        ({'shown_ms': ()}, 'outcome on the page'),
        ({'missed': (0, 1, 0)}, 'missed deadlines, ten'),
        ({'missed': (0, 0, 1)}, 'missed deadlines, recorded'),
        ({'overheads_ms': (12.0, 13.1, 12.0)}, 'overhead'),
        ({'memories': (replace(MEMORY, late=104_000.0),)}, 'memory'),
        ({'differing': {'mqtt': ('outcomes 3 for 4',)}}, 'mqtt'),
        ({'compared': {'mqtt': 0}}, 'mqtt'),
    ],
)
def test_one_that_is_missed_is_named(changes, named):
    (missed,) = [mark for mark in marks(replace(GOOD, **changes)) if not mark.met]
    assert missed.name.startswith(named)
    assert '| NO |' in table([missed])


def test_what_the_plant_was_told_otherwise_is_named():
    plant = pytest.importorskip('stl_conveyor_lab.bench.views.plant')
    summary = dict.fromkeys(plant.COMPARED, 3)
    assert plant.differing(dict(summary), summary) == []
    assert plant.differing({**summary, 'outcomes': 2}, summary) == ['outcomes 2 for 3']
    assert len(plant.differing({}, summary)) == len(plant.COMPARED)
