# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Measure the views of a cell: the operator's page, and what the plant reads."""
