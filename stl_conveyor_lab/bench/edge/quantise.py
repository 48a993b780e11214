# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Turn the edge's network into 8-bit integers, and measure at every length whether that pays.

    python -m stl_conveyor_lab.bench.edge.quantise MODELS --out FILE.onnx [--data FOLDER]

The ranges of activations come from prefixes of the streams of some items; float32 and int8 then
answer prefixes of others, which nothing was trained on, with and without the local answer. The
file is kept only if it is faster on this machine and loses no more than .003 at any length. It is
another network: what tells strangers, and what decides, would have to be calibrated on it.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stl_conveyor.assess.received import receive
from stl_conveyor.codec import Decoder, Encoder
from stl_conveyor.codec.decoder import edge_engine
from stl_conveyor.errors import ConveyorError
from stl_conveyor.models.classifier import Classifier, make_session
from stl_conveyor.models.engines import Arrays, Feeds, LocalEngine
from stl_conveyor.models.model_folder import ModelFolder
from stl_conveyor.vision.image_folder import LabelledImages
from stl_conveyor_lab.bench.codec.images import load_test
from stl_conveyor_lab.measure.machine import machine
from stl_conveyor_lab.train.classifiers.quantise import quantise_network

LENGTHS = (64, 128, 256, 512, 1024, 2048)
LARGEST_LOSS = 0.003
PACKET_BYTES = 256
TIMED = 100  # answers of each network


@dataclass(frozen=True)
class LengthComparison:
    """What quantisation did to the answers at one length.

    Attributes:
        length: Payload bytes of an item.
        fused: Whether the local answer was among them.
        accuracy: In float32.
        quantised: In int8.
        agreement: Share of the items on which both say the same.
    """

    length: int
    fused: bool
    accuracy: float
    quantised: float
    agreement: float


@dataclass(frozen=True)
class EdgeComparison:
    """Both networks at every length, and median times (s) of one answer."""

    lengths: tuple[LengthComparison, ...]
    seconds: float
    quantised_seconds: float

    @property
    def pays(self) -> bool:
        """Return whether the quantised network is faster, and at no length noticeably worse."""
        return self.quantised_seconds < self.seconds and all(
            round(each.accuracy - each.quantised, 9) <= LARGEST_LOSS for each in self.lengths
        )


class _Watched:
    """Computes a network, and keeps what it was fed."""

    def __init__(self, folder: ModelFolder) -> None:
        self._engine = edge_engine(folder)
        self.fed: list[Feeds] = []

    def run(self, outputs: Sequence[str], feeds: Feeds, within: float | None = None) -> Arrays:
        self.fed.append(feeds)
        return self._engine.run(outputs, feeds, within)


class _Streams:
    """The streams of items, alone and with the local answer."""

    def __init__(self, folder: ModelFolder, images: NDArray[np.uint8]) -> None:
        self._encoder, self._images = Encoder(folder), images
        self.local: NDArray[np.float32] | None = None
        if 'weak' in folder.roles:
            weak = Classifier(folder.path('weak'))
            self.local = np.stack([weak.classify(image) for image in images])

    @property
    def ways(self) -> tuple[bool, ...]:
        """Return with and without what there is: whether the local answer is sent, too."""
        return (False,) if self.local is None else (False, True)

    def prefixes(self, length: int, *, fused: bool) -> list[Any]:
        known = self.local if fused else None
        return [
            self._encoder.encode(
                image,
                None if known is None else known[k],
                packet_bytes=PACKET_BYTES,
                max_bytes=length,
            )
            for k, image in enumerate(self._images)
        ]


def prefix_feeds(folder: ModelFolder, images: NDArray[np.uint8]) -> Iterator[Feeds]:
    """Yield what the network is fed for prefixes of images u8[N, S, S, 3], one at a time."""
    watched = _Watched(folder)
    decoder, streams = Decoder(folder, engine=watched), _Streams(folder, images)
    for fused in streams.ways:
        for length in LENGTHS:
            for item in streams.prefixes(length, fused=fused):
                watched.fed.clear()
                receive(decoder, [item])
                yield from watched.fed


