# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""The parts of the benchmark of the device."""

from __future__ import annotations

import os
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

pytest.importorskip('rclpy')
pytest.importorskip('stl_conveyor.msg')

from stl_conveyor.assess.scoring import Action, ItemRecord  # noqa: E402
from stl_conveyor.nodes.base.topics import COMPOSED  # noqa: E402
from stl_conveyor.run.settings import parse_override  # noqa: E402
from stl_conveyor_lab.bench.device.command import marks, merged, parse  # noqa: E402
from stl_conveyor_lab.bench.device.crash import Comeback, comebacks  # noqa: E402
from stl_conveyor_lab.bench.device.round import (  # noqa: E402
    WAYS,
    Account,
    Round,
    account_of,
    deployment_of,
    overrides_of,
)
from stl_conveyor_lab.bench.device.usage import Usage, usage_of  # noqa: E402
from stl_conveyor_lab.measure.machine import machine  # noqa: E402


def record(stamp, actions=1, missed=False):
    action = Action('A', 'a', 1.0, 1, 0.04, missed, '', stamp + 1)
    return ItemRecord(stamp, captured_ns=stamp, action=action, actions=actions)


def test_an_account_is_exact_if_every_picture_has_one_outcome():
    records = (record(1), record(2))
    assert account_of(records, 5, 2, 3) == Account(5, 3, 2, 2, 0, 0)
    assert account_of(records, 5, 2, 3).is_exact
    assert not account_of(records, 6, 2, 3).is_exact  # one picture is nowhere
    assert not account_of(records, 6, 3, 3).is_exact  # one item was not acted on
    twice = account_of((record(1), record(2, actions=2, missed=True)), 5, 2, 3)
    assert (twice.repeated, twice.missed, twice.is_exact) == (1, 1, False)


def round_of(way='one process', **changes):
    account = Account(2, 0, 2, 2, 0, 0)
    values = Round(way, account, (4.0, 6.0), (3.0,), 12.0, Usage(80.0, 27), 2.5)
    return replace(values, **changes)


def test_marks_are_met_only_by_what_was_measured_of_the_default_way():
    assert all(mark.met for mark in marks([round_of(), round_of('five processes', cpu_ms=90.0)]))
    bad = round_of(
        overheads=(4.0, 30.0),
        cpu_ms=40.0,
        usage=Usage(95.0, 31),
        first_item_s=9.0,
        account=Account(3, 0, 2, 2, 1, 1),
    )
    assert not any(mark.met for mark in marks([bad]))
    assert not marks([round_of(overheads=())])[0].met
    assert marks([round_of()], [Comeback(0.5, 0.6)])[-1].met
    assert not marks([round_of()], [Comeback(0.5, 0.6), Comeback(1.5, 1.6)])[-1].met


def test_rounds_of_a_way_are_put_together():
    table = merged([round_of(), round_of(overheads=(8.0,), cpu_ms=14.0)])['one process']
    assert table['overhead_ms']['n'] == 3 and table['overhead_ms']['max'] == 8.0
    assert table['cpu_ms_per_item'] == 13.0
    assert [account['exact'] for account in table['accounts']] == [True, True]


@pytest.mark.parametrize('way', WAYS)
def test_each_way_has_its_processes_and_its_executor(way, tmp_path):
    composed, executor = WAYS[way]
    deployment = deployment_of(way)
    names = {plan.name for plan in deployment.process_plans({})}
    assert ('device' in names) == composed and 'cell_simulator' not in names
    assert {'edge_classifier', 'link_emulator'} <= names
    found = [parse_override(text) for text in overrides_of(way, tmp_path, 2.0)]
    assert {node for node, name, value in found if (name, value) == ('executor', executor)} == set(
        COMPOSED
    )
    assert ('camera', 'folder', str(tmp_path)) in found


def test_what_a_process_uses_is_read_and_one_that_is_gone_uses_nothing():
    own = usage_of([os.getpid()])
    assert own.pss_mb > 1 and own.threads >= 1
    assert usage_of([2**22 + 1]) == Usage(0.0, 0)
    assert 'cores' in machine() and 'codec: ' in machine()


def test_a_device_that_is_killed_is_back_and_that_takes_time(tmp_path):
    Image.fromarray(np.full((160, 160, 3), 90, np.uint8)).save(tmp_path / 'a.png')
    (found,) = comebacks(tmp_path, tmp_path / 'out', 1)
    assert found.active > 0 and found.answered > 0


def test_each_round_needs_a_picture(capsys):
    with pytest.raises(SystemExit):
        parse(['--items', '1', '--rounds', '2'])
    assert 'at least one picture' in capsys.readouterr().err
