# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""All answers of one codec, read by one classifier: by size, and packet by packet."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from stl_conveyor.models.classifier import Classifier
from stl_conveyor.vision.image_folder import LabelledImages
from stl_conveyor_lab.bench.codec.deadline import Plan
from stl_conveyor_lab.bench.codec.plot import CLEAN_KIND, OURS_KIND, SIDE_KIND, TUNED_KIND
from stl_conveyor_lab.measure.cache import BenchCache
from stl_conveyor_lab.measure.own_codec import OURS, OURS_WITH_SIDE, OwnCodec
from stl_conveyor_lab.measure.scores import Row, accuracy_row, right_answers
from stl_conveyor_lab.references import ReferenceCodec

#: Most bytes of a stream that is sent packet by packet.
STREAM_BYTES = 4096
#: The same for ours, which has little more to say after it.
OWN_STREAM_BYTES = 3072


@dataclass
class Series:
    """All answers of one codec read in one way."""

    name: str
    slug: str
    kind: str
    codec: ReferenceCodec | None = None
    rows: list[Row] = field(default_factory=list)
    #: By size, bool[N].
    right: dict[int, np.ndarray] = field(default_factory=dict)
    #: Ways of sending it under a deadline.
    plans: list[Plan] = field(default_factory=list)


def own_series(
    own: OwnCodec,
    test: LabelledImages,
    sizes: Sequence[int],
    packet_sizes: Sequence[int],
    show: Callable[[Row], None],
) -> list[Series]:
    """Return the series of our codec, alone and with the local answer."""
    result = []
    for name, side in ((OURS, False), (OURS_WITH_SIDE, True)):
        if side and not own.has_side:
            continue
        series = Series(name, 'ours', SIDE_KIND if side else OURS_KIND)
        for size in sizes:
            answers, received = own.answers(size, side)
            series.rows.append(accuracy_row(name, size, received, answers, test.classes))
            series.right[size] = right_answers(answers, test.classes)
            show(series.rows[-1])
        for packet_bytes in packet_sizes:
            sent, answers = own.packet_answers(packet_bytes, OWN_STREAM_BYTES, side)
            series.plans.append(_plan(packet_bytes, sent, answers, test.classes))
        result.append(series)
    return result


def _plan(choice: int, sent: list[list[int]], answers: np.ndarray, classes: np.ndarray) -> Plan:
    right = np.zeros((len(classes), len(answers) + 1), bool)
    for n, rows in enumerate(answers, 1):
        right[:, n] = right_answers(rows, classes)
    return Plan(choice, sent, right)


def _by_packets(
    codec: ReferenceCodec,
    cache: BenchCache,
    readers: Mapping[str, Classifier],
    packet_bytes: int,
    show: Callable[[str], None],
) -> tuple[list, dict[str, np.ndarray]]:
    """Return each item's packets, and by classifier the answers f32[most, N, C] after each."""
    pieces = [codec.packets(image, STREAM_BYTES, packet_bytes) for image in cache.images]
    most = max(map(len, pieces), default=0)
    strings = {n: [b''.join(piece[:n]) or None for piece in pieces] for n in range(1, most + 1)}
    answers = cache.answers(codec, readers, strings, show, f'packets{packet_bytes}')
    return pieces, {
        name: np.stack([rows[n] for n in range(1, most + 1)]) for name, rows in answers.items()
    }


def reference_series(
    codec: ReferenceCodec,
    cache: BenchCache,
    test: LabelledImages,
    readers: Mapping[str, tuple[str, Classifier]],
    sizes: Sequence[int],
    exact_sizes: Sequence[int],
    packet_sizes: Sequence[int],
    show: Callable[[str], None],
    show_row: Callable[[Row], None],
) -> list[Series]:
    """Return the series of a reference codec, one for each classifier that reads it.

    Args:
        codec: The reference.
        cache: Keeps what was encoded and answered.
        test: The images, those of the cache.
        readers: Name and classifier by kind (clean or tuned).
        sizes: Byte budgets of the table.
        exact_sizes: Further sizes among which a codec that does not stream may choose under a
            deadline.
        packet_sizes: The same for a stream that can be cut anywhere.
        show: Is given each line of progress.
        show_row: Is given each row.
    """
    classifiers = dict(readers.values())
    count = len(test.classes)
    plans: dict[str, list[Plan]] = {name: [] for name in classifiers}
    answers: dict[str, dict[int, np.ndarray]] = {name: {} for name in classifiers}
    if codec.has_parts:
        pieces, by_parts = _by_packets(codec, cache, classifiers, 0, show)
        lengths = [[len(data) for data in piece] for piece in pieces]
        for name, rows in by_parts.items():
            plans[name].append(_plan(0, lengths, rows, test.classes))
        strings = {}
        for size in sizes:
            fits = [int((np.cumsum(row) <= size).sum()) for row in lengths]
            strings[size] = [b''.join(piece[:n]) or None for piece, n in zip(pieces, fits)]
            for name, rows in by_parts.items():
                found = np.full((count, rows.shape[2]), np.nan, np.float32)
                for k, n in enumerate(fits):
                    if n:
                        found[k] = rows[n - 1, k]
                answers[name][size] = found
    else:
        wanted = sorted({*sizes, *(() if codec.streams else exact_sizes)})
        strings = cache.encodings(codec, wanted, show)
        answers = cache.answers(codec, classifiers, strings, show)
        for packet_bytes in packet_sizes if codec.streams else ():
            pieces, by_packets = _by_packets(codec, cache, classifiers, packet_bytes, show)
            lengths = [[len(data) for data in piece] for piece in pieces]
            for name, rows in by_packets.items():
                plans[name].append(_plan(packet_bytes, lengths, rows, test.classes))
    result = []
    for kind, (name, _) in readers.items():
        series = Series(
            codec.name + (', tuned' if kind == TUNED_KIND else ''),
            codec.slug,
            kind,
            codec,
            plans=plans[name],
        )
        for size, found in answers[name].items():
            series.right[size] = right_answers(found, test.classes)
            if size in sizes:
                spent = [len(data) for data in strings[size] if data]
                series.rows.append(
                    accuracy_row(
                        series.name,
                        size,
                        float(np.mean(spent)) if spent else 0,
                        found,
                        test.classes,
                    )
                )
                show_row(series.rows[-1])
            if not codec.streams:
                right = np.zeros((count, 2), bool)
                right[:, 1] = series.right[size]
                series.plans.append(
                    Plan(size, [[len(data)] if data else [] for data in strings[size]], right)
                )
        result.append(series)
    return result


__all__ = ['CLEAN_KIND', 'own_series', 'reference_series', 'Series', 'STREAM_BYTES', 'TUNED_KIND']
