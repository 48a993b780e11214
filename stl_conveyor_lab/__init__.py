# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""The laboratory: it trains and judges what stl_conveyor ships. Nothing here runs in a cell.

`data` makes and reads pictures, `references` holds the codecs to compare with, `papers` the
published scenarios and their bounds, `measure` takes accuracy and time, `train` makes the models,
and `bench` makes every figure of the documentation. Only `train` needs torch. The laboratory
imports stl_conveyor, and never the other way; pyproject.toml says which room may import which.
"""

from __future__ import annotations

# Before any room imports ONNX Runtime, which the package tells to keep to itself.
import stl_conveyor  # noqa: F401
