# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""The topics of a cell: their types and QoS, who publishes and who listens. Needs no ROS.

The nodes take type and QoS from here, the security policies are generated from here
(``stl_conveyor.deploy.security``), and tests compare the running graph and the tables in docs/
with it.
"""

from __future__ import annotations

import enum
import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from types import MappingProxyType
from typing import Any


class Profile(enum.Enum):
    """Names of the QoS profiles; (reliable, transient local, depth, watched)."""

    # The newest only, nothing to wait for.
    SENSOR = (False, False, 1, False)
    # Each may be an item, and a driver hands them over in bursts. A driver that publishes best
    # effort is met with best effort (nodes/base/outside_input.py).
    FRAMES = (True, False, 16, False)
    # 77 kB each, of which one or two wait, unless somebody else fills the topic: then more than
    # two, so that the item's is still there when its turn comes.
    CAPTURE = (True, False, 32, True)
    # For who must see each one, also after a pause or in a flood: it owes every item an outcome.
    EVERY_CAPTURE = (True, False, 256, True)
    RESULT = (True, False, 64, True)
    # Small packets on a lossy link: a lost one is replaced by a better one, never awaited.
    FEATURE = (False, False, 64, False)
    # Where items or joints are: of a model each, many at once, and the next one comes soon.
    POSES = (False, False, 256, False)
    # A counter on the belt that others than ours may read, and publish best effort.
    BELT = (False, False, 16, False)
    STATE = (True, True, 1, False)
    # Signs of life of all nodes, which are looked at now and then; the next ones come soon.
    HEARTBEAT = (False, False, 64, False)
    DIAGNOSTICS = (True, False, 16, False)

    def __new__(cls, *_: object) -> Profile:
        """Make each a member of its own; two of equal value would be one."""
        member = object.__new__(cls)
        member._value_ = len(cls.__members__)
        return member

    def __init__(self, reliable: bool, latched: bool, depth: int, watched: bool) -> None:
        """Take the tuple apart."""
        self.reliable = reliable
        self.latched = latched
        self.depth = depth
        self.watched = watched


@dataclass(frozen=True)
class Topic:
    """A topic, with the nodes of ours at both ends.

    Attributes:
        name: relative, so that a namespace makes a cell; absolute where cells share it.
        message_type: 'package/Type'.
        profile: Of every end that `particular` does not name.
        outside: Who else is meant to publish or to listen, in words.
        particular: Node → its own profile.
        heard: Profile of those who listen, where it is not that of those who publish.
        optional: Nodes that use it with some values of their parameters only.
        promised: Seconds within which it is said again, offered as the DDS deadline: whoever asks
            for no less is told by the middleware of a silence; 0 = nothing is offered.
        of_parts: Whether it stands in a namespace for each part of the cell, beside the node's.
    """

    name: str
    message_type: str
    profile: Profile
    publishers: tuple[str, ...]
    subscribers: tuple[str, ...]
    outside: str = ''
    particular: Mapping[str, Profile] = field(default_factory=lambda: MappingProxyType({}))
    optional: tuple[str, ...] = ()
    promised: float = 0.0
    of_parts: bool = False
    heard: Profile | None = None

    @property
    def package(self) -> str:
        """Return the package of the messages."""
        return self.message_type.partition('/')[0]

    def profile_of(self, node: str) -> Profile:
        """Return the profile with which a node publishes."""
        return self.particular.get(node, self.profile)

    def heard_by(self, node: str) -> Profile:
        """Return the profile with which a node listens."""
        return self.particular.get(node, self.heard or self.profile)


SIMULATION = ('cell_simulator', 'link_emulator', 'cell_monitor')
# One process by default, in the order in which they are deactivated.
COMPOSED = ('camera', 'local_classifier', 'offload_policy', 'encoder', 'actuator')
DEVICE = (*COMPOSED, 'cell_guard')
EDGE = ('edge_classifier',)
EVERY_NODE = DEVICE + EDGE + SIMULATION
GATEWAYS = ('device_gateway', 'edge_gateway')  # in place of link_emulator, on a slow network
GAZEBO = ('feeder', 'gazebo_io')  # in place of cell_simulator; they need Gazebo's bridge
PANELS = ('operator_panel',)  # show a cell to people; where somebody asks for it
PLANT = ('plant_gateway',)  # tells the plant of a cell; where somebody asks for it
RECORDERS = ('recorder',)  # hear everything; where somebody asks for it
VIEWS = ('cell_view',)  # draw a cell for RViz and Foxglove; where somebody asks for it
ONLOOKERS = PANELS + PLANT + VIEWS + RECORDERS
# Parts of commands that look on for a while; no life cycle.
TOOLS = ('item_collector', 'fleet_watch')

#: The package that each node lies in, below stl_conveyor.nodes.
ROOMS: Mapping[str, str] = MappingProxyType(
    {
        **dict.fromkeys((*DEVICE, 'item_collector'), 'device'),
        **dict.fromkeys((*EDGE, 'fleet_watch'), 'edge'),
        **dict.fromkeys(('link_emulator', *GATEWAYS), 'link'),
        **dict.fromkeys(('cell_simulator', 'cell_monitor', *GAZEBO), 'simulation'),
        **dict.fromkeys(ONLOOKERS, 'panel'),
    }
)


def node_module(name: str) -> str:
    """Return the module of a node, such as 'stl_conveyor.nodes.device.camera'."""
    return f'stl_conveyor.nodes.{ROOMS[name]}.{name}'


def node_class(name: str) -> Any:
    """Return the class of a node; this imports its module, and with it ROS."""
    module = importlib.import_module(node_module(name))
    (kind,) = [
        value
        for value in vars(module).values()
        if isinstance(value, type) and vars(value).get('NAME') == name
    ]
    return kind


_OF_THE_CELL = (
    Topic(
        'camera/image_raw',
        'sensor_msgs/Image',
        Profile.FRAMES,
        ('cell_simulator',),
        ('camera',),
        outside='camera driver',
    ),
    Topic(
        'camera/image_raw/compressed',
        'sensor_msgs/CompressedImage',
        Profile.FRAMES,
        (),
        ('camera',),
        outside='camera driver, with `image_transport: compressed`',
        optional=('camera',),
    ),
    Topic(
        'break_beam',
        'std_msgs/Header',
        Profile.RESULT,
        ('gazebo_io',),
        ('camera',),
        outside='beam driver, with `trigger: beam`',
    ),
    Topic(
        'capture',
        'stl_conveyor/ItemCapture',
        Profile.CAPTURE,
        ('camera',),
        (
            'local_classifier',
            'offload_policy',
            'encoder',
            'actuator',
            'cell_guard',
            'cell_monitor',
            'feeder',
            'item_collector',
            'operator_panel',
            'plant_gateway',
            'cell_view',
        ),
        particular=MappingProxyType(
            dict.fromkeys(
                ('camera', 'actuator', 'cell_guard', 'feeder', 'item_collector'),
                Profile.EVERY_CAPTURE,
            )
        ),
    ),
    Topic(
        'classification',
        'stl_conveyor/Classification',
        Profile.RESULT,
        ('local_classifier',),
        (
            'offload_policy',
            'actuator',
            'cell_guard',
            'cell_monitor',
            'operator_panel',
            'plant_gateway',
        ),
    ),
    Topic(
        'offload_decision',
        'stl_conveyor/OffloadDecision',
        Profile.RESULT,
        ('offload_policy',),
        ('encoder', 'actuator', 'cell_monitor', 'operator_panel', 'plant_gateway'),
    ),
    Topic(
        'features_tx',
        'stl_conveyor/ProgressiveFeature',
        Profile.FEATURE,
        ('encoder',),
        ('link_emulator', 'device_gateway'),
    ),
    Topic(
        'features_rx',
        'stl_conveyor/ProgressiveFeature',
        Profile.FEATURE,
        ('link_emulator', 'edge_gateway'),
        ('edge_classifier',),
    ),
    Topic(
        'feedback_tx',
        'stl_conveyor/FeatureFeedback',
        Profile.FEATURE,
        ('edge_classifier',),
        # Of a pool the standby sees by it whether the home of a cell answers.
        ('link_emulator', 'edge_gateway', 'edge_classifier'),
        optional=('edge_classifier',),
    ),
    Topic(
        'feedback_rx',
        'stl_conveyor/FeatureFeedback',
        Profile.FEATURE,
        ('link_emulator', 'device_gateway'),
        ('encoder', 'offload_policy'),
    ),
    Topic(
        'edge_classification_tx',
        'stl_conveyor/Classification',
        Profile.RESULT,
        ('edge_classifier',),
        ('link_emulator', 'edge_gateway'),
    ),
    Topic(
        'edge_classification',
        'stl_conveyor/Classification',
        Profile.RESULT,
        ('link_emulator', 'device_gateway'),
        ('actuator', 'encoder', 'cell_monitor', 'operator_panel', 'plant_gateway'),
        optional=('encoder',),
    ),
    Topic(
        'link/features',
        'stl_conveyor/ProgressiveFeature',
        Profile.FEATURE,
        ('device_gateway',),
        ('edge_gateway',),
    ),
    Topic(
        'link/feedback',
        'stl_conveyor/FeatureFeedback',
        Profile.FEATURE,
        ('edge_gateway',),
        ('device_gateway',),
    ),
    Topic(
        'link/edge_classification',
        'stl_conveyor/Classification',
        Profile.RESULT,
        ('edge_gateway',),
        ('device_gateway',),
    ),
    Topic(
        'transfer',
        'stl_conveyor/FeatureFeedback',
        Profile.RESULT,
        ('encoder',),
        ('offload_policy', 'cell_monitor', 'operator_panel', 'plant_gateway'),
    ),
    Topic(
        'token_bucket',
        'stl_conveyor/TokenBucketState',
        Profile.STATE,
        ('offload_policy',),
        ('cell_monitor', 'operator_panel', 'plant_gateway'),
        outside='anyone',
    ),
    Topic(
        'sort_outcome',
        'stl_conveyor/SortOutcome',
        Profile.RESULT,
        ('actuator',),
        (
            'cell_simulator',
            'gazebo_io',
            'cell_guard',
            'cell_monitor',
            'operator_panel',
            'plant_gateway',
            'cell_view',
        ),
        outside='diverter driver',
    ),
    Topic(
        'actuation',
        'stl_conveyor/Actuation',
        Profile.RESULT,
        ('actuator', 'cell_simulator', 'gazebo_io'),
        ('actuator', 'cell_guard', 'operator_panel', 'plant_gateway', 'cell_view'),
        outside='diverter driver',
        optional=('actuator',),
    ),
    Topic(
        'belt_state',
        'stl_conveyor/BeltState',
        Profile.RESULT,
        ('camera',),
        ('camera', 'actuator', 'operator_panel', 'plant_gateway', 'cell_view'),
        outside='what reads a counter on the belt, such as a PLC',
        optional=('camera',),
        heard=Profile.BELT,
    ),
    Topic(
        'diverter_controller/commands',
        'std_msgs/Float64MultiArray',
        Profile.RESULT,
        ('actuator',),
        (),
        outside='ros2_control',
        optional=('actuator',),
    ),
    Topic(
        'diverter_controller/joint_trajectory',
        'trajectory_msgs/JointTrajectory',
        Profile.RESULT,
        ('actuator',),
        (),
        outside='ros2_control',
        optional=('actuator',),
    ),
    Topic(
        'joint_states',
        'sensor_msgs/JointState',
        Profile.POSES,
        (),
        ('actuator', 'gazebo_io'),
        outside='ros2_control, Gazebo',
        optional=('actuator',),
    ),
    Topic(
        'cmd_pos',
        'std_msgs/Float64',
        Profile.RESULT,
        ('gazebo_io',),
        (),
        outside='Gazebo, in the namespace of each pusher',
        of_parts=True,
    ),
    Topic(
        'break_beam/scan',
        'sensor_msgs/LaserScan',
        Profile.POSES,
        (),
        ('gazebo_io',),
        outside='Gazebo',
    ),
    Topic('belt/cmd_vel', 'std_msgs/Float64', Profile.RESULT, ('feeder',), (), outside='Gazebo'),
    Topic(
        'item_poses',
        'geometry_msgs/TransformStamped',
        Profile.POSES,
        (),
        ('feeder',),
        outside='Gazebo',
    ),
    Topic(
        'item_truth',
        'stl_conveyor/ItemTruth',
        Profile.RESULT,
        ('cell_simulator', 'feeder'),
        ('actuator', 'cell_monitor', 'operator_panel', 'plant_gateway'),
        outside='an audit of what lies in the bins, for a cell with purity targets',
        optional=('actuator',),
    ),
    Topic(
        'outcome_markers',
        'visualization_msgs/MarkerArray',
        Profile.STATE,
        ('cell_monitor',),
        (),
        outside='RViz',
    ),
    Topic(
        'cell_markers',
        'visualization_msgs/MarkerArray',
        Profile.STATE,
        VIEWS,
        (),
        outside='RViz, Foxglove',
    ),
    Topic(
        'camera/camera_info',
        'sensor_msgs/CameraInfo',
        Profile.STATE,
        VIEWS,
        (),
        outside='camera driver; RViz, Foxglove',
    ),
    Topic(
        'tf_static',
        'tf2_msgs/TFMessage',
        Profile.STATE,
        VIEWS,
        (),
        outside='RViz, Foxglove; static_transform_publisher says the same',
    ),
    Topic(
        '/clock',
        'rosgraph_msgs/Clock',
        Profile.SENSOR,
        ('cell_simulator',),
        (),
        outside='every node, with `use_sim_time`',
    ),
    Topic(
        'heartbeat',
        'stl_conveyor/Heartbeat',
        Profile.HEARTBEAT,
        tuple(node for node in EVERY_NODE + GAZEBO if node not in EDGE),
        ('cell_guard', 'camera', 'actuator'),
        optional=('camera', 'actuator'),  # these listen while there are two of them
    ),
    Topic(
        '/edges',
        'stl_conveyor/EdgeState',
        Profile.HEARTBEAT,
        EDGE,
        (*EDGE, 'fleet_watch'),
        outside='anyone',
    ),
    Topic(
        'safe_to_run',
        'std_msgs/Bool',
        Profile.STATE,
        ('cell_guard',),
        ('actuator', 'operator_panel', 'plant_gateway'),
        outside='whatever can stop the belt',
        promised=1.0,
    ),
    Topic(
        '/diagnostics',
        'diagnostic_msgs/DiagnosticArray',
        Profile.DIAGNOSTICS,
        EVERY_NODE + GATEWAYS + GAZEBO + ONLOOKERS,
        ('cell_monitor', *PANELS, *PLANT, 'fleet_watch'),
    ),
)


def _recorded(topic: Topic) -> Topic:
    """Return a topic with the recorder among those who listen, which misses no item."""
    if topic.of_parts:
        return topic
    particular = dict(topic.particular)
    if topic.name == 'capture':
        particular |= dict.fromkeys(RECORDERS, Profile.EVERY_CAPTURE)
    return replace(
        topic,
        subscribers=(*topic.subscribers, *RECORDERS),
        particular=MappingProxyType(particular),
    )


TOPICS = tuple(map(_recorded, _OF_THE_CELL))
#: Packages of messages without which the cell works as well; ROS 2 as wheels has them not.
DISPENSABLE = ('tf2_msgs',)


def is_installed(topic: Topic) -> bool:
    """Return whether a topic has its messages: of all but the dispensable packages it must."""
    return topic.package not in DISPENSABLE or find_spec(topic.package) is not None


RECORDED = tuple(
    topic for topic in TOPICS if set(RECORDERS) & set(topic.subscribers) and is_installed(topic)
)

# Services of others that nodes of ours call: name → nodes.
CALLS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        'spawn_entity': ('feeder',),
        'delete_entity': ('feeder',),
        # What people may change from the operator's page, and the plant where it is allowed to.
        'camera/get_state': (*PANELS, *PLANT),
        **{
            f'{node}/{service}': (*PANELS, *PLANT)
            for node in (*DEVICE, *EDGE)
            for service in ('change_state', 'get_parameters', 'set_parameters_atomically')
        },
        # Which recipe the cell works with.
        'offload_policy/get_parameters': (*PANELS, *PLANT, *VIEWS),
    }
)

# Where no emulator stands between the two sides, the device uses the names of the edge, which may
# serve several cells and keeps its own.
DEVICE_REMAPPINGS = MappingProxyType(
    {
        'features_tx': 'features_rx',
        'feedback_rx': 'feedback_tx',
        'edge_classification': 'edge_classification_tx',
    }
)


def full_name(namespace: str, name: str) -> str:
    """Return the full name of a node or topic, given that in its namespace.

    Examples:
        >>> full_name('/', 'camera'), full_name('line_1', 'camera'), full_name('/a/b', 'capture')
        ('/camera', '/line_1/camera', '/a/b/capture')
    """
    namespace = namespace.strip('/')
    return f'/{namespace}/{name}' if namespace else f'/{name}'


def publisher_of(topic: str, node: str, table: Sequence[Topic] = TOPICS) -> Topic:
    """Return the entry of a topic that a node publishes.

    Raises:
        LookupError: If the table does not say that it does.
    """
    for entry in table:
        if entry.name == topic and node in entry.publishers:
            return entry
    raise LookupError(
        f'{node} publishes no {topic}: declare it in stl_conveyor/nodes/base/topics.py'
    )


def subscriber_of(topic: str, node: str, table: Sequence[Topic] = TOPICS) -> Topic:
    """Return the entry of a topic that a node listens to.

    Raises:
        LookupError: If the table does not say that it does.
    """
    for entry in table:
        if entry.name == topic and node in entry.subscribers:
            return entry
    raise LookupError(
        f'{node} does not listen to {topic}: declare it in stl_conveyor/nodes/base/topics.py'
    )
