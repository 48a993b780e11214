# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""The graph of all nodes is the one that nodes/base/topics.py and the documentation describe."""

from __future__ import annotations

import io
import re
from contextlib import contextmanager
from fnmatch import fnmatch
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import pytest
import yaml

pytest.importorskip('rclpy')
pytest.importorskip('stl_conveyor.msg')

import rclpy  # noqa: E402
from cell_harness import CellHarness, NodeSpec  # noqa: E402
from graph_checks import incompatible_topics, node_interface, wait_until_settled  # noqa: E402
from rclpy.context import Context  # noqa: E402
from rclpy.parameter import Parameter  # noqa: E402
from rclpy.qos import QoSProfile, ReliabilityPolicy  # noqa: E402
from ros_domains import give_back, own_domain_id  # noqa: E402
from std_msgs.msg import Header, String  # noqa: E402

from stl_conveyor.deploy.security import WIRINGS, permissions, resolve  # noqa: E402
from stl_conveyor.nodes.base.conveyor_node import ConveyorNode  # noqa: E402
from stl_conveyor.nodes.base.qos import make_profile  # noqa: E402
from stl_conveyor.nodes.base.topics import (  # noqa: E402
    EVERY_NODE,
    GAZEBO,
    RECORDED,
    RECORDERS,
    TOPICS,
    is_installed,
    node_module,
    publisher_of,
    subscriber_of,
)
from stl_conveyor.nodes.device.item_collector import ItemCollector  # noqa: E402
from stl_conveyor.nodes.edge.fleet_watch import FleetWatch  # noqa: E402
from stl_conveyor.vision.label_folder import Collector, LabelFolder  # noqa: E402

pytestmark = pytest.mark.ros

ROOT = Path(__file__).resolve().parents[2]
NEED_MODELS = ('local_classifier', 'offload_policy', 'encoder', 'edge_classifier')
# Parameters with which a node uses every topic that it may use.
EVERYTHING = {
    'camera': {'trigger': 'beam'},
    'cell_simulator': {'publish_clock': True, 'belt_running': False},
    'cell_monitor': {'display': 'none'},
}
# What rclpy and the life cycle bring, beside the topics of the cell.
FRAMEWORK_TOPICS = {
    '/rosout': 'rcl_interfaces/msg/Log',
    '/parameter_events': 'rcl_interfaces/msg/ParameterEvent',
}


def node_class(name):
    return next(
        kind
        for kind in vars(import_module(node_module(name))).values()
        if isinstance(kind, type)
        and issubclass(kind, ConveyorNode)
        and kind is not ConveyorNode
        and kind.NAME == name
    )


@pytest.fixture
def domain_id():
    number = own_domain_id()
    yield number
    give_back(number)


@contextmanager
def lone_node(name, domain_id):
    """Yield a node with a context, and so a participant, of its own."""
    context = Context()
    rclpy.init(context=context, domain_id=domain_id)
    node = rclpy.create_node(name, context=context, use_global_arguments=False)
    try:
        yield node
    finally:
        node.destroy_node()
        rclpy.try_shutdown(context=context)


@pytest.fixture
def probe(domain_id):
    with lone_node('probe', domain_id) as node:
        yield node


def test_a_graph_in_which_nothing_can_connect_is_found_out(probe, domain_id):
    best_effort = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
    probe.create_publisher(String, 'good', 1)
    probe.create_subscription(String, 'good', lambda _: None, best_effort)
    wait_until_settled(probe, ['/probe'])
    assert incompatible_topics(probe) == []
    probe.create_publisher(String, 'bad', best_effort)
    probe.create_subscription(String, 'bad', lambda _: None, 1)
    with lone_node('other', domain_id) as other:
        other.create_publisher(Header, 'good', 1)
        wait_until_settled(probe, ['/probe', '/other'])
        (bad, mixed) = sorted(incompatible_topics(probe))
    assert bad.startswith('/bad: probe -> probe: ') and 'reliab' in bad.lower()
    assert mixed == '/good: has the types std_msgs/msg/Header, std_msgs/msg/String'


