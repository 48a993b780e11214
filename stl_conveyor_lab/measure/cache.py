# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Keep what the codec benchmark has made on disk, so that a run that was cut short goes on.

Encodings belong to (images, codec), answers to (images, codec, classifier); both are kept in
parts of a few images, each with the sizes that it holds.
"""

from __future__ import annotations

import hashlib
import json
import multiprocessing
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any

import numpy as np

from stl_conveyor.models.classifier import Classifier
from stl_conveyor_lab.data.arrays import load_arrays, save_arrays
from stl_conveyor_lab.references import ReferenceCodec

#: Images in one part.
PART = 16


def images_key(images: np.ndarray) -> str:
    """Return a name for images u8[N, S, S, 3] that changes with their pixels."""
    return hashlib.sha256(np.ascontiguousarray(images).tobytes()).hexdigest()[:12]


def parts(count: int) -> list[slice]:
    """Return the slices of so many images that are kept together."""
    return [slice(at, min(at + PART, count)) for at in range(0, count, PART)]


def kept_json(path: Path, measure: Callable[[], Any]) -> Any:
    """Return what `measure` returns, from the file at `path` if an earlier run wrote it."""
    if path.exists():
        return json.loads(path.read_text(encoding='utf-8'))
    result = measure()
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + '.part')
    partial.write_text(json.dumps(result) + '\n', encoding='utf-8')
    partial.replace(path)
    return result


def _load_strings(path: Path) -> dict[int, list[bytes | None]]:
    """Return the strings of each size; an empty one stands for None."""
    saved = load_arrays(path)
    if not saved:
        return {}
    ends = np.cumsum(saved['lengths'].ravel())
    blob = saved['blob'].tobytes()
    strings = [
        blob[end - length : end] or None for end, length in zip(ends, saved['lengths'].ravel())
    ]
    count = saved['lengths'].shape[1]
    return {
        int(size): strings[k * count : (k + 1) * count] for k, size in enumerate(saved['sizes'])
    }


def _save_strings(path: Path, strings: dict[int, list[bytes | None]]) -> None:
    flat = [data or b'' for found in strings.values() for data in found]
    lengths = np.array([len(data) for data in flat], np.int64).reshape(len(strings), -1)
    save_arrays(
        path,
        sizes=np.array(list(strings), np.int64),
        lengths=lengths,
        blob=np.frombuffer(b''.join(flat), np.uint8),
    )


def _encode_part(codec: ReferenceCodec, images: np.ndarray, sizes: Sequence[int]) -> list:
    return [codec.encode_all(image, sizes) for image in images]


class BenchCache:
    """The folder of one benchmark's encodings and answers."""

    def __init__(self, folder: Path, images: np.ndarray, jobs: int = 1) -> None:
        """Take images u8[N, S, S, 3]; `jobs` processes encode."""
        self.images = images
        self._folder = Path(folder) / images_key(images)
        self._jobs = jobs

    def encodings(
        self, codec: ReferenceCodec, sizes: Sequence[int], show: Callable[[str], None] = print
    ) -> dict[int, list[bytes | None]]:
        """Return the strings of all images for each size; None where nothing fits."""
        where = self._folder / codec.key
        result: dict[int, list[bytes | None]] = {size: [] for size in sizes}
        todo, kept = [], []
        for number, part in enumerate(parts(len(self.images))):
            path = where / f'{number:04d}.npz'
            have = _load_strings(path)
            missing = [size for size in sizes if size not in have]
            kept.append(have)
            if missing:
                todo.append((number, part, path, missing))

        def finish(number: int, path: Path, missing: Sequence[int], rows: list) -> None:
            for k, size in enumerate(missing):
                kept[number][size] = [row[k] for row in rows]
            _save_strings(path, kept[number])

        done = 0
        if self._jobs > 1 and len(todo) > 1 and codec.parallel:
            context = multiprocessing.get_context('spawn')
            with ProcessPoolExecutor(self._jobs, context) as pool:
                running = {
                    pool.submit(_encode_part, codec, self.images[part], missing): (
                        number,
                        path,
                        missing,
                    )
                    for number, part, path, missing in todo
                }
                for future in as_completed(running):
                    finish(*running[future], future.result())
                    done += 1
                    show(f'{codec.name}: encoded {done}/{len(todo)} parts')
        else:
            for number, part, path, missing in todo:
                finish(number, path, missing, _encode_part(codec, self.images[part], missing))
                done += 1
                show(f'{codec.name}: encoded {done}/{len(todo)} parts')
        for have in kept:
            for size in sizes:
                result[size] += have[size]
        return result

    def answers(
        self,
        codec: ReferenceCodec,
        classifiers: Mapping[str, Classifier],
        strings: dict[int, list[bytes | None]],
        show: Callable[[str], None] = print,
        what: str = 'sizes',
    ) -> dict[str, dict[int, np.ndarray]]:
        """Return what each classifier says about each size: f32[N, C], NaN where nothing fits.

        Each different string is decoded and classified once.

        Args:
            codec: Decodes the strings.
            classifiers: By a name that changes with the model's file.
            strings: By size, what was encoded of each image; None where nothing fits.
            show: Is given each line of progress.
            what: The kind of the keys of `strings`; answers of different kinds are kept apart.
        """
        sizes = list(strings)
        side = self.images.shape[1]
        found: dict[str, dict[int, list]] = {
            name: {size: [] for size in sizes} for name in classifiers
        }
        all_parts = parts(len(self.images))
        for number, part in enumerate(all_parts):
            paths = {
                name: self._folder / codec.key / f'{what}-{name}-{number:04d}.npz'
                for name in classifiers
            }
            kept = {name: load_arrays(path) for name, path in paths.items()}
            pixels: dict[tuple[int, bytes], np.ndarray] = {}
            worked = False
            for name, classifier in classifiers.items():
                have = {
                    int(size): row
                    for size, row in zip(
                        kept[name].get('sizes', ()), kept[name].get('answers', ())
                    )
                }
                missing = [size for size in sizes if size not in have]
                if missing:
                    worked = True
                    self._answer(codec, classifier, part, strings, missing, side, pixels, have)
                    save_arrays(
                        paths[name],
                        sizes=np.array(list(have)),
                        answers=np.stack(list(have.values())),
                    )
                for size in sizes:
                    found[name][size].append(have[size])
            if worked:
                show(f'{codec.name}: read {number + 1}/{len(all_parts)} parts')
        return {
            name: {size: np.concatenate(rows) for size, rows in by_size.items()}
            for name, by_size in found.items()
        }

    @staticmethod
    def _answer(
        codec: ReferenceCodec,
        classifier: Classifier,
        part: slice,
        strings: Mapping[int, Sequence[bytes | None]],
        missing: Sequence[int],
        side: int,
        pixels: dict[tuple[int, bytes], np.ndarray],
        have: dict[int, np.ndarray],
    ) -> None:
        """Add the rows f32[n, C] of the missing sizes to `have`; share decoded pixels."""
        wanted = list(
            dict.fromkeys(
                (k, data)
                for size in missing
                for k, data in enumerate(strings[size][part])
                if data is not None
            )
        )
        for key in wanted:
            if key not in pixels:
                pixels[key] = codec.decode(key[1], side)
        answers: dict[tuple[int, bytes], np.ndarray] = {}
        for at in range(0, len(wanted), PART):
            some = wanted[at : at + PART]
            rows = classifier.classify_batch(np.stack([pixels[key] for key in some]))
            answers.update(zip(some, rows))
        nothing = np.full(classifier.labels, np.nan, np.float32)
        for size in missing:
            have[size] = np.stack(
                [
                    nothing if data is None else answers[k, data]
                    for k, data in enumerate(strings[size][part])
                ]
            )
