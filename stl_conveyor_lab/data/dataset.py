# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Turn a folder of images into the three splits that training needs, each item in one of them.

The networks learn from the training images; the validation images set temperatures, the weight
of the side information and the reward estimate; the test images are for the report alone.
Near-duplicates (the same item photographed twice, frames of one passage, moved by up to a sixth of
their side) stay together, or the report would count as new what was learnt by heart.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from stl_conveyor.errors import ConfigError
from stl_conveyor.vision.image_folder import (
    FolderListing,
    LabelledImages,
    class_lines,
    list_images,
    load_images,
    read_listing,
)
from stl_conveyor.vision.image_inventory import left_out_lines
from stl_conveyor_lab.data.moved_images import fingerprints, moved_pairs

SPLITS = ('train', 'val', 'test')
#: Shares of the images that are set aside, where the folder has no such split.
VALIDATION_SHARE, TEST_SHARE = 0.15, 0.15
#: Fewest different images of a class: three to learn from, one each to set aside.
LEAST_IMAGES = 5
#: Bits of 128 by which the hashes of near-duplicates differ at most: any two images of a class,
#: and two whose file names follow each other.
NEAR, NEAR_IN_SEQUENCE = 10, 26
#: Share of a class that its largest group may have to be dealt as a whole.
LARGEST_GROUP = 0.3
_SHARD = 2000
_NUMBERED = re.compile(r'(\d+)\D*$')


@dataclass(frozen=True)
class Dataset:
    """A prepared folder: .npz shards below folder/train, folder/val and folder/test.

    by_class images by class and split

    Attributes:
        counts: Images by split.
        notes: What was left out or may be wrong, in words.
        key: Of the files, the size and the seed that this was made from.
    """

    folder: Path
    source: str
    labels: tuple[str, ...]
    image_size: int
    counts: dict[str, int]
    by_class: dict[str, dict[str, int]]
    notes: tuple[str, ...]
    key: str

    def load(self, split: str) -> LabelledImages:
        """Return the images of a split; raises ConfigError if they are gone."""
        found = load_images(self.folder, split, self.labels, self.image_size)
        if found is None:
            raise ConfigError(
                f'{self.folder}: lacks its {split} images; remove the folder to prepare them anew'
            )
        return found

    @classmethod
    def read(cls, folder: str | Path) -> Dataset:
        """Return the dataset that `prepare` left in a folder; raises ConfigError without one."""
        folder = Path(folder)
        try:
            content = json.loads((folder / 'dataset.json').read_text(encoding='utf-8'))
            return cls(
                folder,
                content.pop('source'),
                tuple(content.pop('labels')),
                notes=tuple(content.pop('notes')),
                **content,
            )
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ConfigError(
                f'{folder}: holds no prepared images ({error}); remove it and run '
                'the training again'
            ) from error


def difference_hash(images: np.ndarray) -> np.ndarray:
    """Return the signs i8[N, 128] of brightness steps between cells of a coarse grid.

    Eight by eight steps across and as many down; scale, contrast and compression hardly change
    them (the "dHash" of image search).

    Args:
        images: u8[N, S, S, 3].
    """
    bits = []
    for image in images:
        picture = Image.fromarray(image).convert('L')
        across = np.asarray(picture.resize((9, 8), Image.Resampling.BOX), np.int16)
        down = np.asarray(picture.resize((8, 9), Image.Resampling.BOX), np.int16)
        bits.append(
            np.concatenate(
                [np.diff(across, axis=1).ravel() > 0, np.diff(down, axis=0).ravel() > 0]
            )
        )
    return np.where(np.array(bits).reshape(len(images), 128), 1, -1).astype(np.int8)


def near_duplicates(
    hashes: np.ndarray, names: Sequence[str], moved: np.ndarray | None = None
) -> np.ndarray:
    """Return the group i64[N] of each image: near-duplicates share one.

    Args:
        hashes: i8[N, 128] of `difference_hash`.
        names: Their files; one that counts on from another (a_001, a_002) is near with less
            likeness.
        moved: Pairs i64[M, 2] of images that show the same, moved (`moved_images.moved_pairs`).
    """
    count = len(hashes)
    values = hashes.astype(np.float32)
    rows, columns = [np.arange(count)], [np.arange(count)]
    if moved is not None:
        rows.append(moved[:, 0])
        columns.append(moved[:, 1])
    for at in range(0, count, 1024):
        distance = (128 - values[at : at + 1024] @ values.T) / 2
        row, column = np.nonzero(distance <= NEAR)
        rows.append(row + at)
        columns.append(column)
    order = sorted(range(count), key=lambda k: _sequence(names[k]))
    for first, second in zip(order, order[1:]):
        (stem, number), (next_stem, next_number) = (_sequence(names[k]) for k in (first, second))
        if (
            stem == next_stem
            and 0 < next_number - number <= 2
            and (128 - values[first] @ values[second]) / 2 <= NEAR_IN_SEQUENCE
        ):
            rows.append(np.array([first]))
            columns.append(np.array([second]))
    places = np.concatenate(rows), np.concatenate(columns)
    graph = coo_matrix((np.ones(len(places[0]), bool), places), (count, count))
    return connected_components(graph, directed=False)[1].astype(np.int64)


