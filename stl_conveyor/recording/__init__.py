# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""What was said on a cell's topics, in a file: written while it runs, and played again."""
