# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""What a decision costs, what it promises, and when nobody knows: the core of the sorting."""
