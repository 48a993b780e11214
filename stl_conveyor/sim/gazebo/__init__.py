# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""The cell in Gazebo: its world, its items, and the bridges to ROS 2."""
