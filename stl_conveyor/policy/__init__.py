# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Offloading under a token bucket: the bucket, reward estimates, policies and their bounds."""
