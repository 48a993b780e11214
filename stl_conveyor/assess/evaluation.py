# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Evaluate a model folder on labelled images: what `stl-conveyor evaluate` does.

Written are OUT/evaluation.md, evaluation.json, items.csv and pictures: accuracy against bytes with
and without the local answer, confusion of the weak, the strong and the edge model, reliability,
what offloading buys at several rates of the token bucket, time per stage. Bytes are those of real
packets with all headers. The rates are played by the policies of the node, on the outcomes that
were measured here, each offload for a whole token (the cell gives back what a stream leaves
over).
"""

from __future__ import annotations

import csv
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from stl_conveyor.assess.cell_evaluation import cell_decider, cell_page, evaluate_cell
from stl_conveyor.assess.intervals import wilson
from stl_conveyor.assess.network_gain import RESCALED_WEBP_NAME, answers_to_webp, gain_lines
from stl_conveyor.assess.plotting import file_pyplot
from stl_conveyor.assess.received import BATCH, receive
from stl_conveyor.assess.reliability import expected_calibration_error, reliability
from stl_conveyor.assess.scoring import finite
from stl_conveyor.cell.description import CellDescription
from stl_conveyor.codec import Decoder, DecoderSession, EncodedItem, Encoder
from stl_conveyor.errors import ConfigError
from stl_conveyor.models.classifier import Classifier
from stl_conveyor.models.model_folder import ModelFolder
from stl_conveyor.policy import RewardEstimator, make_policy
from stl_conveyor.policy.play import play
from stl_conveyor.resources import share_path, writing
from stl_conveyor.vision.image_folder import list_images, load_images, open_square, read_listing
from stl_conveyor.vision.image_inventory import left_out_lines, look_through

SIZES = (64, 128, 256, 512, 1024, 2048, 4096)
RATES = (
    Fraction(1, 20),
    Fraction(1, 10),
    Fraction(1, 5),
    Fraction(3, 10),
    Fraction(1, 2),
    Fraction(3, 4),
)
DEPTH = Fraction(4)
#: Items of each simulated run, about.
PLAYED = 6000
LABELS_IN_PICTURE = 60


@dataclass(frozen=True)
class TestImages:
    """Images u8[N, S, S, 3], classes i64[N], the files' names (or numbers), and the split."""

    __test__ = False  # for pytest

    images: np.ndarray
    classes: np.ndarray
    names: tuple[str, ...]
    split: str


@dataclass(frozen=True)
class Share:
    """A share of right answers with its 95 % interval."""

    accuracy: float
    low: float
    high: float

    @classmethod
    def of(cls, right: np.ndarray) -> Share:
        """Return that of bool[N] (Wilson)."""
        low, high = wilson(int(right.sum()), len(right))
        return cls(round(float(right.mean()), 4), round(low, 4), round(high, 4))

    def __str__(self) -> str:
        return f'{self.accuracy:.3f} [{self.low:.3f}, {self.high:.3f}]'


def load_test_images(
    data: Path,
    folder: ModelFolder,
    split: str | None = None,
    label_column: str | None = None,
    show: Callable[[str], None] = print,
) -> TestImages:
    """Return the images to evaluate on.

    Of a prepared folder (WORK/images of a training) its test split; of a folder of images its test
    split, else its validation split, else all; what training leaves out of a folder is left out
    here, too, and said.

    Raises:
        ConfigError: When the labels are not those of the models.
    """
    data = Path(data)
    if (data / 'dataset.json').exists():
        split = split or 'test'
        found = load_images(data, split, folder.labels, folder.image_size)
        if found is None:
            raise ConfigError(f'{data}: has no split {split!r}')
        about = json.loads((data / 'dataset.json').read_text(encoding='utf-8'))
        if (about['labels'], about['image_size']) != (list(folder.labels), folder.image_size):
            raise ConfigError(
                f'{data}: was prepared for other labels or another size than those '
                f'of {folder.name}; give images that belong to the models'
            )
        return TestImages(
            found.images, found.classes, tuple(str(k) for k in range(len(found.classes))), split
        )
    listing = list_images(data, label_column)
    if split is not None and split not in listing.splits:
        raise ConfigError(f'{data}: has no split {split!r}, only {", ".join(listing.splits)}')
    split = split or next(
        name for name in ('test', 'val', 'all', 'train') if name in listing.splits
    )
    unknown = sorted({label for _, label in listing.splits[split]} - set(folder.labels))
    if unknown:
        raise ConfigError(
            f'{data}: has images of {unknown[0]!r}, which {folder.name} does not know '
            f'({", ".join(folder.labels[:5])}, ...); give images and models that belong together'
        )
    read = read_listing(replace(listing, labels=tuple(folder.labels)), folder.image_size, (split,))
    for line in left_out_lines((*listing.left_out, *read.left_out), data):
        show(line)
    if not read.files[split]:
        raise ConfigError(f'{data}: no image of {split} can be read')
    return TestImages(
        read.found[split].images,
        read.found[split].classes,
        tuple(str(path.relative_to(data)) for path in read.files[split]),
        split,
    )


