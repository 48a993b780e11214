# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""A simulated cell takes a ROS domain in which there is no other cell."""

from __future__ import annotations

import os

import pytest

pytest.importorskip('rclpy')
pytest.importorskip('stl_conveyor.msg')

import rclpy  # noqa: E402
from rclpy.context import Context  # noqa: E402
from rclpy.node import Node  # noqa: E402
from ros_domains import own_domain_id  # noqa: E402

from stl_conveyor.errors import ConfigError  # noqa: E402
from stl_conveyor.msg import SortOutcome  # noqa: E402
from stl_conveyor.run.domain import domain_of_its_own, has_participant  # noqa: E402

pytestmark = pytest.mark.ros


@pytest.fixture
def wanted(monkeypatch):
    """Return the domain that the caller has exported, on this machine alone."""
    domain = own_domain_id()
    monkeypatch.setenv('ROS_DOMAIN_ID', str(domain))
    monkeypatch.setenv('ROS_AUTOMATIC_DISCOVERY_RANGE', 'LOCALHOST')
    return domain


@pytest.fixture
def neighbour(wanted):
    """Return a node of somebody else in the same domain."""
    context = Context()
    rclpy.init(context=context, domain_id=wanted)
    node = Node('neighbour', context=context)
    yield node
    node.destroy_node()
    rclpy.shutdown(context=context)


def test_a_domain_without_others_is_taken_as_the_caller_gave_it(wanted):
    said = []
    assert not has_participant(wanted)
    with domain_of_its_own(said.append) as domain:
        assert domain == wanted and os.environ['ROS_DOMAIN_ID'] == str(wanted)
    assert said == [] and os.environ['ROS_DOMAIN_ID'] == str(wanted)


def test_whoever_only_listens_is_no_reason_to_leave(wanted, neighbour):
    neighbour.create_subscription(SortOutcome, 'sort_outcome', lambda _: None, 1)
    assert has_participant(wanted)
    with domain_of_its_own(lambda _: None) as domain:
        assert domain == wanted


@pytest.mark.parametrize('reach', ['LOCALHOST', 'SUBNET'])
@pytest.mark.parametrize('topic', ['sort_outcome', 'line_2/sort_outcome'])
def test_a_domain_with_a_cell_is_left(topic, reach, wanted, neighbour, monkeypatch):
    said = []
    monkeypatch.setenv('ROS_AUTOMATIC_DISCOVERY_RANGE', reach)
    neighbour.create_publisher(SortOutcome, topic, 1)
    with domain_of_its_own(said.append) as domain:
        assert domain != wanted and os.environ['ROS_DOMAIN_ID'] == str(domain)
        assert not has_participant(domain)
    assert f'ROS domain {wanted}' in said[0] and f'ROS_DOMAIN_ID={domain}' in said[0]
    assert os.environ['ROS_DOMAIN_ID'] == str(wanted)


def test_two_runs_that_begin_together_do_not_meet(wanted):
    with domain_of_its_own(lambda _: None) as first:
        os.environ['ROS_DOMAIN_ID'] = str(wanted)
        with domain_of_its_own(lambda _: None) as second:
            assert first == wanted != second


def test_discovery_stays_on_this_machine_unless_the_caller_says_else(wanted, monkeypatch):
    monkeypatch.delenv('ROS_AUTOMATIC_DISCOVERY_RANGE')
    with domain_of_its_own(lambda _: None):
        assert os.environ['ROS_AUTOMATIC_DISCOVERY_RANGE'] == 'LOCALHOST'
    assert 'ROS_AUTOMATIC_DISCOVERY_RANGE' not in os.environ


@pytest.mark.parametrize('text', ['seven', '-1', '233'])
def test_what_is_no_domain_is_refused_by_name(text, monkeypatch):
    monkeypatch.setenv('ROS_DOMAIN_ID', text)
    with pytest.raises(ConfigError, match=f"ROS_DOMAIN_ID is '{text}'"):
        with domain_of_its_own(lambda _: None):
            pass
