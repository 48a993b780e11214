# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""The QoS profiles of the cell, by name. No node builds a profile of its own."""
from __future__ import annotations

from dataclasses import dataclass
import enum

from rclpy.duration import Duration
from rclpy.qos import (
    QoSDurabilityPolicy, QoSHistoryPolicy, QoSLivelinessPolicy, QoSPolicyKind, QoSProfile,
    QoSReliabilityPolicy)
from rclpy.qos_overriding_options import QoSOverridingOptions


class Profile(enum.Enum):
    """Names of the profiles; (reliable, transient local, depth, watched)."""

    # Frames of a driver that may publish best effort: newest only, nothing to wait for.
    SENSOR = (False, False, 1, False)
    # 77 kB each; for who works on the newest: two, so that one is fetched while the next comes.
    CAPTURE = (True, False, 2, True)
    # For who must see each one, also after a pause: it owes every item an outcome.
    EVERY_CAPTURE = (True, False, 16, True)
    RESULT = (True, False, 16, True)
    # Small packets on a lossy link: a lost one is replaced by a better one, never awaited.
    FEATURE = (False, False, 64, False)
    STATE = (True, True, 1, False)
    DIAGNOSTICS = (True, False, 16, False)

    def __init__(self, reliable: bool, latched: bool, depth: int, watched: bool) -> None:
        """Take the tuple apart."""
        self.reliable = reliable
        self.latched = latched
        self.depth = depth
        self.watched = watched


@dataclass(frozen=True)
class Watchdogs:
    """Seconds of the DDS deadline, lifespan and liveliness lease on our topics; 0 = off."""

    deadline: float = 0.0
    lifespan: float = 0.0
    lease: float = 0.0


def make_profile(profile: Profile, watchdogs: Watchdogs = Watchdogs()) -> QoSProfile:
    """
    Return the QoS of a profile.

    Watchdogs apply only to topics whose publishers are all ours and regular: a subscriber that
    requests a deadline connects to no publisher without one.
    """
    qos = QoSProfile(
        history=QoSHistoryPolicy.KEEP_LAST, depth=profile.depth,
        reliability=(QoSReliabilityPolicy.RELIABLE if profile.reliable
                     else QoSReliabilityPolicy.BEST_EFFORT),
        durability=(QoSDurabilityPolicy.TRANSIENT_LOCAL if profile.latched
                    else QoSDurabilityPolicy.VOLATILE))
    if profile.watched:
        if watchdogs.deadline > 0:
            qos.deadline = Duration(nanoseconds=round(watchdogs.deadline * 1e9))
        if watchdogs.lifespan > 0:
            qos.lifespan = Duration(nanoseconds=round(watchdogs.lifespan * 1e9))
        if watchdogs.lease > 0:
            qos.liveliness = QoSLivelinessPolicy.AUTOMATIC
            qos.liveliness_lease_duration = Duration(nanoseconds=round(watchdogs.lease * 1e9))
    return qos


def overriding_options() -> QoSOverridingOptions:
    """Return what lets a parameter file override the QoS of a topic."""
    return QoSOverridingOptions([
        QoSPolicyKind.HISTORY, QoSPolicyKind.DEPTH, QoSPolicyKind.RELIABILITY,
        QoSPolicyKind.DURABILITY])
