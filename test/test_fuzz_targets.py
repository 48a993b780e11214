# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Whatever bytes come in, what reads them answers with a result or with an error of ours."""

from __future__ import annotations

import io

import numpy as np
import pytest
from codec_specs import shipped_spec
from fuzz_targets import IDENTITY, TARGETS, play
from hypothesis import given, settings
from hypothesis import strategies as st

from stl_conveyor.codec.wire import Packet, pack
from stl_conveyor.deploy.security import WIRINGS, policy
from stl_conveyor.outside_files import UnusableFile, read_arrays

RELAXED = settings(deadline=None, max_examples=60)


def archive():
    """Return a NumPy archive that can be read."""
    stream = io.BytesIO()
    np.savez_compressed(stream, tables=np.arange(12, dtype=np.uint16))
    return stream.getvalue()


def whole(name):
    """Return bytes that a target reads to the end."""
    return {
        'packet': lambda: pack(Packet(True, 0, 3, bytes(40)), IDENTITY),
        'body': lambda: bytes([0, 1, 0, 128]) + bytes(range(60)),
        'picture': lambda: bytes([4, 0, 4, 0, 12, 0, 0, 0]) + bytes(48),
        'compressed': lambda: b'\xff\xd8\xff\xe0' + bytes(40),
        'yaml': lambda: b'/**/camera:\n  ros__parameters: {threshold: 24.0, &a pins: [1, *a]}\n',
        'json': lambda: b'{"labels": ["a", "b"], "files": {"weak": {"sha256": "00"}}}',
        'arrays': archive,
        'policy': lambda: policy(WIRINGS['gateways']).encode()[:900],
    }[name]()


@pytest.mark.parametrize('name', TARGETS)
@RELAXED
@given(data=st.binary(max_size=400))
def test_any_bytes(name, data):
    play(name, data)


@pytest.mark.parametrize('name', TARGETS)
@RELAXED
@given(
    changes=st.lists(st.tuples(st.floats(0, 0.999), st.binary(max_size=6)), max_size=6),
    end=st.floats(0.0, 1.0),
)
def test_whole_ones_that_were_changed_or_cut(name, changes, end):
    data = bytearray(whole(name))
    for where, piece in changes:
        at = int(where * len(data))
        data[at : at + len(piece)] = piece
    play(name, bytes(data[: len(data) - int((1 - end) * len(data))]))


def test_the_targets_reach_what_they_are_for(tmp_path):
    assert shipped_spec().groups > 3
    path = tmp_path / 'whole.npz'
    path.write_bytes(archive())
    assert read_arrays(path, ('tables',))['tables'].tolist() == list(range(12))
    path.write_bytes(archive()[:-30])
    with pytest.raises(UnusableFile):
        read_arrays(path, ('tables',))
    with pytest.raises(ZeroDivisionError):
        TARGETS['broken'] = lambda data: 1 // 0
        try:
            play('broken', b'')
        finally:
            del TARGETS['broken']
