# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Why a folder of pictures cannot be used as it is kept, and what to give or do instead."""

from __future__ import annotations

from collections import deque
from pathlib import Path

from stl_conveyor.vision.image_inventory import is_of_programs, takes

#: The names under which a folder may keep a split, in any case.
SPLIT_NAMES = {
    'train': ('train', 'training'),
    'val': ('val', 'valid', 'validation'),
    'test': ('test', 'testing'),
}
_ARCHIVES = ('.zip', '.tar', '.gz', '.tgz', '.bz2', '.xz', '.7z', '.rar')
#: Folders that are looked into, for one that can be used: enough for any, and soon done.
_LOOKED_INTO = 500


def hint_for_file(path: Path) -> str:
    """Return what to do with a path that is no folder."""
    if path.suffix.lower() in _ARCHIVES:
        return 'is an archive; unpack it and give the folder that comes out'
    if path.is_file():
        return 'is a file; give a folder that has a folder for each class'
    return 'is no folder; give one that has a folder for each class'


def hint_for_folder(folder: Path) -> str:
    """Return what is the matter with a folder in which no two classes are found; '' = unknown."""
    names = {path.name.casefold() for path in _folders(folder)}
    for path in (folder, *_folders(folder)):
        inner = {child.name.casefold() for child in _folders(path)}
        if {'images', 'labels'} <= inner or {'jpegimages', 'annotations'} <= inner:
            return (
                'is made for finding things in pictures (YOLO, VOC): each picture has boxes and '
                'no class of its own. Cut the boxes out into a folder for each class, or export '
                'it for classification'
            )
    if 'annotations' in names and any((folder / 'annotations').glob('*.json')):
        return (
            'is made for finding things in pictures (COCO): cut the boxes out into a folder for '
            'each class, or export it for classification'
        )
    tables = [path for path in (folder, *_folders(folder)) if (path / '_classes.csv').is_file()]
    if tables:
        return (
            f'has {tables[0].name}/_classes.csv with a column for each class: write train.csv '
            'with the path of a picture and its label on each line, or export it as folders'
        )
    better = _usable_below(folder)
    if better is not None:
        return f'has the classes further down: give {better}'
    loose = sum(takes(path.suffix) for path in folder.iterdir() if path.is_file())
    if loose:
        return (
            f'has {loose} pictures that lie in no folder: put those of each class into a folder '
            'that is named after it, or write train.csv with a path and a label on each line'
        )
    return ''


def _usable_below(folder: Path) -> Path | None:
    """Return the first folder below, the highest first, that has splits or classes in it."""
    waiting = deque(_folders(folder))
    for _ in range(_LOOKED_INTO):
        if not waiting:
            break
        path = waiting.popleft()
        inner = _folders(path)
        train = [child for child in inner if child.name.casefold() in SPLIT_NAMES['train']]
        if train and len(_folders(train[0])) > 1 or sum(map(_has_pictures, inner)) > 1:
            return path
        waiting.extend(inner)
    return None


def _folders(folder: Path) -> list[Path]:
    return sorted(
        path
        for path in folder.iterdir()
        if path.is_dir() and not path.is_symlink() and not is_of_programs(path)
    )


def _has_pictures(folder: Path) -> bool:
    return any(takes(path.suffix) for path in folder.iterdir())
