# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""The cell description: geometry, lanes, and refusals that name the key."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import yaml

from stl_conveyor.cell.deadline import sorting_deadline
from stl_conveyor.cell.description import SHARED, CellDescription
from stl_conveyor.errors import ConfigError

CELL_FILE = Path(__file__).parents[2] / 'config' / 'cell.yaml'


@pytest.fixture
def content():
    return copy.deepcopy(yaml.safe_load(CELL_FILE.read_text()))


def test_shipped_cell_has_three_lanes_and_sixteen_classes():
    cell = CellDescription.load(CELL_FILE)
    assert [lane.name for lane in cell.lanes] == ['A', 'B', 'C']
    assert len(cell.classes) == 16
    assert cell.lane_of('hex_bolt_m8x40') == 'A'
    assert cell.lane_of('spur_gear_z24') == 'C'
    assert cell.lane_of('teapot') == cell.reject_lane == 'reject'


def test_deadline_is_travel_to_the_first_diverter_less_lead_time():
    cell = CellDescription.load(CELL_FILE)
    assert sorting_deadline(10_000, cell) == 10_000 + 780_000_000
    assert cell.fire_time_ns(10_000, 'A') == sorting_deadline(10_000, cell)
    assert cell.fire_time_ns(10_000, 'B') == 10_000 + 1_380_000_000
    with pytest.raises(ConfigError, match='reject'):
        cell.fire_time_ns(0, 'reject')


@pytest.mark.parametrize(
    'change, named',
    [
        (lambda c: c['belt'].update(sped=1.0), r"belt: unknown key 'sped'"),
        (lambda c: c.pop('lanes'), "'lanes' is missing"),
        (lambda c: c['belt'].pop('width'), "belt: key 'width' is missing"),
        (lambda c: c['belt'].update(speed=0), 'belt.speed'),
        (lambda c: c['belt'].update(speed='fast'), 'belt.speed'),
        (lambda c: c['belt'].update(speed=True), 'belt.speed'),
        (lambda c: c['belt'].update(speed=float('nan')), 'belt.speed'),
        (lambda c: c['belt'].update(speed=10**400), 'belt.speed: 10{400} is not a finite number'),
        (lambda c: c['belt'].update(speed=5e-324), 'belt.speed: inf s is longer than a stamp'),
        (lambda c: c['diverter'].update(lead_time=1e308), r'diverter.lead_time: 1e\+308 s is'),
        (lambda c: c['edge'].update(overhead_bytes=10**400), 'edge.overhead_bytes: 10{400} is'),
        (lambda c: c['camera'].update(crop_size=160.5), 'camera.crop_size'),
        (lambda c: c['camera'].update(crop_size=1000), 'camera.crop_size'),
        (lambda c: c['lanes'][1].update(name='A'), r"lanes\[1\].name: 'A'"),
        (lambda c: c['lanes'][0].update(name='reject'), r'lanes\[0\].name'),
        (lambda c: c['lanes'][2].update(diverter_x=9.0), r'lanes\[2\].diverter_x'),
        (lambda c: c['lanes'][2]['classes'].append('hex_nut_m8'), "'hex_nut_m8' belongs to two"),
        (lambda c: c['lanes'][0].update(classes=[]), r'lanes\[0\].classes'),
        (lambda c: c['diverter'].update(lead_time=5.0), 'diverter.lead_time'),
        (lambda c: c['break_beam'].update(x=0.5), 'break_beam.x'),
        (lambda c: c.update(guard=-1.0), 'guard: -1.0 is not within 0..1'),
        (lambda c: c.update(guard=0.9), 'guard: 0.9 s is not less than the 0.78 s'),
        (lambda c: c.update(guard='soon'), "guard: 'soon'"),
        (lambda c: c.update(guard=float('nan')), 'guard'),
        (lambda c: c['belt'].update(speed_tolerance=1.0), 'belt.speed_tolerance'),
        (lambda c: c['edge'].update(timeout=0), 'edge.timeout'),
        (lambda c: c['edge'].update(overhead_bytes=1.5), 'edge.overhead_bytes'),
        (lambda c: c['edge'].update(colour=1), "edge: unknown key 'colour'"),
    ],
)
def test_wrong_descriptions_are_refused_by_name(content, change, named):
    change(content)
    with pytest.raises(ConfigError, match=named):
        CellDescription.from_mapping(content)


def test_description_without_the_shared_values_has_their_defaults(content):
    for key in ('guard', 'edge'):
        del content[key]
    for key in ('speed_tolerance', 'counter_length'):
        del content['belt'][key]
    cell = CellDescription.from_mapping(content)
    assert cell == CellDescription.load(CELL_FILE)
    assert {key: cell.shared(key) for key in SHARED} == {
        'guard': 0.04,
        'belt.speed_tolerance': 0.25,
        'belt.counter_length': 0.0,
        'edge.timeout': 1.6,
        'edge.overhead_bytes': 150,
    }
    content['edge'] = {'timeout': 3}
    cell = CellDescription.from_mapping(content)
    assert (cell.edge.timeout, cell.edge.overhead_bytes) == (3.0, 150)


@pytest.mark.parametrize('content', [None, 3, [], 'belt'])
def test_other_than_a_mapping_is_refused(content):
    with pytest.raises(ConfigError):
        CellDescription.from_mapping(content)


def test_file_errors_name_the_file(tmp_path):
    with pytest.raises(ConfigError, match='nowhere.yaml'):
        CellDescription.load(tmp_path / 'nowhere.yaml')
    broken = tmp_path / 'broken.yaml'
    broken.write_text('belt: [')
    with pytest.raises(ConfigError, match='broken.yaml'):
        CellDescription.load(broken)
