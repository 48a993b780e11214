# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""SROS2 policies: what each node may publish, listen to, serve and call, and nothing more.

``python -m stl_conveyor.deploy.security direct --namespace cell_1 > cell_1.policy.xml`` prints the
policy of a cell, generated from the list of topics that the nodes themselves use
(nodes/base/topics.py). The wirings:

* ``simulation``: all on one machine, with link_emulator and the simulated cell.
* ``gazebo``: the same with Gazebo in place of the simulated cell.
* ``direct``: a cell and its edge as device.launch.py and edge.launch.py connect them.
* ``gateways``: a cell and its edge on a slow network (docs/network.md).

Every node has an enclave of its own, by its fully qualified name. ``ros2 security`` makes keys and
signed permissions of it: docs/security.md.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from xml.etree import ElementTree

from stl_conveyor.errors import ConfigError, exit_code
from stl_conveyor.nodes.base import topics

POLICY_VERSION = '0.2.0'
# What rclpy gives every node; '~' is the node's own name.
PARAMETER_SERVICES = tuple(
    f'~/{name}'
    for name in (
        'describe_parameters',
        'get_parameter_types',
        'get_parameters',
        'list_parameters',
        'set_parameters',
        'set_parameters_atomically',
        'get_type_description',
    )
)
LIFECYCLE_SERVICES = tuple(
    f'~/{name}'
    for name in (
        'change_state',
        'get_available_states',
        'get_available_transitions',
        'get_state',
        'get_transition_graph',
    )
)
PARAMETER_TOPIC = '/parameter_events'
LIFECYCLE_TOPIC = '~/transition_event'
LOG_TOPIC = '/rosout'
CLOCK_TOPIC = '/clock'
NAMESPACE = re.compile(r'(/[A-Za-z_][A-Za-z0-9_]*)*')


@dataclass(frozen=True)
class Wiring:
    """Which nodes there are, and how their topics are connected.

    Attributes:
        device_remappings: Topic names of the device, old → new.
        simulated_time: Whether the nodes follow /clock.
    """

    nodes: tuple[str, ...]
    device_remappings: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    simulated_time: bool = False


WIRINGS: Mapping[str, Wiring] = MappingProxyType(
    {
        'simulation': Wiring(topics.EVERY_NODE + topics.ONLOOKERS + topics.TOOLS),
        'gazebo': Wiring(
            tuple(node for node in topics.EVERY_NODE if node != 'cell_simulator')
            + topics.GAZEBO
            + topics.ONLOOKERS
            + topics.TOOLS,
            simulated_time=True,
        ),
        'direct': Wiring(
            topics.DEVICE + topics.EDGE + topics.ONLOOKERS + topics.TOOLS,
            device_remappings=topics.DEVICE_REMAPPINGS,
        ),
        'gateways': Wiring(
            topics.DEVICE + topics.EDGE + topics.GATEWAYS + topics.ONLOOKERS + topics.TOOLS
        ),
    }
)


@dataclass(frozen=True)
class Permissions:
    """What a node may use: names, relative, absolute or beginning with '~/'."""

    publish: tuple[str, ...]
    subscribe: tuple[str, ...]
    reply: tuple[str, ...]
    request: tuple[str, ...]


def permissions(node: str, wiring: Wiring, cells: Sequence[str] = ()) -> Permissions:
    """Return what a node needs, with whatever parameters.

    Args:
        cells: Namespaces of the cells that the edge serves, if it has none of its own.
    """
    renamed = wiring.device_remappings if node in topics.DEVICE + topics.ONLOOKERS else {}
    lean, plain = node in topics.GATEWAYS, node in topics.TOOLS

    def named(end: str) -> set[str]:
        found = set()
        for topic in topics.TOPICS:
            if node in getattr(topic, end):
                name = renamed.get(topic.name, topic.name)
                if topic.of_parts:
                    name = f'*/{name}'
                if name.startswith('/') or not cells:
                    found.add(name)
                else:
                    found |= {f'{cell}/{name}' for cell in cells}
        return found

    publish = (
        named('publishers')
        | {PARAMETER_TOPIC}
        | (set() if plain else {LIFECYCLE_TOPIC})
        | (set() if lean else {LOG_TOPIC})
    )
    subscribe = named('subscribers') | (
        {CLOCK_TOPIC} if wiring.simulated_time and not plain else set()
    )
    reply = () if lean else PARAMETER_SERVICES + (() if plain else LIFECYCLE_SERVICES)
    request = [name for name, nodes in topics.CALLS.items() if node in nodes]
    return Permissions(*(tuple(sorted(names)) for names in (publish, subscribe, reply, request)))


