# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Damage changes bytes, never lengths, and is the same by the same generator."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from stl_conveyor.sim.link_damage import damaged


@given(st.binary(min_size=5, max_size=400), st.integers(0, 2**32))
def test_damage(message, seed):
    out = damaged(message, np.random.default_rng(seed))
    assert len(out) == len(message) and out[:4] == message[:4]
    assert sum(a != b for a, b in zip(out, message)) <= 8
    assert out == damaged(message, np.random.default_rng(seed))


@given(st.binary(max_size=4))
def test_what_is_too_short_stays(message):
    assert damaged(message, np.random.default_rng(1)) == message
