# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""ROS 2 nodes, one thin file each, and the QoS profiles."""
