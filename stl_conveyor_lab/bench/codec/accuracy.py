# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Measure accuracy against bytes of the codec and of the codecs to compare with.

    python -m stl_conveyor_lab.bench.codec --out OUT [--data DIR] [--models DIR]
        [--references DIR] [--images 600] [--jobs 2] [--only SLUG ...]

Writes OUT/codec.json, codec.md, codec.png and codec_deadlines.png. Bytes are those of real byte
strings with all headers; what does not fit into a size counts as a wrong answer. Every reference
codec is read by the strong model as it is and, where the reference folder has one, by a
classifier tuned on its output. Without --data, items are rendered from seeds that no training
uses. What was encoded and answered is kept in OUT/cache, so that a run that was cut short goes on.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path

import numpy as np

from stl_conveyor.errors import ConfigError, exit_code
from stl_conveyor.models.classifier import Classifier
from stl_conveyor.models.model_folder import ModelFolder
from stl_conveyor.resources import share_path
from stl_conveyor.vision.image_folder import LabelledImages
from stl_conveyor_lab.bench.codec.deadline import Sender, budgets, deadline_cells
from stl_conveyor_lab.bench.codec.findings import (
    deadline_findings,
    differences,
    findings,
    loss_findings,
    time_findings,
)
from stl_conveyor_lab.bench.codec.images import load_test, rendered_items
from stl_conveyor_lab.bench.codec.plot import (
    CLEAN_KIND,
    TUNED_KIND,
    Curve,
    draw_accuracy,
    draw_deadlines,
)
from stl_conveyor_lab.bench.codec.report import report
from stl_conveyor_lab.bench.codec.series import STREAM_BYTES, Series, own_series, reference_series
from stl_conveyor_lab.measure.cache import BenchCache, kept_json
from stl_conveyor_lab.measure.codec_time import (
    device_megabytes,
    encode_milliseconds,
    measure_times,
    pi_milliseconds,
    sending_milliseconds,
)
from stl_conveyor_lab.measure.machine import machine
from stl_conveyor_lab.measure.own_codec import (
    OURS,
    OURS_WITH_SIDE,
    SIZES,
    OwnCodec,
    codec_rows,
    loss_rows,
)
from stl_conveyor_lab.measure.scores import Row, accuracy_row, wilson
from stl_conveyor_lab.references import BestQuality, ReferenceCodec, image_codecs, trained_codecs

__all__ = [
    'bench_codec',
    'codec_rows',
    'load_test',
    'measure_times',
    'OURS',
    'OURS_WITH_SIDE',
    'rendered_items',
    'accuracy_row',
    'wilson',
]

BATCH = 32
#: Packet sizes among which a stream that can be cut anywhere chooses under a deadline.
PACKET_SIZES = (448,)
#: Up to here the curves rise so much that the sizes of the table are too coarse for a deadline.
EXACT_LIMIT = 2304
#: Titles of the deadlines by whose encode times count.
HERE, ON_PI = 'encode time as on this machine', 'encode time as on a Raspberry Pi 4'
#: Images on which times are measured.
TIMED = 20
#: Codecs that are trained for a full comparison, and the module that does it.
TRAINED = {
    'st': ('st', ''),
    'st_fixed_4': ('st', ' --features 4'),
    'limitnet': ('limitnet', ''),
    'recurrent': ('recurrent', ''),
}


def classifier_row(name: str, path: Path, test: LabelledImages) -> Row:
    """Return the accuracy of a classifier on the original images."""
    model = Classifier(path)
    answers = np.concatenate(
        [
            model.classify_batch(test.images[k : k + BATCH])
            for k in range(0, len(test.images), BATCH)
        ]
    )
    return accuracy_row(name, 0, 0, answers, test.classes)


def _progress(line: str) -> None:
    print(line, flush=True)


def _show(row: Row) -> None:
    _progress(
        f'{row.codec:44s} {row.budget:5d} B  {row.accuracy:.3f} [{row.low:.3f}, {row.high:.3f}]'
    )


def load_references(path: Path | None, folder: ModelFolder) -> ModelFolder | None:
    """Return the reference folder, or None if there is none.

    Raises:
        ConfigError: When it belongs to other labels or another image size.
    """
    if path is None or not (path / 'manifest.json').exists():
        return None
    references = ModelFolder(path)
    if references.labels != folder.labels or references.image_size != folder.image_size:
        raise ConfigError(
            f'{path} has other labels or another image size than {folder.name}; '
            'train the references with --models of that folder'
        )
    return references


