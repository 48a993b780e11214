# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""The simulated cell as one command: a process for every node, faults, summary, report."""
