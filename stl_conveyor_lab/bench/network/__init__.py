# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Run the cell over a real, slow network and compare it with the link emulator."""