def _sequence(name: str) -> tuple[str, int]:
    found = _NUMBERED.search(Path(name).stem)
    if not found or len(found[1]) > 12:
        return name, -1
    return str(Path(name).parent / Path(name).stem[: found.start()]), int(found[1])


def draw_split(
    groups: np.ndarray, shares: Sequence[float], rng: np.random.Generator
) -> np.ndarray:
    """Return the part i64[N] of each image of one class: whole groups, drawn at random.

    Where groups are too large to be dealt, the images are cut in the order of their names, so
    that neighbours stay together.

    Args:
        groups: i64[N] in the order of the file names.
        shares: Of the parts 1, 2, ...; part 0 takes the rest.
        rng: Draws the groups.
    """
    count = len(groups)
    wanted = [max(1, round(share * count)) if share else 0 for share in shares]
    sizes = np.bincount(groups)
    parts = np.zeros(count, np.int64)
    if sizes.max() > LARGEST_GROUP * count:
        end = count
        for part, number in enumerate(wanted, 1):
            parts[end - number : end] = part
            end -= number
        return parts
    order = iter(rng.permutation(np.flatnonzero(sizes)))
    for part, number in enumerate(wanted, 1):
        have = 0
        while have < number:
            group = next(order)
            parts[groups == group] = part
            have += int(sizes[group])
    return parts


def prepare(
    source: str | Path,
    folder: str | Path,
    size: int,
    seed: int,
    label_column: str | None = None,
    show: Callable[[str], None] = print,
) -> Dataset:
    """Read a folder of images (`image_folder.list_images`) into shards; returns the Dataset.

    A val split beside train without a test split is the test split: what a folder sets aside is
    never selected on, and the validation images are drawn from train. What is read, what is left
    out and why is said first, and noted. What is there already for the same files, size and seed
    is not made again.

    Raises:
        ConfigError: : naming the folder or class and what to do; also when `folder` holds other
            images.
    """
    source, folder = Path(source), Path(folder)
    listing = list_images(source, label_column)
    key = _key(source, listing, size, seed)
    if (folder / 'dataset.json').exists():
        data = Dataset.read(folder)
        if data.key != key:
            raise ConfigError(
                f'{folder}: holds other images than {source} at {size} pixels, or '
                'another split of them; give another folder for this training'
            )
        return data
    for line in listing.lines(source):
        show(line)

    def progress(done: int, total: int) -> None:
        if done % 500 == 0:
            show(f'read {done}/{total} images')

    read = read_listing(listing, size, progress=progress)
    found = dict(read.found)
    names = {
        split: [_relative(path, source) for path in files] for split, files in read.files.items()
    }
    for split, images in found.items():
        if not len(images.classes):
            raise ConfigError(f'{source}: no image of {split} can be read')
    notes = left_out_lines((*listing.left_out, *read.left_out), source)
    per_class = Counter(listing.labels[k] for images in found.values() for k in images.classes)
    notes += class_lines(listing.labels, per_class)[1:]
    for line in left_out_lines(read.left_out, source):
        show(line)
    _check_counts(source, listing.labels, found)
    found = _complete(found, names, listing.labels, seed, notes)
    by_class = {
        name: {split: int((found[split].classes == k).sum()) for split in SPLITS}
        for k, name in enumerate(listing.labels)
    }
    for name, counts in by_class.items():
        if not counts['train']:
            raise ConfigError(f'{source}: there is no training image of {name!r}; add some')
    for split in SPLITS:
        _write_shards(folder / split, found[split])
    content = {
        'key': key,
        'source': source.name,
        'labels': list(listing.labels),
        'image_size': size,
        'counts': {s: len(found[s].classes) for s in SPLITS},
        'by_class': by_class,
        'notes': notes,
    }
    (folder / 'dataset.json').write_text(json.dumps(content, indent=1) + '\n', encoding='utf-8')
    return Dataset.read(folder)


def _key(source: Path, listing: FolderListing, size: int, seed: int) -> str:
    text = [f'1 {size} {seed}']
    for split, files in listing.splits.items():
        text += [
            f'{split} {_relative(path, source)} {label} {path.stat().st_size}'
            for path, label in files
        ]
    return hashlib.sha256('\n'.join(text).encode()).hexdigest()


def _relative(path: Path, source: Path) -> str:
    return str(path.relative_to(source) if path.is_relative_to(source) else path)


