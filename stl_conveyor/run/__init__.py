# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""The simulated cell as one command: every node in a process of its own, faults, summary, report."""
