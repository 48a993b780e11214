# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Read labelled images from disk, whatever way they are kept."""
from collections.abc import Sequence
import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image


@dataclass(frozen=True)
class LabelledImages:
    """Images u8[N, S, S, 3] and the index of each one's label, i64[N]."""

    images: np.ndarray
    classes: np.ndarray

    def sample(self, count: int, seed: int) -> 'LabelledImages':
        """Return up to `count` of them, drawn at random."""
        pick = np.random.default_rng(seed).permutation(len(self.classes))[:count]
        return LabelledImages(self.images[pick], self.classes[pick])

    def split(self, seed: int) -> 'tuple[LabelledImages, LabelledImages]':
        """Return (nine tenths, one tenth), drawn at random."""
        order = np.random.default_rng(seed).permutation(len(self.classes))
        cut = len(order) // 10
        return (LabelledImages(self.images[order[cut:]], self.classes[order[cut:]]),
                LabelledImages(self.images[order[:cut]], self.classes[order[:cut]]))


def open_square(path: Path, size: int) -> np.ndarray:
    """Return the central square of an image file, resized to u8[size, size, 3]."""
    with Image.open(path) as file:
        image = file.convert('RGB')
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    return np.asarray(image.crop((left, top, left + side, top + side)).resize(
        (size, size), Image.Resampling.LANCZOS))


def load_images(data: Path, split: str, labels: Sequence[str],
                size: int) -> 'LabelledImages | None':
    """
    Read one split of a folder of images, or None if there is no such split.

    `data/split` holds .npz shards (`pixels` u8[N, S, S, 3] and `labels`), or a folder of files
    for each label; or `data/split.csv` has a path first and a label last on each line.
    """
    folder, table = Path(data) / split, Path(data) / f'{split}.csv'
    index = {name: k for k, name in enumerate(labels)}
    shards = sorted(p for p in folder.glob('*.npz') if '.part' not in p.name)
    if shards:
        parts = [np.load(path) for path in shards]
        return LabelledImages(np.concatenate([part['pixels'] for part in parts]),
                              np.concatenate([part['labels'] for part in parts]).astype(np.int64))
    if table.exists():
        with open(table, newline='', encoding='utf-8') as stream:
            rows = [row for row in csv.reader(stream) if len(row) > 1 and row[-1] in index]
        found = [(Path(data) / row[0], index[row[-1]]) for row in rows]
    else:
        found = [(path, index[name]) for name in labels
                 for path in sorted((folder / name).glob('*'))
                 if path.suffix.lower() in ('.jpg', '.jpeg', '.png')]
    if not found:
        return None
    return LabelledImages(np.stack([open_square(path, size) for path, _ in found]),
                          np.array([k for _, k in found], np.int64))
