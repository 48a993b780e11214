# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Measure the device alone: its time, memory and threads, in the ways it can be run."""
