# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""What stands in the graph for a node whose parameters cannot be used."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import rclpy
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rclpy.exceptions import InvalidParameterTypeException, ParameterException
from rclpy.impl.implementation_singleton import rclpy_implementation
from rclpy.node import Node

from stl_conveyor.errors import Level
from stl_conveyor.nodes.base.clock import clock_ns, to_stamp
from stl_conveyor.nodes.base.middleware import join
from stl_conveyor.nodes.base.qos import make_profile
from stl_conveyor.nodes.base.topics import Profile

#: What rclpy raises where arguments or parameter files make no node.
REFUSED_BY_ROS = (
    rclpy_implementation.RCLError,
    rclpy_implementation.UnknownROSArgsError,
    ParameterException,
    InvalidParameterTypeException,
)


@contextmanager
def refused_node(
    name: str, arguments: Sequence[str] | None, text: str
) -> Iterator[Callable[[], None]]:
    """Stand for a node that cannot be started, under its name and in its namespace.

    Args:
        name: Of the node, if the arguments give it no other.
        arguments: Of the process; None: those of the command line.
        text: Why it cannot be started.

    Yields:
        A function that says so on /diagnostics.

    Raises:
        RuntimeError: If the arguments are none of ROS's; one of REFUSED_BY_ROS.
    """
    context = join(arguments=arguments)
    node = None
    try:
        node = Node(name, context=context, start_parameter_services=False)
        publisher = node.create_publisher(
            DiagnosticArray, '/diagnostics', make_profile(Profile.DIAGNOSTICS)
        )
        status = DiagnosticStatus(
            level=bytes([Level.ERROR]),
            name=node.get_fully_qualified_name().lstrip('/'),
            message=f'cannot configure: {text}',
            hardware_id='stl_conveyor',
            values=[KeyValue(key='state', value='not started')],
        )

        def report() -> None:
            array = DiagnosticArray(status=[status])
            array.header.stamp = to_stamp(clock_ns(node.get_clock()))
            publisher.publish(array)

        yield report
    finally:
        if node is not None:
            node.destroy_node()
        rclpy.try_shutdown(context=context)
