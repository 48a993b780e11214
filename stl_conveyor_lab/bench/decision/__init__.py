# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Measure the decision by cost: promises, strangers, offloading, drift."""
