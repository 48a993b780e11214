# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Parameter files as people write them: who is meant, and which name was mistyped."""

from __future__ import annotations

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from stl_conveyor.parameter_files import names_for, nearest_name, sections

FILE = """
/**:
  ros__parameters:
    use_sim_time: false
    robot_name: line_1
/line_1/*:
  ros__parameters: {speed: 1}
camera:
  ros__parameters: {trigger: beam}
/**/camera:
  ros__parameters:
    qos_overrides: {/camera/image_raw: {subscription: {depth: 10}}}
line_1:
  encoder:
    ros__parameters: {threads: 2}
"""
KNOWN = ('threshold', 'travel', 'trigger', 'frame_id', 'rate', 'device', 'device_format', 'guard')


def test_sections_have_paths_and_flat_names():
    found = dict(sections(yaml.safe_load(FILE)))
    assert set(found) == {'/**', '/line_1/*', '/camera', '/**/camera', '/line_1/encoder'}
    assert found['/**/camera'] == {'qos_overrides./camera/image_raw.subscription.depth': 10}
    for nothing in (None, [], 'text', {'a': 1}, {'a': {'ros__parameters': None}}):
        assert all(parameters == {} for _, parameters in sections(nothing))


@pytest.mark.parametrize(
    'arguments, node, meant',
    [
        (['--params-file', 'FILE'], 'camera', {'trigger'}),
        (['--params-file', 'FILE'], 'encoder', {'threads'}),
        (['--params-file', 'FILE'], 'actuator', set()),
        (['--params-file', 'FILE', '-r', '__node:=camera'], 'other', {'trigger'}),
        (['-p', 'robot_name:=x', '-p', 'camera:rate:=2.0'], 'camera', {'rate'}),
        (['-p', 'encoder:rate:=2.0'], 'camera', set()),
        (['--', '-p', 'camera:rate:=2.0'], 'camera', set()),
        (['--params-file', 'nowhere.yaml'], 'camera', None),
        (['-p'], 'camera', set()),
    ],
)
def test_names_that_are_meant_for_a_node(tmp_path, arguments, node, meant):
    (tmp_path / 'p.yaml').write_text(FILE)
    words = [word.replace('FILE', str(tmp_path / 'p.yaml')) for word in arguments]
    found = names_for(['x', '--ros-args', *words], node)
    if found is not None:
        found = {name for name in found if not name.startswith('qos')}
    assert found == meant


@pytest.mark.parametrize(
    'name, nearest',
    [
        ('thresold', 'threshold'),
        ('threshhold', 'threshold'),
        ('treshhold', 'threshold'),
        ('gaurd', 'guard'),
        ('Guard', 'guard'),
        ('frameId', 'frame_id'),
        ('frame-id', 'frame_id'),
        ('rates', 'rate'),
        ('robot_name', ''),
        ('video_device', ''),
        ('av_device_format', ''),
        ('x', ''),
        ('', ''),
    ],
)
def test_nearest_name(name, nearest):
    assert nearest_name(name, KNOWN) == nearest


@given(st.sampled_from(KNOWN), st.integers(0, 20), st.sampled_from('abcxyz'))
def test_one_slip_is_always_near(name, place, letter):
    place %= len(name)
    left, right = name[:place], name[place:]
    slips = [left + right[1:], left + letter + right, left + letter + right[1:]]
    slips.append(left + right[1:2] + right[:1] + right[2:])
    for slip in slips:
        assert nearest_name(slip, [name]) == name
