# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Read labelled images from disk, whatever way they are kept."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from stl_conveyor.errors import BadImage, ConfigError

SUFFIXES = ('.jpg', '.jpeg', '.png', '.bmp', '.webp', '.tif', '.tiff', '.gif')
#: The names under which a folder may keep a split.
SPLIT_NAMES = {
    'train': ('train', 'training'),
    'val': ('val', 'valid', 'validation'),
    'test': ('test', 'testing'),
}
LABEL_COLUMNS = ('label', 'class')
#: What lies behind transparent pixels.
BACKDROP = (255, 255, 255)


@dataclass(frozen=True)
class LabelledImages:
    """Images u8[N, S, S, 3] and the index of each one's label, i64[N]."""

    images: np.ndarray
    classes: np.ndarray

    def sample(self, count: int, seed: int) -> LabelledImages:
        """Return up to `count` of them, drawn at random."""
        pick = np.random.default_rng(seed).permutation(len(self.classes))[:count]
        return LabelledImages(self.images[pick], self.classes[pick])

    def split(self, seed: int) -> tuple[LabelledImages, LabelledImages]:
        """Return (nine tenths, one tenth), drawn at random."""
        order = np.random.default_rng(seed).permutation(len(self.classes))
        cut = len(order) // 10
        return (
            LabelledImages(self.images[order[cut:]], self.classes[order[cut:]]),
            LabelledImages(self.images[order[:cut]], self.classes[order[:cut]]),
        )


@dataclass(frozen=True)
class FolderListing:
    """What a folder of images holds.

    Attributes:
        labels: The classes, numbers in their order and names in the alphabet's.
        splits: 'train', 'val' and 'test' as far as the folder has them, or 'all'; in each the
            files with their labels.
    """

    labels: tuple[str, ...]
    splits: dict[str, tuple[tuple[Path, str], ...]]


def open_square(path: Path, size: int) -> np.ndarray:
    """Return the central square of an image file, resized to u8[size, size, 3].

    Grey, CMYK, palette and 16-bit files become RGB, what is transparent white, and a photo is
    turned upright as its EXIF tag says.

    Raises:
        BadImage: Naming the file.
    """
    try:
        with Image.open(path) as file:
            image = _rgb(ImageOps.exif_transpose(file))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise BadImage(
            f'{path}: cannot be read as an image ({error}); remove or replace it'
        ) from error
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    return np.asarray(
        image.crop((left, top, left + side, top + side)).resize(
            (size, size), Image.Resampling.LANCZOS
        )
    )


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith(('I', 'F')):
        # Pillow would cut off what is above 255.
        values = np.asarray(image, np.float64)
        scale = 257 if values.max(initial=0) > 255 else 1
        return Image.fromarray(np.clip(values / scale, 0, 255).astype(np.uint8)).convert('RGB')
    if 'A' in image.getbands() or 'transparency' in image.info:
        image = image.convert('RGBA')
        behind = Image.new('RGBA', image.size, (*BACKDROP, 255))
        image = Image.alpha_composite(behind, image)
    return image.convert('RGB')