def load_unlabelled(
    data: Path, folder: ModelFolder, show: Callable[[str], None] = print
) -> np.ndarray:
    """Return the pictures below a folder, u8[N, S, S, 3], as the models take them.

    Raises:
        ConfigError: When there is none.
    """
    found = look_through(data)
    for line in left_out_lines(found.left_out, data):
        show(line)
    if not found.read:
        raise ConfigError(f'{data}: has no picture that can be read')
    return np.stack([open_square(path, folder.image_size) for path in found.read])


def play_offloading(
    estimator: RewardEstimator,
    estimates: np.ndarray,
    weak_right: np.ndarray,
    edge_right: np.ndarray,
    rates: Sequence[Fraction] = RATES,
    depth: Fraction = DEPTH,
    seed: int = 0,
) -> list[dict]:
    """Return what offloading buys, a row for each rate, from outcomes bool[N] and estimates [N].

    Each item appears equally often, in random order. `random` and `hindsight` (the best choice of
    as many items) are exact; intervals are over items (bootstrap).
    """
    rng = np.random.default_rng(seed)
    count = len(weak_right)
    gain = edge_right.astype(float) - weak_right
    rounds = max(1, round(PLAYED / count))
    order = np.concatenate([rng.permutation(count) for _ in range(rounds)])
    sequence = estimates[order].astype(np.float32)
    steady = np.ones(len(order), np.int16)
    resamples = rng.integers(0, count, (1000, count))
    network = share_path('models/policy/adaptive.onnx')
    rows = []
    for rate in rates:
        row: dict = {'rate': float(rate), 'depth': float(depth)}
        for name in ('mdp', 'adaptive'):
            policy = make_policy(
                name,
                rate=rate,
                depth=depth,
                rewards=estimator.distribution,
                model=str(network) if name == 'adaptive' else None,
            )
            decisions = play(sequence, steady, rate, depth, policy)
            often = np.bincount(order, weights=decisions, minlength=count) / rounds
            value = weak_right + often * gain
            low, high = np.quantile(value[resamples].mean(1), [0.025, 0.975])
            row[name] = asdict(
                Share(round(float(value.mean()), 4), round(float(low), 4), round(float(high), 4))
            )
            row[f'{name}_offloaded'] = round(float(decisions.mean()), 4)
        row['random'] = round(float((weak_right + min(1.0, float(rate)) * gain).mean()), 4)
        best = np.sort(gain)[::-1][: int(min(1.0, float(rate)) * count)]
        row['hindsight'] = round(float(weak_right.mean() + np.maximum(best, 0).sum() / count), 4)
        rows.append(row)
    return rows


def stage_times(folder: ModelFolder, images: np.ndarray, budget: int) -> dict[str, float]:
    """Return median milliseconds of each stage for one item, one thread."""
    weak, strong = (Classifier(folder.path(role)) for role in ('weak', 'strong'))
    encoder, decoder = Encoder(folder), Decoder(folder)
    times: dict[str, list[float]] = {}

    def timed(stage: str, call: Callable[[], Any]) -> Any:
        begun = time.perf_counter()
        result = call()
        times.setdefault(stage, []).append(1e3 * (time.perf_counter() - begun))
        return result

    def decode(item: EncodedItem) -> DecoderSession:
        session = decoder.start()
        for packet in item.packets:
            session.add(packet)
        return session

    for image in images:
        known = timed('weak classifier', lambda: weak.classify(image))
        item = timed('encode', lambda: encoder.encode(image, known, max_bytes=budget))
        session = timed('decode', lambda: decode(item))
        timed('edge classifier', lambda: decoder.classify([session]))
        timed('strong classifier', lambda: strong.classify(image))
    return {stage: round(float(np.median(values)), 2) for stage, values in times.items()}


