# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Images to train on: rendered, split, and what the edge answers to their streams."""
