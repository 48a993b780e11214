# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Pacing: stamps agree with physics, commands fire at their lane's time, nothing is skipped."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from fake_cell import FakeCell

from stl_conveyor.cell.description import CellDescription
from stl_conveyor.errors import ConfigError
from stl_conveyor.sim.arrivals import plan_items
from stl_conveyor.sim.paced_cell import LONGEST_LAG, PacedCell

CELL = CellDescription.load(Path(__file__).parents[2] / 'config' / 'cell.yaml')
MS = 1_000_000
EPOCH = 1_700_000_000 * 1000 * MS


class Clocks:
    """A steady clock and a wall clock moved by hand."""

    def __init__(self):
        self.steady, self.wall = 5000 * MS, EPOCH

    def pass_ns(self, ns):
        self.steady += ns
        self.wall += ns


class Bench:
    """A paced fake cell, stepped without a thread."""

    def __init__(self, count=4, stamps_by_wall=True, **settings):
        self.clocks = Clocks()
        self.plan = plan_items(count, 1, CELL.classes)
        self.fake = FakeCell(CELL, self.plan, 1)
        self.exposures, self.rests, self.times = [], [], []
        self.paced = PacedCell(
            self.fake,
            CELL,
            on_exposure=self.exposures.append,
            on_rest=self.rests.append,
            now_ns=(lambda: self.clocks.wall) if stamps_by_wall else None,
            on_time=self.times.append,
            steady_ns=lambda: self.clocks.steady,
            **settings,
        )
        self.paced.begin()

    def run(self, seconds, step_ns=1 * MS):
        end = self.clocks.steady + round(seconds * 1e9)
        while self.clocks.steady < end:
            self.clocks.pass_ns(step_ns)
            while self.paced.step() == 0.0:
                pass


def test_stamps_agree_with_physics_to_the_nanosecond():
    bench = Bench()
    bench.run(4)
    assert [e.serial for e in bench.exposures] == [1, 2, 3, 4]
    for exposure, item in zip(bench.exposures, bench.plan):
        assert exposure.stamp_ns == EPOCH + round(1e9 * bench.fake.exposure_time(item))


def test_a_picture_is_out_within_a_chunk_of_its_instant():
    bench = Bench(1, chunk=0.004)
    due = EPOCH + round(1e9 * bench.fake.exposure_time(bench.plan[0]))
    while not bench.exposures:
        bench.run(0.001)
    assert 0 <= bench.clocks.wall - due <= 5 * MS


@pytest.mark.parametrize('lane', ['A', 'B', 'C', 'reject'])
def test_an_early_command_fires_at_its_lanes_time(lane):
    bench = Bench(1)
    bench.run(1.3)
    bench.paced.command(bench.exposures[0].stamp_ns, lane)
    bench.run(5)
    assert [r.lane for r in bench.rests] == [lane]
    assert bench.rests[0].exposure is bench.exposures[0]
    if lane == 'reject':
        assert bench.fake.fired == []
    else:
        ((fired, at),) = bench.fake.fired
        stamp = bench.exposures[0].stamp_ns
        assert EPOCH + round(at * 1e9) == pytest.approx(CELL.fire_time_ns(stamp, lane), abs=1)
    assert bench.paced.pace().late_commands == 0


def test_a_late_command_fires_at_once_and_misses():
    bench = Bench(1)
    bench.run(1.3)
    stamp = bench.exposures[0].stamp_ns
    bench.run(1.0)
    bench.paced.command(stamp, 'A')
    bench.run(4)
    assert bench.paced.pace().late_commands == 1
    assert bench.fake.fired[0][1] == pytest.approx(2.3, abs=0.01)
    assert [r.lane for r in bench.rests] == ['reject']


def test_a_command_for_no_item_of_ours_moves_nothing():
    bench = Bench(1)
    bench.run(1.3)
    bench.paced.command(12345, 'A')
    bench.run(4)
    assert bench.fake.fired == [] and bench.paced.pace().unknown_commands == 1


def test_a_short_stall_is_caught_up_and_reported():
    bench = Bench(2)
    bench.run(1.15)
    assert bench.paced.pace().worst_lag < 0.01
    bench.clocks.pass_ns(250 * MS)  # the machine was busy elsewhere, across the first exposure
    bench.run(0.001)
    pace = bench.paced.pace()
    assert pace.worst_lag == pytest.approx(0.25, abs=0.01) and pace.lag < 0.005
    assert pace.held == 0
    assert bench.exposures[0].stamp_ns == EPOCH + round(
        1e9 * bench.fake.exposure_time(bench.plan[0])
    )


