# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""What is known about each item, scored and shown; and how well models do on labelled images."""
