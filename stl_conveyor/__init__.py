# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Sort items on a conveyor with a weak classifier on the device and a strong one on the edge."""

from __future__ import annotations

import os
from pkgutil import extend_path

# The source tree holds the Python code and the built prefix holds the generated messages;
# both are `stl_conveyor`, and this joins them.
__path__ = extend_path(__path__, __name__)

# ONNX Runtime 1.32 sends reports on its use and keeps an id of the device and a database of events
# in the home folder, unless it finds this when it is first imported. Nothing may leave a cell but
# what its topics carry, so this is no matter of taste; processes that are started inherit it.
os.environ['ORT_DISABLE_TELEMETRY'] = '1'

__version__ = '0.1.0'
