# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""The laboratory: it trains and judges what stl_conveyor ships. Nothing here runs in a cell."""