def test_a_nodes_interface_is_seen(probe):
    probe.create_publisher(String, 'said', 1)
    wait_until_settled(probe, ['/probe'])
    seen = node_interface(probe, 'probe')
    assert seen.publishers['/said'] == {'std_msgs/msg/String'}
    assert '/probe/get_parameters' in seen.services
    assert not seen.clients and not seen.action_servers and not seen.action_clients


def wait_until_told(cell):
    """Wait until the probe sees of every node the names that the node says it has."""

    def told():
        for node in cell.runner.nodes:
            seen = node_interface(cell.probe, node.get_name())
            if not (
                {end.topic_name for end in node.publishers} <= set(seen.publishers)
                and {end.topic_name for end in node.subscriptions} <= set(seen.subscriptions)
                and {end.service_name for end in node.services} <= set(seen.services)
                and {end.service_name for end in node.clients} <= set(seen.clients)
            ):
                return False
        return True

    cell.wait(told, 30, 'the graph knows every name of the nodes')


@pytest.fixture(scope='module')
def cell(tiny_models):
    """Yield the nodes of the cell, each active and with every topic."""
    specs = [
        NodeSpec(
            node_class(name),
            {
                **EVERYTHING.get(name, {}),
                **({'models_dir': str(tiny_models)} if name in NEED_MODELS else {}),
            },
            group=name,
        )
        for name in EVERY_NODE
    ]
    with CellHarness(specs, watched=('/diagnostics',)) as cell:
        cell.wait_active()
        wait_until_settled(cell.probe, [f'/{node.get_name()}' for node in cell.runner.nodes])
        wait_until_told(cell)
        yield cell


@pytest.fixture
def graph(cell):
    """Return a node that sees the nodes of the cell."""
    return cell.probe


def test_no_topic_of_the_cell_has_incompatible_qos(graph):
    assert incompatible_topics(graph) == []


@pytest.mark.parametrize('node', EVERY_NODE)
def test_a_node_uses_the_topics_of_the_table_and_no_others(graph, node):
    seen = node_interface(graph, node)
    own = {
        f'/{node}/transition_event': {'lifecycle_msgs/msg/TransitionEvent'},
        **{name: {kind} for name, kind in FRAMEWORK_TOPICS.items()},
    }

    def check(end, found):
        listed = [topic for topic in TOPICS if node in getattr(topic, end)]
        for topic in listed:
            kind = found.pop(f'/{topic.name.lstrip("/")}', None)
            assert kind == {topic.message_type.replace('/', '/msg/')} or (
                kind is None and node in topic.optional
            ), (topic.name, kind)
        assert not found

    check(
        'publishers',
        {name: kind for name, kind in seen.publishers.items() if own.get(name) != kind},
    )
    check('subscribers', dict(seen.subscriptions))


def test_every_end_has_the_qos_of_the_table(graph):
    for topic in TOPICS:
        for infos, find in (
            (
                graph.get_publishers_info_by_topic(topic.name),
                lambda name: publisher_of(topic.name, name).profile_of(name),
            ),
            (
                graph.get_subscriptions_info_by_topic(topic.name),
                lambda name: subscriber_of(topic.name, name).heard_by(name),
            ),
        ):
            for info in infos:
                if info.node_name == 'probe':
                    continue
                wanted = make_profile(find(info.node_name))
                assert (info.qos_profile.reliability, info.qos_profile.durability) == (
                    wanted.reliability,
                    wanted.durability,
                ), (topic.name, info.node_name)


def test_the_qos_of_every_end_can_be_overridden(cell):
    for node in cell.runner.nodes:
        name = node.get_name()
        for topic in TOPICS:
            for end, nodes in (
                ('publisher', topic.publishers),
                ('subscription', topic.subscribers),
            ):
                if name in nodes and name not in topic.optional:
                    prefix = f'qos_overrides./{topic.name.lstrip("/")}.{end}'
                    for policy in ('depth', 'durability', 'history', 'reliability'):
                        assert node.has_parameter(f'{prefix}.{policy}'), (name, prefix, policy)


