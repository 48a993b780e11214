# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Nodes of the simulated cell, in MuJoCo and in Gazebo."""
