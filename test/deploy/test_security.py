# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""The SROS2 policies are generated, committed as generated, and allow what the wiring needs."""

from __future__ import annotations

import ast
from pathlib import Path
from xml.etree import ElementTree

import pytest

from stl_conveyor.deploy.security import WIRINGS, main, policy, resolve
from stl_conveyor.errors import ConfigError
from stl_conveyor.nodes.base import topics

# Life cycle and parameters of the nodes that a recipe changes.
CONTROL = {'/camera/get_state'} | {
    f'/{node}/{service}'
    for node in topics.DEVICE + topics.EDGE
    for service in ('change_state', 'get_parameters', 'set_parameters_atomically')
}
ROOT = Path(__file__).resolve().parents[2]


def allowed(text):
    """Return enclave path → (use → set of fully qualified names)."""
    found = {}
    for enclave in ElementTree.fromstring(text).iter('enclave'):
        (profile,) = enclave.iter('profile')
        namespace = profile.get('ns').rstrip('/')
        assert enclave.get('path') == f'{namespace}/{profile.get("node")}'
        uses = found[enclave.get('path')] = {}
        for rule in profile:
            ((use, verdict),) = rule.items()
            assert verdict == 'ALLOW'
            uses[use] = {resolve(item.text, profile.get('node'), namespace) for item in rule}
    return found


@pytest.mark.parametrize('name', WIRINGS)
def test_the_committed_policy_is_what_is_generated(name):
    committed = (ROOT / 'security' / f'{name}.policy.xml').read_text(encoding='utf-8')
    assert committed == policy(WIRINGS[name]), (
        f'run: python -m stl_conveyor.deploy.security {name} > security/{name}.policy.xml'
    )


@pytest.mark.parametrize('name', WIRINGS)
def test_every_node_of_a_wiring_has_an_enclave_of_its_own(name):
    wiring = WIRINGS[name]
    assert list(allowed(policy(wiring))) == [f'/{node}' for node in wiring.nodes]


@pytest.mark.parametrize('name', WIRINGS)
def test_what_one_node_of_ours_publishes_for_another_is_allowed_at_both_ends(name):
    wiring = WIRINGS[name]
    rules = allowed(policy(wiring))
    for topic in topics.TOPICS:
        ends = [
            (node, use)
            for use, nodes in (('publish', topic.publishers), ('subscribe', topic.subscribers))
            for node in nodes
            if node in wiring.nodes
        ]
        if len({use for _, use in ends}) < 2 or topic.of_parts:
            continue
        names = [rules[f'/{node}'][use] for node, use in ends]
        assert set.intersection(*names), topic.name


def test_the_device_uses_the_names_of_the_edge_where_nothing_stands_between():
    rules = allowed(policy(WIRINGS['direct']))
    assert '/features_rx' in rules['/encoder']['publish']
    assert '/features_tx' not in rules['/encoder']['publish']
    assert '/feedback_tx' in rules['/offload_policy']['subscribe']
    assert '/edge_classification_tx' in rules['/actuator']['subscribe']


def test_what_would_be_an_attack_is_not_allowed():
    for name, wiring in WIRINGS.items():
        for path, uses in allowed(policy(wiring)).items():
            node = path.rsplit('/', 1)[1]
            assert ('/sort_outcome' in uses['publish']) == (node == 'actuator'), name
            assert ('/capture' in uses['publish']) == (node == 'camera'), name
            assert all(service.startswith(f'{path}/') for service in uses.get('reply', ()))
            # Beside Gazebo's, what people and the plant change, of the nodes of their own cell.
            asked = {
                'feeder': {'/spawn_entity', '/delete_entity'},
                **dict.fromkeys(topics.PANELS + topics.PLANT, CONTROL),
                **dict.fromkeys(topics.VIEWS, {'/offload_policy/get_parameters'}),
            }
            assert uses.get('request', set()) <= asked.get(node, set())
            assert not any('*' in topic for topic in uses['publish']) or node == 'gazebo_io'


