# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""What the plant reads of a cell: names and units in one table, and three ways to read them."""
