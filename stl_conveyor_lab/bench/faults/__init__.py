# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Faults at random over a cell of real processes, and what becomes of each item."""
