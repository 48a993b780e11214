# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""The physical cell: its description, deadlines, lanes and the ledger of items."""
