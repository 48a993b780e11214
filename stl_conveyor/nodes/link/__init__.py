# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Nodes between device and edge: the emulated link, and the gateways of a slow one."""
