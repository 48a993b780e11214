# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""
Measure accuracy against bytes of the codec and of the codecs to compare with.

    python -m stl_conveyor.bench.codec --out OUT [--data DIR] [--models DIR] [--images 300]

Writes OUT/codec.json, OUT/codec.md and OUT/codec.png. Bytes are those of real byte strings with
all headers. The reference codecs are read by the strong model as it is; what does not fit into a
size counts as a wrong answer. Without --data, items are rendered from seeds that no training uses.
"""
import argparse
from collections.abc import Sequence
from dataclasses import asdict, dataclass
import json
import math
from pathlib import Path
import sys
import time

import numpy as np

from stl_conveyor.codec import Decoder, EncodedItem, Encoder
from stl_conveyor.codec.reference import BestQuality, reference_codecs, ReferenceCodec
from stl_conveyor.errors import ConfigError, ConveyorError
from stl_conveyor.resources import share_path
from stl_conveyor.training.image_folder import LabelledImages, load_images
from stl_conveyor.vision.classifier import Classifier
from stl_conveyor.vision.model_folder import ModelFolder

SIZES = (64, 128, 256, 384, 512, 768, 1024, 1536, 2048, 3072, 4096)
OURS, OURS_WITH_SIDE = 'this codec', 'this codec, with local answer'
BATCH = 32
#: First of the seeds of rendered test items.
TEST_SEED = 3_500_000


@dataclass(frozen=True)
class Row:
    """Accuracy of one codec at one size."""

    codec: str
    budget: int
    mean_bytes: float
    accuracy: float
    low: float
    high: float
    top5: float
    overconfidence: float
    images: int


def wilson(right: int, count: int, z: float = 1.96) -> tuple[float, float]:
    """Return the 95 % score interval of a proportion (Wilson, JASA 1927)."""
    p, scale = right / count, 1 + z * z / count
    centre = p + z * z / (2 * count)
    half = z * math.sqrt(p * (1 - p) / count + z * z / (4 * count ** 2))
    return (centre - half) / scale, (centre + half) / scale


def score(codec: str, budget: int, mean_bytes: float, probabilities: np.ndarray,
          classes: np.ndarray) -> Row:
    """Return the row of answers f32[N, C]; a row of NaN is no answer."""
    known = np.nan_to_num(probabilities, nan=-1.)
    right = (known.argmax(1) == classes) & (known.max(1) >= 0)
    top = np.argsort(-known, 1)[:, :5]
    top5 = (top == classes[:, None]).any(1) & (known.max(1) >= 0)
    low, high = wilson(int(right.sum()), len(right))
    sure = np.maximum(known.max(1), 0)
    return Row(codec, budget, round(float(mean_bytes), 1), round(float(right.mean()), 4),
               round(low, 4), round(high, 4), round(float(top5.mean()), 4),
               round(float((sure - right).mean()), 4), len(right))


def receive(decoder: Decoder, items: Sequence[EncodedItem],
            arrives: 'Sequence[Sequence[bool]] | None' = None) -> tuple[np.ndarray, float]:
    """Return the decoder's answers f32[N, C] and the mean of the bytes that arrived."""
    answers, received = [], []
    for at in range(0, len(items), BATCH):
        sessions = []
        for number, item in enumerate(items[at:at + BATCH], at):
            session = decoder.start()
            for k, packet in enumerate(item.packets):
                if arrives is None or arrives[number][k]:
                    session.add(packet)
            received.append(session.bytes_received)
            sessions.append(session)
        answers.append(decoder.classify(sessions))
    return np.concatenate(answers), float(np.mean(received))


def codec_rows(folder: ModelFolder, test: LabelledImages, sizes: Sequence[int] = SIZES,
               packet_bytes: int = 512, show=lambda row: None) -> list[Row]:
    """Measure the codec of a model folder, alone and with the local answer."""
    encoder, decoder = Encoder(folder), Decoder(folder)
    local = None
    if 'weak' in folder.roles:
        weak = Classifier(folder.path('weak'))
        local = [weak.classify(image) for image in test.images]
    rows = []
    for name, known in ((OURS, None), (OURS_WITH_SIDE, local)):
        if name == OURS_WITH_SIDE and local is None:
            continue
        for size in sizes:
            items = [encoder.encode(image, known[k] if known else None,
                                    packet_bytes=packet_bytes, max_bytes=size)
                     for k, image in enumerate(test.images)]
            answers, received = receive(decoder, items)
            rows.append(score(name, size, received, answers, test.classes))
            show(rows[-1])
    return rows


