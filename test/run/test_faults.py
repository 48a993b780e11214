# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Faults by name, and a codec that differs in nothing but its identity."""

from __future__ import annotations

import numpy as np
import pytest

from stl_conveyor.errors import ConfigError
from stl_conveyor.run.faults import fault_names, fault_steps, named_fault, with_other_codec


def test_every_name_that_is_offered_exists():
    for name in fault_names().split(', '):
        fault = named_fault(name)
        assert fault.name == name and 0 <= fault.begin < fault.end <= 1
    assert named_fault('edge_killed').kill == 'edge_classifier'


@pytest.mark.parametrize('name', ['', 'meteor', 'cell_killed', '_killed'])
def test_unknown_names_are_refused_with_the_known_ones(name):
    with pytest.raises(ConfigError, match='edge_killed'):
        named_fault(name)


def test_another_codec_that_works(tiny_models, tmp_path):
    from stl_conveyor.codec import Decoder, Encoder
    from stl_conveyor.errors import CodecMismatch
    from stl_conveyor.models.model_folder import ModelFolder

    other = ModelFolder(with_other_codec(tiny_models, tmp_path / 'other'))
    ours = Encoder(ModelFolder(tiny_models))
    decoder = Decoder(other)
    assert decoder.identity != ours.identity
    image = np.zeros((160, 160, 3), np.uint8)
    packet = Encoder(other).encode(image).packets[0]
    session = decoder.start()
    session.add(packet)
    assert decoder.classify([session]).shape[0] == 1
    with pytest.raises(CodecMismatch):
        decoder.start().add(ours.encode(image).packets[0])


def test_what_a_fault_does_it_undoes():
    link = {'outage': False, 'loss': 0.01, 'link': 'light'}
    begin, end = fault_steps(named_fault('jamming'), link)
    assert begin.link == {'link': 'heavy'} and end.link == {'link': 'light'}
    assert begin.share < end.share
    begin, end = fault_steps(named_fault('edge_killed'), link)
    assert begin.kill == end.restart == 'edge_classifier' and not begin.restart
    assert fault_steps(named_fault('none'), link) == []
