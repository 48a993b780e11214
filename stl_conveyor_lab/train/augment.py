# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Random changes of training images."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

#: Takes images uint8 [N, S, S, 3] and a generator; returns altered copies.
Augmentation = Callable[[np.ndarray, np.random.Generator], np.ndarray]


def augment_parts(images: np.ndarray, rng: np.random.Generator, shift: int = 6) -> np.ndarray:
    """Turn, mirror and shift u8[N, S, S, 3]: a part lies on the belt in any direction."""
    size, result = images.shape[1], np.empty_like(images)
    for number, image in enumerate(images):
        image = np.rot90(image, int(rng.integers(4)))
        if rng.random() < 0.5:
            image = image[:, ::-1]
        down, right = rng.integers(0, 2 * shift + 1, 2)
        padded = np.pad(image, ((shift, shift), (shift, shift), (0, 0)), mode='reflect')
        result[number] = padded[down : down + size, right : right + size]
    return result


def augment_photos(images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Mirror, crop (down to 75 % of the side) and brighten or darken u8[N, S, S, 3]."""
    from PIL import Image

    size, result = images.shape[1], np.empty_like(images)
    for number, image in enumerate(images):
        if rng.random() < 0.5:
            image = image[:, ::-1]
        side = int(size * rng.uniform(0.75, 1))
        top, left = rng.integers(0, size - side + 1, 2)
        picture = Image.fromarray(
            np.ascontiguousarray(image[top : top + side, left : left + side])
        )
        bright = np.asarray(picture.resize((size, size)), np.float32) * rng.uniform(0.85, 1.15)
        result[number] = np.clip(bright, 0, 255)
    return result


def mixed_with(images: np.ndarray, others: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return u8[N, S, S, 3], each image mixed with another of the same place in `others`.

    Either has 30 to 70 %. What such a picture shows has no class, but a teacher that reads it
    tells what it makes of pictures that its own training never had (Beyer et al., Knowledge
    distillation: A good teacher is patient and consistent, CVPR 2022; Zhang et al., mixup, ICLR
    2018).
    """
    share = rng.uniform(0.3, 0.7, (len(images), 1, 1, 1)).astype(np.float32)
    return np.rint(share * images + (1 - share) * others).astype(np.uint8)


AUGMENT: dict[str, Augmentation] = {
    'parts': augment_parts,
    'photos': augment_photos,
    'none': lambda images, rng: images,
}
