# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""What shows a cell in Foxglove, Lichtblick and RViz asks for topics and fields that there are."""

from __future__ import annotations

import json
import re
from importlib import import_module
from pathlib import Path

import pytest
import yaml

from stl_conveyor.nodes.base.topics import TOPICS

ROOT = Path(__file__).resolve().parents[1]
TYPES = {topic.name.lstrip('/'): topic.message_type for topic in TOPICS}
LAYOUT = json.loads((ROOT / 'layouts' / 'cell.json').read_text(encoding='utf-8'))
# What each kind of panel and display shows.
SHOWS = {
    'rviz_default_plugins/Image': 'sensor_msgs/Image',
    'rviz_default_plugins/LaserScan': 'sensor_msgs/LaserScan',
    'rviz_default_plugins/MarkerArray': 'visualization_msgs/MarkerArray',
}


def paths_in(content):
    """Return every text of a layout that names a topic or a field of one."""
    if isinstance(content, dict):
        return [path for pair in content.items() for part in pair for path in paths_in(part)]
    if isinstance(content, list):
        return [path for part in content for path in paths_in(part)]
    return [content] if isinstance(content, str) and content.startswith('/') else []


def panels_in(place):
    if isinstance(place, str):
        return [place]
    return panels_in(place['first']) + panels_in(place['second'])


def field_type(message_type, fields):
    """Return the type of a field of a message, as rosidl names it."""
    package, name = message_type.split('/')
    kind = getattr(import_module(f'{package}.msg'), name)
    for field in fields:
        (message_type,) = [
            text for known, text in kind.get_fields_and_field_types().items() if known == field
        ]
        if '/' in message_type:
            package, name = re.sub(r'sequence<|>|\[.*', '', message_type).split('/')
            kind = getattr(import_module(f'{package}.msg'), name)
    return message_type


def test_every_panel_of_the_layout_is_placed_and_described():
    placed = panels_in(LAYOUT['layout'])
    assert len(placed) == len(set(placed)) and set(placed) == set(LAYOUT['configById'])


def test_every_panel_has_its_title_where_the_programs_look_for_it():
    """Foxglove and Lichtblick have a key of their own each; another one shows nothing."""
    for name, panel in LAYOUT['configById'].items():
        assert panel['foxglovePanelTitle'] == panel['lichtblickPanelTitle'] != '', name
        assert 'title' not in panel, name


@pytest.mark.ros
def test_the_layout_asks_for_topics_and_fields_that_there_are():
    paths = [path for panel in LAYOUT['configById'].values() for path in paths_in(panel)]
    assert len(paths) >= 15
    for path in paths:
        topic, *fields = path.lstrip('/').split('.')
        assert topic in TYPES, path
        field_type(TYPES[topic], fields)


@pytest.mark.ros
def test_what_is_drawn_over_time_is_a_number():
    for name, panel in LAYOUT['configById'].items():
        if name.startswith('Plot!'):
            for path in panel['paths']:
                topic, *fields = path['value'].lstrip('/').split('.')
                assert re.match(r'float|double|u?int', field_type(TYPES[topic], fields)), path


def test_pictures_and_markers_are_of_the_kind_that_the_panel_shows():
    panels = LAYOUT['configById']
    image = panels['Image!camera']['imageMode']
    assert TYPES[image['imageTopic'].lstrip('/')] == 'sensor_msgs/Image'
    assert TYPES[image['calibrationTopic'].lstrip('/')] == 'sensor_msgs/CameraInfo'
    for topic in panels['3D!cell']['topics']:
        assert TYPES[topic.lstrip('/')] in (
            'visualization_msgs/MarkerArray',
            'sensor_msgs/LaserScan',
        )


def test_rviz_shows_topics_of_the_kind_and_quality_that_there_are():
    config = yaml.safe_load((ROOT / 'rviz' / 'cell.rviz').read_text(encoding='utf-8'))
    displays = [d for d in config['Visualization Manager']['Displays'] if 'Topic' in d]
    known = {topic.name: topic for topic in TOPICS}
    assert {d['Topic']['Value'] for d in displays} >= {'cell_markers', 'camera/image_raw'}
    for display in displays:
        topic = known[display['Topic']['Value']]
        assert SHOWS[display['Class']] == topic.message_type
        # Who asks for more than is offered gets nothing.
        asked = display['Topic']
        assert topic.profile.latched or asked['Durability Policy'] == 'Volatile'
        assert topic.profile.reliable or asked['Reliability Policy'] == 'Best Effort'
