# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Checkpoints hold tensors, numbers and texts alone, and reading one runs nothing."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip('torch', reason='training needs the laboratory: make setup-lab')

from stl_conveyor.errors import ConfigError  # noqa: E402
from stl_conveyor_lab.train.checkpoint import load_checkpoint, save_checkpoint  # noqa: E402
from stl_conveyor_lab.train.timed_run import TimedRun  # noqa: E402


class Runs:
    """Writes a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), 'w')


def test_what_a_run_saves_is_read_without_running_code(tmp_path):
    network = torch.nn.Linear(2, 1)
    run = TimedRun(
        tmp_path / 'a.pt',
        {'network': network},
        torch.optim.AdamW(network.parameters()),
        0.0,
        3,
        lambda step, done: 1.0,
        steps=3,
        judge=lambda last: {'twice': 2.0 * last},
    )
    while run.goes_on():
        run.learn(network(torch.ones(1, 2)).square().sum() * float(run.rng.random()))
    saved = torch.load(tmp_path / 'a.pt', weights_only=True)
    assert saved['step'] == 3 and saved['curve'] == run.curve
    again = np.random.default_rng()
    again.bit_generator.state = saved['rng']
    assert again.random() == run.rng.random()


def test_a_file_that_would_run_code_is_refused_and_runs_none(tmp_path):
    torch.save({'step': 1, 'network': Runs(tmp_path / 'ran')}, tmp_path / 'evil.pt')
    with pytest.raises(ConfigError, match='evil.pt.*delete it'):
        load_checkpoint(tmp_path / 'evil.pt', ['step'])
    assert not (tmp_path / 'ran').exists()


def test_a_damaged_or_foreign_checkpoint_is_named_with_its_remedy(tmp_path):
    path = tmp_path / 'c.pt'
    save_checkpoint(path, {'step': 1})
    assert load_checkpoint(path, ['step']) == {'step': 1}
    with pytest.raises(ConfigError, match='lacks curve, rng'):
        load_checkpoint(path, ['rng', 'curve', 'step'])
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(ConfigError, match='c.pt.*delete it'):
        load_checkpoint(path, ['step'])
    path.write_bytes(b'')
    with pytest.raises(ConfigError, match='delete it'):
        load_checkpoint(path, ['step'])
    torch.save([1, 2], path)
    with pytest.raises(ConfigError, match='no checkpoint of a training'):
        load_checkpoint(path, ['step'])


def test_a_checkpoint_is_replaced_whole_or_not_at_all(tmp_path):
    path = tmp_path / 'c.pt'
    save_checkpoint(path, {'step': 1})
    with pytest.raises(TypeError):
        save_checkpoint(path, {'step': (number for number in range(2))})  # cannot be pickled
    assert load_checkpoint(path, ['step']) == {'step': 1}
