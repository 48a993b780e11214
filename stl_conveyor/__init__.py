# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Sort items on a conveyor with a weak classifier on the device and a strong one on the edge."""

from __future__ import annotations

from pkgutil import extend_path

# The source tree holds the Python code and the built prefix holds the generated messages;
# both are `stl_conveyor`, and this joins them.
__path__ = extend_path(__path__, __name__)

__version__ = '0.1.0'
