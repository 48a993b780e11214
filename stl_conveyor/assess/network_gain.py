# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""What the network brings, and what anybody would get from it without a codec of their own.

The codec stands beside WebP that may be scaled down first (`RESCALED_WEBP`), read by the strong
model as it is: that costs no training at all.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from stl_conveyor.assess.fitted_file import FittedFile
from stl_conveyor.assess.intervals import paired_difference
from stl_conveyor.assess.received import BATCH
from stl_conveyor.models.classifier import Classifier

RESCALED_WEBP = FittedFile('WEBP', method=6, downscale=True)
#: How tables call it.
RESCALED_WEBP_NAME = 'WebP, may downscale'
#: A gain below this is little, and so is one below this part of what the strong model has.
LITTLE, LITTLE_PART = 0.01, 0.5


@dataclass(frozen=True)
class WebpAnswers:
    """What the strong model says of images that were sent as WebP of at most so many bytes.

    Attributes:
        right: bool[N]; what has no file of that size is wrong.
        mean_bytes: Of the files that there are, 0 without any.
    """

    right: np.ndarray
    mean_bytes: float


def answers_to_webp(
    strong: Classifier, images: np.ndarray, classes: np.ndarray, sizes: Sequence[int]
) -> dict[int, WebpAnswers]:
    """Return what the strong model makes of images as WebP, by size in bytes.

    Args:
        strong: The classifier, as it reads the originals.
        images: u8[N, S, S, 3].
        classes: i64[N].
        sizes: In bytes.
    """
    right = {size: np.zeros(len(images), bool) for size in sizes}
    sent: dict[int, list[int]] = {size: [] for size in sizes}
    for at in range(0, len(images), BATCH):
        files = [RESCALED_WEBP.encode_all(image, sizes) for image in images[at : at + BATCH]]
        for k, size in enumerate(sizes):
            there = [n for n, made in enumerate(files) if made[k] is not None]
            if not there:
                continue
            data = [files[n][k] or b'' for n in there]
            pixels = [RESCALED_WEBP.decode(part, images.shape[1]) for part in data]
            found = strong.classify_batch(np.stack(pixels)).argmax(1)
            places = np.array(there) + at
            right[size][places] = found == classes[places]
            sent[size] += map(len, data)
    return {
        size: WebpAnswers(right[size], float(np.mean(sent[size])) if sent[size] else 0.0)
        for size in sizes
    }


def gain_lines(
    weak: np.ndarray,
    strong: np.ndarray,
    edge: Mapping[int, np.ndarray],
    fused: Mapping[int, np.ndarray],
    webp: Mapping[int, np.ndarray],
    budget: int,
) -> list[str]:
    """Return in words what an offload brings, and where plain WebP would bring more.

    Args:
        weak: Right answers bool[N] of the device's own model.
        strong: Of the strong model on the originals.
        edge: Of the edge to so many bytes, by size.
        fused: Of the edge that has the device's answer, too, by size.
        webp: Of the strong model to WebP, by size.
        budget: Bytes of an offload, a size of `fused`.
    """
    gain, low, high = paired_difference(fused[budget], weak)
    there = float(strong.mean() - weak.mean())
    line = (
        f'offloading every item with {budget} bytes brings {gain:+.3f} [{low:+.3f}, {high:+.3f}] '
        f'over the weak model; the strong model on the originals has {there:+.3f}'
    )
    if there < 2 * LITTLE and gain < 2 * LITTLE:
        line += (
            '. The network brings little here, because the weak model is about as good: '
            'policy:=never saves it'
        )
    elif gain < max(LITTLE, LITTLE_PART * there):
        line += '. The network brings little yet: give more --minutes, or more bytes'
    lines = [line]
    behind = {
        size: float(webp[size].mean() - edge[size].mean())
        for size in sorted(edge)
        if webp[size].mean() > edge[size].mean()
    }
    if behind:
        worst = max(behind, key=lambda size: behind[size])
        _, low, high = paired_difference(webp[worst], edge[worst])
        sizes = ', '.join(f'{size:,}' for size in behind)
        lines.append(
            f'{RESCALED_WEBP_NAME}, read by the strong model as it is, is ahead of the codec '
            f'alone at {sizes} bytes, most at {worst:,}: {behind[worst]:+.3f} '
            f'[{low:+.3f}, {high:+.3f}]; more --minutes change that'
        )
    return lines
