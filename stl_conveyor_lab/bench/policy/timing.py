# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Time single decisions of the policies."""

from __future__ import annotations

import gc
import os
import resource
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stl_conveyor.policy import Distribution, Policy, PolicyInput, make_policy
from stl_conveyor_lab.bench.policy.cells import Networks
from stl_conveyor_lab.bench.policy.points import FigurePoint
from stl_conveyor_lab.bench.policy.rows import DecisionTimes
from stl_conveyor_lab.papers.scenarios import CorrelatedRewards, Scenario


def measure_time(
    pool: NDArray[Any], networks: Networks, repeat: int = 20_000, runs: int = 5
) -> dict[str, DecisionTimes]:
    """Time single decisions as the node makes them, on one core: microseconds, median and 99 %.

    With garbage collection as it is and without it. Of several runs, that counts in which the
    process was least often put aside for others; how often that was is told, and the load of the
    machine.
    """
    rewards = Distribution.of(pool)
    metrics = np.random.default_rng(0).choice(pool, repeat).tolist()
    candidates: dict[str, dict[str, str]] = {'mdp': {}}
    if networks.adaptive is not None:
        candidates['adaptive'] = {'model': networks.adaptive}
    scenario = Scenario(CorrelatedRewards(0.1, 0.1))
    dqn = networks.dqn(FigurePoint('', 0, 0, scenario, Fraction(1, 10), Fraction(4), {}))
    if dqn is not None:
        candidates['dqn'] = {'model': dqn}
    result = {}
    with on_one_core():
        for name, extra in candidates.items():
            policy = make_policy(name, rate='1/10', depth=4, rewards=rewards, **extra)
            plain = min((_time_decisions(policy, metrics) for _ in range(runs)), key=_disturbance)
            gc.disable()
            try:
                without = min(
                    (_time_decisions(policy, metrics) for _ in range(runs)), key=_disturbance
                )
            finally:
                gc.enable()
            result[name] = replace(plain, without_gc=without)
        start = time.perf_counter()
        make_policy('mdp', rate='1/10', depth=4, rewards=rewards)
        solve_ms = (time.perf_counter() - start) * 1e3
        result['mdp'] = replace(result['mdp'], solve_ms=solve_ms)
    return result


@contextmanager
def on_one_core() -> Iterator[None]:
    """Keep this thread on one core, where the system can do that."""
    if not hasattr(os, 'sched_setaffinity'):
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(before)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def _time_decisions(policy: Policy, metrics: list[float]) -> DecisionTimes:
    policy.reset()
    spent = np.empty(len(metrics))
    aside = resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw
    for t, metric in enumerate(metrics):
        state = PolicyInput(metric, 23, 10, t, 1.0)
        start = time.perf_counter_ns()
        policy.decide(state)
        spent[t] = time.perf_counter_ns() - start
    median, high = np.quantile(spent / 1e3, (0.5, 0.99))
    return DecisionTimes(
        median_us=float(median),
        p99_us=float(high),
        decisions=len(metrics),
        put_aside=resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw - aside,
        load=os.getloadavg()[0],
    )


def _disturbance(run: DecisionTimes) -> tuple[int, float]:
    return run.put_aside, run.p99_us
