# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""What stands at the belt: inputs (light barrier, belt encoder, frames) and outputs. No ROS."""