def missing_references(
    references: ModelFolder | None, codecs: Sequence[ReferenceCodec], where: Path | None
) -> list[str]:
    """Return what a full comparison lacks, each with the command that trains it."""
    have = () if references is None else references.roles
    common = f'--data DATA --models MODELS --work WORK --references {where or "REFERENCES"}'
    module = 'python -m stl_conveyor_lab.train.references.'
    lines = [
        f'{slug} is not trained: `{module}{name} {common}{more}`'
        for slug, (name, more) in TRAINED.items()
        if f'{slug}_code' not in have
    ]
    return lines + [
        f'no classifier is tuned on {codec.name}: `{module}tune --codec {codec.slug} {common}`'
        for codec in codecs
        if f'tuned_{codec.slug}' not in have
    ]


def readers(
    folder: ModelFolder, references: ModelFolder | None, codec: ReferenceCodec, threads: int = 1
) -> dict[str, tuple[str, Classifier]]:
    """Return the classifiers of a codec by kind, each with a name that changes with its file."""
    found = {
        CLEAN_KIND: (
            f'strong-{folder.model_id("strong"):016x}',
            Classifier(folder.path('strong'), threads),
        )
    }
    role = f'tuned_{codec.slug}'
    if references is not None and role in references.roles:
        found[TUNED_KIND] = (
            f'{role}-{references.model_id(role):016x}',
            Classifier(references.path(role), threads),
        )
    return found


def _time_all(
    folder: ModelFolder, models: Path, codecs: Sequence[ReferenceCodec], images: np.ndarray
) -> dict:
    times = measure_times(folder, images)
    own = times['encode_1024']
    for codec in codecs:
        times[f'encode with {codec.name}'] = round(encode_milliseconds(codec, images), 3)
    ratios = {
        'our encode / progressive JPEG (1.5 at most wanted)': own / times['progressive_jpeg'],
        'WebP method 4 / our encode (5 at least wanted)': times['webp_4'] / own,
        "our encode / the convolutions of ST's encoder": own / times['st_convolutions'],
    }
    return {
        'milliseconds': times,
        'ratios': {name: round(value, 2) for name, value in ratios.items()},
        'device_megabytes': device_megabytes(models),
        'machine': machine(),
    }


def _ready_after(milliseconds: float, steps: bool, packet: int) -> float:
    """Return when a packet is encoded: one more step for each, or all of them at once."""
    return milliseconds * (packet + 1) if steps else milliseconds


def _deadlines(series: Sequence[Series], times: dict) -> dict[str, dict]:
    """Return {title: {codec: cells}} with encode times as here and as on a Raspberry Pi 4."""
    progressive = times['milliseconds']['progressive_jpeg']
    result: dict[str, dict] = {}
    for title, on_pi in ((HERE, False), (ON_PI, True)):
        result[title] = {}
        for one in series:
            here = times['milliseconds'][
                'encode_1024' if one.codec is None else f'encode with {one.codec.name}'
            ]
            ready = pi_milliseconds(one.codec, here, progressive) if on_pi else here
            steps = one.codec is not None and one.codec.slug == 'recurrent'
            if steps and not on_pi:
                ready /= max(1, max(len(row) for row in one.plans[0].packets))
            streams = one.codec is None or one.codec.streams
            sender = Sender(one.name, one.plans, partial(_ready_after, ready, steps), streams)
            result[title][one.name] = deadline_cells(sender)
    return result


def exact_sizes(codec: ReferenceCodec) -> tuple[int, ...]:
    """Return the largest sizes that arrive by a deadline over a link of constant rate.

    Only for the codecs that are best at their size, those that may downscale, and only up to
    EXACT_LIMIT; beyond it and for the others the sizes of the table are dense enough.
    """
    if not isinstance(codec, BestQuality) or not codec.downscale:
        return ()
    ready = sending_milliseconds(codec)
    return tuple(size for size in budgets(ready, STREAM_BYTES) if size <= EXACT_LIMIT)


