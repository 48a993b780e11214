# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Sending important packets again over a link that loses some."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stl_conveyor.codec import Decoder, Encoder
from stl_conveyor.codec.protection import transmission_order, worth
from stl_conveyor.errors import ConfigError
from stl_conveyor.models.model_folder import ModelFolder
from stl_conveyor_lab.train.tiny import make_tiny_model_folder, tiny_images

SIZES = st.lists(st.integers(1, 300), min_size=1, max_size=20)


@given(sizes=SIZES, loss=st.floats(0, 0.9), limit=st.integers(0, 4000))
def test_what_is_sent_fits_and_begins_with_the_first(sizes, loss, limit):
    order = transmission_order(sizes, loss, limit)
    assert sum(sizes[k] for k in order) <= limit
    if sizes[0] <= limit:
        assert order[0] == 0


@given(sizes=SIZES)
def test_without_loss_each_goes_once_in_order(sizes):
    assert transmission_order(sizes, 0.0, sum(sizes)) == tuple(range(len(sizes)))


@given(count=st.integers(2, 12), loss=st.floats(0.05, 0.5), slots=st.integers(1, 30))
def test_no_other_packets_of_one_size_are_worth_more(count, loss, slots):
    def total(copies):
        return sum(worth(k) * (1 - loss**n) for k, n in enumerate(copies))

    order = transmission_order([100] * count, loss, 100 * slots)
    assert len(order) == slots
    copies = np.bincount(order, minlength=count)
    for less in np.flatnonzero(copies):
        for more in range(count):
            other = copies.copy()
            other[less] -= 1
            other[more] += 1
            assert total(other) <= total(copies) + 1e-12


def test_more_loss_means_more_copies_of_the_first():
    copies = [transmission_order([128] * 8, rate, 1024).count(0) for rate in (0.0, 0.1, 0.3, 0.5)]
    assert copies == sorted(copies) and copies[0] == 1 and copies[-1] > copies[1] > 1


@pytest.mark.parametrize('rate', [-0.1, 1.0, float('nan')])
def test_a_rate_that_is_none_is_refused(rate):
    with pytest.raises(ConfigError, match='loss_rate'):
        transmission_order([100], rate, 1000)


def test_encoder_repeats_what_is_lost_and_the_receiver_loses_nothing_of_it(tmp_path):
    labels = ('red', 'green', 'blue')
    folder = ModelFolder(make_tiny_model_folder(tmp_path, labels))
    image = tiny_images(1, len(labels), seed=3)[0][0]
    encoder, decoder = Encoder(folder), Decoder(folder)
    plain = encoder.encode(image, packet_bytes=64, max_bytes=600)
    item = encoder.encode(image, packet_bytes=64, max_bytes=600, loss_rate=0.3)
    assert item.total_bytes <= 600 and item.packets[0] == plain.packets[0]
    assert item.packets.count(plain.packets[0]) > 1 and set(item.packets) < set(plain.packets)
    last = len(item.packets) - 1 - item.packets[::-1].index(plain.packets[0])
    late, all_of_it = decoder.start(), decoder.start()
    for k, packet in enumerate(item.packets):
        all_of_it.add(packet)
        if packet != plain.packets[0] or k == last:
            late.add(packet)
    assert np.array_equal(late.latents(), all_of_it.latents())
