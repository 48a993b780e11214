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
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from stl_conveyor.assess.cell_evaluation import cell_decider, evaluate_cell
from stl_conveyor.assess.evaluation_images import TestImages, load_test_images, load_unlabelled
from stl_conveyor.assess.evaluation_page import evaluation_page
from stl_conveyor.assess.evaluation_pictures import draw_pictures
from stl_conveyor.assess.intervals import Share
from stl_conveyor.assess.network_gain import RESCALED_WEBP_NAME, answers_to_webp, gain_lines
from stl_conveyor.assess.received import BATCH, receive
from stl_conveyor.assess.reliability import expected_calibration_error
from stl_conveyor.assess.scoring import finite
from stl_conveyor.cell.description import CellDescription
from stl_conveyor.codec import Decoder, DecoderSession, EncodedItem, Encoder
from stl_conveyor.errors import ConfigError
from stl_conveyor.models.classifier import Classifier
from stl_conveyor.models.model_folder import ModelFolder
from stl_conveyor.policy import RewardEstimator, make_policy
from stl_conveyor.policy.play import play
from stl_conveyor.resources import share_path, writing

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
    weak, strong = (Classifier(folder.path(role)) for role in ('weak', 'strong'))
    answers = {}
    answers['weak'], doubts = _answers_to_originals('weak', weak, test, show)
    answers['strong'], _ = _answers_to_originals('strong', strong, test, show)
    sizes = sorted({*sizes, budget})
    curve = _answers_to_streams(folder, test, answers['weak'], sizes, budget, show)
    answers['edge'] = curve.answers
    webp = answers_to_webp(strong, test.images, test.classes, sizes)
    for size, sent in webp.items():
        show(f'{size:5d} B {RESCALED_WEBP_NAME:19s} {Share.of(sent.right)}')
    right = {role: found.argmax(1) == test.classes for role, found in answers.items()}
    gain = gain_lines(
        right['weak'],
        right['strong'],
        curve.right[False],
        curve.right[True],
        {size: sent.right for size, sent in webp.items()},
        budget,
    )
    for line in gain:
        show(line)
    estimator = RewardEstimator.load(folder.path('reward'))
    estimates = estimator.expected_rewards(answers['weak'], doubts)
    result = {
        'models': folder.name,
        'labels': list(folder.labels),
        'split': test.split,
        'images': len(test.classes),
        'budget': budget,
        'accuracy': {role: asdict(Share.of(r)) for role, r in right.items()},
        'outcomes': _outcomes(right['weak'], right['edge']),
        'by_bytes': curve.rows,
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
        'by_class': _by_class(test.classes, folder.labels, right),
        'offloading': play_offloading(estimator, estimates, right['weak'], right['edge']),
        'milliseconds': stage_times(folder, test.images[:40], budget),
    }
    if decider is not None:
        result['cell'] = evaluate_cell(
            folder, decider, test.images, test.classes, out, budget, foreign, show
        )
    result = finite(result)
    with writing(out / 'evaluation.json'):
        (out / 'evaluation.json').write_text(json.dumps(result, indent=1) + '\n', encoding='utf-8')
    _write_items(out / 'items.csv', test, answers, folder.labels, estimates)
    draw_pictures(out, result, answers, test)
    with writing(out / 'evaluation.md'):
        (out / 'evaluation.md').write_text(evaluation_page(result), encoding='utf-8')
    show(f'report: {out / "evaluation.md"}')
    return result


def _answers_to_originals(
    role: str, model: Classifier, test: TestImages, show: Callable[[str], None]
) -> tuple[np.ndarray, np.ndarray | None]:
    """Return a model's probabilities and, if it has them, its posteriors, float [N, C]."""
    batches = [
        model.classify_doubting(test.images[k : k + BATCH])
        for k in range(0, len(test.classes), BATCH)
    ]
    answers = np.concatenate([first for first, _ in batches])
    posteriors = [second for _, second in batches if second is not None]
    show(f'{role:6s} {Share.of(answers.argmax(1) == test.classes)}')
    return answers, np.concatenate(posteriors) if posteriors else None


@dataclass(frozen=True)
class _Curve:
    """What the edge answers to streams of each size.

    Attributes:
        rows: Of evaluation.json.
        right: Whether it has the local answer → bytes → whether it is right, bool [N].
        answers: Its probabilities at the budget, with the local answer, float [N, C].
    """

    rows: list[dict[str, Any]]
    right: dict[bool, dict[int, np.ndarray]]
    answers: np.ndarray


def _answers_to_streams(
    folder: ModelFolder,
    test: TestImages,
    local: np.ndarray,
    sizes: Sequence[int],
    budget: int,
    show: Callable[[str], None],
) -> _Curve:
    """Send the images at each size, of which one is the budget, without and with `local`."""
    encoder, decoder = Encoder(folder), Decoder(folder)
    rows = []
    right: dict[bool, dict[int, np.ndarray]] = {False: {}, True: {}}
    for with_side in (False, True):
        for size in sizes:
            items = [
                encoder.encode(image, local[k] if with_side else None, max_bytes=size)
                for k, image in enumerate(test.images)
            ]
            found, received = receive(decoder, items)
            right[with_side][size] = found.argmax(1) == test.classes
            share = Share.of(right[with_side][size])
            rows.append(
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
                answers = found
    return _Curve(rows, right, answers)


def _outcomes(weak: np.ndarray, edge: np.ndarray) -> dict[str, float]:
    """Return the shares of items by which of the two is right, bool [N] each."""
    both = {
        'both right': weak & edge,
        'only the edge right': ~weak & edge,
        'only the weak model right': weak & ~edge,
        'both wrong': ~weak & ~edge,
    }
    return {name: round(float(value.mean()), 4) for name, value in both.items()}


def _by_class(
    classes: np.ndarray, labels: Sequence[str], right: dict[str, np.ndarray]
) -> dict[str, dict[str, float]]:
    """Return label → how many images there are, and which share of them each role has right."""
    return {
        label: {
            'images': int((classes == k).sum()),
            **{role: round(float(r[classes == k].mean()), 3) for role, r in right.items()},
        }
        for k, label in enumerate(labels)
        if (classes == k).any()
    }


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
