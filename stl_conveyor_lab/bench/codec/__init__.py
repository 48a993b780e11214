# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Measure accuracy against bytes of the codec and of the codecs to compare with."""
