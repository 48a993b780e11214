# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""MuJoCo's viewer on a cell that runs; the window itself stands in for one where there is none."""

from __future__ import annotations

import contextlib
from types import SimpleNamespace

import pytest

pytest.importorskip('mujoco')

from stl_conveyor.cell.description import CellDescription  # noqa: E402
from stl_conveyor.errors import MissingDependency  # noqa: E402
from stl_conveyor.resources import share_path  # noqa: E402
from stl_conveyor.run.console import main  # noqa: E402
from stl_conveyor.sim import cell_viewer  # noqa: E402
from stl_conveyor.sim.arrivals import ArrivalSettings, plan_items  # noqa: E402


class Window:
    def __init__(self):
        self.pictures, self.runs = 0, True
        self.cam = SimpleNamespace(lookat=[0, 0, 0])

    def is_running(self):
        return self.runs

    def lock(self):
        return contextlib.nullcontext()

    def sync(self):
        self.pictures += 1

    def close(self):
        self.runs = False


@pytest.fixture
def window(monkeypatch):
    import mujoco.viewer

    opened = Window()
    monkeypatch.setattr(cell_viewer, 'check_screen', lambda: None)
    monkeypatch.setattr(mujoco.viewer, 'launch_passive', lambda *_, **__: opened)
    return opened


def test_the_cell_is_shown_while_it_runs_and_goes_on_without_its_window(window, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(cell_viewer.time, 'monotonic', lambda: now[0])
    cell = CellDescription.load(share_path('config/cell.yaml'))
    viewed = cell_viewer.ViewedCell(cell, plan_items(2, 1, cell.classes, ArrivalSettings()), 1)
    for step in range(1, 11):
        now[0] += 0.01
        viewed.step_until(0.01 * step)
    assert 2 <= window.pictures <= 4  # at most thirty a second
    window.runs = False
    shown = window.pictures
    now[0] += 1.0
    viewed.step_until(0.2)
    assert window.pictures == shown and viewed.time == pytest.approx(0.2)
    viewed.close()


@pytest.mark.parametrize('display, named', [('', 'none is set'), (':77', 'DISPLAY=:77')])
def test_where_there_is_no_screen_that_is_said(monkeypatch, display, named):
    monkeypatch.delenv('WAYLAND_DISPLAY', raising=False)
    monkeypatch.setenv('DISPLAY', display)
    with pytest.raises(MissingDependency, match=f'no screen.*{named}.*VIEW=0'):
        cell_viewer.check_screen(lambda: False)


def test_a_window_that_does_not_come_is_not_waited_for_without_an_end(monkeypatch):
    import threading

    import mujoco.viewer

    never = threading.Event()
    monkeypatch.setattr(cell_viewer, 'check_screen', lambda: None)
    monkeypatch.setattr(cell_viewer, 'START_PATIENCE_S', 0.1)
    monkeypatch.setattr(mujoco.viewer, 'launch_passive', lambda *_, **__: never.wait())
    with pytest.raises(MissingDependency, match='no window came'):
        cell_viewer.open_window(None, None)
    never.set()


def test_a_run_with_a_view_says_at_once_that_there_is_no_screen(monkeypatch, capsys, tmp_path):
    monkeypatch.delenv('DISPLAY', raising=False)
    monkeypatch.delenv('WAYLAND_DISPLAY', raising=False)
    assert main(['--view', '--out', str(tmp_path)]) == 2
    assert 'there is no screen' in capsys.readouterr().err