def compare_edges(folder: ModelFolder, quantised: Path, items: LabelledImages) -> EdgeComparison:
    """Have the network of a folder and its quantised version answer the same prefixes."""
    networks = (Decoder(folder), Decoder(folder, engine=LocalEngine(make_session(quantised))))
    streams = _Streams(folder, items.images)
    rows = []
    for fused in streams.ways:
        for length in LENGTHS:
            prefixes = streams.prefixes(length, fused=fused)
            before, after = (receive(net, prefixes)[0].argmax(axis=1) for net in networks)
            rows.append(
                LengthComparison(
                    length,
                    fused,
                    float((before == items.classes).mean()),
                    float((after == items.classes).mean()),
                    float((before == after).mean()),
                )
            )
    seconds, quantised_seconds = _times(networks)
    return EdgeComparison(tuple(rows), seconds, quantised_seconds)


def _times(networks: Sequence[Decoder]) -> tuple[float, ...]:
    """Return the median times of an answer; they take turns, so that a busy machine slows both."""
    times: list[list[float]] = [[] for _ in networks]
    for _ in range(TIMED):
        for network, seconds in zip(networks, times):
            session = network.start()
            started = time.perf_counter()
            network.classify([session])
            seconds.append(time.perf_counter() - started)
    return tuple(float(np.median(seconds)) for seconds in times)


def main(arguments: Sequence[str] | None = None) -> int:
    """Quantise, compare at every length, and say whether it pays."""
    parser = argparse.ArgumentParser(description=(__doc__ or '').split('\n\n')[0])
    parser.add_argument('models', type=Path, help='model folder')
    parser.add_argument('--out', type=Path, required=True, help='the quantised network')
    parser.add_argument(
        '--data', type=Path, default=None, help='folder of test images; default: rendered items'
    )
    parser.add_argument(
        '--ranges', type=int, default=48, help='items to take the ranges of activations from'
    )
    parser.add_argument('--compare', type=int, default=600, help='items to compare on')
    parser.add_argument(
        '--reduced', action='store_true', help='weights of 7 bits, for x86-64 without VNNI'
    )
    options = parser.parse_args(arguments)
    try:
        folder = ModelFolder(options.models)
        items = load_test(options.data, folder, options.compare + options.ranges)
        count = min(options.compare, len(items.classes) - options.ranges)
        if options.ranges < 1 or count < 1:
            parser.error(f'there are {len(items.classes)} items: --ranges must leave some')
        feeds = prefix_feeds(folder, items.images[count:])
        quantise_network(folder.path('edge'), options.out, feeds, reduced=options.reduced)
        seen = compare_edges(
            folder, options.out, LabelledImages(items.images[:count], items.classes[:count])
        )
    except ConveyorError as error:
        print(error, file=sys.stderr)
        return 2
    print(f'{machine()}\n\n{count} items; weights of {7 if options.reduced else 8} bits')
    print(f'{"":26}{"bytes":>6}{"float32":>9}{"int8":>7}{"change":>8}{"agree on":>10}')
    for row in seen.lengths:
        print(
            f'{"with the local answer" if row.fused else "codec alone":26}{row.length:6d}'
            f'{row.accuracy:9.3f}{row.quantised:7.3f}{row.quantised - row.accuracy:+8.3f}'
            f'{100 * row.agreement:8.1f} %'
        )
    print(
        f'\nmedian of an answer: float32 {1e3 * seen.seconds:.2f} ms, '
        f'int8 {1e3 * seen.quantised_seconds:.2f} ms'
    )
    if seen.pays:
        print(f'it pays here; {options.out} needs a manifest, strangers and decisions of its own')
        return 0
    options.out.unlink()
    print('it does not pay here: keep the network as it is')
    return 1


if __name__ == '__main__':
    sys.exit(main())
