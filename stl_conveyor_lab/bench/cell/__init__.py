# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Measure the whole cell: how well it sorts, in what time, and at what cost."""
