# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Sparkplug payloads are those that any reader of the format reads."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stl_conveyor.errors import BadMessage
from stl_conveyor.plant.sparkplug import DataType, EdgeNode, Metric, decode, encode

METRICS = [
    Metric('Outcomes', 300, DataType.INT64),
    Metric('Low', -2, DataType.INT64),
    Metric('Oee', 0.5, DataType.DOUBLE),
    Metric('EdgeAlive', True, DataType.BOOLEAN),
    Metric('State', 'Ready ä', DataType.STRING),
    Metric('Quality', None, DataType.DOUBLE),
]
# Made of the same metrics by Google's protobuf with the fields of org.eclipse.tahu.protobuf.
GOLDEN = bytes.fromhex(
    '08fbd095ffbc3112160a084f7574636f6d657318fbd095ffbc31200458ac0212190a034c6f7718fb'
    'd095ffbc31200458feffffffffffffffff0112170a034f656518fbd095ffbc31200a690000000000'
    '00e03f12160a0945646765416c69766518fbd095ffbc31200b7001121a0a05537461746518fbd095'
    'ffbc31200c7a08526561647920c3a412140a075175616c69747918fbd095ffbc31200a38011807'
)


def test_the_bytes_are_those_of_another_implementation():
    assert encode(METRICS, 1_700_000_000_123, 7) == GOLDEN
    assert decode(GOLDEN) == (METRICS, 7)


_SCALARS = st.one_of(
    st.builds(Metric, st.text(), st.integers(-(2**63), 2**63 - 1), st.just(DataType.INT64)),
    st.builds(Metric, st.text(), st.integers(0, 2**64 - 1), st.just(DataType.UINT64)),
    st.builds(Metric, st.text(), st.floats(allow_nan=False), st.just(DataType.DOUBLE)),
    st.builds(Metric, st.text(), st.booleans(), st.just(DataType.BOOLEAN)),
    st.builds(Metric, st.text(), st.text(), st.just(DataType.STRING)),
)


@given(st.lists(_SCALARS, max_size=5), st.integers(0, 2**63), st.none() | st.integers(0, 255))
def test_what_was_encoded_is_decoded(metrics, time_ms, seq):
    assert decode(encode(metrics, time_ms, seq)) == (metrics, seq)


@given(st.binary(max_size=200))
def test_other_bytes_are_a_payload_or_refused(data):
    try:
        metrics, _ = decode(data)
    except BadMessage:
        return
    assert all(isinstance(metric, Metric) for metric in metrics)


@pytest.mark.parametrize('length', range(1, len(GOLDEN) - 1, 7))
def test_half_a_payload_ends_in_nothing_worse_than_a_refusal(length):
    try:
        assert len(decode(GOLDEN[:length])[0]) < len(METRICS)
    except BadMessage as error:
        assert 'Sparkplug' in str(error)


def test_sequence_begins_at_the_birth_and_the_death_is_that_of_the_session():
    node = EdgeNode('plant', 'line')
    assert node.topic('NBIRTH') == 'spBv1.0/plant/NBIRTH/line'
    for session in range(258):
        will, seq = decode(node.will(1))
        assert seq is None and will == [Metric('bdSeq', session % 256, DataType.INT64)]
        birth, seq = decode(node.birth([METRICS[0]], 2))
        assert seq == 0 and birth[0] == will[0] and birth[-1] == METRICS[0]
        assert [metric.name for metric in birth[1:-1]] == ['Node Control/Rebirth']
        assert decode(node.death(3))[0] == will
    numbers = [decode(node.data([], 4))[1] for _ in range(257)]
    assert numbers == [*range(1, 256), 0, 1]