def top_confusions(
    answers: np.ndarray, classes: np.ndarray, labels: Sequence[str], count: int = 10
) -> list[dict]:
    """Return the pairs (true class, answer) that occur most, wrong answers alone."""
    pairs, number = np.unique(
        np.stack([classes, answers])[:, classes != answers], axis=1, return_counts=True
    )
    return [
        {'true': labels[pairs[0, k]], 'answer': labels[pairs[1, k]], 'images': int(number[k])}
        for k in np.argsort(-number, kind='stable')[:count]
    ]


def evaluate(
    models: str | Path,
    data: str | Path,
    out: str | Path,
    budget: int = 512,
    split: str | None = None,
    label_column: str | None = None,
    sizes: Sequence[int] = SIZES,
    show: Callable[[str], None] = print,
    cell: CellDescription | None = None,
    strangers: str | Path | None = None,
) -> dict:
    """Evaluate a model folder and write everything to `out`.

    Args:
        models: The model folder.
        data: Labelled images, as `load_test_images` takes them.
        out: The folder to write.
        budget: Bytes of an offload, in the simulation and in the confusion of the edge.
        split: Of the images; None takes the test split or what stands in for it.
        label_column: Of a list of files; None takes label, class or the last one.
        sizes: Byte budgets of the curve.
        show: Is given each line of progress.
        cell: Whose lanes, costs and targets are evaluated as well.
        strangers: A folder of pictures of what belongs to no class.

    Returns:
        What evaluation.json holds; what was not counted is null.

    Raises:
        ConfigError: Naming what does not fit.
        ModelFileError: Naming what does not fit.
    """
    if strangers is not None and cell is None:
        raise ConfigError('strangers: are told by the decision of a cell; give --cell as well')
    out = Path(out)
    folder = ModelFolder(models)
    for role in ('weak', 'strong', 'encoder', 'edge', 'reward'):
        folder.path(role)
    decider = None if cell is None else cell_decider(folder, cell)
    test = load_test_images(Path(data), folder, split, label_column, show)
    foreign = None if strangers is None else load_unlabelled(Path(strangers), folder, show)
    out.mkdir(parents=True, exist_ok=True)
    show(f'{len(test.classes)} {test.split} images of {len(folder.labels)} classes')
    answers, doubts = {}, {}
    strong = Classifier(folder.path('strong'))
    for role, model in (('weak', Classifier(folder.path('weak'))), ('strong', strong)):
        batches = [
            model.classify_doubting(test.images[k : k + BATCH])
            for k in range(0, len(test.classes), BATCH)
        ]
        answers[role] = np.concatenate([first for first, _ in batches])
        posteriors = [second for _, second in batches if second is not None]
        doubts[role] = np.concatenate(posteriors) if posteriors else None
        show(f'{role:6s} {Share.of(answers[role].argmax(1) == test.classes)}')
    encoder, decoder = Encoder(folder), Decoder(folder)
    curve = []
    sizes = sorted({*sizes, budget})
    by_size: dict[bool, dict[int, np.ndarray]] = {False: {}, True: {}}
    for with_side in (False, True):
        for size in sizes:
            items = [
                encoder.encode(image, answers['weak'][k] if with_side else None, max_bytes=size)
                for k, image in enumerate(test.images)
            ]
            found, received = receive(decoder, items)
            by_size[with_side][size] = found.argmax(1) == test.classes
            share = Share.of(by_size[with_side][size])
            curve.append(
                {
                    'bytes': size,
                    'mean_bytes': round(received, 1),
                    'local_answer': with_side,
                    **asdict(share),
                    'calibration_error': round(expected_calibration_error(found, test.classes), 4),
                }
            )
            show(f'{size:5d} B {"with local answer" if with_side else "codec alone":17s} {share}')
            if with_side and size == budget:
                answers['edge'] = found
    webp = answers_to_webp(strong, test.images, test.classes, sizes)
    for size, sent in webp.items():
        show(f'{size:5d} B {RESCALED_WEBP_NAME:19s} {Share.of(sent.right)}')
    right = {role: found.argmax(1) == test.classes for role, found in answers.items()}
    gain = gain_lines(
        right['weak'],
        right['strong'],
        by_size[False],
        by_size[True],
        {size: sent.right for size, sent in webp.items()},
        budget,
    )
    for line in gain:
        show(line)
    estimator = RewardEstimator.load(folder.path('reward'))
    estimates = estimator.expected_rewards(answers['weak'], doubts['weak'])
    offloading = play_offloading(estimator, estimates, right['weak'], right['edge'])
    times = stage_times(folder, test.images[:40], budget)
    both = {
        'both right': right['weak'] & right['edge'],
        'only the edge right': ~right['weak'] & right['edge'],
        'only the weak model right': right['weak'] & ~right['edge'],
        'both wrong': ~right['weak'] & ~right['edge'],
    }
    result = {
        'models': folder.name,
        'labels': list(folder.labels),
        'split': test.split,
        'images': len(test.classes),
        'budget': budget,
        'accuracy': {role: asdict(Share.of(r)) for role, r in right.items()},
        'outcomes': {name: round(float(value.mean()), 4) for name, value in both.items()},
        'by_bytes': curve,
        'webp_by_bytes': [
            {
                'bytes': size,
                'mean_bytes': round(sent.mean_bytes, 1),
                **asdict(Share.of(sent.right)),
            }
            for size, sent in webp.items()
        ],
        'gain': gain,
        'calibration_error': {
            role: round(expected_calibration_error(found, test.classes), 4)
            for role, found in answers.items()
        },
        'confusions': {
            role: top_confusions(found.argmax(1), test.classes, folder.labels)
            for role, found in answers.items()
        },
        'by_class': {
            label: {
                'images': int((test.classes == k).sum()),
                **{
                    role: round(float(r[test.classes == k].mean()), 3) for role, r in right.items()
                },
            }
            for k, label in enumerate(folder.labels)
            if (test.classes == k).any()
        },
        'offloading': offloading,
        'milliseconds': times,
    }
    if decider is not None:
        result['cell'] = evaluate_cell(
            folder, decider, test.images, test.classes, out, budget, foreign, show
        )
    result = finite(result)
    with writing(out / 'evaluation.json'):
        (out / 'evaluation.json').write_text(json.dumps(result, indent=1) + '\n', encoding='utf-8')
    _write_items(out / 'items.csv', test, answers, folder.labels, estimates)
    _draw(out, result, answers, test)
    with writing(out / 'evaluation.md'):
        (out / 'evaluation.md').write_text(_page(result), encoding='utf-8')
    show(f'report: {out / "evaluation.md"}')
    return result


