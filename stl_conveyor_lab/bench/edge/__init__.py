# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Measure the edge alone: how many cells one serves, and a pool that loses and gains edges."""
