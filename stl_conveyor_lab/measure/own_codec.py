# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Measure our codec: prefixes, packets one after the other, lost packets."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from stl_conveyor.assess.received import BATCH, receive
from stl_conveyor.codec import Decoder, EncodedItem, Encoder
from stl_conveyor.models.classifier import Classifier
from stl_conveyor.models.model_folder import ModelFolder
from stl_conveyor.vision.image_folder import LabelledImages
from stl_conveyor_lab.data.arrays import load_arrays, save_arrays
from stl_conveyor_lab.measure.cache import images_key
from stl_conveyor_lab.measure.scores import Row, accuracy_row

OURS, OURS_WITH_SIDE = 'this codec', 'this codec, with local answer'
SIZES = (64, 128, 256, 384, 512, 768, 1024, 1536, 2048, 3072, 4096)


def codec_answers(
    folder: ModelFolder, test: LabelledImages, sizes: Sequence[int], packet_bytes: int = 512
) -> Iterator[tuple[str, int, np.ndarray, float]]:
    """Yield codec, size, answers f32[N, C] and the mean of the bytes, alone first, then fused.

    Without a weak model in the folder there is no local answer to be fused.
    """
    encoder, decoder = Encoder(folder), Decoder(folder)
    local = None
    if 'weak' in folder.roles:
        weak = Classifier(folder.path('weak'))
        local = [weak.classify(image) for image in test.images]
    for name, known in ((OURS, None), (OURS_WITH_SIDE, local)):
        if name == OURS_WITH_SIDE and local is None:
            continue
        for size in sizes:
            items = [
                encoder.encode(
                    image, known[k] if known else None, packet_bytes=packet_bytes, max_bytes=size
                )
                for k, image in enumerate(test.images)
            ]
            answers, received = receive(decoder, items)
            yield name, size, answers, received


def codec_rows(
    folder: ModelFolder,
    test: LabelledImages,
    sizes: Sequence[int] = SIZES,
    packet_bytes: int = 512,
    show: Callable[[Row], None] = lambda row: None,
) -> list[Row]:
    """Measure the codec of a model folder, alone and with the local answer."""
    rows = []
    for name, size, answers, received in codec_answers(folder, test, sizes, packet_bytes):
        rows.append(accuracy_row(name, size, received, answers, test.classes))
        show(rows[-1])
    return rows


def loss_rows(
    folder: ModelFolder,
    test: LabelledImages,
    rates: Sequence[float] = (0.1, 0.3),
    max_bytes: int = 1024,
    packet_bytes: int = 128,
    seed: int = 0,
    show: Callable[[Row], None] = lambda row: None,
) -> list[Row]:
    """Measure what random packet loss costs.

    Pairs of rows for each rate: with the loss, and a prefix of as many bytes as arrived then on
    average; once without protection and once with the encoder's protection for that rate. What
    arrives twice counts twice.
    """
    encoder, decoder = Encoder(folder), Decoder(folder)
    rng = np.random.default_rng(seed)
    rows = []
    for rate in rates:
        for protect in (False, True):
            items = [
                encoder.encode(
                    image,
                    packet_bytes=packet_bytes,
                    max_bytes=max_bytes,
                    loss_rate=rate if protect else 0.0,
                )
                for image in test.images
            ]
            arrives = [(rng.random(len(item.packets)) >= rate).tolist() for item in items]
            answers, received = receive(decoder, items, arrives)
            name = f'{rate:.0%} of packets lost' + (', protected' if protect else '')
            rows.append(accuracy_row(name, max_bytes, received, answers, test.classes))
            size = round(received)
            prefix = [
                encoder.encode(image, packet_bytes=packet_bytes, max_bytes=size)
                for image in test.images
            ]
            answers, received = receive(decoder, prefix)
            rows.append(accuracy_row('prefix of that size', size, received, answers, test.classes))
            for row in rows[-2:]:
                show(row)
    return rows


class OwnCodec:
    """The codec of a model folder on one set of images, with what it answered kept on disk."""

    def __init__(
        self, folder: ModelFolder, images: np.ndarray, cache: Path, threads: int = 1
    ) -> None:
        """Load the codec; images u8[N, S, S, 3]."""
        self._encoder, self._decoder = Encoder(folder), Decoder(folder, threads)
        self._images = images
        models = [folder.model_id(role) for role in ('encoder', 'edge')]
        self.has_side = 'weak' in folder.roles
        self._local = None
        if self.has_side:
            weak = Classifier(folder.path('weak'))
            self._local = [weak.classify(image) for image in images]
            models.append(folder.model_id('weak'))
        key = 0
        for model in models:
            key ^= model
        #: Where everything about this codec is kept.
        self.folder = Path(cache) / images_key(images) / f'ours-{key:016x}'

    def _items(self, max_bytes: int, packet_bytes: int, side: bool) -> list[EncodedItem]:
        return [
            self._encoder.encode(
                image,
                self._local[k] if side and self._local is not None else None,
                packet_bytes=packet_bytes,
                max_bytes=max_bytes,
            )
            for k, image in enumerate(self._images)
        ]

    def answers(self, size: int, side: bool, packet_bytes: int = 512) -> tuple[np.ndarray, float]:
        """Return f32[N, C] of what fits into `size` bytes, and the mean of the bytes."""
        path = self.folder / f'{size}-{packet_bytes}-{int(side)}.npz'
        kept = load_arrays(path)
        if not kept:
            answers, received = receive(self._decoder, self._items(size, packet_bytes, side))
            kept = {'answers': answers, 'received': np.array(received)}
            save_arrays(path, **kept)
        return kept['answers'], float(kept['received'])

    def packet_answers(
        self, packet_bytes: int, max_bytes: int, side: bool
    ) -> tuple[list[list[int]], np.ndarray]:
        """Return the sizes of each item's packets, and the answers after each of them.

        f32[most, N, C]: row n - 1 is what the first n packets give.
        """
        path = self.folder / f'packets-{packet_bytes}-{max_bytes}-{int(side)}.npz'
        kept = load_arrays(path)
        if not kept:
            items = self._items(max_bytes, packet_bytes, side)
            most = max(len(item.packets) for item in items)
            sizes = np.zeros((len(items), most), np.int64)
            for k, item in enumerate(items):
                sizes[k, : len(item.packets)] = [len(packet) for packet in item.packets]
            sessions = [self._decoder.start() for _ in items]
            answers = np.zeros(
                (most, len(items), len(self._decoder.classify(sessions[:1])[0])), np.float32
            )
            for n in range(most):
                more = [k for k, item in enumerate(items) if n < len(item.packets)]
                answers[n] = answers[n - 1]
                for k in more:
                    sessions[k].add(items[k].packets[n])
                for at in range(0, len(more), BATCH):
                    some = more[at : at + BATCH]
                    answers[n, some] = self._decoder.classify([sessions[k] for k in some])
            kept = {'sizes': sizes, 'answers': answers}
            save_arrays(path, **kept)
        return [[int(size) for size in row if size] for row in kept['sizes']], kept['answers']
