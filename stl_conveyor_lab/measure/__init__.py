# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""What benchmarks and trainings count: accuracies, intervals, times."""