def _write_items(
    path: Path,
    test: TestImages,
    answers: dict[str, np.ndarray],
    labels: Sequence[str],
    estimates: np.ndarray,
) -> None:
    with writing(path), open(path, 'w', newline='', encoding='utf-8') as stream:
        writer = csv.writer(stream)
        writer.writerow(
            [
                'image',
                'class',
                *(f'{role}{part}' for role in answers for part in ('', '_score')),
                'expected_reward',
            ]
        )
        for k, name in enumerate(test.names):
            writer.writerow(
                [
                    name,
                    labels[test.classes[k]],
                    *(
                        value
                        for found in answers.values()
                        for value in (labels[found[k].argmax()], f'{found[k].max():.4f}')
                    ),
                    f'{estimates[k]:.4f}',
                ]
            )


def _page(result: dict) -> str:
    lines = [f'# {result["models"]} on {result["images"]} {result["split"]} images', '']
    if result['split'] in ('all', 'train'):
        lines += [
            '**These images were not set aside. If the models were trained on them, every '
            "accuracy below is too high; give the folder `images` of the training's work "
            'folder instead, which holds its test split.**',
            '',
        ]
    lines += [
        '| model | accuracy | 95 % interval | expected calibration error |',
        '|---|---|---|---|',
    ]
    names = {
        'weak': 'weak, on the device',
        'strong': 'strong, on the original image',
        'edge': f'edge, {result["budget"]} bytes and the local answer',
    }
    for role, name in names.items():
        share = Share(**result['accuracy'][role])
        lines.append(
            f'| {name} | {share.accuracy:.3f} | {share.low:.3f} - {share.high:.3f} '
            f'| {result["calibration_error"][role]:.3f} |'
        )
    lines += [
        '',
        'Weak model and edge: '
        + ', '.join(f'{name} {value:.3f}' for name, value in result['outcomes'].items())
        + '.',
        '',
        '## Accuracy against bytes',
        '',
        f'| bytes | codec alone | with the local answer | {RESCALED_WEBP_NAME} |',
        '|---|---|---|---|',
    ]
    cells = {
        (row['bytes'], row['local_answer']): Share(row['accuracy'], row['low'], row['high'])
        for row in result['by_bytes']
    }
    webp = {
        row['bytes']: Share(row['accuracy'], row['low'], row['high'])
        for row in result['webp_by_bytes']
    }
    lines += [
        f'| {size} | {cells[size, False]} | {cells[size, True]} | {webp[size]} |'
        for size in sorted({size for size, _ in cells})
    ]
    lines += [
        '',
        f'{RESCALED_WEBP_NAME}: plain files (effort 6, the best of eight scales and all '
        'qualities) that the strong model reads as it is; no file of that size counts as wrong.',
        '',
        *(f'* {line[0].upper()}{line[1:]}.' for line in result['gain']),
    ]
    depth = result['offloading'][0]['depth']
    lines += [
        '',
        '![Accuracy against bytes](accuracy_bytes.png)',
        '',
        '## What offloading buys',
        '',
        f'Token bucket of depth {depth:g}, one token ({result["budget"]} bytes) for each '
        'offload, items evenly spaced.',
        '',
        '| r | mdp | adaptive | offloaded | at random | hindsight |',
        '|---|---|---|---|---|---|',
    ]
    for row in result['offloading']:
        lines.append(
            f'| {row["rate"]:g} | {Share(**row["mdp"])} | {Share(**row["adaptive"])} '
            f'| {row["mdp_offloaded"]:.0%} | {row["random"]:.3f} '
            f'| {row["hindsight"]:.3f} |'
        )
    lines += ['', '![What offloading buys](offloading.png)', '', '## Confusion', '']
    for role in ('weak', 'strong', 'edge'):
        worst = '; '.join(
            f'{pair["true"]} taken for {pair["answer"]} ({pair["images"]})'
            for pair in result['confusions'][role][:5]
        )
        lines += [
            f'{names[role].capitalize()}: {worst or "no wrong answer"}.',
            '',
            f'![Confusion, {role}](confusion_{role}.png)',
            '',
        ]
    lines += ['| class | images | weak | edge | strong |', '|---|---|---|---|---|']
    lines += [
        f'| {label} | {row["images"]} | {row["weak"]:.2f} | {row["edge"]:.2f} '
        f'| {row["strong"]:.2f} |'
        for label, row in sorted(result['by_class'].items(), key=lambda pair: pair[1]['edge'])
    ]
    lines += [
        '',
        '## Mistakes',
        '',
        'The surest wrong answers of the strong model: look for wrong labels here first.',
        '',
        '![Surest mistakes](mistakes.png)',
        '',
        '## Reliability',
        '',
        '![Share right against score](reliability.png)',
        '',
        '## Time',
        '',
        '| stage, one item, one thread | ms |',
        '|---|---|',
        *(f'| {stage} | {value:.1f} |' for stage, value in result['milliseconds'].items()),
        *(cell_page(result['cell']) if 'cell' in result else ()),
        '',
    ]
    return '\n'.join(lines)


