# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Packets of the codec: prefixes, subsets, budgets, damage, mismatch."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stl_conveyor.codec import Decoder, Encoder
from stl_conveyor.codec.crc8 import crc8
from stl_conveyor.codec.entropy import COST_UNIT, join_planes, split_planes
from stl_conveyor.codec.range_coder import TABLE_TOTAL
from stl_conveyor.codec.transform import PatchTransform
from stl_conveyor.codec.wire import Packet, pack, side_levels, side_probabilities, unpack
from stl_conveyor.errors import BadImage, BadPacket, CodecMismatch, ModelFileError
from stl_conveyor.models.model_folder import ModelFolder
from stl_conveyor_lab.train.tiny import make_tiny_model_folder, tiny_images

LABELS = tuple(f'class_{k}' for k in range(7))
RELAXED = settings(
    deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    return ModelFolder(make_tiny_model_folder(tmp_path_factory.mktemp('tiny'), LABELS))


@pytest.fixture(scope='module')
def encoder(folder):
    return Encoder(folder)


@pytest.fixture(scope='module')
def decoder(folder):
    return Decoder(folder)


@pytest.fixture(scope='module')
def images():
    return tiny_images(12, len(LABELS), seed=3)


def local_probabilities(seed):
    return np.random.default_rng(seed).dirichlet(np.full(len(LABELS), 0.3)).astype(np.float32)


def session_of(decoder, packets):
    session = decoder.start()
    for packet in packets:
        session.add(packet)
    return session


def assert_distribution(probabilities):
    assert np.isfinite(probabilities).all() and (probabilities >= 0).all()
    assert np.allclose(probabilities.sum(-1), 1, atol=1e-4)


@RELAXED
@given(data=st.data(), seed=st.integers(0, 1000), size=st.integers(24, 300))
def test_any_subset_in_any_order_decodes_to_the_same_as_sorted(
    encoder, decoder, images, data, seed, size
):
    item = encoder.encode(images[0][seed % 12], local_probabilities(seed), packet_bytes=size)
    subset = data.draw(st.lists(st.sampled_from(item.packets), unique=True))
    ordered = [p for p in item.packets if p in subset]
    mixed = session_of(decoder, subset + subset)
    straight = session_of(decoder, ordered)
    assert np.array_equal(mixed.latents(), straight.latents())
    assert mixed.bytes_received == sum(map(len, subset))
    assert mixed.packets_received == len(subset)
    assert_distribution(decoder.classify([mixed]))


@RELAXED
@given(
    seed=st.integers(0, 1000),
    first=st.integers(16, 200),
    size=st.integers(16, 400),
    budget=st.integers(0, 1500),
)
def test_budgets_hold_and_are_used(encoder, images, seed, first, size, budget):
    item = encoder.encode(
        images[0][seed % 12],
        local_probabilities(seed),
        packet_bytes=size,
        first_packet_bytes=first,
        max_bytes=budget,
    )
    assert item.total_bytes <= budget
    assert all(len(p) <= (size if k else first) for k, p in enumerate(item.packets))
    if not item.complete and size >= 64 and first >= 64:
        assert item.total_bytes >= budget - 32


@RELAXED
@given(seed=st.integers(0, 11), size=st.integers(30, 600))
def test_everything_sent_gives_back_every_integer(encoder, decoder, images, seed, size):
    image = images[0][seed]
    item = encoder.encode(image, packet_bytes=size, max_bytes=1 << 20)
    assert item.complete
    spec = encoder.spec
    sent = split_planes(encoder.quantise(image))
    session = session_of(decoder, item.packets)
    step = spec.plane_step[:, -1]
    error = np.abs(
        session.latents().reshape(spec.channels, -1) / step[:, None] - join_planes(sent)[-1]
    )
    complete = np.zeros(error.shape, bool)
    last = np.isin(np.arange(spec.groups), np.flatnonzero(spec.group_plane == 3))
    for group in np.flatnonzero(last & (spec.order.chain_start >= 0)):
        complete[spec.group_channel[group], spec.order.positions[spec.group_region[group]]] = True
    assert complete.any()
    assert error[complete].max() <= 0.5


@RELAXED
@given(
    data=st.data(),
    seed=st.integers(0, 11),
    sizes=st.tuples(st.integers(40, 300), st.integers(40, 300)),
    side=st.booleans(),
)
def test_groups_that_were_cut_anew_count_once(encoder, decoder, images, data, seed, sizes, side):
    image = images[0][seed]
    local = local_probabilities(seed) if side else None
    first, second = (
        encoder.encode(image, local, packet_bytes=size, max_bytes=600).packets for size in sizes
    )
    straight = session_of(decoder, first)
    mixed = session_of(decoder, first)
    for packet in second:
        mixed.add(packet)
    news = np.count_nonzero(mixed._have) - np.count_nonzero(straight._have)
    assert np.array_equal(mixed._known | straight._known, mixed._known)
    if not news:
        assert mixed.bytes_received == straight.bytes_received
        assert mixed.packets_received == len(first)
    # As much as the longer cut alone; one packet may lie across the end of the shorter one.
    assert mixed.bytes_received <= max(sum(map(len, first)), sum(map(len, second))) + max(sizes)
    again = mixed.bytes_received
    for packet in data.draw(st.permutations(first + second)):
        mixed.add(packet)
    assert mixed.bytes_received == again
    assert_distribution(decoder.classify([mixed]))


def test_lost_packet_leaves_the_others_as_they_were(encoder, decoder, images):
    item = encoder.encode(images[0][1], packet_bytes=60, max_bytes=1 << 20)
    whole = session_of(decoder, item.packets)
    assert len(item.packets) > 4
    for lost in range(len(item.packets)):
        rest = session_of(decoder, item.packets[:lost] + item.packets[lost + 1 :])
        alone = session_of(decoder, [item.packets[lost]])
        assert np.array_equal(rest._known | alone._known, whole._known)
        assert not (rest._known & alone._known).any()
        assert np.array_equal(rest._planes + alone._planes, whole._planes)


def test_encoding_and_decoding_are_deterministic(folder, images):
    streams, answers = [], []
    for _ in range(2):
        encoder, decoder = Encoder(folder), Decoder(folder)
        item = encoder.encode(images[0][2], local_probabilities(1))
        streams.append(item.packets)
        answers.append(decoder.classify([session_of(decoder, item.packets)]))
    assert streams[0] == streams[1]
    assert np.array_equal(answers[0], answers[1])


@RELAXED
@given(seed=st.integers(0, 1000), strength=st.sampled_from([1e-6, 1e-4, 1e-2]))
def test_rounding_of_the_transform_cannot_put_the_decoder_out_of_step(
    folder, decoder, images, seed, strength
):
    encoder = Encoder(folder)
    shape = encoder.spec.analysis.shape
    noise = 1 + strength * np.random.default_rng(seed).standard_normal(shape)
    encoder._transform = PatchTransform(
        replace(encoder.spec, analysis=(encoder.spec.analysis * noise).astype(np.float32))
    )
    item = encoder.encode(images[0][seed % 12], packet_bytes=300, max_bytes=1200)
    sent = split_planes(encoder.quantise(images[0][seed % 12]))
    session = session_of(decoder, item.packets)
    assert session._known.any()
    assert np.array_equal(session._planes, np.where(session._known, sent, 0))


ELSEWHERE = """
import sys
import numpy as np
from pathlib import Path
from stl_conveyor.codec import Encoder
from stl_conveyor.codec.entropy import split_planes
from stl_conveyor.models.model_folder import ModelFolder
encoder = Encoder(ModelFolder(Path(sys.argv[1])))
image = np.load(sys.argv[2])
packets = encoder.encode(image, packet_bytes=300, max_bytes=1200).packets
np.savez(sys.argv[3], sent=split_planes(encoder.quantise(image)),
         **{f'packet_{k}': np.frombuffer(p, np.uint8) for k, p in enumerate(packets)})
"""


@pytest.mark.parametrize('threads', [1, 3])
def test_streams_of_a_process_with_other_threads_decode_here(
    folder, decoder, images, tmp_path, threads
):
    np.save(tmp_path / 'image.npy', images[0][5])
    count = str(threads)
    subprocess.run(
        [
            sys.executable,
            '-c',
            ELSEWHERE,
            folder.path('encoder').parent,
            tmp_path / 'image.npy',
            tmp_path / 'out.npz',
        ],
        check=True,
        timeout=120,
        env={
            **os.environ,
            'OMP_NUM_THREADS': count,
            'OPENBLAS_NUM_THREADS': count,
            'PYTHONPATH': os.pathsep.join(sys.path),
        },
    )
    with np.load(tmp_path / 'out.npz') as found:
        packets = [found[f'packet_{k}'].tobytes() for k in range(len(found.files) - 1)]
        session = session_of(decoder, packets)
        assert len(packets) > 2
        assert np.array_equal(session._planes, np.where(session._known, found['sent'], 0))


def test_batch_gives_the_answers_of_single_items(encoder, decoder, images):
    sessions = [
        session_of(decoder, encoder.encode(image, max_bytes=100 * k).packets)
        for k, image in enumerate(images[0])
    ]
    batch = decoder.classify(sessions)
    single = np.concatenate([decoder.classify([s]) for s in sessions])
    assert np.allclose(batch, single, atol=1e-5)
    assert decoder.classify([]).shape == (0, len(LABELS))


def test_side_information_arrives_with_the_first_packet(encoder, decoder, images):
    probabilities = local_probabilities(5)
    item = encoder.encode(images[0][0], probabilities)
    side = session_of(decoder, item.packets[:1]).side
    assert side.argmax() == probabilities.argmax()
    assert np.abs(side - probabilities).max() < 0.12
    assert session_of(decoder, item.packets[1:]).side is None
    assert session_of(decoder, encoder.encode(images[0][0]).packets).side is None


@settings(RELAXED)
@given(st.lists(st.floats(0, 1, width=32), min_size=2, max_size=50))
def test_the_local_first_choice_stays_the_first(values):
    values = np.maximum(values, 1e-9)
    levels = side_levels(values, 16)
    assert np.array_equal(levels == 0, values == values.max())
    sent = side_probabilities(levels)
    error = np.log2(sent / sent.max()) - np.log2(values / values.max())
    # A quarter of an octave is half a step; the runner-up may be a whole step off.
    assert np.all(error[levels < 15] <= 0.25 + 1e-6)
    assert np.all(error[levels > 1] >= -0.25 - 1e-6)
    assert np.all(error[levels == 1] >= -0.5 - 1e-6)


@pytest.mark.parametrize(
    'probabilities',
    [np.zeros(7), np.full(7, np.nan), np.eye(7)[3], np.full(7, np.inf), np.full(7, -1.0)],
)
def test_odd_probabilities_do_no_harm(encoder, decoder, images, probabilities):
    session = session_of(decoder, encoder.encode(images[0][0], probabilities).packets)
    assert_distribution(decoder.classify([session]))


@settings(RELAXED, max_examples=200)
@given(data=st.binary(max_size=400))
def test_random_bytes_are_refused(decoder, data):
    session = decoder.start()
    with pytest.raises((BadPacket, CodecMismatch)):
        session.add(data)
        raise BadPacket('one in 256 random strings passes the check, and must do no harm')
    assert_distribution(decoder.classify([session]))


@settings(RELAXED, max_examples=200)
@given(
    first=st.integers(0, 16383),
    groups=st.integers(0, 16383),
    side=st.booleans(),
    body=st.binary(max_size=300),
)
def test_hostile_packets_with_a_right_check_do_no_harm(decoder, first, groups, side, body):
    session = decoder.start()
    packet = pack(Packet(side, first, groups, body), decoder.identity)
    try:
        session.add(packet)
    except BadPacket:
        assert session.packets_received == 0
    assert_distribution(decoder.classify([session]))


@settings(RELAXED, max_examples=100)
@given(
    seed=st.integers(0, 11),
    at=st.integers(0, 10_000),
    flip=st.integers(1, 255),
    repair=st.booleans(),
)
def test_damaged_packets_are_refused_or_do_no_harm(
    encoder, decoder, images, seed, at, flip, repair
):
    packet = bytearray(encoder.encode(images[0][seed], local_probabilities(seed)).packets[0])
    packet[at % (len(packet) - 1)] ^= flip
    session = decoder.start()
    if not repair:
        with pytest.raises(BadPacket):
            session.add(bytes(packet))
    else:
        packet[-1] = crc8(bytes(packet[:-1]))
        try:
            session.add(bytes(packet))
        except (BadPacket, CodecMismatch):
            assert session.packets_received == 0
    assert_distribution(decoder.classify([session]))


@RELAXED
@given(
    side=st.booleans(),
    first=st.integers(0, 16383),
    groups=st.integers(0, 16383),
    body=st.binary(max_size=50),
    identity=st.integers(0, 2**64 - 1),
)
def test_frame_round_trip(side, first, groups, body, identity):
    packet = Packet(side, first, groups, body)
    assert unpack(pack(packet, identity), identity) == packet
    with pytest.raises(CodecMismatch):
        unpack(pack(packet, identity), identity ^ 1)


def test_another_codec_is_a_mismatch(encoder, images, tmp_path):
    other = Decoder(ModelFolder(make_tiny_model_folder(tmp_path, LABELS, seed=1)))
    assert other.identity != encoder.identity
    with pytest.raises(CodecMismatch, match='models folder'):
        other.start().add(encoder.encode(images[0][0]).packets[0])


def test_another_wire_format_is_refused(encoder, decoder, images):
    packet = bytearray(encoder.encode(images[0][0]).packets[0])
    packet[0] ^= 0xE0
    packet[-1] = crc8(bytes(packet[:-1]))
    with pytest.raises(BadPacket, match='wire format'):
        decoder.start().add(bytes(packet))


@pytest.mark.parametrize(
    'image',
    [
        np.zeros((160, 159, 3), np.uint8),
        np.zeros((160, 160), np.uint8),
        np.zeros((160, 160, 3), np.float32),
    ],
)
def test_wrong_images_are_refused(encoder, image):
    with pytest.raises(BadImage, match='160'):
        encoder.encode(image)


def test_wrong_number_of_probabilities_is_refused(encoder, images):
    with pytest.raises(ValueError, match='7 labels'):
        encoder.encode(images[0][0], np.ones(3))


def test_a_file_that_is_no_codec_is_refused(tmp_path):
    from stl_conveyor.codec.spec import CodecSpec

    for content in (b'', b'PK\x03\x04 not really', b'\x93NUMPY'):
        (tmp_path / 'encoder.npz').write_bytes(content)
        with pytest.raises(ModelFileError, match='export it again'):
            CodecSpec.load(tmp_path / 'encoder.npz')


@pytest.mark.parametrize(
    'change, reason',
    [
        (lambda spec: {'tables': spec.tables * np.uint16(2)}, 'does not sum to 32768'),
        (lambda spec: {'side_table': spec.side_table + np.uint16(1)}, 'does not sum to 32768'),
        (lambda spec: {'mean': spec.mean + np.float32('inf')}, 'mean .* not finite'),
        (lambda spec: {'finest_step': spec.finest_step * np.float32('nan')}, 'finest_step'),
    ],
)
def test_a_codec_that_cannot_code_is_refused(encoder, tmp_path, change, reason):
    from stl_conveyor.codec.spec import CodecSpec

    replace(encoder.spec, **change(encoder.spec)).save(tmp_path / 'encoder.npz')
    with pytest.raises(ModelFileError, match=f'{reason}.*export it again'):
        CodecSpec.load(tmp_path / 'encoder.npz')


def test_no_cost_and_no_level_hangs_on_a_last_bit():
    """What decides on bytes is far from the next integer, or made of square roots alone."""
    share = np.maximum(np.arange(TABLE_TOTAL // 8 + 1), 2.0**-8)
    cost = COST_UNIT * (np.log2(TABLE_TOTAL / 8) - np.log2(share))
    assert np.abs(cost % 1 - 0.5).min() > 1e-4
    ratio = 2.0 ** (np.arange(0, 8, 0.001) + 0.0001)
    levels = np.array([side_levels(np.array([1, 1 / r]), 16)[1] for r in ratio])
    assert np.array_equal(levels, np.clip(np.rint(2 * np.log2(ratio)), 1, 15))


@given(value=st.lists(st.integers(-94, 94), min_size=1, max_size=50))
def test_planes_join_to_what_was_split(value):
    quantised = np.array([value], np.int8)
    joined = join_planes(split_planes(quantised))
    assert np.array_equal(joined[-1], quantised)
    assert np.abs(split_planes(quantised)[1:]).max() <= 1
    assert np.abs(joined[0]).max() <= 3


def test_bigger_budget_only_appends(encoder, images):
    probabilities = local_probabilities(2)
    small = encoder.encode(images[0][4], probabilities, packet_bytes=100, max_bytes=300)
    large = encoder.encode(images[0][4], probabilities, packet_bytes=100, max_bytes=500)
    assert large.packets[: len(small.packets) - 1] == small.packets[:-1]
