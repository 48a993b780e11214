# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""The table of values: what it says of a cell, and that documents and dashboards keep to it."""

from __future__ import annotations

import json
import re
import time
from dataclasses import fields

import pytest
from plant_cells import ROOT, known_cell, read

from stl_conveyor.assess.scoring import Score
from stl_conveyor.errors import Level
from stl_conveyor.plant.values import VALUES, Kind, MachineState, faults, machine_state, readings


def test_the_values_of_a_cell_are_what_it_did():
    (found,) = read(known_cell(items=8)).values()
    assert list(found) == list(VALUES)
    assert found['outcomes'] == found['captures'] == found['items'] == found['rested'] == 8
    assert (found['rejected'], found['correct'], found['bytes_sent']) == (2, 4, 2000)
    assert found['sorted_by_lane'] == {'A': 4, 'B': 2, 'C': 0, 'reject': 2}
    assert found['purity'] == {'A': 1.0, 'B': 0.0}
    assert found['yield'] == {'A': 0.5}
    assert found['rejects_by_reason'] == {'14': 2}
    assert found['slack_median'] == pytest.approx(0.04)
    assert (found['tokens'], found['edge_alive'], found['safe_to_run']) == (2.5, True, True)
    assert (found['state'], found['recipe'], found['alarms']) == (
        'ContinuousExecution',
        'screws',
        0,
    )


def test_what_nobody_knows_is_none_and_no_zero():
    cell = known_cell(items=0)
    (found,) = read(cell).values()
    assert found['slack_median'] is None and found['quality'] is None
    assert found['outcomes'] == 0


def test_each_state_has_its_cause():
    live = known_cell()
    assert machine_state(live.figures()) is MachineState.CONTINUOUS
    live.take_node('camera', Level.OK, 'OK', False)
    assert machine_state(live.figures()) is MachineState.READY
    live.take_fault('encoder', 'configure', Level.ERROR, 'no model', 1.0, 1)
    assert machine_state(live.figures()) is MachineState.PREOPERATIONAL
    live.take_fault('camera', 'frames', Level.ERROR, 'no frame', 1.0, 1)
    assert machine_state(live.figures()) is MachineState.ERROR
    found = readings(live.figures())
    assert found['alarms'] == 2 and found['worst_fault'] == 'camera: frames: no frame'
    told = faults(live.figures())
    assert {(fault.key, fault.level, fault.message) for fault in told} == {
        ('encoder: configure', 2, 'no model'),
        ('camera: frames', 2, 'no frame'),
    }
    assert all(abs(time.time() - fault.since) < 60 for fault in told)
    assert machine_state({**live.figures(), 'nodes': {}}) is MachineState.HALTED


def test_names_that_summary_json_has_mean_the_same():
    of_summary = {item.name for item in fields(Score)}
    for name in ('items', 'outcomes', 'missed_deadlines', 'rejected', 'offloaded', 'bytes_sent'):
        assert name in VALUES and name in of_summary


def test_names_keep_the_rules_of_prometheus():
    names = [value.prometheus_name for value in VALUES.values()]
    assert len(set(names)) == len(names)
    for value in VALUES.values():
        assert re.fullmatch(r'[a-z][a-z0-9_]*', value.prometheus_name)
        assert value.prometheus_name.endswith('_total') == (value.kind is Kind.COUNTER)


def test_the_documented_values_are_those_of_the_table():
    text = (ROOT / 'docs' / 'plant.md').read_text(encoding='utf-8')
    part = text.split('## Values', 1)[1].split('\n## ', 1)[0]
    rows = re.findall(r'^\| `(\w+)` \| (\S*) \| (.*?) \|$', part, re.MULTILINE)
    assert rows == [
        (value.name, value.unit.symbol, value.text + (f'; by {value.by}' if value.by else ''))
        for value in VALUES.values()
    ]


def test_the_dashboard_asks_for_values_of_the_table():
    board = json.loads((ROOT / 'layouts' / 'grafana.json').read_text(encoding='utf-8'))
    asked = [t['expr'] for panel in board['panels'] for t in panel.get('targets', ())]
    names = {name for expression in asked for name in re.findall(r'stl_conveyor_\w+', expression)}
    assert len(asked) > 10 and names <= {value.prometheus_name for value in VALUES.values()}
    assert all('cell=~"$cell"' in expression for expression in asked)
    # Over a time each text that there was is a series: the line would be in all of its states.
    texts = {v.prometheus_name for v in VALUES.values() if v.kind is Kind.TEXT}
    for target in (t for panel in board['panels'] for t in panel['targets']):
        if texts & set(re.findall(r'stl_conveyor_\w+', target['expr'])):
            assert target['instant'] and not target['range'], target
    (rejects,) = [p for p in board['panels'] if p['title'] == 'Rejects by reason']
    named = {
        override['matcher']['options']: override['properties'][0]['value']
        for override in rejects['fieldConfig']['overrides']
    }
    message = (ROOT / 'msg' / 'SortOutcome.msg').read_text(encoding='utf-8')
    assert named == {
        f'/(^| ){number}$/': name.lower().replace('_', ' ')
        for name, number in re.findall(r'REASON_(\w+)=(\d+)', message)
    }
    places = [tuple(panel['gridPos'].values()) for panel in board['panels']]
    assert len(set(places)) == len(places)