def resolve(name: str, node: str, namespace: str) -> str:
    """Return the fully qualified name of a topic or service; `namespace` as in '/cell_1' or ''."""
    if name.startswith('~/'):
        return f'{namespace}/{node}/{name[2:]}'
    return name if name.startswith('/') else f'{namespace}/{name}'


def policy(wiring: Wiring, namespaces: Sequence[str] = ('',), edges: Sequence[str] = ()) -> str:
    """Return the policy of a cell as the text of an XML file (the schema is that of sros2).

    Args:
        namespaces: Of the cell, such as 'cell_1', or of several cells, which then have one edge
            without a namespace; the enclaves are in them too.
        edges: Namespaces of the edges of a pool, which serve all of the cells.

    Raises:
        ConfigError: If one is no namespace, or is given twice.
    """
    cells, pool = _namespaces(namespaces), _namespaces(edges)
    root = ElementTree.Element('policy', version=POLICY_VERSION)
    enclaves = ElementTree.SubElement(root, 'enclaves')
    # What looks at a whole fleet stands in no cell.
    shared = ((*topics.EDGE,) if pool or len(cells) > 1 else ()) + ('fleet_watch',)
    for cell in cells:
        for node in wiring.nodes:
            if node not in shared:
                _add_enclave(enclaves, node, cell, permissions(node, wiring))
    for node in shared:
        for place in (pool or ['']) if node in topics.EDGE else ['']:
            if node in wiring.nodes:
                _add_enclave(enclaves, node, place, permissions(node, wiring, cells))
    ElementTree.indent(root)
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        '<!-- Written by stl_conveyor.deploy.security; do not edit. -->\n'
        + ElementTree.tostring(root, encoding='unicode')
        + '\n'
    )


def _namespaces(names: Sequence[str]) -> list[str]:
    """Return namespaces with their first slash; raise ConfigError for what is none."""
    spaces = [name and '/' + name.strip('/') for name in names]
    for space in spaces:
        if not NAMESPACE.fullmatch(space) or spaces.count(space) > 1:
            raise ConfigError(
                f'namespace {space!r}: give each once; letters, digits and _, not a '
                'digit first, parted by /'
            )
    return spaces


def _add_enclave(
    enclaves: ElementTree.Element, node: str, cell: str, allowed: Permissions
) -> None:
    enclave = ElementTree.SubElement(enclaves, 'enclave', path=f'{cell}/{node}')
    profile = ElementTree.SubElement(
        ElementTree.SubElement(enclave, 'profiles'), 'profile', ns=cell or '/', node=node
    )
    _add(profile, 'topic', 'publish', allowed.publish)
    _add(profile, 'topic', 'subscribe', allowed.subscribe)
    _add(profile, 'service', 'reply', allowed.reply)
    _add(profile, 'service', 'request', allowed.request)


def _add(profile: ElementTree.Element, kind: str, use: str, names: Iterable[str]) -> None:
    names = list(names)
    if names:
        rule = ElementTree.SubElement(profile, f'{kind}s', {use: 'ALLOW'})
        for name in names:
            ElementTree.SubElement(rule, kind).text = name


def main(arguments: Sequence[str] | None = None) -> int:
    """Print a policy; return the exit code."""
    parser = argparse.ArgumentParser(
        prog='python -m stl_conveyor.deploy.security',
        description='Print the SROS2 policy of a cell.',
    )
    parser.add_argument('wiring', choices=tuple(WIRINGS), help='how the cell is connected')
    parser.add_argument(
        '--namespace',
        nargs='+',
        default=[''],
        dest='namespaces',
        help='of the cell, or of several cells with one edge',
    )
    parser.add_argument('--edges', nargs='+', default=[], help='namespaces of the edges of a pool')
    options = parser.parse_args(arguments)
    return exit_code(
        'security',
        lambda: print(policy(WIRINGS[options.wiring], options.namespaces, options.edges), end=''),
    )


if __name__ == '__main__':
    sys.exit(main())