def bench_codec(
    models: Path,
    data: Path | None,
    out: Path,
    images: int,
    sizes: Sequence[int] = SIZES,
    references: Path | None = None,
    jobs: int = 1,
    only: Sequence[str] = (),
    packet_sizes: Sequence[int] = PACKET_SIZES,
    deadlines: bool = True,
) -> dict:
    """Measure everything and write codec.json, codec.md and codec.png.

    Args:
        models: The model folder.
        data: Folder of labelled images; None renders items of the cell.
        out: The folder to write; what it keeps of an earlier run is not measured again.
        images: Most images to measure on.
        sizes: Byte budgets of the table.
        references: Folder of trained references; None or an empty one leaves them out.
        jobs: Processes that encode, and threads that classify.
        only: Slugs of the references to measure, all if empty.
        packet_sizes: Among which a stream that can be cut anywhere chooses under a deadline.
        deadlines: Whether to measure under deadlines too.

    Returns:
        What codec.json holds.

    Raises:
        ConfigError: If models, images and references do not belong together.
    """
    out.mkdir(parents=True, exist_ok=True)
    folder = ModelFolder(models)
    test = load_test(data, folder, images)
    trained = load_references(references, folder)
    everything = [*image_codecs(), *(trained_codecs(trained, jobs) if trained else ())]
    unknown = set(only) - {codec.slug for codec in everything}
    if unknown:
        raise ConfigError(
            f'--only {" ".join(sorted(unknown))}: choose among '
            f'{" ".join(codec.slug for codec in everything)}'
        )
    codecs = [codec for codec in everything if not only or codec.slug in only]
    missing = missing_references(trained, everything, references)
    for line in missing:
        _progress(line)
    fixed = [classifier_row('strong, original image', folder.path('strong'), test)]
    if 'weak' in folder.roles:
        fixed.append(classifier_row('weak, original image', folder.path('weak'), test))
    for row in fixed:
        _show(row)
    cache = BenchCache(out / 'cache', test.images, jobs)
    used_packets = packet_sizes if deadlines else ()
    own = OwnCodec(folder, test.images, out / 'cache', jobs)
    series = own_series(own, test, sizes, used_packets, _show)
    lost = [
        Row(**row)
        for row in kept_json(
            own.folder / 'loss.json',
            lambda: [asdict(row) for row in loss_rows(folder, test, show=_show)],
        )
    ]
    slugs = '-'.join(codec.slug for codec in codecs)
    times = kept_json(
        own.folder / f'times-{hashlib.sha256(slugs.encode()).hexdigest()[:8]}.json',
        lambda: _time_all(folder, models, codecs, test.images[:TIMED]),
    )
    for codec in codecs:
        series += reference_series(
            codec,
            cache,
            test,
            readers(folder, trained, codec, jobs),
            sizes,
            exact_sizes(codec) if deadlines else (),
            used_packets,
            _progress,
            _show,
        )
    compared = differences(series, sizes)
    found = findings(folder.name, series, compared, fixed[0], fixed[1] if len(fixed) > 1 else None)
    cells = _deadlines(series, times) if deadlines else {}
    for title, by_codec in cells.items():
        for ours in (OURS, OURS_WITH_SIDE) if OURS_WITH_SIDE in by_codec else (OURS,):
            found += deadline_findings(by_codec, ours, title)
    found += time_findings(times) + loss_findings(lost)
    title = f'{folder.name}, {len(test.classes)} images'
    result = {
        'models': folder.name,
        'images': len(test.classes),
        'originals': [asdict(row) for row in fixed],
        'codecs': [asdict(row) for one in series for row in one.rows],
        'kinds': {one.name: one.kind for one in series},
        'differences': [asdict(one) for one in compared],
        'packet_loss': [asdict(row) for row in lost],
        'findings': [asdict(one) for one in found],
        'deadlines': {
            name: [asdict(cell) for by_key in by_codec.values() for cell, _ in by_key.values()]
            for name, by_codec in cells.items()
        },
        **times,
        'missing': missing,
    }
    (out / 'codec.json').write_text(json.dumps(result, indent=1) + '\n', encoding='utf-8')
    page = report(title, fixed, series, sizes, compared, lost, found, cells, times, missing)
    (out / 'codec.md').write_text(page, encoding='utf-8')
    curves = [Curve(one.slug, one.kind, one.rows) for one in series]
    draw_accuracy(curves, fixed, title, out / 'codec.png')
    if len(folder.labels) > 10:
        draw_accuracy(curves, fixed, title, out / 'codec_top5.png', top5=True)
    if cells:
        draw_deadlines(curves, cells[HERE], title, out / 'codec_deadlines.png')
    _progress(page.split('## Accuracy')[0])
    return result


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse the command line and measure."""
    parser = argparse.ArgumentParser(
        prog='stl-conveyor bench codec', description=__doc__.strip().split('\n')[0]
    )
    parser.add_argument('--out', type=Path, required=True)
    parser.add_argument(
        '--data', type=Path, help='folder with test/ or validation/, or of INDEX_wnid_name.jpg'
    )
    parser.add_argument('--models', type=Path, help="model folder (default: the cell's items)")
    parser.add_argument(
        '--references',
        type=Path,
        help='folder of trained references (default: references/ beside the model folder)',
    )
    parser.add_argument('--images', type=int, default=600)
    parser.add_argument(
        '--jobs', type=int, default=1, help='processes that encode, threads that classify'
    )
    parser.add_argument(
        '--only', nargs='+', default=(), metavar='SLUG', help='references to measure'
    )
    options = parser.parse_args(arguments)
    models = options.models or Path(share_path('models/items'))

    def work() -> None:
        bench_codec(
            models,
            options.data,
            options.out,
            options.images,
            references=options.references or models.parent / 'references',
            jobs=options.jobs,
            only=options.only,
        )

    return exit_code('bench-codec', work)


if __name__ == '__main__':
    sys.exit(main())