def test_a_long_stall_holds_the_cell_and_leaves_every_item_its_time():
    bench = Bench(2)
    bench.run(1.3)
    bench.paced.command(bench.exposures[0].stamp_ns, 'A')
    bench.clocks.pass_ns(5000 * MS)
    bench.run(0.001)
    pace = bench.paced.pace()
    assert pace.worst_lag == pytest.approx(5.0, abs=0.01) and pace.lag < 0.005
    assert pace.held == pytest.approx(5.0, abs=0.01)
    bench.run(1.0)
    # The second item came later, and its picture is as fresh as ever.
    due = EPOCH + round(1e9 * (bench.fake.exposure_time(bench.plan[1]) + pace.held))
    assert bench.exposures[1].stamp_ns == pytest.approx(due, abs=MS)
    bench.paced.command(bench.exposures[1].stamp_ns, 'B')
    bench.run(5)
    assert {(r.serial, r.lane) for r in bench.rests} == {(1, 'A'), (2, 'B')}
    assert bench.paced.pace().late_commands == 0


@pytest.mark.parametrize('stamps_by_wall', [True, False])
def test_a_machine_that_is_too_slow_runs_the_cell_slower_and_never_far_behind(stamps_by_wall):
    bench = Bench(4, stamps_by_wall)
    delays = []
    seen = 0
    while len(bench.rests) < 4:
        bench.clocks.pass_ns(9 * MS)  # for 4 ms of physics
        bench.paced.step()
        if len(bench.exposures) > seen and stamps_by_wall:
            seen = len(bench.exposures)
            delays.append(bench.clocks.wall - bench.exposures[-1].stamp_ns)
    assert all(0 <= delay < 320 * MS for delay in delays)
    pace = bench.paced.pace()
    assert pace.held > pace.simulated
    if not stamps_by_wall:
        stamps = [exposure.stamp_ns for exposure in bench.exposures]
        assert stamps == [round(1e9 * bench.fake.exposure_time(item)) for item in bench.plan]


@pytest.mark.parametrize('jump', [-3600, 3600])
def test_stamps_follow_a_clock_that_was_set(jump):
    bench = Bench(2)
    bench.run(1.4)
    bench.clocks.wall += jump * 1000 * MS
    bench.run(0.5)
    assert bench.exposures[1].stamp_ns - bench.exposures[0].stamp_ns == pytest.approx(
        (jump * 1000 + 500) * MS, abs=MS
    )
    bench.paced.command(bench.exposures[1].stamp_ns, 'B')
    bench.run(4)
    assert [(r.serial, r.lane) for r in sorted(bench.rests, key=lambda r: r.serial)] == [
        (1, 'reject'),
        (2, 'B'),
    ]


def test_simulated_time_is_the_clock_when_asked():
    bench = Bench(2, stamps_by_wall=False, real_time_factor=2.0)
    bench.run(1.0)
    assert bench.times[-1] == pytest.approx(2000 * MS, abs=5 * MS)
    assert bench.times == sorted(bench.times)
    assert bench.exposures[0].stamp_ns == round(1e9 * bench.fake.exposure_time(bench.plan[0]))


@pytest.mark.parametrize(
    'settings', [{'real_time_factor': 2.0}, {'real_time_factor': 0.0, 'stamps_by_wall': False}]
)
def test_an_impossible_factor_is_refused(settings):
    with pytest.raises(ConfigError, match='real_time_factor'):
        Bench(1, **settings)


def test_the_thread_ends_by_itself_and_keeps_its_error():
    class Broken(FakeCell):
        def step_until(self, time):
            raise RuntimeError('physics blew up')

    paced = PacedCell(
        Broken(CELL, plan_items(1, 1, CELL.classes), 1),
        CELL,
        on_exposure=print,
        on_rest=print,
        now_ns=lambda: EPOCH,
    )
    paced.start()
    paced._thread.join(timeout=5)
    assert 'blew up' in str(paced.error)
    paced.stop()


def test_a_cell_that_stood_still_is_not_taken_for_one_whose_diverters_are_silent():
    """A stroke comes later by what the cell was held for, now and again before that item."""
    path = Path(__file__).parents[2] / 'config' / 'sim.yaml'
    shipped = yaml.safe_load(path.read_text(encoding='utf-8'))
    awaited = shipped['/**/actuator']['ros__parameters']['confirm_timeout']
    assert awaited >= 5 * LONGEST_LAG
