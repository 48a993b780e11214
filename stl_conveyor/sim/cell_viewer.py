# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""MuJoCo's own viewer on a cell that runs, where there is a screen."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from stl_conveyor.errors import MissingDependency
from stl_conveyor.sim.mujoco_cell import MujocoCell
from stl_conveyor.sim.paced_cell import CellEvent

PICTURE_S = 1 / 30  # between two pictures at the least
START_PATIENCE_S = 20.0


class ViewedCell(MujocoCell):
    """A cell that is shown while it runs; closing the window ends the view alone."""

    def __init__(self, *arguments: Any, **more: Any) -> None:
        """See `MujocoCell`.

        Raises:
            MissingDependency: If there is no screen, or the window cannot be made.
        """
        super().__init__(*arguments, **more)
        self._window: Any = open_window(self.model, self.data)
        self._shown = 0.0

    def step_until(self, time_s: float) -> Sequence[CellEvent]:  # type: ignore[override]
        """Run the physics to a simulated time, and show it."""
        events = super().step_until(time_s)
        now = time.monotonic()
        if now - self._shown >= PICTURE_S and self._window.is_running():
            self._shown = now
            self._move_skin()
            self._window.sync()
        return events

    def close(self) -> None:
        """Close the window, too."""
        self._window.close()
        super().close()


def open_window(model: Any, data: Any) -> Any:
    """Return the handle of MuJoCo's viewer on a model.

    Raises:
        MissingDependency: If there is no screen, or the window cannot be made.
    """
    check_screen()
    from mujoco import viewer

    opened: list[Any] = []

    def launch() -> None:
        opened.append(viewer.launch_passive(model, data, show_left_ui=False, show_right_ui=False))

    # What fails in the viewer's own thread is never told: it would be waited for without an end.
    thread = threading.Thread(target=launch, name='viewer', daemon=True)
    thread.start()
    thread.join(START_PATIENCE_S)
    if not opened:
        raise MissingDependency(
            'the viewer: no window came within '
            f'{START_PATIENCE_S:.0f} s; its OpenGL may be missing (apt install libgl1-mesa-dri); '
            'run without it meanwhile (headless:=true, VIEW=0)'
        )
    window = opened[0]
    with window.lock():
        window.cam.lookat[:] = (0.3, 0.0, 0.0)
        window.cam.distance, window.cam.azimuth, window.cam.elevation = 2.0, 60.0, -30.0
        model.vis.headlight.active = 1
    return window


def check_screen(start: Callable[[], object] | None = None) -> None:
    """Check that there is a screen.

    Args:
        start: Of GLFW; returns whether it found one. None: the library's own.

    Raises:
        MissingDependency: If there is none.
    """
    named = [name for name in ('DISPLAY', 'WAYLAND_DISPLAY') if os.environ.get(name)]
    if start is None:
        import glfw

        start = glfw.init
    if not named or not start():
        found = f'{named[0]}={os.environ[named[0]]} is not to be had' if named else 'none is set'
        raise MissingDependency(
            f'the viewer: there is no screen (DISPLAY or WAYLAND_DISPLAY: {found}); start it on a '
            'desktop, or run without it (headless:=true, VIEW=0)'
        )
