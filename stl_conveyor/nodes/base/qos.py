# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""The QoS profiles of nodes/base/topics.py as rclpy takes them. No node builds one of its own."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module

from rclpy.duration import Duration
from rclpy.qos import (
    QoSDurabilityPolicy,
    QoSHistoryPolicy,
    QoSLivelinessPolicy,
    QoSPolicyKind,
    QoSProfile,
    QoSReliabilityPolicy,
)
from rclpy.qos_overriding_options import QoSOverridingOptions

from stl_conveyor.nodes.base.topics import Profile, Topic


@dataclass(frozen=True)
class Watchdogs:
    """Seconds of the DDS deadline, lifespan and liveliness lease on our topics; 0 = off."""

    deadline: float = 0.0
    lifespan: float = 0.0
    lease: float = 0.0


def make_profile(profile: Profile, watchdogs: Watchdogs = Watchdogs()) -> QoSProfile:
    """Return the QoS of a profile.

    Watchdogs apply only to topics whose publishers are all ours and regular: a subscriber that
    requests a deadline connects to no publisher without one.
    """
    qos = QoSProfile(
        history=QoSHistoryPolicy.KEEP_LAST,
        depth=profile.depth,
        reliability=(
            QoSReliabilityPolicy.RELIABLE if profile.reliable else QoSReliabilityPolicy.BEST_EFFORT
        ),
        durability=(
            QoSDurabilityPolicy.TRANSIENT_LOCAL
            if profile.latched
            else QoSDurabilityPolicy.VOLATILE
        ),
    )
    if profile.watched:
        if watchdogs.deadline > 0:
            qos.deadline = Duration(nanoseconds=round(watchdogs.deadline * 1e9))
        if watchdogs.lifespan > 0:
            qos.lifespan = Duration(nanoseconds=round(watchdogs.lifespan * 1e9))
        if watchdogs.lease > 0:
            qos.liveliness = QoSLivelinessPolicy.AUTOMATIC
            qos.liveliness_lease_duration = Duration(nanoseconds=round(watchdogs.lease * 1e9))
    return qos


def overriding_options(*, reliability: bool = True) -> QoSOverridingOptions:
    """Return what lets a parameter file override the QoS of a topic.

    Args:
        reliability: Whether also that; rclpy takes what it declared once for an override later.
    """
    return QoSOverridingOptions(
        [QoSPolicyKind.HISTORY, QoSPolicyKind.DEPTH, QoSPolicyKind.DURABILITY]
        + [QoSPolicyKind.RELIABILITY] * reliability
    )


def message_class(topic: Topic) -> type:
    """Return the class of a topic's messages."""
    return class_of(topic.message_type)


def class_of(message_type: str) -> type:
    """Return the class of a message, of its name such as 'std_msgs/Bool'.

    Raises:
        ImportError: If its package is not installed.
        AttributeError: If the package has no such message.
    """
    package, name = message_type.split('/')
    kind: type = getattr(import_module(f'{package}.msg'), name)
    return kind


def in_namespace(topic: str, cell: str) -> str:
    """Return a relative topic's name in the namespace of a cell; empty: that of the node."""
    return f'{cell.rstrip("/")}/{topic}' if cell else topic