@pytest.mark.parametrize(
    'file, name', [('device', 'camera'), ('sim', 'cell_simulator'), ('edge', 'edge_classifier')]
)
def test_the_override_that_a_parameter_file_shows_takes_effect(
    file, name, tiny_models, domain_id, tmp_path
):
    text = (ROOT / 'config' / f'{file}.yaml').read_text(encoding='utf-8')
    shown = re.search(r'^#   qos_overrides:\n(?:#     .*\n)+', text, re.MULTILINE).group()
    overrides = yaml.safe_load(shown.replace('#   ', '').replace('\n#', '\n'))
    ((topic, ends),) = overrides['qos_overrides'].items()
    ((end, policies),) = ends.items()
    path = tmp_path / 'parameters.yaml'
    path.write_text(yaml.safe_dump({f'/**/{name}': {'ros__parameters': overrides}}))
    context = Context()
    rclpy.init(context=context, domain_id=domain_id)
    node = node_class(name)(
        context=context,
        use_global_arguments=False,
        cli_args=['--ros-args', '--params-file', str(path)],
        parameter_overrides=[
            Parameter(key, value=value)
            for key, value in {
                'autostart': False,
                **EVERYTHING.get(name, {}),
                **({'models_dir': str(tiny_models)} if name in NEED_MODELS else {}),
            }.items()
        ],
    )
    try:
        node.trigger_configure()
        node.trigger_activate()
        assert node.is_active
        ((policy, value),) = policies.items()
        assert node.get_parameter(f'qos_overrides.{topic}.{end}.{policy}').value == value
        if policy == 'reliability':  # a depth is not told to others
            infos = (
                node.get_publishers_info_by_topic
                if end == 'publisher'
                else node.get_subscriptions_info_by_topic
            )(topic)
            assert [info.qos_profile.reliability.name.lower() for info in infos] == [value]
    finally:
        node.close()
        rclpy.try_shutdown(context=context)


def test_what_is_not_in_the_table_is_refused_with_the_remedy():
    for find in (publisher_of, subscriber_of):
        with pytest.raises(LookupError, match='actuator.*capture_2.*nodes/base/topics.py'):
            find('capture_2', 'actuator')


def used_by(seen):
    """Return what a node's interface comes to in the terms of a policy."""
    used = {
        'publish': set(seen.publishers),
        'subscribe': set(seen.subscriptions),
        'reply': set(seen.services),
        'request': set(seen.clients),
    }
    assert not seen.action_servers and not seen.action_clients
    return {use: names for use, names in used.items() if names}


def needed(node, wiring):
    """Return what the policy allows a node: use → fully qualified names."""
    rules = permissions(node, WIRINGS[wiring])
    return {
        use: {resolve(name, node, '') for name in names}
        for use, names in vars(rules).items()
        if names
    }


@pytest.mark.parametrize('node', EVERY_NODE)
def test_the_policy_allows_what_a_node_uses(graph, node):
    used, rules = used_by(node_interface(graph, node)), needed(node, 'simulation')
    for use, names in used.items():
        assert names <= rules[use], use
    optional = {f'/{topic.name}' for topic in TOPICS if node in topic.optional}
    for use, names in rules.items():
        # /clock: only with use_sim_time, for which there is a wiring of its own
        assert names - used.get(use, set()) <= optional, use


def test_the_policy_allows_what_the_nodes_beside_gazebo_use():
    # feeder asks for the services of Gazebo's bridge, and cannot be activated without their types
    names = [name for name in GAZEBO if name != 'feeder' or find_spec('ros_gz_interfaces')]
    with CellHarness(
        [NodeSpec(node_class(name), group=name) for name in names], watched=('/diagnostics',)
    ) as cell:
        cell.wait_active()
        wait_until_settled(cell.probe, [f'/{name}' for name in names])
        assert incompatible_topics(cell.probe) == []
        for name in names:
            used = used_by(node_interface(cell.probe, name))
            rules = needed(name, 'gazebo')
            for use, names in used.items():
                for each in names:
                    assert any(fnmatch(each, pattern) for pattern in rules[use]), (use, each)
            for use, patterns in rules.items():
                # /clock only with use_sim_time
                assert all(
                    any(fnmatch(each, pattern) for each in used[use])
                    for pattern in patterns - {'/clock'}
                ), use


