# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Play what goes wrong on a real line, and say what the nodes make of it."""
