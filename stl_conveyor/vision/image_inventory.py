# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""What lies in a folder of pictures: what is read, what is left out, and why.

Whoever reads pictures of people's folders asks here, so that training, evaluation and collecting
take the same files and say the same of the others.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from stl_conveyor.vision.image import register_heif

#: What Pillow reads wherever it runs.
SUFFIXES = ('.jpg', '.jpeg', '.jfif', '.png', '.bmp', '.webp', '.tif', '.tiff', '.gif')
HEIF = ('.heic', '.heif')
AVIF = ('.avif',)
#: Folders that other programs leave: previews, waste, what archives of a Mac hold twice.
_OF_PROGRAMS = ('@eadir', '__macosx', '#recycle', '$recycle.bin', 'lost+found', '__pycache__')
_BY_SUFFIX = {
    **dict.fromkeys(HEIF, 'pip install pillow-heif, or export them as JPEG'),
    **dict.fromkeys(AVIF, 'this Pillow does not read them; export them as JPEG'),
    **dict.fromkeys(
        ('.cr2', '.cr3', '.nef', '.arw', '.dng', '.orf', '.rw2', '.raf'),
        'raw photos; export them as JPEG',
    ),
    **dict.fromkeys(
        ('.mp4', '.mov', '.avi', '.mkv', '.webm', '.m4v'), 'films; save pictures out of them'
    ),
    **dict.fromkeys(('.zip', '.tar', '.gz', '.tgz', '.7z', '.rar'), 'archives; unpack them'),
    **dict.fromkeys(('.svg', '.pdf', '.psd'), 'drawings; export them as PNG'),
}
OTHER = 'no pictures'
HIDDEN = 'hidden'
DEEPER = 'lie in folders of their own'
IN_NO_CLASS = 'lie in no folder of a class'
PREVIEWS = "another program's previews or waste"
LINK = 'links that lead nowhere, or to folders'
UNREADABLE = 'cannot be read as images; remove or replace them'
AGAIN = 'exact duplicates of others'
CONFLICT = 'lie under two labels; sort them'


@dataclass(frozen=True)
class LeftOut:
    """A file, or a folder with all in it, that is not read.

    Attributes:
        files: How many: 1, or those in the folder.
    """

    path: Path
    why: str
    files: int = 1


@dataclass(frozen=True)
class Inventory:
    """Files of a folder in the order of their paths."""

    read: tuple[Path, ...]
    left_out: tuple[LeftOut, ...]

    def lines(self, folder: Path) -> list[str]:
        """Return in words what is read and what is left out, by suffix and reason."""
        kinds = Counter(path.suffix.lower() for path in self.read)
        said = ', '.join(f'{count} {suffix}' for suffix, count in kinds.most_common())
        return [
            f'{len(self.read)} pictures are read{f": {said}" if said else ""}'
        ] + left_out_lines(self.left_out, folder)


def takes(suffix: str) -> bool:
    """Return whether files with a suffix are read on this machine."""
    suffix = suffix.lower()
    return (
        suffix in SUFFIXES
        or suffix in HEIF
        and register_heif()
        or suffix in AVIF
        and _pillow_has_avif()
    )


def look_through(folder: str | Path, *, deep: bool = True) -> Inventory:
    """Return what lies below a folder, however deep, or else in it alone.

    A link to a file is read as the file. Links to folders are not followed below `folder`, since
    they may lead back to it.
    """
    read: list[Path] = []
    left: list[LeftOut] = []
    for parent, folders, files in os.walk(folder):
        here = Path(parent)
        for name in sorted(folders):
            why = _why_no_folder(here / name)
            if why:
                folders.remove(name)
                left.append(LeftOut(here / name, why, _files_below(here / name)))
            elif not deep:
                folders.remove(name)
                left.append(LeftOut(here / name, DEEPER, _files_below(here / name)))
        folders.sort()
        for name in sorted(files):
            why = _why_no_picture(here / name)
            if why:
                left.append(LeftOut(here / name, why))
            else:
                read.append(here / name)
    return Inventory(tuple(sorted(read)), tuple(sorted(left, key=lambda entry: entry.path)))


def look_at(path: Path) -> list[LeftOut]:
    """Return why a file or folder beside the folders of classes is left out."""
    if path.is_dir():
        return [LeftOut(path, _why_no_folder(path) or OTHER, _files_below(path))]
    return [LeftOut(path, _why_no_picture(path) or IN_NO_CLASS)]


def is_of_programs(folder: Path) -> bool:
    """Return whether a folder is hidden, or another program's: never one of pictures."""
    return folder.name.startswith('.') or folder.name.casefold() in _OF_PROGRAMS


def left_out_lines(left_out: Iterable[LeftOut], folder: Path) -> list[str]:
    """Return a line for each reason, with how many files of which suffix, and one of them."""
    reasons: dict[str, list[LeftOut]] = {}
    for entry in left_out:
        reasons.setdefault(entry.why, []).append(entry)
    lines = []
    for why, entries in sorted(reasons.items(), key=lambda item: (item[0] == OTHER, item[0])):
        kinds: Counter[str] = Counter()
        for entry in entries:
            kinds[_kind(entry)] += entry.files
        said = ', '.join(f'{count} {kind}' for kind, count in kinds.most_common(4))
        if len(kinds) > 4:
            said += f' and {sum(kinds.values()) - sum(n for _, n in kinds.most_common(4))} others'
        first = entries[0].path
        name = first.relative_to(folder) if first.is_relative_to(folder) else first
        lines.append(f'left out: {said} ({why}), such as {name}')
    return lines


def _kind(entry: LeftOut) -> str:
    if entry.why in (HIDDEN, PREVIEWS, DEEPER) and entry.files != 1 or not entry.path.suffix:
        return (
            f'in {entry.path.name}'
            if entry.why in (HIDDEN, PREVIEWS, DEEPER)
            else 'without suffix'
        )
    return entry.path.suffix.lower()


def _why_no_folder(path: Path) -> str:
    if path.is_symlink():
        return LINK
    if is_of_programs(path):
        return HIDDEN if path.name.startswith('.') else PREVIEWS
    return ''


def _why_no_picture(path: Path) -> str:
    if path.name.startswith('.'):
        return HIDDEN
    if not path.is_file():
        return LINK
    if takes(path.suffix):
        return ''
    return _BY_SUFFIX.get(path.suffix.lower(), OTHER)


def _files_below(folder: Path) -> int:
    return 1 if folder.is_symlink() else sum(len(files) for _, _, files in os.walk(folder))


def _pillow_has_avif() -> bool:
    from PIL import features

    return 'avif' in features.get_supported()
