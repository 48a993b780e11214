# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Record what the edge answers to the streams of many items, at every byte budget.

    python -m stl_conveyor_lab.data.streams --models DIR --images FOLDER --out FILE.npz
        [--split test] [--items 1200] [--budget 512]

FOLDER holds renders (``stl_conveyor_lab.data.render``). ``make bench-policy DATA=FILE.npz``
measures on the result.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from stl_conveyor.codec import Decoder, Encoder
from stl_conveyor.errors import ConfigError
from stl_conveyor.models.classifier import Classifier
from stl_conveyor.models.model_folder import ModelFolder
from stl_conveyor_lab.data.recorded_streams import RecordedStreams

SHARES = (0.125, 0.1875, 0.25, 0.375, 0.5, 0.75, 1.0)  # byte budgets, in tokens
PACKET_BYTES = 256  # largest packet, as the encoder's node has it by default
_BATCH = 32


def byte_budgets(nominal_bytes: int) -> tuple[int, ...]:
    """Return the budgets, in bytes, among which a policy chooses, where a token buys so many."""
    return tuple(sorted({round(nominal_bytes * share) for share in SHARES}))


def record_streams(
    folder: ModelFolder,
    images: np.ndarray,
    classes: np.ndarray,
    probabilities: np.ndarray,
    nominal_bytes: int,
    threads: int = 1,
    show: Callable[[str], None] = print,
) -> dict[int, RecordedStreams]:
    """Send images through the codec at each byte budget, packet by packet.

    Args:
        images: uint8 [N, S, S, 3].
        classes: Int [N], the true ones.
        probabilities: float32 [N, C] of the weak classifier, which travel as side information.
    """
    encoder, decoder = Encoder(folder), Decoder(folder, threads=threads)
    result = {}
    for budget in byte_budgets(nominal_bytes):
        size, correct, score = [], [], []
        for begin in range(0, len(images), _BATCH):
            part = slice(begin, begin + _BATCH)
            sent = [
                encoder.encode(image, known, packet_bytes=PACKET_BYTES, max_bytes=budget).packets
                for image, known in zip(images[part], probabilities[part])
            ]
            sessions = [decoder.start() for _ in sent]
            for step in range(-(-budget // PACKET_BYTES)):
                for session, packets in zip(sessions, sent):
                    if step < len(packets):
                        session.add(packets[step])
                answers = decoder.classify(sessions)
                size.append([session.bytes_received for session in sessions])
                correct.append(answers.argmax(1) == classes[part])
                score.append(answers.max(1))
        steps = -(-budget // PACKET_BYTES)
        result[budget] = RecordedStreams(
            *(
                np.concatenate(
                    [np.stack(values[i : i + steps], axis=1) for i in range(0, len(values), steps)]
                )
                for values in (size, correct, score)
            )
        )
        show(f'streams of {len(images)} items with {budget} bytes recorded')
    return result


def weak_answers(
    folder: ModelFolder, images: np.ndarray, threads: int = 1
) -> tuple[np.ndarray, np.ndarray | None]:
    """Return the weak model's probabilities and posteriors of images, float32 [N, C] each."""
    weak = Classifier(folder.path('weak'), threads=threads)
    answers = [
        weak.classify_doubting(images[begin : begin + _BATCH])
        for begin in range(0, len(images), _BATCH)
    ]
    probabilities = np.concatenate([first for first, _ in answers])
    if not weak.has_posterior:
        return probabilities, None
    return probabilities, np.concatenate([second for _, second in answers])


def stream_arrays(streams: Mapping[int, RecordedStreams]) -> dict[str, np.ndarray]:
    """Return streams as arrays of an .npz file."""
    arrays = {'budgets': np.array(list(streams))}
    for budget, recorded in streams.items():
        for name in ('bytes', 'correct', 'score'):
            arrays[f'stream_{name}_{budget}'] = getattr(recorded, name)
    return arrays


def load_streams(arrays: Mapping[str, np.ndarray]) -> dict[int, RecordedStreams]:
    """Read streams from the arrays of an .npz file; empty when it has none.

    Raises:
        ConfigError: For a file that has only part of them.
    """
    if 'budgets' not in arrays:
        return {}
    try:
        return {
            int(budget): RecordedStreams(
                *(arrays[f'stream_{name}_{budget}'] for name in ('bytes', 'correct', 'score'))
            )
            for budget in arrays['budgets']
        }
    except KeyError as error:
        raise ConfigError(f'recorded streams lack {error}; record them again') from error


def record_file(
    folder: ModelFolder,
    images: np.ndarray,
    classes: np.ndarray,
    nominal_bytes: int,
    path: Path,
    threads: int = 1,
    show: Callable[[str], None] = print,
) -> None:
    """Write what the reward estimate and the byte budgets are fitted on, or judged by, to .npz.

    The arrays are those that ``stl_conveyor_lab.train.reward.fit`` reads. ``edge_correct`` is the
    edge's last answer to a stream of a whole token.
    """
    probabilities, posteriors = weak_answers(folder, images, threads)
    streams = record_streams(folder, images, classes, probabilities, nominal_bytes, threads, show)
    whole = streams[nominal_bytes]
    arrays: dict[str, Any] = stream_arrays(streams)
    if posteriors is not None:
        arrays = {'posteriors': posteriors, **arrays}
    np.savez(
        path,
        probabilities=probabilities,
        classes=classes,
        weak_correct=probabilities.argmax(1) == classes,
        edge_correct=whole.correct[:, -1],
        **arrays,
    )


def main(arguments: list[str] | None = None) -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(
        prog='python -m stl_conveyor_lab.data.streams',
        description='Record what the edge answers to the streams of renders.',
    )
    parser.add_argument('--models', type=Path, required=True, help='model folder')
    parser.add_argument('--images', type=Path, required=True, help='folder of renders')
    parser.add_argument('--out', type=Path, required=True, help='.npz to write')
    parser.add_argument('--split', choices=('val', 'test'), default='test')
    parser.add_argument('--items', type=int, default=None, help='the first so many (default: all)')
    parser.add_argument('--budget', type=int, default=512, help='bytes that a token buys')
    parser.add_argument('--threads', type=int, default=1)
    options = parser.parse_args(arguments)
    from stl_conveyor_lab.data.render import load_split

    images = load_split(options.images, options.split)
    record_file(
        ModelFolder(options.models),
        images.pixels[: options.items],
        images.labels[: options.items],
        options.budget,
        options.out,
        options.threads,
    )
    return 0


if __name__ == '__main__':
    sys.exit(main())