def test_every_service_that_code_of_ours_calls_is_listed():
    called, makers = set(), ('create_client', 'create_service')
    for path in (ROOT / 'stl_conveyor' / 'nodes').rglob('*.py'):
        text = path.read_text(encoding='utf-8')
        if not any(name in text for name in makers) and path.name != 'cell_control.py':
            continue
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.Call) and getattr(node.func, 'attr', '') in makers:
                assert node.func.attr == 'create_client', f'{path}: list what it serves, too'
                if isinstance(node.args[1], ast.Constant):
                    called.add(node.args[1].value)
                else:
                    assert path.name == 'cell_control.py', f'{path}: name the service'
            elif isinstance(node, ast.Dict) and path.name == 'cell_control.py':
                keys = [key.value for key in node.keys if isinstance(key, ast.Constant)]
                called.update(key for key in keys if '/' in key)
    assert called == set(topics.CALLS)


def test_gateways_have_no_services():
    rules = allowed(policy(WIRINGS['gateways']))
    for node in topics.GATEWAYS:
        assert set(rules[f'/{node}']) == {'publish', 'subscribe'}
        assert '/rosout' not in rules[f'/{node}']['publish']


def test_a_namespace_moves_what_is_relative():
    rules = allowed(policy(WIRINGS['direct'], ['cell_1']))
    camera = rules['/cell_1/camera']
    assert {'/cell_1/capture', '/cell_1/camera/transition_event'} <= camera['publish']
    assert {name for name in camera['publish'] if not name.startswith('/cell_1/')} == {
        '/diagnostics',
        '/parameter_events',
        '/rosout',
    }
    assert '/cell_1/camera/set_parameters' in camera['reply']


def test_one_edge_serves_several_cells():
    rules = allowed(policy(WIRINGS['direct'], ['a', 'b/c']))
    assert [path for path in rules if path.endswith('edge_classifier')] == ['/edge_classifier']
    edge = rules['/edge_classifier']
    assert edge['subscribe'] == {
        '/edges',
        *(f'/{cell}/{topic}' for cell in ('a', 'b/c') for topic in ('features_rx', 'feedback_tx')),
    }
    # It belongs to no cell.
    assert [path for path in rules if path.endswith('fleet_watch')] == ['/fleet_watch']
    assert {'/a/feedback_tx', '/b/c/edge_classification_tx', '/diagnostics'} <= edge['publish']
    assert '/a/features_rx' in rules['/a/encoder']['publish']
    assert '/b/c/features_rx' not in rules['/a/encoder']['publish']


def test_the_edges_of_a_pool_serve_all_cells():
    for cells in (['a', 'b'], ['a'], ['']):
        rules = allowed(policy(WIRINGS['direct'], cells, ['hall_a', 'hall/b']))
        edges = [path for path in rules if path.endswith('edge_classifier')]
        assert edges == ['/hall_a/edge_classifier', '/hall/b/edge_classifier']
        for path in edges:
            served = {f'/{cell}/features_rx' if cell else '/features_rx' for cell in cells}
            assert served | {'/edges'} <= rules[path]['subscribe']
            own = path.removesuffix('/edge_classifier')
            assert {'/edges', f'{own}/edge_classifier/transition_event'} <= rules[path]['publish']
    with pytest.raises(ConfigError, match='/1st'):
        policy(WIRINGS['direct'], [''], ['1st'])


def test_simulated_time_comes_from_the_clock_topic():
    for name, wiring in WIRINGS.items():
        for path, uses in allowed(policy(wiring)).items():
            follows = name == 'gazebo' and path[1:] not in topics.TOOLS
            follows = follows or path[1:] in topics.RECORDERS  # which hear everything
            assert ('/clock' in uses.get('subscribe', ())) == follows, path


def test_what_is_no_namespace_is_refused_by_name(capsys):
    for names in (['1st'], ['a b'], ['a', 'a']):
        with pytest.raises(ConfigError, match=f'/{names[0]}'):
            policy(WIRINGS['direct'], names)
    assert main(['direct', '--namespace', 'a-b']) == 2
    assert "'/a-b'" in capsys.readouterr().err


def test_the_command_prints_the_policy(capsys):
    assert main(['gateways']) == 0
    assert capsys.readouterr().out == policy(WIRINGS['gateways'])
