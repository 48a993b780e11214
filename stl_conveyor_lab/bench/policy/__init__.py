# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Compare the offloading policies with their bounds and the published curves."""
