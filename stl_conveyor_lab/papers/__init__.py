# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""The published scenarios, simulator and bounds of offloading under a token bucket."""
