# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""MuJoCo, told to render without a window where there is no display for one.

It reads MUJOCO_GL when it is first imported, and would try to open a window without it.
"""

from __future__ import annotations

import os

if not any(os.environ.get(name) for name in ('MUJOCO_GL', 'DISPLAY', 'WAYLAND_DISPLAY')):
    os.environ['MUJOCO_GL'] = 'egl'

import mujoco  # noqa: E402

__all__ = ['mujoco']
