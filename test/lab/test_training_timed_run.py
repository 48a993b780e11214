# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""A training that ends after its minutes or steps and goes on from its checkpoint."""

from __future__ import annotations

import pytest

torch = pytest.importorskip('torch', reason='training needs the laboratory: make setup-lab')

from stl_conveyor_lab.train import timed_run  # noqa: E402
from stl_conveyor_lab.train.timed_run import TimedRun  # noqa: E402


def begin(path, minutes=0.0, steps=0, judge=None):
    """Return a run that fits one weight to noise, and its network."""
    torch.manual_seed(0)
    network = torch.nn.Linear(1, 1)
    run = TimedRun(
        path,
        {'network': network},
        torch.optim.Adam(network.parameters(), lr=0.1),
        minutes,
        3,
        lambda step, done: 1 - done / 2,
        steps=steps,
        judge=judge,
    )
    return run, network


def train(run, network, most=1000):
    """Make steps whose noise comes from both generators; return how many."""
    made = 0
    while made < most and run.goes_on():
        noise = torch.randn(()) + float(run.rng.normal())
        run.learn((network.weight - 2 - noise).square().mean(), noise=noise)
        made += 1
    return made


def test_steps_end_it_and_the_last_ones_are_in_the_curve(tmp_path):
    run, network = begin(tmp_path / 'a.pt', steps=7)
    assert train(run, network) == 7
    ((step, loss, noise),) = run.curve
    assert step == 7 and loss > 0 and noise == noise


def test_time_ends_it_whatever_the_steps(tmp_path, monkeypatch):
    run, network = begin(tmp_path / 'a.pt', minutes=1.0, steps=1000)
    monkeypatch.setattr(run, '_seconds', lambda: 6.0 * run.step)
    assert train(run, network) == 10


def test_without_a_limit_nothing_is_trained(tmp_path):
    run, network = begin(tmp_path / 'a.pt')
    assert train(run, network) == 0 and run.curve == []


def test_a_run_that_was_stopped_ends_with_the_weights_of_one_that_was_not(tmp_path):
    whole, network = begin(tmp_path / 'whole.pt', steps=9)
    train(whole, network)
    part, stopped = begin(tmp_path / 'part.pt', steps=9)
    train(part, stopped, most=4)
    part.save()
    again, resumed = begin(tmp_path / 'part.pt', steps=9)
    assert train(again, resumed) == 5
    assert torch.equal(network.weight, resumed.weight)
    assert whole.curve == again.curve


def test_what_is_judged_stands_in_every_row_and_is_told_the_last(tmp_path, monkeypatch):
    monkeypatch.setattr(timed_run, 'SHOW', -1)  # a line of progress after each step
    told = []

    def judge(last):
        told.append(last)
        return {'judged': float(len(told))}

    run, network = begin(tmp_path / 'a.pt', steps=3, judge=judge)
    train(run, network)
    assert told == [False] * 3  # nothing was left over for a last row
    assert [row[0] for row in run.curve] == [1, 2, 3]
    assert [row[-1] for row in run.curve] == [1.0, 2.0, 3.0]
    monkeypatch.setattr(timed_run, 'SHOW', 1e9)
    more, network = begin(tmp_path / 'b.pt', steps=3, judge=judge)
    train(more, network)
    assert told[3:] == [True] and more.curve[-1][0] == 3
