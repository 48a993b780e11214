# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""What every node has: life cycle, topics, QoS, clock, settings, health."""