def _draw(out: Path, result: dict, answers: dict, test: TestImages) -> None:
    pyplot = file_pyplot()

    def save(figure: Any, name: str) -> None:
        figure.savefig(out / name, dpi=110, bbox_inches='tight')
        pyplot.close(figure)

    figure, axes = pyplot.subplots(figsize=(6.5, 4.2))
    for with_side, label in ((True, 'with the local answer'), (False, 'codec alone')):
        rows = [row for row in result['by_bytes'] if row['local_answer'] == with_side]
        x = [row['bytes'] for row in rows]
        axes.plot(x, [row['accuracy'] for row in rows], 'o-', label=label)
        axes.fill_between(
            x, [row['low'] for row in rows], [row['high'] for row in rows], alpha=0.15
        )
    rows = result['webp_by_bytes']
    axes.plot(
        [row['bytes'] for row in rows],
        [row['accuracy'] for row in rows],
        'x--',
        color='grey',
        label=RESCALED_WEBP_NAME,
    )
    for role, style in (('strong', '--'), ('weak', ':')):
        axes.axhline(
            result['accuracy'][role]['accuracy'],
            color='k',
            ls=style,
            lw=1,
            label=f'{role}, original image',
        )
    axes.set(xscale='log', xlabel='bytes, all headers included', ylabel='accuracy')
    ticks = sorted({row['bytes'] for row in result['by_bytes']})
    axes.set_xticks(ticks, [str(tick) for tick in ticks])
    axes.minorticks_off()
    axes.legend()
    save(figure, 'accuracy_bytes.png')

    figure, axes = pyplot.subplots(figsize=(6.5, 4.2))
    rows = result['offloading']
    rates = [row['rate'] for row in rows]
    for name in ('mdp', 'adaptive'):
        axes.plot(rates, [row[name]['accuracy'] for row in rows], 'o-', label=name)
    axes.fill_between(
        rates,
        [row['mdp']['low'] for row in rows],
        [row['mdp']['high'] for row in rows],
        alpha=0.15,
    )
    axes.plot(rates, [row['hindsight'] for row in rows], '--', color='k', lw=1, label='hindsight')
    axes.plot(rates, [row['random'] for row in rows], ':', color='k', lw=1, label='at random')
    axes.set(xlabel='tokens per item, r', ylabel='accuracy')
    axes.legend()
    save(figure, 'offloading.png')

    labels = result['labels']
    for role, found in answers.items():
        matrix = np.zeros((len(labels),) * 2)
        np.add.at(matrix, (test.classes, found.argmax(1)), 1)
        matrix /= np.maximum(matrix.sum(1, keepdims=True), 1)
        side = min(12, 3 + 0.25 * len(labels))
        figure, axes = pyplot.subplots(figsize=(side, side))
        axes.imshow(matrix, cmap='Blues', vmin=0, vmax=1)
        if len(labels) <= LABELS_IN_PICTURE:
            axes.set_xticks(range(len(labels)), labels, rotation=90, fontsize=7)
            axes.set_yticks(range(len(labels)), labels, fontsize=7)
        axes.set(xlabel='answer', ylabel='true class', title=f'{role}: share of each class')
        save(figure, f'confusion_{role}.png')

    figure, axes = pyplot.subplots(figsize=(4.5, 4.5))
    axes.plot([0, 1], [0, 1], color='k', lw=1)
    for role, found in answers.items():
        score, share, count = zip(*reliability(found, test.classes, 10))
        axes.plot(score, share, '-', lw=1, alpha=0.6)
        axes.scatter(
            score,
            share,
            s=np.clip(np.array(count) * 400 / len(test.classes), 4, 200),
            label=f'{role}, error {result["calibration_error"][role]:.3f}',
            alpha=0.7,
        )
    axes.set(xlabel='score of the first answer', ylabel='share right', xlim=(0, 1), ylim=(0, 1))
    axes.legend(markerscale=0.5)
    save(figure, 'reliability.png')

    found = answers['strong']
    wrong = np.flatnonzero(found.argmax(1) != test.classes)
    wrong = wrong[np.argsort(-found[wrong].max(1))][:12]
    lines = max(1, -(-len(wrong) // 6))
    figure, panels = pyplot.subplots(lines, 6, figsize=(13, 2.7 * lines))
    for panel in panels.ravel():
        panel.axis('off')
    if not len(wrong):
        figure.suptitle('no wrong answer')
    for panel, k in zip(panels.ravel(), wrong):
        panel.imshow(test.images[k])
        panel.set_title(
            f'{labels[test.classes[k]]}\ntaken for\n{labels[found[k].argmax()]} '
            f'{found[k].max():.2f}',
            fontsize=7,
        )
    save(figure, 'mistakes.png')
