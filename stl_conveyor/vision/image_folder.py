# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Read labelled images from disk, whatever way they are kept."""

from __future__ import annotations

import csv
import hashlib
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from stl_conveyor.errors import ConfigError, ConveyorError
from stl_conveyor.vision.folder_layout import SPLIT_NAMES, hint_for_file, hint_for_folder
from stl_conveyor.vision.image import open_rgb
from stl_conveyor.vision.image_inventory import (
    AGAIN,
    CONFLICT,
    UNREADABLE,
    Inventory,
    LeftOut,
    is_of_programs,
    left_out_lines,
    look_at,
    look_through,
)

LABEL_COLUMNS = ('label', 'class')
#: A class with so many times the images of another is said.
UNEVEN = 5


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
        left_out: What lies there beside them.
    """

    labels: tuple[str, ...]
    splits: dict[str, tuple[tuple[Path, str], ...]]
    left_out: tuple[LeftOut, ...] = ()

    def lines(self, folder: Path) -> list[str]:
        """Return in words what is read, of which classes, and what is left out."""
        files = [entry for split in self.splits.values() for entry in split]
        return [
            *Inventory(tuple(path for path, _ in files), self.left_out).lines(folder),
            *class_lines(self.labels, Counter(label for _, label in files)),
        ]


def open_square(path: Path, size: int) -> np.ndarray:
    """Return the central square of an image file, resized to u8[size, size, 3].

    Raises:
        BadImage: Naming the file, if `image.open_rgb` cannot open it.
    """
    image = open_rgb(path)
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    return np.asarray(
        image.crop((left, top, left + side, top + side)).resize(
            (size, size), Image.Resampling.LANCZOS
        )
    )


@dataclass(frozen=True)
class ReadFiles:
    """The pictures of a listing, by split.

    Attributes:
        found: Images and classes of each split.
        files: Where they were read, in the same order.
        left_out: What the listing has and is not here.
    """

    found: dict[str, LabelledImages]
    files: dict[str, tuple[Path, ...]]
    left_out: tuple[LeftOut, ...]


def read_listing(
    listing: FolderListing,
    size: int,
    splits: Sequence[str] = (),
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> ReadFiles:
    """Read the pictures of a folder once each, and leave out what nobody can learn from.

    These are files that cannot be read, exact duplicates (of a picture in two splits the later
    one stays: the test image), and a picture that lies under two labels, on both sides.

    Args:
        listing: What `list_images` found.
        size: Side of the squares in pixels.
        splits: Those to read; all without it.
        progress: Is told how many files have been read, of how many.
    """
    index = {name: k for k, name in enumerate(listing.labels)}
    wanted = {split: listing.splits[split] for split in splits or listing.splits}
    images: dict[str, list[np.ndarray | None]] = {split: [] for split in wanted}
    first: dict[str, tuple[str, int]] = {}
    left_out: list[LeftOut] = []
    total, done = sum(map(len, wanted.values())), 0

    def leave(split: str, place: int, why: str) -> None:
        if images[split][place] is not None:
            images[split][place] = None
            left_out.append(LeftOut(wanted[split][place][0], why))

    for split, files in wanted.items():
        for place, (path, label) in enumerate(files):
            done += 1
            progress(done, total)
            images[split].append(None)
            try:
                pixels = open_square(path, size)
            except ConveyorError:
                left_out.append(LeftOut(path, UNREADABLE))
                continue
            images[split][place] = pixels
            digest = hashlib.sha256(pixels.tobytes()).hexdigest()
            if digest not in first:
                first[digest] = split, place
                continue
            other_split, other = first[digest]
            if wanted[other_split][other][1] != label:
                leave(split, place, CONFLICT)
                leave(other_split, other, CONFLICT)
            elif other_split == split:
                leave(split, place, AGAIN)
            else:
                leave(other_split, other, AGAIN)
                first[digest] = split, place
    found, kept = {}, {}
    for split, files in wanted.items():
        places = [k for k, pixels in enumerate(images[split]) if pixels is not None]
        kept[split] = tuple(files[k][0] for k in places)
        found[split] = LabelledImages(
            np.array([images[split][k] for k in places], np.uint8).reshape(-1, size, size, 3),
            np.array([index[files[k][1]] for k in places], np.int64),
        )
    return ReadFiles(found, kept, tuple(left_out))


def class_lines(labels: Sequence[str], counts: Mapping[str, int]) -> list[str]:
    """Return in words how many images each class has, and whether they are uneven."""
    said = ', '.join(f'{name} {counts[name]}' for name in labels[:20])
    more = f' and {len(labels) - 20} more' if len(labels) > 20 else ''
    lines = [f'{len(labels)} classes: {said}{more}']
    most = max(labels, key=lambda name: counts[name])
    fewest = min(labels, key=lambda name: counts[name])
    if counts[most] >= UNEVEN * max(1, counts[fewest]):
        lines.append(
            f'classes are uneven: {most} has {counts[most]} images, {fewest} {counts[fewest]}. '
            'The rare ones will be known worst, and an accuracy over all says little of them'
        )
    return lines


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
        raise ConfigError(f'{folder}: {hint_for_file(folder)}')
    splits = {}
    left_out: list[LeftOut] = []
    children = sorted(folder.iterdir())
    for split, names in SPLIT_NAMES.items():
        found = _split_at(children, names)
        if len(found) > 1:
            raise ConfigError(
                f'{folder}: has {" and ".join(path.name for path in found)}, '
                'which mean the same; keep one'
            )
        if found and found[0].is_file():
            splits[split] = _from_table(folder, found[0], label_column)
        elif found and label_column is None:
            splits[split] = _from_folders(found[0], left_out)
    if label_column is not None and not splits:
        raise ConfigError(f'{folder}: has no train.csv, so a label column means nothing')
    if 'train' not in splits:
        if splits:
            raise ConfigError(
                f'{folder}: has {" and ".join(splits)} but no train; name the '
                'training images train'
            )
        left_out = []
        splits = {'all': _from_folders(folder, left_out)}
    labels = sorted(
        _classes(folder, splits, left_out),
        key=lambda name: (0, int(name), name) if name.isdecimal() else (1, 0, name),
    )
    return FolderListing(tuple(labels), splits, tuple(left_out))


def _split_at(children: Sequence[Path], names: Collection[str]) -> list[Path]:
    """Return the tables of a split or, without one, its folders; more than one is a mistake."""
    tables = [
        path
        for path in children
        if path.suffix.lower() == '.csv' and path.stem.casefold() in names and path.is_file()
    ]
    # Without folders in it, it is a class: of toy trains, say.
    return tables or [
        path
        for path in children
        if path.name.casefold() in names
        and path.is_dir()
        and any(child.is_dir() and not is_of_programs(child) for child in path.iterdir())
    ]


def _classes(
    folder: Path, splits: Mapping[str, Sequence[tuple[Path, str]]], left_out: Sequence[LeftOut]
) -> Collection[str]:
    """Return the classes of the first split, to which those of the others must belong.

    Raises:
        ConfigError: When they do not, or there are too few, or their names are of no use.
    """
    first = next(iter(splits))
    counts = Counter(label for _, label in splits[first])
    if len(counts) < 2:
        few = f'has images of {"one class" if counts else "no class"}' + ''.join(
            f' ({name})' for name in counts
        )
        hint = hint_for_folder(folder) or (
            f'{few}; give at least two, each in a folder of its own that is named after it'
        )
        raise ConfigError('\n  '.join([f'{folder}: {hint}', *left_out_lines(left_out, folder)]))
    _check_names(folder, counts)
    for split, files in splits.items():
        unknown = sorted({label for _, label in files} - set(counts))
        if unknown:
            raise ConfigError(
                f'{folder}: {split} has the class {unknown[0]!r}, of which there is '
                f'no image in {first}; add some or take it out'
            )
    return counts


def _from_folders(folder: Path, left_out: list[LeftOut]) -> tuple[tuple[Path, str], ...]:
    found = []
    for child in sorted(folder.iterdir()):
        if child.is_dir() and not is_of_programs(child) and not _leads_back(child):
            inventory = look_through(child)
            found += [(path, child.name) for path in inventory.read]
            left_out += inventory.left_out
        else:
            left_out += look_at(child)
    return tuple(found)


def _leads_back(child: Path) -> bool:
    return child.is_symlink() and child.parent.resolve().is_relative_to(child.resolve())


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
            + (
                f', where {missing[0].name} lies: write the name alone'
                if (folder / missing[0].name).is_file()
                else ''
            )
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
            (path, index[name]) for name in labels for path in look_through(folder / name).read
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