def test_the_policy_is_what_the_collector_uses(domain_id, probe, tmp_path):
    context = Context()
    rclpy.init(context=context, domain_id=domain_id)
    collector = ItemCollector(
        Collector(LabelFolder(tmp_path, 'mug'), stream=io.StringIO()), '', context, print
    )
    try:
        wait_until_settled(probe, ['/item_collector'])
        used = used_by(node_interface(probe, 'item_collector'))
        for wiring in WIRINGS:
            assert used == needed('item_collector', wiring), wiring
    finally:
        collector.node.destroy_node()
        rclpy.try_shutdown(context=context)


def test_the_policy_is_what_the_watch_of_a_fleet_uses(domain_id, probe):
    context = Context()
    rclpy.init(context=context, domain_id=domain_id)
    watch = FleetWatch(context)
    try:
        wait_until_settled(probe, ['/fleet_watch'])
        used = used_by(node_interface(probe, 'fleet_watch'))
        for wiring in WIRINGS:
            assert used == needed('fleet_watch', wiring), wiring
    finally:
        watch.node.destroy_node()
        rclpy.try_shutdown(context=context)


def test_what_a_policy_allows_and_a_node_uses_sometimes_is_used_with_some_parameters(tmp_path):
    content = yaml.safe_load((ROOT / 'config' / 'cell.yaml').read_text(encoding='utf-8'))
    content['lanes'][0]['purity'] = 0.9
    with_target = tmp_path / 'cell.yaml'
    with_target.write_text(yaml.safe_dump(content), encoding='utf-8')
    optional = {(topic.name, node) for topic in TOPICS for node in topic.optional}
    # The camera's is that of an encoder, on pins; test_node_camera.py has one. The encoder's is
    # that of a cell with costs; test_node_decision.py has one. That of an edge needs a second
    # one, as in test_node_edge_pool.py.
    assert {node for _, node in optional} == {'actuator', 'camera', 'edge_classifier', 'encoder'}
    used = {}
    for parameters in (
        {},
        {'output': 'ros2_control'},
        {'output': 'ros2_control', 'controller_kind': 'trajectory'},
        {'cell_file': str(with_target)},
        {'journal': 'none'},  # beside somebody else who publishes what it does
    ):
        spec = NodeSpec(node_class('actuator'), parameters)
        with CellHarness([spec], watched=('/diagnostics',)) as cell:
            cell.wait_active()
            if 'journal' in parameters:
                cell.publisher('sort_outcome', readers=0)
                cell.connect('heartbeat')
            if not used:  # what no list of a node has is the same with all parameters
                wait_until_settled(cell.probe, ['/actuator'])
            wait_until_told(cell)
            for use, names in used_by(node_interface(cell.probe, 'actuator')).items():
                used.setdefault(use, set()).update(names)
    rules = needed('actuator', 'simulation')
    for uses in (used, rules):
        uses['publish'].discard('/rosout')  # only the first of a name in a process has it
    assert used == rules


def rows_of(document, heading):
    """Return the cells of the first table after a heading, without the table's own heading."""
    text = (ROOT / document).read_text(encoding='utf-8').split(heading, 1)[1]
    table = re.search(r'((?:^\|.*\n)+)', text, re.MULTILINE).group(1).splitlines()[2:]
    return [[cell.strip() for cell in line.strip('|').split('|')] for line in table]


def test_the_documented_topics_are_those_of_the_table():
    rows = rows_of('docs/architecture.md', '## Topics')
    assert [(row[0].strip('`'), row[1].split()[0]) for row in rows] == [
        (topic.name, topic.message_type.replace('stl_conveyor/', '')) for topic in TOPICS
    ]
    # The page says it of all of them at once.
    assert all(topic in RECORDED or topic.of_parts or not is_installed(topic) for topic in TOPICS)
    for topic, (_, _, ends, profiles) in zip(TOPICS, rows):
        left, right = ends.split('→')
        others = set(topic.subscribers) - set(RECORDERS)
        for names, text in ((topic.publishers, left), (others, right)):
            named = set(
                re.findall(
                    r'[a-z_]+',
                    text.replace('monitor', 'cell_monitor').replace('cell_cell_', 'cell_'),
                )
            )
            assert set(names) <= named or 'every node' in text, f'{topic.name}: {text}'
        used = {topic.profile_of(node) for node in topic.publishers}
        used |= {topic.heard_by(node) for node in others}
        assert set(re.findall(r'`(\w+)`', profiles)) == {p.name.lower() for p in used}, topic.name
