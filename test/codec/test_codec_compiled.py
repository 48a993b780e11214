# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""The compiled inner loops make and read the same bytes as the Python code."""

from __future__ import annotations

import numpy as np
import pytest
from codec_specs import banded_spec, shipped_spec
from hypothesis import given, settings
from hypothesis import strategies as st

from stl_conveyor.codec.entropy import GroupCoder, has_extension
from stl_conveyor.errors import BadPacket

pytestmark = pytest.mark.skipif(
    not has_extension(), reason='the compiled inner loops are not built here'
)
RELAXED = settings(deadline=None, max_examples=30)


@pytest.fixture(scope='module', params=[banded_spec, shipped_spec])
def coders(request):
    spec = request.param()
    return GroupCoder(spec, compiled=True), GroupCoder(spec, compiled=False)


def integers(spec, seed, scale):
    rng = np.random.default_rng(seed)
    falling = np.exp(-np.arange(spec.channels) / 30)[:, None]
    drawn = rng.laplace(size=(spec.channels, len(spec.region_map))) * falling * scale
    return np.clip(np.rint(drawn), -94, 94).astype(np.int8)


def decoded(coder, *arguments):
    try:
        side, symbols = coder.decode(*arguments)
    except BadPacket:
        return None
    return None if side is None else side.tolist(), symbols.tolist()


@RELAXED
@given(
    seed=st.integers(0, 2**31),
    scale=st.floats(0.05, 90),
    where=st.floats(0, 0.99),
    limit=st.integers(-5, 3000),
    has_side=st.booleans(),
)
def test_both_make_the_same_bytes_and_read_them(coders, seed, scale, where, limit, has_side):
    spec = coders[0].spec
    first = int(where * where * spec.groups)
    side = np.random.default_rng(seed).integers(0, 16, spec.labels).astype(np.int32)
    side = side if has_side else None
    sent = integers(spec, seed, scale)
    bodies = [coder.stream(sent).encode(first, limit, side) for coder in coders]
    assert bodies[0] == bodies[1]
    found = [decoded(coder, first, bodies[0].groups, has_side, bodies[0].data) for coder in coders]
    assert found[0] == found[1]
    assert found[0][0] == (side.tolist() if has_side else None)
    assert (
        len(found[0][1])
        == spec.order.offsets[first + bodies[0].groups] - spec.order.offsets[first]
    )


@RELAXED
@given(
    data=st.binary(max_size=200),
    where=st.floats(0, 0.99),
    groups=st.integers(0, 60),
    has_side=st.booleans(),
)
def test_both_read_the_same_from_any_bytes(coders, data, where, groups, has_side):
    first = int(where * coders[0].spec.groups)
    groups = min(groups, coders[0].spec.groups - first)
    assert decoded(coders[0], first, groups, has_side, data) == decoded(
        coders[1], first, groups, has_side, data
    )


def test_arrays_that_do_not_fit_are_refused(coders):
    coder = coders[0]
    with pytest.raises(ValueError, match='do not fit'):
        coder.stream(np.zeros((2, 3), np.int8)).encode(0, 100, None)
    with pytest.raises(ValueError, match='do not fit'):
        coder._compiled.decode(b'', coder.spec.groups, 1, 0)
    with pytest.raises(ValueError, match='do not fit'):
        coder._compiled.decode(b'', -1, 1, 0)
    with pytest.raises(ValueError, match='do not fit'):
        type(coder._compiled)(3, 4, *[b''] * 11)
