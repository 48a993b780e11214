# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""The device's half of the codec: an image becomes packets, most important first."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from stl_conveyor.codec.entropy import GroupCoder
from stl_conveyor.codec.identity import codec_identity
from stl_conveyor.codec.protection import transmission_order
from stl_conveyor.codec.spec import CodecSpec
from stl_conveyor.codec.transform import PatchTransform
from stl_conveyor.codec.wire import Packet, header_size, pack, side_levels
from stl_conveyor.models.model_folder import ModelFolder


@dataclass(frozen=True)
class EncodedItem:
    """The packets of one item; any subset of them decodes."""

    #: Most important first; with protection against loss some come more than once.
    packets: tuple[bytes, ...]
    #: Whether these packets hold all that the codec can say about the image.
    complete: bool

    @property
    def total_bytes(self) -> int:
        """Sum of the packets' sizes."""
        return sum(map(len, self.packets))


class Encoder:
    """Encode images with the codec of a model folder.

    Examples:
        >>> from stl_conveyor import Encoder, ModelFolder, read_image, share_path
        >>> encoder = Encoder(ModelFolder(share_path('models/items')))
        >>> image = read_image(share_path('models/items/sample.png'))
        >>> item = encoder.encode(image, packet_bytes=100, max_bytes=250)
        >>> [len(packet) for packet in item.packets]  # most important first
        [100, 98, 51]
        >>> item.total_bytes, item.complete
        (249, False)

    The transform and all that the decoder must repeat are sums of integers, so that device and
    edge may be different machines.
    """

    def __init__(self, model_folder: ModelFolder, threads: int = 1) -> None:
        """Load the codec file.

        `threads` is accepted for symmetry with Decoder; one thread encodes.

        Raises:
            ModelFileError: .
        """
        del threads
        self._spec = CodecSpec.load(model_folder.path('encoder'))
        self._identity = codec_identity(model_folder)
        spec = self._spec
        self._transform = PatchTransform(spec)
        self._coder = GroupCoder(spec)
        # Derives all tables now, so that the first item is not the slowest.
        self.encode(np.zeros((spec.image_size, spec.image_size, 3), np.uint8))

    @property
    def identity(self) -> int:
        """64-bit identity of encoder and decoder together."""
        return self._identity

    @property
    def spec(self) -> CodecSpec:
        """Return the constants of the codec."""
        return self._spec

    def quantise(self, image: np.ndarray, channels: int | None = None) -> np.ndarray:
        """Return the finest integers i8[K, positions] of an image u8[S, S, 3].

        If `channels` is given, that many of `CodecSpec.channel_order` alone; the others are 0.

        Raises:
            BadImage: .
        """
        return self._transform.quantise(image, channels)

    def _leading_channels(self, max_bytes: int) -> int:
        """Return how many channels a stream of that size reaches, as a rule; rounded up."""
        usual = 12.0 * max_bytes + 64.0
        last = int(np.searchsorted(self._spec.contexts.usual_bits, usual))
        if last >= self._spec.groups:
            return self._spec.channels
        return min(self._spec.channels, -(-int(self._spec.order.channel_reach[last]) // 32) * 32)

    def encode(
        self,
        image: np.ndarray,
        probabilities: np.ndarray | None = None,
        *,
        packet_bytes: int = 512,
        first_packet_bytes: int | None = None,
        max_bytes: int = 4096,
        loss_rate: float = 0.0,
    ) -> EncodedItem:
        """Encode an image u8[S, S, 3] into packets of at most `packet_bytes` each.

        `probabilities` f32[C] of the local classifier travel in the first packet as side
        information. The first packet is cut to `first_packet_bytes` (default: `packet_bytes`). No
        more than `max_bytes` are made in all, and as many of them are used as possible. For a link
        that loses packets with probability `loss_rate`, and over which nobody can ask for them
        again, the important ones are in the result more than once.

        Raises:
            BadImage: The image has another size or type.
            ConfigError: The loss rate lies outside [0, 1).
            ValueError: There are more or fewer probabilities than labels.
        """
        spec = self._spec
        side = None
        if probabilities is not None:
            if np.shape(probabilities) != (spec.labels,):
                raise ValueError(
                    f'{np.shape(probabilities)} probabilities for a codec of {spec.labels} labels'
                )
            side = side_levels(probabilities, len(spec.side_table))
        channels = self._leading_channels(max_bytes)
        limits = (packet_bytes, first_packet_bytes, max_bytes)
        item = self._cut(self.quantise(image, channels), channels, side, *limits)
        if item is None:
            item = self._cut(self.quantise(image), self._spec.channels, side, *limits)
            assert item is not None, 'all channels were quantised'
        if loss_rate:
            order = transmission_order([*map(len, item.packets)], loss_rate, max_bytes)
            complete = item.complete and len(set(order)) == len(item.packets)
            item = EncodedItem(tuple(item.packets[k] for k in order), complete)
        return item

    def _cut(
        self,
        quantised: np.ndarray,
        channels: int,
        side: np.ndarray | None,
        packet_bytes: int,
        first_packet_bytes: int | None,
        max_bytes: int,
    ) -> EncodedItem | None:
        """Return the packets of i8[K, positions], or None if more than `channels` are needed."""
        spec = self._spec
        known = int(np.searchsorted(spec.order.channel_reach, channels, side='right')) - 1
        stream = self._coder.stream(quantised)
        packets: list[bytes] = []
        group, left = 0, max_bytes
        limit = packet_bytes if first_packet_bytes is None else first_packet_bytes
        while group < spec.groups or not packets:
            limit = min(limit, left)
            body = stream.encode(group, limit - header_size(group, 0x80), side)
            packet = pack(Packet(side is not None, group, body.groups, body.data), self._identity)
            if len(packet) > limit or not (body.groups or side is not None):
                break
            group += body.groups
            # The group after the last one decided where the packet ends.
            if group >= known < spec.groups:
                return None
            packets.append(packet)
            left -= len(packet)
            side, limit = None, packet_bytes
        return EncodedItem(tuple(packets), group == spec.groups)
