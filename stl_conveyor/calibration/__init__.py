# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Measure what the cell description and the parameters say about a real cell. Needs no ROS."""
