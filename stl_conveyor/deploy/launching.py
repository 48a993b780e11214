# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""What the arguments of the launch files mean, and which nodes get what; needs no launch.

`checked` turns the texts that were typed into a `LaunchRequest`, or says which of them cannot be
used. So nothing is started on a setting that somebody mistyped.
"""

from __future__ import annotations

import difflib
import functools
import math
import os
import re
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import yaml

from stl_conveyor.calibration.parameter_file import set_cell_values
from stl_conveyor.cell.description import CellDescription
from stl_conveyor.deploy.fastdds_profiles import NODE_ROLES, environment, profile_xml
from stl_conveyor.errors import ConfigError, ModelFileError
from stl_conveyor.models.model_folder import ModelFolder
from stl_conveyor.nodes.base.topics import (
    COMPOSED,
    DEVICE,
    EDGE,
    EVERY_NODE,
    GATEWAYS,
    GAZEBO,
    ONLOOKERS,
    PANELS,
    PLANT,
    RECORDERS,
    SIMULATION,
    VIEWS,
    full_name,
    node_class,
)
from stl_conveyor.outside_files import UnusableFile, read_yaml
from stl_conveyor.parameter_files import sections
from stl_conveyor.parameters import value_of
from stl_conveyor.resources import share_path

PACKAGE = 'stl_conveyor'
NODES = EVERY_NODE + GAZEBO + ONLOOKERS
# Node -> what is started for it, where that is another executable: the monitor of a launched cell
# writes the results, too.
EXECUTABLES = {'cell_monitor': 'cell_reporter'}
YES_OR_NO = ('true', 'false', 'True', 'False')
FEEDERS = ('cell_simulator', 'feeder')  # that bring the items of a simulated cell

# Launch argument -> the parameter of the same meaning, and the nodes that take it.
PARAMETERS: Mapping[str, tuple[str, tuple[str, ...]]] = {
    'models_dir': (
        'models_dir',
        (
            'local_classifier',
            'offload_policy',
            'encoder',
            'actuator',
            'edge_classifier',
            'operator_panel',
        ),
    ),
    'world': (
        'cell_file',
        (
            'cell_simulator',
            'camera',
            'local_classifier',
            'offload_policy',
            'encoder',
            'link_emulator',
            'actuator',
            'cell_guard',
            'cell_monitor',
            'feeder',
            'gazebo_io',
            'operator_panel',
            'plant_gateway',
            'cell_view',
        ),
    ),
    'items': ('items', FEEDERS),
    'seed': ('seed', (*FEEDERS, 'link_emulator')),
    'cells': ('cells', ('edge_classifier',)),
    'trigger': ('trigger', ('camera',)),
    'policy': ('policy', ('offload_policy',)),
    'rate': ('rate', ('offload_policy',)),
    'depth': ('depth', ('offload_policy',)),
    'link': ('link', ('link_emulator',)),
    'out': ('out', ('cell_monitor',)),
    'record': ('file', RECORDERS),
    'end_when_done': ('end_when_done', ('cell_monitor',)),
}
# Those whose values the node's own parameter judges.
JUDGED_BY_NODE = ('items', 'seed', 'trigger', 'policy', 'rate', 'depth', 'link')

# Who must publish before the first item comes to a simulated cell: what belongs to the device.
AWAITED = ('capture', 'classification', 'offload_decision', 'sort_outcome')
# Node -> what it publishes, where the camera waits for the node: an item needs an answer and a
# stroke.
AWAITED_BY_CAMERA = {'local_classifier': 'classification', 'actuator': 'sort_outcome'}

# What `ros2 launch` adds to the arguments by itself.
_OF_LAUNCH = ('launch-prefix', 'launch-prefix-filter')
_NAMESPACE = re.compile(r'/?[A-Za-z_]\w*(/[A-Za-z_]\w*)*', re.ASCII)


@dataclass(frozen=True)
class LaunchArgument:
    """An argument of a launch file; `choices` empty: any text."""

    name: str
    default: str
    description: str
    choices: tuple[str, ...] = ()


def flag(name: str, default: bool, description: str) -> LaunchArgument:
    """Return an argument that is true or false."""
    return LaunchArgument(name, str(default).lower(), description, YES_OR_NO)


#: Of every launch file; a file may have another default.
ARGUMENTS = (
    LaunchArgument('namespace', '', 'Namespace of the cell; two cells differ by it alone.'),
    flag('use_sim_time', False, 'Follow /clock instead of the system clock.'),
    LaunchArgument(
        'params_file',
        str(share_path('config/sim.yaml')),
        'Parameter file for all nodes started here; several are separated as in PATH, and a later '
        'one wins.',
    ),
    flag('autostart', True, 'Configure and activate the nodes as soon as they are up.'),
    flag('use_respawn', True, 'Start a node again when its process ends.'),
    flag(
        'composed',
        True,
        'Run the nodes of the device in one process, which is faster; false: each in its own.',
    ),
    flag(
        'headless',
        True,
        "Render without a display; false renders through the desktop, and shows MuJoCo's viewer.",
    ),
    LaunchArgument(
        'world', '', 'Description of the cell (YAML); empty keeps that of the parameter file.'
    ),
    LaunchArgument(
        'log_level',
        'info',
        'Least severe level that is logged.',
        ('debug', 'info', 'warn', 'error', 'fatal'),
    ),
    LaunchArgument('models_dir', '', 'Model folder; empty keeps that of the parameter file.'),
    LaunchArgument(
        'nodes',
        ' '.join(SIMULATION + DEVICE + EDGE),
        'Names of the nodes to start, separated by spaces.',
    ),
    flag(
        'emulate_link',
        True,
        'Whether link_emulator stands between encoder and edge; without it their topics are '
        'connected directly.',
    ),
    LaunchArgument(
        'cells',
        '',
        'Namespaces of the cells that the edge serves, separated by spaces; empty keeps that of '
        'the parameter file.',
    ),
    LaunchArgument(
        'items',
        '',
        'How many items a simulated cell brings; empty keeps that of the parameter file.',
    ),
    LaunchArgument(
        'seed',
        '',
        'Seed of everything random in a simulated cell; empty keeps that of the parameter file.',
    ),
    LaunchArgument(
        'trigger',
        '',
        'What makes an item of a camera frame: frame, beam, gpio or image; empty keeps that of '
        'the parameter file.',
    ),
    LaunchArgument(
        'policy',
        '',
        'Which policy decides what is offloaded; empty keeps that of the parameter file.',
    ),
    LaunchArgument('rate', '', 'Tokens per time unit; empty keeps that of the parameter file.'),
    LaunchArgument(
        'depth', '', 'Most tokens that are kept; empty keeps that of the parameter file.'
    ),
    LaunchArgument(
        'link', '', 'Bandwidth of the emulated link; empty keeps that of the parameter file.'
    ),
    LaunchArgument(
        'guard',
        '',
        'Seconds before the deadline at which the actuator acts with what it has; empty keeps '
        'that of the cell description.',
    ),
    LaunchArgument(
        'out',
        '',
        'Folder for summary.json, items.csv and report.html of a simulated cell; empty: the '
        'folder with the logs of this launch.',
    ),
    flag(
        'hmi',
        False,
        "Start operator_panel, too: the operator's page, at the address and port of its "
        'parameters (http://127.0.0.1:8090/).',
    ),
    flag(
        'use_rviz',
        False,
        'Start RViz, cell_view, which draws the cell for it, and the frames of the cell.',
    ),
    flag(
        'plant',
        False,
        'Start plant_gateway, too, which tells the plant by OPC UA, MQTT or Prometheus; its '
        'parameters say which.',
    ),
    LaunchArgument(
        'record', '', 'File (MCAP) into which recorder puts everything that is said; empty: none.'
    ),
    flag('end_when_done', False, 'End after the last item of a simulated cell came to rest.'),
    LaunchArgument(
        'gateway_peer',
        '',
        'Address (IPv4) of the other side, on a slow network: a gateway then carries the three '
        'topics that cross, and nothing else leaves this machine. On the edge one for each of the '
        'cells, separated by spaces; empty: no gateway, the nodes find each other.',
    ),
    LaunchArgument(
        'gateway_number',
        '0',
        'Number of the gateway, where an edge has several: that of the cell among the cells of '
        'the edge, from 0.',
    ),
)


@dataclass(frozen=True)
class Gateway:
    """A gateway to start: its node, the namespace, its peer, and the variables of its process."""

    node: str
    namespace: str
    peer: str
    environment: Mapping[str, str]


@dataclass(frozen=True)
class LaunchRequest:
    """What the arguments of a launch file ask for.

    Attributes:
        nodes: Names of the nodes to start, gateways not among them.
        namespace: Of the cell.
        params_files: For every node, the last one wins.
        direct: Whether the device uses the topic names of the edge, with nothing between them.
        given: Launch argument -> value, for what stands in no file but was asked for.
        gateways: To start beside the nodes.
        composed: Those of the nodes that are one process.
    """

    nodes: tuple[str, ...]
    namespace: str
    params_files: tuple[str, ...]
    direct: bool
    autostart: bool
    given: Mapping[str, Any] = field(default_factory=dict)
    gateways: tuple[Gateway, ...] = ()
    composed: tuple[str, ...] = ()

    def parameters(self, node: str) -> dict[str, Any]:
        """Return the parameters of a node beside those of its files."""
        chosen: dict[str, Any] = {'autostart': self.autostart}
        for argument, (parameter, takers) in PARAMETERS.items():
            if node in takers and argument in self.given:
                chosen[parameter] = self.given[argument]
        if node in FEEDERS and set(DEVICE) <= set(self.nodes):
            chosen['wait_for'] = list(AWAITED)
        if node == 'camera':
            awaited = [topic for name, topic in AWAITED_BY_CAMERA.items() if name in self.nodes]
            if awaited:
                chosen['wait_for'] = awaited
        return chosen


def with_defaults(**defaults: str | bool) -> tuple[LaunchArgument, ...]:
    """Return the arguments of a launch file, some with a default or a text of its own.

    Args:
        defaults: Name of an argument -> its default.

    Raises:
        LookupError: If there is no such argument.
    """
    unknown = set(defaults) - {argument.name for argument in ARGUMENTS}
    if unknown:
        raise LookupError(f'no launch argument {", ".join(sorted(unknown))}')
    return tuple(
        LaunchArgument(
            argument.name,
            str(defaults[argument.name]).lower()
            if argument.choices == YES_OR_NO
            else str(defaults[argument.name]),
            argument.description,
            argument.choices,
        )
        if argument.name in defaults
        else argument
        for argument in ARGUMENTS
    )


def refuse_unknown(typed: Iterable[str], known: Iterable[str]) -> None:
    """Refuse an argument that no launch file has; `ros2 launch` itself drops it without a word.

    Args:
        typed: What was typed, such as 'items:=5'.
        known: The names that there are.

    Raises:
        ConfigError: Naming the argument, and the one that may be meant.
    """
    known = sorted(known)
    for word in typed:
        name, sign, _ = word.partition(':=')
        if sign and name not in known and name not in _OF_LAUNCH:
            near = difflib.get_close_matches(name, known, 1)
            hint = f'is {near[0]} meant?' if near else f'there are {", ".join(known)}'
            raise ConfigError(f'argument {name}: there is none of this name; {hint}')


def checked(
    values: Mapping[str, str], arguments: Sequence[LaunchArgument] = ARGUMENTS
) -> LaunchRequest:
    """Return what the arguments ask for.

    Args:
        values: Name of each argument -> its text.
        arguments: Those of the launch file, with its defaults.

    Raises:
        ConfigError: Naming the argument whose value cannot be used, and the remedy.
    """
    for argument in arguments:
        if argument.choices and values[argument.name] not in argument.choices:
            raise ConfigError(
                f'argument {argument.name}: {values[argument.name]!r} is not one of '
                + ', '.join(argument.choices)
            )
    default = {argument.name: argument.default for argument in arguments}
    namespace = _namespace('namespace', values['namespace'].strip())
    cells = [_namespace('cells', cell) for cell in values['cells'].split()]
    names = _node_names(values['nodes'])
    if values['hmi'].lower() == 'true':
        names += [name for name in PANELS if name not in names]
    if values['use_rviz'].lower() == 'true':
        names += [name for name in VIEWS if name not in names]
    if values['plant'].lower() == 'true':
        names += [name for name in PLANT if name not in names]
    if values['record'].strip():
        names += [name for name in RECORDERS if name not in names]
    emulate = values['emulate_link'].lower() == 'true'
    if not emulate and 'link_emulator' in names:
        if values['nodes'] != default['nodes']:
            raise ConfigError(
                'argument emulate_link: it is false, and link_emulator is among the nodes; leave '
                'one of the two out'
            )
        names = [name for name in names if name != 'link_emulator']
    if emulate and {'encoder', *EDGE} <= set(names) and 'link_emulator' not in names:
        raise ConfigError(
            'argument emulate_link: both sides are started, and not link_emulator, which would '
            'join them; add it to the nodes, or set emulate_link:=false'
        )
    gateways = make_gateways(
        names,
        values['gateway_peer'].split(),
        namespace,
        cells,
        _number('gateway_number', values['gateway_number']),
    )
    given = _given(values)
    if cells:
        given['cells'] = cells
    _refuse_unused([name for name in given if values.get(name) != default.get(name)], names)
    return LaunchRequest(
        nodes=tuple(names),
        namespace=namespace,
        params_files=_params_files(values['params_file'], names, namespace),
        direct=not (gateways or emulate),
        autostart=values['autostart'].lower() == 'true',
        given=given,
        gateways=gateways,
        composed=_composed(names) if values['composed'].lower() == 'true' else (),
    )


def _composed(names: Sequence[str]) -> tuple[str, ...]:
    """Return which nodes are one process; one alone has a process anyway."""
    together = tuple(name for name in COMPOSED if name in names)
    return together if len(together) > 1 else ()


def _given(values: Mapping[str, str]) -> dict[str, Any]:
    """Return the values that were asked for, each judged."""
    given: dict[str, Any] = {}
    for name in JUDGED_BY_NODE:
        if values[name].strip():
            given[name] = _judged(name, values[name])
    if world := values['world'].strip():
        given['world'] = str(_cell_file(world))
    if guard := values['guard'].strip():
        given['world'] = str(_with_guard(given.get('world', ''), _number_of('guard', guard)))
    if models := values['models_dir'].strip():
        given['models_dir'] = str(_models(models))
    if out := values['out'].strip():
        given['out'] = str(_out_folder(out))
    if record := values['record'].strip():
        given['record'] = str(_file_to_be('record', record))
    if values['end_when_done'].lower() == 'true':
        given['end_when_done'] = True
    return given


def _refuse_unused(typed: Iterable[str], names: Sequence[str]) -> None:
    """Refuse what was asked of nodes that are not started; files are for whoever reads them."""
    for name in typed:
        takers = PARAMETERS[name][1]
        if name not in ('world', 'models_dir', 'out') and not set(takers) & set(names):
            raise ConfigError(
                f'argument {name}: it is for {" and ".join(takers)}, and no such node is started '
                'here; leave it out, or add the node to `nodes`'
            )


def _judged(name: str, text: str) -> Any:
    """Return a value that the parameter of a node judges."""
    parameter, takers = PARAMETERS[name]
    settings = node_class(takers[0]).SETTINGS
    (item,) = [item for item in fields(settings) if item.name == parameter]
    return value_of(f'argument {name}', text, item.default, item.metadata['rule'])


def _number(name: str, text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise ConfigError(f'argument {name}: {text!r} is not a whole number') from None


def _number_of(name: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ConfigError(f'argument {name}: {text!r} is not a number')
    return value


def _namespace(name: str, text: str) -> str:
    if text and not _NAMESPACE.fullmatch(text):
        raise ConfigError(
            f'argument {name}: {text!r} is no namespace; it is made of letters, digits and _, '
            'begins with a letter, and / stands between its parts'
        )
    return text


def _node_names(text: str) -> list[str]:
    names = text.split()
    unknown = sorted(set(names) - set(NODES))
    if unknown:
        raise ConfigError(
            f'argument nodes: there is no {", ".join(unknown)}; choose from {", ".join(NODES)}'
        )
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ConfigError(f'argument nodes: {", ".join(twice)} stands there twice')
    if not names:
        raise ConfigError(f'argument nodes: it is empty; choose from {", ".join(NODES)}')
    return names


def _cell_file(text: str) -> Path:
    path = Path(text).expanduser().absolute()
    try:
        CellDescription.load(path)
    except ConfigError as error:
        raise ConfigError(f'argument world: {error}') from error
    return path


def _with_guard(world: str, guard: float) -> Path:
    """Write the cell description with another guard, and return where it is.

    It lies in a folder that goes with this process.
    """
    source = Path(world) if world else share_path('config/cell.yaml')
    path = Path(temporary_folder('cell').name) / 'cell.yaml'
    path.write_text(source.read_text(encoding='utf-8'), encoding='utf-8')
    try:
        set_cell_values(path, {'guard': guard})
        CellDescription.load(path)
    except ConfigError as error:
        raise ConfigError(f'argument guard: {guard:g} cannot be: {error}') from error
    return path


def _out_folder(text: str) -> Path:
    """Make the folder of the results now, and not only when there are some."""
    path = Path(text).expanduser().absolute()
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(
            f'argument out: {path} cannot be a folder ({error.strerror}); name another one'
        ) from error
    return path


def _file_to_be(name: str, text: str) -> Path:
    """Make the folder of a file that a node will write, so that a wrong place is said now."""
    path = Path(text).expanduser().absolute()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(
            f'argument {name}: {path} cannot be a file ({error.strerror}); name another one'
        ) from error
    return path


def _models(text: str) -> Path:
    path = Path(text).expanduser().absolute()
    try:
        ModelFolder(path)
    except ModelFileError as error:
        raise ConfigError(f'argument models_dir: {error}') from error
    return path


# Parameter files --------------------------------------------------------------------------------


def _params_files(text: str, nodes: Sequence[str], namespace: str) -> tuple[str, ...]:
    """Return the parameter files, each of which can be read.

    A file that says nothing to any node that is started is refused: it is the wrong one, or the
    names in it are mistyped, and the nodes would run on their defaults.
    """
    if not text.strip():
        raise ConfigError(
            'argument params_file: it is empty; name a file like config/device.yaml, or leave the '
            'argument out'
        )
    paths = tuple(str(Path(part).expanduser().absolute()) for part in text.split(os.pathsep))
    patterns: list[str] = []
    for path in paths:
        for pattern in patterns_in(path):
            _refuse_mistyped(pattern, path)
            patterns.append(pattern)
    full = [full_name(namespace, name) for name in nodes]
    if not any(applies(pattern, name) for pattern in patterns for name in full):
        raise ConfigError(
            f'argument params_file: {", ".join(paths)} has no parameters for any node that is '
            f'started here ({", ".join(full)}), only for {", ".join(patterns)}'
        )
    return paths


def _refuse_mistyped(pattern: str, path: str) -> None:
    name = pattern.rpartition('/')[2]
    known = (*NODES, *GATEWAYS)
    if name in known or '*' in name:
        return
    near = difflib.get_close_matches(name, known, 1, cutoff=0.8)
    if near:
        raise ConfigError(
            f'argument params_file: {path} has parameters for {pattern}; is {near[0]} meant?'
        )


def patterns_in(path: str) -> list[str]:
    """Return for which nodes a parameter file has parameters, as patterns such as '/**/camera'.

    Raises:
        ConfigError: If it is no parameter file; the message names it.
    """
    about = f'argument params_file: {path}'
    try:
        content = read_yaml(path)
    except UnusableFile as error:
        raise ConfigError(
            f'{about} cannot be used: {error}; correct the path or the file, or leave the '
            'argument out'
        ) from error
    found = [pattern for pattern, _ in sections(content)]
    if not found:
        raise ConfigError(
            f'{about} has no ros__parameters; write them as config/device.yaml does: the name of '
            'a node, below it ros__parameters, and below that the parameters'
        )
    return found


def applies(pattern: str, name: str) -> bool:
    """Return whether parameters for a pattern hold for a node, as rcl has it.

    Args:
        pattern: From a parameter file: '*' stands for one part of a name, '**' for any number.
        name: Full name of a node.

    Examples:
        >>> applies('/**/camera', '/line_1/camera'), applies('/camera', '/line_1/camera')
        (True, False)
    """
    words = [
        r'(/[^/]+)*' if part == '**' else '/' + re.escape(part).replace(r'\*', '[^/]+')
        for part in pattern.strip('/').split('/')
    ]
    return re.fullmatch(''.join(words), name) is not None


# Gateways ---------------------------------------------------------------------------------------


def make_gateways(
    names: Sequence[str], peers: Sequence[str], namespace: str, cells: Sequence[str], number: int
) -> tuple[Gateway, ...]:
    """Return the gateways of the side that is started; none without peers.

    Args:
        names: Of the nodes that are started.
        peers: Addresses of the other side.
        namespace: Of the cell.
        cells: Namespaces that the edge serves.
        number: Of the first gateway.

    Raises:
        ConfigError: If there can be no gateway between what is started.
    """
    if not peers:
        return ()
    sides = [
        side
        for side, nodes in (('device_gateway', DEVICE), ('edge_gateway', EDGE))
        if set(nodes) & set(names)
    ]
    if len(sides) != 1 or 'link_emulator' in names:
        raise ConfigError(
            'argument gateway_peer: it joins two machines; start one side here, with '
            'device.launch.py or edge.launch.py'
        )
    middleware = os.environ.get('RMW_IMPLEMENTATION', 'rmw_fastrtps_cpp')
    if not middleware.startswith('rmw_fastrtps'):
        raise ConfigError(
            f'argument gateway_peer: it needs Fast DDS, and RMW_IMPLEMENTATION is {middleware}'
        )
    places = cells if cells and sides == ['edge_gateway'] else [namespace]
    if len(peers) != len(places):
        raise ConfigError(
            f'argument gateway_peer: {len(peers)} addresses for {len(places)} cells; give the '
            'edge one for each of `cells`, in that order'
        )
    try:
        return tuple(
            Gateway(
                sides[0], place, peer, with_profile(NODE_ROLES[sides[0]], peer=peer, number=count)
            )
            for count, (place, peer) in enumerate(zip(places, peers), start=number)
        )
    except ConfigError as error:
        raise ConfigError(f'argument gateway_peer: {error}') from error


def with_profile(role: str, *, peer: str = '', number: int = 0) -> Mapping[str, str]:
    """Return the variables with which a process takes a Fast DDS profile of `fastdds_profiles`.

    The profile is written into a temporary folder that goes with this process.

    Raises:
        ConfigError: If the peer is no address, or there is no such number.
    """
    path = Path(temporary_folder('profiles').name) / f'{role}_{number}.xml'
    path.write_text(
        profile_xml(
            role, domain=int(os.environ.get('ROS_DOMAIN_ID') or 0), peer=peer, number=number
        ),
        encoding='utf-8',
    )
    return environment(path)


def composed_parameters(parameters: Mapping[str, Mapping[str, Any]]) -> Path:
    """Write the parameters of nodes that are one process into a file; return where it is.

    It lies in a folder that goes with this process.

    Args:
        parameters: Node -> its parameters.
    """
    path = Path(temporary_folder('parameters').name) / 'device.yaml'
    path.write_text(
        yaml.safe_dump(
            {f'/**/{node}': {'ros__parameters': dict(own)} for node, own in parameters.items()}
        ),
        encoding='utf-8',
    )
    return path


@functools.cache
def temporary_folder(kind: str) -> tempfile.TemporaryDirectory[str]:
    """Return a temporary folder that goes with this process, one of each kind."""
    return tempfile.TemporaryDirectory(prefix=f'stl_conveyor_{kind}_')


def missing_packages(needed: Mapping[str, str], installed: Iterable[str], distro: str) -> str:
    """Say which ROS packages are missing, with the line that installs them; empty if none is.

    Args:
        needed: Package -> the part of the name of the Debian package that brings it.
        installed: Packages that are there.
        distro: Name of the ROS distribution.

    Examples:
        >>> missing_packages({'ros_gz_sim': 'ros-gz'}, [], 'jazzy')
        'ros_gz_sim is not installed: apt install ros-jazzy-ros-gz'
    """
    there = set(installed)
    missing = [package for package in needed if package not in there]
    if not missing:
        return ''
    debs = dict.fromkeys(f'ros-{distro}-{needed[package]}' for package in missing)
    verb = 'is' if len(missing) == 1 else 'are'
    return f'{", ".join(missing)} {verb} not installed: apt install {" ".join(debs)}'