def list_images(folder: str | Path, label_column: str | None = None) -> FolderListing:
    """Find the images of a folder and their labels.

    The folder has train/ (and val/, test/) or train.csv (and val.csv, test.csv), or else a folder
    for each class. A class's images may lie at any depth below its folder. A CSV file has the
    path of an image, from the folder on, in its first column; the label is the column named
    `label_column`, or 'label' or 'class', or the last one.

    Raises:
        ConfigError: Naming what cannot be used and what to do.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise ConfigError(f'{folder}: is no folder; give one that has a folder for each class')
    splits = {}
    for split, names in SPLIT_NAMES.items():
        tables = [folder / f'{name}.csv' for name in names if (folder / f'{name}.csv').is_file()]
        # Without folders in it, it is a class: of toy trains, say.
        folders = [
            folder / name
            for name in names
            if (folder / name).is_dir()
            and any(path.is_dir() for path in (folder / name).iterdir())
        ]
        if len(tables or folders) > 1:
            raise ConfigError(
                f'{folder}: has {" and ".join(p.name for p in tables or folders)}, '
                'which mean the same; keep one'
            )
        if tables:
            splits[split] = _from_table(folder, tables[0], label_column)
        elif folders and label_column is None:
            splits[split] = _from_folders(folders[0])
    if label_column is not None and not splits:
        raise ConfigError(f'{folder}: has no train.csv, so a label column means nothing')
    if 'train' not in splits:
        if splits:
            raise ConfigError(
                f'{folder}: has {" and ".join(splits)} but no train; name the '
                'training images train'
            )
        splits = {'all': _from_folders(folder)}
    first = next(iter(splits))
    counts = Counter(label for _, label in splits[first])
    if len(counts) < 2:
        raise ConfigError(
            f'{folder}: has images of {"one class" if counts else "no class"}'
            f'{"".join(f" ({name})" for name in counts)}; give at least two, each in a folder of '
            'its own that is named after it'
        )
    _check_names(folder, counts)
    for split, files in splits.items():
        unknown = sorted({label for _, label in files} - set(counts))
        if unknown:
            raise ConfigError(
                f'{folder}: {split} has the class {unknown[0]!r}, of which there is '
                f'no image in {first}; add some or take it out'
            )
    labels = sorted(
        counts, key=lambda name: (0, int(name), name) if name.isdecimal() else (1, 0, name)
    )
    return FolderListing(tuple(labels), splits)


def _from_folders(folder: Path) -> tuple[tuple[Path, str], ...]:
    found = []
    for child in sorted(folder.iterdir()):
        if child.is_dir() and not child.name.startswith('.'):
            found += [
                (path, child.name)
                for path in sorted(child.rglob('*'))
                if path.suffix.lower() in SUFFIXES
                and path.is_file()
                and not path.name.startswith('.')
            ]
    return tuple(found)


def _from_table(
    folder: Path, table: Path, label_column: str | None
) -> tuple[tuple[Path, str], ...]:
    with open(table, newline='', encoding='utf-8-sig') as stream:
        rows = [row for row in csv.reader(stream) if any(cell.strip() for cell in row)]
    if not rows:
        raise ConfigError(f'{table}: is empty; give it a path and a label on each line')
    header = [cell.strip() for cell in rows[0]]
    if (folder / header[0]).is_file():
        if label_column is not None:
            raise ConfigError(f'{table}: has no header, so no column {label_column!r}')
        column = -1
    else:
        rows = rows[1:]
        known = [
            name for name in (label_column and [label_column] or LABEL_COLUMNS) if name in header
        ]
        if label_column is not None and not known:
            raise ConfigError(f'{table}: has no column {label_column!r}, only {", ".join(header)}')
        column = header.index(known[0]) if known else -1
    found = []
    for number, row in enumerate(rows, 2):
        if len(row) < 2 or len(row) <= column:
            raise ConfigError(f'{table}, row {number}: {",".join(row)!r} lacks a path or a label')
        found.append((folder / row[0].strip(), row[column].strip()))
    missing = [path for path, _ in found if not path.is_file()]
    if missing:
        raise ConfigError(
            f'{table}: {len(missing)} of {len(found)} files do not exist, such as '
            f'{missing[0]}; paths count from {folder}'
        )
    return tuple(found)


def _check_names(folder: Path, names: Iterable[str]) -> None:
    seen: dict[str, str] = {}
    for name in names:
        if not name.strip():
            raise ConfigError(f'{folder}: a class has an empty name; give it one')
        key = ' '.join(name.casefold().replace('_', ' ').split())
        if key in seen:
            raise ConfigError(
                f'{folder}: the classes {seen[key]!r} and {name!r} differ in case, '
                'spaces or underscores alone; join or rename them'
            )
        seen[key] = name


def load_images(data: Path, split: str, labels: Sequence[str], size: int) -> LabelledImages | None:
    """Read one split of a folder of images, or None if there is no such split.

    `data/split` holds .npz shards (`pixels` u8[N, S, S, 3] and `labels`), or a folder of files
    for each label; or `data/split.csv` has a path first and a label last on each line.
    """
    folder, table = Path(data) / split, Path(data) / f'{split}.csv'
    index = {name: k for k, name in enumerate(labels)}
    shards = sorted(p for p in folder.glob('*.npz') if '.part' not in p.name)
    if shards:
        parts = [np.load(path) for path in shards]
        return LabelledImages(
            np.concatenate([part['pixels'] for part in parts]),
            np.concatenate([part['labels'] for part in parts]).astype(np.int64),
        )
    if table.exists():
        with open(table, newline='', encoding='utf-8') as stream:
            rows = [row for row in csv.reader(stream) if len(row) > 1 and row[-1] in index]
        found = [(Path(data) / row[0], index[row[-1]]) for row in rows]
    else:
        found = [
            (path, index[name])
            for name in labels
            for path in sorted((folder / name).rglob('*'))
            if path.suffix.lower() in SUFFIXES
        ]
    if not found:
        return None
    return LabelledImages(
        np.stack([open_square(path, size) for path, _ in found]),
        np.array([k for _, k in found], np.int64),
    )


def load_pictures(data: Path, labels: Sequence[str], size: int) -> LabelledImages:
    """Read the training images for what needs no labels, such as a codec.

    Where none are of `labels` those of the folder's own are read, numbered in their order.

    Raises:
        FileNotFoundError: Without images.
    """
    found = load_images(data, 'train', labels, size) or load_images(
        data, 'train', list_images(data).labels, size
    )
    if found is None:
        raise FileNotFoundError(f'no training images under {data}')
    return found
