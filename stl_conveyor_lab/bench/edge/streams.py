# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Streams of items as a device sends them, recorded once and replayed for many cells."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from stl_conveyor.codec import Encoder
from stl_conveyor.errors import ConfigError
from stl_conveyor.models.classifier import Classifier
from stl_conveyor.models.model_folder import ModelFolder
from stl_conveyor.outside_files import UnusableFile, read_arrays
from stl_conveyor.policy.for_cell import load_rewards

NAMES = ('codec_id', 'gains', 'counts', 'sizes', 'data')  # of the arrays in a file


@dataclass(frozen=True)
class Recorded:
    """The stream of one item.

    Attributes:
        packets: The codec's, the most important first.
        gain: What an answer is expected to gain, as the device estimates it.
    """

    packets: tuple[bytes, ...]
    gain: float


def record(folder: ModelFolder, count: int, *, budget: int, packet_bytes: int) -> list[Recorded]:
    """Return the streams of rendered items, as encoder and weak model make them.

    Args:
        budget: Most payload bytes of an item.
        packet_bytes: Of a packet.
    """
    from stl_conveyor_lab.bench.codec.images import rendered_items

    encoder, weak = Encoder(folder), Classifier(folder.path('weak'))
    rewards = load_rewards(folder)
    found = []
    for image in rendered_items(count).images:
        probabilities, posterior = weak.classify_doubting(image[None])
        packets = encoder.encode(
            image, probabilities[0], packet_bytes=packet_bytes, max_bytes=budget
        ).packets
        gain = rewards.expected_reward(
            probabilities[0], None if posterior is None else posterior[0]
        )
        found.append(Recorded(packets, float(gain)))
    return found


def save(path: Path, streams: Sequence[Recorded], codec_id: int) -> None:
    """Write streams into a file, from which `load` has them again."""
    packets = [packet for stream in streams for packet in stream.packets]
    np.savez_compressed(
        path,
        codec_id=np.uint64(codec_id),
        gains=np.array([stream.gain for stream in streams]),
        counts=np.array([len(stream.packets) for stream in streams]),
        sizes=np.array([len(packet) for packet in packets]),
        data=np.frombuffer(b''.join(packets), np.uint8),
    )


def load(path: Path, codec_id: int) -> list[Recorded]:
    """Return the streams of a file.

    Raises:
        ConfigError: If it cannot be read, or was recorded with another codec.
    """
    try:
        content = read_arrays(path, NAMES)
        if set(content) != set(NAMES):
            raise UnusableFile('it lacks ' + ', '.join(sorted(set(NAMES) - set(content))))
        if int(content['codec_id']) != codec_id:
            raise ConfigError(
                f'{path}: was recorded with codec {int(content["codec_id"]):016x}, the models '
                f'have {codec_id:016x}; record it anew'
            )
        data, sizes = content['data'].tobytes(), content['sizes']
        gains, counts = content['gains'], content['counts']
    except UnusableFile as error:
        raise ConfigError(f'{path}: holds no recorded streams ({error})') from error
    ends = np.cumsum(sizes)
    packets = [data[end - size : end] for end, size in zip(ends, sizes)]
    lasts = np.cumsum(counts)
    return [
        Recorded(tuple(packets[last - count : last]), float(gain))
        for last, count, gain in zip(lasts, counts, gains)
    ]
