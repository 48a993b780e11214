# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""The model folder, and the classifiers that run what it holds."""
