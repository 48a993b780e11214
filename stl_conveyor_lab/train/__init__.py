# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Training of everything that ships in models/; needs torch."""

from __future__ import annotations

import os

# OpenMP, with which torch divides its work, reads this when torch is loaded. Threads that have
# nothing to do otherwise spin, and where other work wants the processor they keep it from the one
# that they wait for: on two busy cores a step of EfficientNet-Lite0 took four times as long. On
# idle ones it costs 4 %.
os.environ.setdefault('OMP_WAIT_POLICY', 'PASSIVE')