def _check_counts(
    source: Path, labels: Sequence[str], found: Mapping[str, LabelledImages]
) -> None:
    first = found.get('all') or found['train']
    least = LEAST_IMAGES if 'all' in found else 3
    counts = np.bincount(first.classes, minlength=len(labels))
    few = [f'{labels[k]!r} has {counts[k]}' for k in range(len(labels)) if counts[k] < least]
    if few:
        raise ConfigError(
            f'{source}: of different, readable images {", ".join(few[:5])}'
            f'{" and others too few" if len(few) > 5 else ""}; every class needs at least '
            f'{least}, and about 100 to be told apart well'
        )


def _complete(
    found: dict[str, LabelledImages],
    names: dict[str, list[str]],
    labels: Sequence[str],
    seed: int,
    notes: list[str],
) -> dict[str, LabelledImages]:
    """Draw the splits that the folder does not have."""
    rng = np.random.default_rng(seed)
    if 'all' in found:
        return _deal(
            found['all'],
            names['all'],
            ('train', 'val', 'test'),
            (VALIDATION_SHARE, TEST_SHARE),
            labels,
            rng,
            notes,
        )
    if 'test' not in found and 'val' in found:
        found = {'train': found['train'], 'test': found['val']}
        names = {'train': names['train'], 'test': names['val']}
        notes.append(
            "the folder's validation images are the test images here; validation "
            'images were drawn from its training images'
        )
    missing = [split for split in ('val', 'test') if split not in found]
    shares = {'val': VALIDATION_SHARE, 'test': TEST_SHARE}
    if missing:
        rest = {split: images for split, images in found.items() if split != 'train'}
        found = {
            **_deal(
                found['train'],
                names['train'],
                ('train', *missing),
                [shares[split] for split in missing],
                labels,
                rng,
                notes,
            ),
            **rest,
        }
    _note_leaks(found, notes)
    return found


def _deal(
    images: LabelledImages,
    names: Sequence[str],
    splits: Sequence[str],
    shares: Sequence[float],
    labels: Sequence[str],
    rng: np.random.Generator,
    notes: list[str],
) -> dict[str, LabelledImages]:
    part = np.zeros(len(images.classes), np.int64)
    together, torn, alike = 0, [], []
    for k in range(len(labels)):
        mine = np.flatnonzero(images.classes == k)
        mine = mine[np.argsort([names[i] for i in mine.tolist()], kind='stable')]
        hashes = difference_hash(images.images[mine])
        files = [names[i] for i in mine.tolist()]
        groups = near_duplicates(hashes, files, moved_pairs(fingerprints(images.images[mine])))
        if _largest_share(groups) > LARGEST_GROUP:
            # Items of a kind that all look alike, moved: not frames of one.
            plain = near_duplicates(hashes, files)
            if _largest_share(plain) <= LARGEST_GROUP:
                groups = plain
                alike.append(labels[k])
        together += len(mine) - len(np.unique(groups))
        part[mine] = draw_split(groups, shares, rng)
        if len(np.unique(groups)) < len(np.unique(np.stack([groups, part[mine]]), axis=1).T):
            torn.append(labels[k])
    if alike:
        notes.append(
            f'pictures of {", ".join(alike)} look alike but for where the item lies: frames of '
            'one item cannot be told from pictures of several and may stand on both sides of the '
            'split. Where there are such frames, put them into train/ and test/ yourself'
        )
    if together and not torn:
        notes.append(
            f'{together} images were recognised as near-duplicates of another one of their class; '
            'each group was kept on one side of the split'
        )
    elif together:
        notes.append(
            f'{together} images were recognised as near-duplicates of another one of their class. '
            'Most of '
            f'{", ".join(torn)} look alike, so they were cut in the order of their names, and '
            'near-duplicates stand on both sides of the split: accuracies may come out too high'
        )
    return {
        split: LabelledImages(images.images[part == p], images.classes[part == p])
        for p, split in enumerate(splits)
    }


def _largest_share(groups: np.ndarray) -> float:
    return float(np.bincount(groups).max() / len(groups))


def _note_leaks(found: Mapping[str, LabelledImages], notes: list[str]) -> None:
    """Say how many test images have a near-duplicate of their class in the other splits."""
    leaks = 0
    for k in np.unique(found['test'].classes):
        test = found['test'].images[found['test'].classes == k]
        rest = np.concatenate(
            [found[split].images[found[split].classes == k] for split in ('train', 'val')]
        )
        distance = 128 - difference_hash(test).astype(np.float32) @ difference_hash(rest).T
        leaking = (distance / 2 <= NEAR).any(1)
        leaking[moved_pairs(fingerprints(test), fingerprints(rest))[:, 0]] = True
        leaks += int(leaking.sum())
    if leaks:
        notes.append(
            f'{leaks} of {len(found["test"].classes)} test images look much like a '
            "training image of their class (the folder's own split): accuracies may "
            'come out too high'
        )


def _write_shards(folder: Path, images: LabelledImages) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob('*.npz'):
        old.unlink()
    for number, at in enumerate(range(0, len(images.classes), _SHARD)):
        np.savez(
            folder / f'{number}.npz',
            pixels=images.images[at : at + _SHARD],
            labels=images.classes[at : at + _SHARD],
        )