def loss_rows(folder: ModelFolder, test: LabelledImages, rates: Sequence[float] = (.1, .3),
              max_bytes: int = 1024, packet_bytes: int = 128, seed: int = 0,
              show=lambda row: None) -> list[Row]:
    """
    Measure what random packet loss costs.

    For each rate three rows: with the loss; with the loss, but the first packet sent twice; and
    a prefix of as many bytes as arrived in the first case on average.
    """
    encoder, decoder = Encoder(folder), Decoder(folder)
    rng = np.random.default_rng(seed)
    items = [encoder.encode(image, packet_bytes=packet_bytes, max_bytes=max_bytes)
             for image in test.images]
    rows = []
    for rate in rates:
        arrives = [rng.random(len(item.packets)) >= rate for item in items]
        again = rng.random(len(items)) >= rate
        protected = [np.concatenate([[one[0] or second], one[1:]])
                     for one, second in zip(arrives, again)]
        answers, received = receive(decoder, items, arrives)
        rows.append(score(f'{rate:.0%} of packets lost', max_bytes, received, answers,
                          test.classes))
        answers, more = receive(decoder, items, protected)
        rows.append(score(f'{rate:.0%} of packets lost, the first sent twice', max_bytes, more,
                          answers, test.classes))
        size = round(received)
        prefix = [encoder.encode(image, packet_bytes=packet_bytes, max_bytes=size)
                  for image in test.images]
        answers, received = receive(decoder, prefix)
        rows.append(score('prefix of that size', size, received, answers, test.classes))
        for row in rows[-3:]:
            show(row)
    return rows


def reference_rows(strong: Classifier, codec: ReferenceCodec, test: LabelledImages,
                   sizes: Sequence[int] = SIZES, show=lambda row: None) -> list[Row]:
    """Measure a reference codec, read by the strong model."""
    rows = []
    side = test.images.shape[1]
    for size in sizes:
        answers = np.full((len(test.classes), strong.labels), np.nan, np.float32)
        spent, pixels, fits = [], [], []
        for number, image in enumerate(test.images):
            data = codec.encode(image, size)
            if data is not None:
                spent.append(len(data))
                pixels.append(codec.decode(data, side))
                fits.append(number)
        for at in range(0, len(fits), BATCH):
            answers[fits[at:at + BATCH]] = strong.classify_batch(
                np.stack(pixels[at:at + BATCH]))
        rows.append(score(codec.name, size, np.mean(spent) if spent else 0, answers,
                          test.classes))
        show(rows[-1])
    return rows


def classifier_row(name: str, path: Path, test: LabelledImages) -> Row:
    """Return the accuracy of a classifier on the original images."""
    model = Classifier(path)
    answers = np.concatenate([model.classify_batch(test.images[k:k + BATCH])
                              for k in range(0, len(test.images), BATCH)])
    return score(name, 0, 0, answers, test.classes)


def measure_times(folder: ModelFolder, images: np.ndarray, runs: int = 3) -> dict:
    """
    Return median milliseconds of processor time, one thread.

    Of our encoder at three sizes, of decoding and of classifying; and of Pillow's progressive
    JPEG (quality 30) and WebP (method 4), one call each.
    """
    encoder, decoder = Encoder(folder), Decoder(folder)
    labels = len(folder.labels)
    known = np.full(labels, 1 / labels, np.float32)
    from PIL import Image

    def decode(item):
        session = decoder.start()
        for packet in item.packets:
            session.add(packet)
        return session

    items = [encoder.encode(image, known, max_bytes=1024) for image in images]
    sessions = [decode(item) for item in items]
    progressive, webp = BestQuality('JPEG', progressive=True), BestQuality('WEBP', method=4)
    work = {f'encode_{size}': (lambda k, size=size: encoder.encode(
        images[k], known, max_bytes=size)) for size in (256, 1024, 4096)}
    work['progressive_jpeg'] = lambda k: progressive.compress(Image.fromarray(images[k]), 30)
    work['webp_4'] = lambda k: webp.compress(Image.fromarray(images[k]), 30)
    work['decode_1024'] = lambda k: decode(items[k])
    work['classify'] = lambda k: decoder.classify([sessions[k]])
    work['classify_each_of_8'] = lambda k: decoder.classify([sessions[k]] * 8)
    result = {}
    for name, call in work.items():
        times = []
        for _ in range(runs):
            for k in range(len(images)):
                begun = time.process_time()
                call(k)
                times.append(1e3 * (time.process_time() - begun))
        result[name] = round(float(np.median(times)), 3)
    result['classify_each_of_8'] = round(result['classify_each_of_8'] / 8, 3)
    return result


