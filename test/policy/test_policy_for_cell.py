# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Every policy by its name alone, as `make run POLICY=...` asks for it."""

from __future__ import annotations

import math

import pytest

pytest.importorskip('onnxruntime')

from stl_conveyor.errors import ConfigError  # noqa: E402
from stl_conveyor.models.model_folder import ModelFolder  # noqa: E402
from stl_conveyor.policy import POLICIES, PolicyInput, PolicySettings  # noqa: E402
from stl_conveyor.policy.for_cell import load_rewards, make_cell_policy, shipped_network  # noqa: E402
from stl_conveyor.resources import share_path  # noqa: E402
from stl_conveyor.run.settings import RunSettings  # noqa: E402


@pytest.fixture(scope='module')
def rewards():
    return load_rewards(ModelFolder(share_path('models/items')))


@pytest.mark.parametrize('name', POLICIES)
def test_each_runs_with_the_defaults_of_a_run(name, rewards):
    run = RunSettings()
    settings = PolicySettings(rate=run.rate, depth=run.bucket)
    policy = make_cell_policy(name, settings, rewards)
    decision = policy.decide(PolicyInput(0.5, level=4, interarrival=1.0))
    assert policy.name == name
    assert decision.offload == (0.5 >= decision.threshold)
    assert not math.isnan(decision.threshold)


@pytest.mark.parametrize(
    ('rate', 'depth', 'file'),
    [
        ('0.25', '4', 'dqn_arrivals_3_r0.25_b4.onnx'),
        ('1/10', '20', 'dqn_correlated_sp0.1_rprob0.1_r0.1_b20.onnx'),
        ('0.05', '4', 'dqn_arrivals_3_r0.05_b4.onnx'),
    ],
)
def test_dqn_takes_the_network_of_its_bucket(rate, depth, file):
    assert shipped_network('dqn', PolicySettings(rate=rate, depth=depth)).name == file


def test_a_bucket_without_a_network_is_refused_with_those_that_have_one(rewards):
    with pytest.raises(ConfigError, match='r0.3_b4 is shipped, only for.*r0.25_b4.*adaptive'):
        make_cell_policy('dqn', PolicySettings(rate='0.3', depth=4), rewards)