def rendered_items(count: int) -> LabelledImages:
    """Render items of the cell from seeds that no training uses."""
    from stl_conveyor.cell.description import CellDescription
    from stl_conveyor.training.render import render_shard
    cell = CellDescription.load(share_path('config/cell.yaml'))
    found, seed = [], TEST_SEED
    while sum(len(part.labels) for part in found) < count:
        found.append(render_shard(cell, seed, min(64, max(16, count // 4))))
        seed += 1
    return LabelledImages(np.concatenate([part.pixels for part in found])[:count],
                          np.concatenate([part.labels for part in found])[:count])


def load_test(data: 'Path | None', folder: ModelFolder, count: int) -> LabelledImages:
    """
    Return up to `count` test images of a data folder, or rendered ones without it.

    Raises ConfigError when the folder has no test or validation split with these labels.
    """
    if data is None:
        return rendered_items(count)
    for split in ('test', 'validation', 'val'):
        found = load_images(data, split, folder.labels, folder.image_size)
        if found is not None:
            return found.sample(count, seed=1)
    raise ConfigError(f'{data} has no test or validation images of the labels of '
                      f'{folder.name}; give --data and --models that belong together')


def _table(rows: Sequence[Row], sizes: Sequence[int]) -> str:
    names = list(dict.fromkeys(row.codec for row in rows))
    lines = ['| bytes | ' + ' | '.join(names) + ' |', '|---' * (len(names) + 1) + '|']
    cells = {(row.codec, row.budget): f'{row.accuracy:.3f}' for row in rows}
    lines += [f'| {size} | ' + ' | '.join(cells.get((name, size), '') for name in names) + ' |'
              for size in sizes]
    return '\n'.join(lines)


def _draw(rows: Sequence[Row], fixed: Sequence[Row], path: Path) -> None:
    import matplotlib
    matplotlib.use('Agg')
    from matplotlib import pyplot
    figure, axes = pyplot.subplots(figsize=(8, 5))
    for name in dict.fromkeys(row.codec for row in rows):
        part = [row for row in rows if row.codec == name]
        ours = name in (OURS, OURS_WITH_SIDE)
        axes.plot([row.budget for row in part], [row.accuracy for row in part],
                  'o-' if ours else '.--', label=name, lw=2 if ours else 1)
        if ours:
            axes.fill_between([row.budget for row in part], [row.low for row in part],
                              [row.high for row in part], alpha=.15)
    for row, style in zip(fixed, (':', '-.')):
        axes.axhline(row.accuracy, color='k', ls=style, lw=1, label=row.codec)
    axes.set(xscale='log', xlabel='bytes, all headers included', ylabel='accuracy', ylim=(0, 1))
    axes.legend(fontsize=7)
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    pyplot.close(figure)


def bench_codec(models: Path, data: 'Path | None', out: Path, images: int,
                sizes: Sequence[int] = SIZES) -> dict:
    """Measure everything and write codec.json, codec.md and codec.png; returns the JSON."""
    out.mkdir(parents=True, exist_ok=True)
    folder = ModelFolder(models)
    test = load_test(data, folder, images)

    def show(row: Row) -> None:
        print(f'{row.codec:36s} {row.budget:5d} B  {row.accuracy:.3f} '
              f'[{row.low:.3f}, {row.high:.3f}]', flush=True)

    fixed = [classifier_row('strong, original image', folder.path('strong'), test),
             classifier_row('weak, original image', folder.path('weak'), test)]
    for row in fixed:
        show(row)
    rows = codec_rows(folder, test, sizes, show=show)
    lost = loss_rows(folder, test, show=show)
    strong = Classifier(folder.path('strong'))
    for codec in reference_codecs():
        rows += reference_rows(strong, codec, test, sizes, show)
    times = measure_times(folder, test.images[:20])
    result = {'models': folder.name, 'images': len(test.classes),
              'originals': [asdict(row) for row in fixed], 'codecs': [asdict(row) for row in rows],
              'packet_loss': [asdict(row) for row in lost], 'milliseconds': times}
    (out / 'codec.json').write_text(json.dumps(result, indent=1) + '\n', encoding='utf-8')
    lines = [f'# Accuracy against bytes: {folder.name}, {len(test.classes)} images', '',
             *(f'* {row.codec}: {row.accuracy:.3f} [{row.low:.3f}, {row.high:.3f}]'
               for row in fixed), '', _table(rows, sizes), '', '| packets | bytes | accuracy |',
             '|---|---|---|',
             *(f'| {row.codec} | {row.mean_bytes:.0f} | {row.accuracy:.3f} |' for row in lost),
             '', '| processor time, one thread | ms |', '|---|---|',
             *(f'| {name} | {value:.2f} |' for name, value in times.items())]
    (out / 'codec.md').write_text('\n'.join(lines) + '\n', encoding='utf-8')
    _draw(rows, fixed, out / 'codec.png')
    print('\n'.join(lines[2:]))
    return result


def main(arguments: 'Sequence[str] | None' = None) -> int:
    """Parse the command line and measure."""
    parser = argparse.ArgumentParser(description=__doc__.strip().split('\n')[0])
    parser.add_argument('--out', type=Path, required=True)
    parser.add_argument('--data', type=Path, help='folder with test/ or validation/')
    parser.add_argument('--models', type=Path, help='model folder (default: the cell\'s items)')
    parser.add_argument('--images', type=int, default=300)
    options = parser.parse_args(arguments)
    try:
        bench_codec(options.models or Path(share_path('models/items')), options.data,
                    options.out, options.images)
    except ConveyorError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == '__main__':
    sys.exit(main())
