# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
r"""Tune a classifier on the output of a codec to compare with, by the recipe of ours.

    python -m stl_conveyor_lab.train.references.tune --codec webp_6_may_downscale --data FOLDER \\
        --models FOLDER --work FOLDER --references FOLDER

Training images are augmented first, and some are mixed with another, then encoded at a size drawn
as ours are, then decoded: the strong classifier is fine-tuned on them with cross-entropy and
distillation from itself on the augmented original, as ours is. What was encoded is kept under
--work; training goes on from its last checkpoint. To encode thousands of images in minutes a
codec that may downscale has one scale per size here, the best of a sample, and every third
quality; the benchmark itself searches both for every image.
"""

from __future__ import annotations

import math
import multiprocessing
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional

from stl_conveyor.assess.fitted_file import SCALES, shrink
from stl_conveyor.models.classifier import Classifier
from stl_conveyor.models.model_folder import ModelFolder
from stl_conveyor.vision.image_folder import LabelledImages
from stl_conveyor_lab.data.arrays import save_arrays
from stl_conveyor_lab.measure.cache import BenchCache
from stl_conveyor_lab.measure.scores import right_answers
from stl_conveyor_lab.references import ReferenceCodec, find_codec
from stl_conveyor_lab.references.image_files import BestQuality
from stl_conveyor_lab.train.augment import AUGMENT, mixed_with
from stl_conveyor_lab.train.averaging import blend
from stl_conveyor_lab.train.codec.prefixes import draw_lengths
from stl_conveyor_lab.train.codec.training import loss_with_teacher, rate_factor
from stl_conveyor_lab.train.lite0 import FoldedTrunk, channels_last, load_strong, normalised
from stl_conveyor_lab.train.manifest import register_model, write_card
from stl_conveyor_lab.train.onnx_export import export_onnx
from stl_conveyor_lab.train.processor import set_up_processor
from stl_conveyor_lab.train.recipe_options import recipe_of
from stl_conveyor_lab.train.references.options import add_teacher, reference_parser, strong_path
from stl_conveyor_lab.train.splits import training_and_validation
from stl_conveyor_lab.train.temperature import scaling_temperature
from stl_conveyor_lab.train.timed_run import TimedRun

#: Sizes at which the best scale is sought; between them the nearest counts.
SCALE_SIZES = (64, 96, 128, 192, 256, 384, 512, 768, 1024, 1536, 2048, 3072, 4096)
SCALE_SAMPLE = 24
CARD_SIZES = (128, 512, 2048)


@dataclass(frozen=True)
class TuningRecipe:
    """Everything that decides what comes out, apart from the data."""

    seed: int = 7
    variants: int = 5  # augmented copies of each training image, one size each
    shortest: float = 56.0
    longest: float = 4096.0
    minutes: float = 8.0  # of training
    lengthen: float = 0.7  # 1: sizes are drawn log-uniformly; less: more of the long ones
    late_share: float = 0.0  # part of the time with the early blocks frozen
    batch: int = 48
    rate: float = 1.5e-4
    smoothing: float = 0.05
    distil: float = 2.0
    feature: float = 1.0
    average: float = 0.99
    mixed: float = 0.0  # part of the copies that are mixed with another, for the teacher alone
    strong_share: float = 0.2  # of the strong classifier's own weights in the end
    mirror: int = 1  # 1: answer with the mean over the image and its mirror image


def best_scales(codec: BestQuality, images: np.ndarray) -> dict[int, float]:
    """Return {size: the scale with the least mean squared error} over a sample u8[N, S, S, 3]."""
    errors = np.full((len(SCALE_SIZES), len(SCALES), len(images)), np.inf)
    for number, image in enumerate(images):
        whole = Image.fromarray(image)
        for at, scale in enumerate(SCALES):
            picture = shrink(whole, scale)
            files: dict[int, bytes] = {}
            for k, size in enumerate(SCALE_SIZES):
                data = codec.fit(picture, size, files)
                if data is not None:
                    made = codec.decode(data, len(image)).astype(np.float32)
                    errors[k, at, number] = np.square(made - image).mean()
    unusable = ~np.isfinite(errors)
    errors[unusable] = 1e5
    return {size: SCALES[int(errors[k].mean(1).argmin())] for k, size in enumerate(SCALE_SIZES)}


def quick_encode(
    codec: BestQuality, image: np.ndarray, size: int, scales: Mapping[int, float]
) -> bytes | None:
    """Return the file of an image at the usual scale for the size, or a smaller one; or None."""
    first = SCALES.index(scales[min(scales, key=lambda known: abs(math.log(known / size)))])
    whole = Image.fromarray(image)
    for scale in SCALES[first:]:
        picture = shrink(whole, scale)
        low, high, best = 0, 31, None
        while low <= high:
            middle = (low + high) // 2
            data = codec.compress(picture, 1 + 3 * middle)
            if len(data) <= size:
                best, low = data, middle + 1
            else:
                high = middle - 1
        if best is not None:
            return best
    return None


def partner(
    images: np.ndarray, variant: int, number: int, recipe: TuningRecipe
) -> np.ndarray | None:
    """Return the image that one copy of a training image is mixed with, always the same, or None.

    A copy that is mixed shows two images, and so has no class.
    """
    rng = np.random.default_rng([recipe.seed, variant, number, 1])
    if rng.random() >= recipe.mixed:
        return None
    return images[(number + int(rng.integers(1, max(2, len(images))))) % len(images)]


def drawn(
    image: np.ndarray,
    other: np.ndarray | None,
    variant: int,
    number: int,
    recipe: TuningRecipe,
    augment: str,
) -> tuple[np.ndarray, int]:
    """Return (augmented image, size) of one copy of a training image, always the same.

    `other` is its partner, with which it is mixed.
    """
    rng = np.random.default_rng([recipe.seed, variant, number])
    (size,) = draw_lengths(rng, 1, recipe)
    copy = AUGMENT[augment](image[None], rng)
    if other is not None:
        copy = mixed_with(copy, AUGMENT[augment](other[None], rng), rng)
    return copy[0], int(size)


def _encode_some(
    codec: ReferenceCodec,
    images: np.ndarray,
    others: Sequence[np.ndarray | None],
    numbers: Sequence[int],
    variant: int,
    recipe: TuningRecipe,
    augment: str,
    scales: Mapping[int, float] | None,
) -> list[bytes]:
    found = []
    for image, other, number in zip(images, others, numbers):
        copy, size = drawn(image, other, variant, number, recipe, augment)
        if isinstance(codec, BestQuality) and scales is not None:
            found.append(quick_encode(codec, copy, size, scales) or b'')
        else:
            found.append(codec.encode(copy, size) or b'')
    return found


def encoded_copies(
    codec: ReferenceCodec,
    images: np.ndarray,
    recipe: TuningRecipe,
    augment: str,
    work: Path,
    jobs: int,
) -> list[list[bytes]]:
    """Return byte strings `[variants][N]`, empty where nothing fits; kept under `work`."""
    mixed = f'-mixed-{recipe.mixed:g}' if recipe.mixed else ''
    paths = [
        Path(work) / f'{codec.key}{mixed}-{variant}.npz' for variant in range(recipe.variants)
    ]
    scales = None
    if (
        isinstance(codec, BestQuality)
        and codec.downscale
        and not all(path.exists() for path in paths)
    ):
        pick = np.random.default_rng(recipe.seed).permutation(len(images))[:SCALE_SAMPLE]
        scales = best_scales(codec, images[pick])
        print('best scales:', scales, flush=True)
    result, step = [], 256
    pool = (
        ProcessPoolExecutor(jobs, multiprocessing.get_context('spawn'))
        if jobs > 1 and codec.parallel
        else None
    )
    for variant, path in enumerate(paths):
        if path.exists():
            saved = np.load(path)
            ends = np.cumsum(saved['lengths'])
            blob = saved['blob'].tobytes()
            result.append(
                [blob[end - length : end] for end, length in zip(ends, saved['lengths'])]
            )
            continue
        numbers = range(len(images))
        tasks = [
            (
                codec,
                images[at : at + step],
                [partner(images, variant, k, recipe) for k in numbers[at : at + step]],
                numbers[at : at + step],
                variant,
                recipe,
                augment,
                scales,
            )
            for at in range(0, len(images), step)
        ]
        parts = (
            pool.map(_encode_some, *zip(*tasks))
            if pool
            else (_encode_some(*task) for task in tasks)
        )
        found = []
        for part in parts:
            found += part
            print(
                f'encoded copy {variant + 1}/{recipe.variants}: {len(found)}/{len(images)}',
                flush=True,
            )
        save_arrays(
            path,
            lengths=np.array([len(data) for data in found]),
            blob=np.frombuffer(b''.join(found), np.uint8),
        )
        result.append(found)
    if pool:
        pool.shutdown()
    return result


def tune(
    trunk: FoldedTrunk,
    strong: FoldedTrunk,
    codec: ReferenceCodec,
    train: LabelledImages,
    copies: Sequence[Sequence[bytes]],
    recipe: TuningRecipe,
    augment: str,
    checkpoint: Path,
) -> tuple[FoldedTrunk, TimedRun]:
    """Fine-tune `trunk` on decoded copies; returns (its running average, the finished run)."""
    size = train.images.shape[1]
    where = [
        (variant, number)
        for variant, found in enumerate(copies)
        for number, data in enumerate(found)
        if data
    ]
    print(f'{len(where)} copies of {len(train.classes)} images', flush=True)
    average = torch.optim.swa_utils.AveragedModel(
        trunk, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(recipe.average)
    )
    optimiser = torch.optim.AdamW(trunk.parameters(), lr=recipe.rate, weight_decay=1e-4)
    optimiser.register_step_post_hook(lambda *_: average.update_parameters(trunk))
    run = TimedRun(
        checkpoint,
        {'trunk': trunk, 'average': average},
        optimiser,
        recipe.minutes,
        recipe.seed,
        rate_factor,
        clip=2.0,
    )
    order = np.random.default_rng(recipe.seed + 2).permutation(len(where))
    while run.goes_on():
        picked = [
            where[k]
            for k in np.take(
                order, range(run.step * recipe.batch, (run.step + 1) * recipe.batch), mode='wrap'
            )
        ]
        others = [partner(train.images, v, k, recipe) for v, k in picked]
        originals = np.stack(
            [
                drawn(train.images[k], other, v, k, recipe, augment)[0]
                for (v, k), other in zip(picked, others)
            ]
        )
        decoded = np.stack([codec.decode(copies[v][k], size) for v, k in picked])
        flip = run.rng.random(len(picked)) < 0.5
        originals[flip], decoded[flip] = originals[flip, :, ::-1], decoded[flip, :, ::-1]
        of_a_class = np.array([other is None for other in others])
        classes = torch.from_numpy(train.classes[[k for _, k in picked]][of_a_class])
        with torch.no_grad():
            target, target_pooled = strong(normalised(torch.from_numpy(originals)))
        logits, pooled = trunk(
            normalised(torch.from_numpy(decoded)), None, run.done >= recipe.late_share
        )
        answers = logits[torch.from_numpy(of_a_class)]
        known = max(1, len(classes))  # of a small batch all may be mixed
        entropy = (
            functional.cross_entropy(
                answers, classes, label_smoothing=recipe.smoothing, reduction='sum'
            )
            / known
        )
        right = (answers.argmax(1) == classes).float().sum() / known
        loss = loss_with_teacher(entropy, logits, pooled, target, target_pooled, recipe)
        run.learn(loss, entropy=entropy, right=right)
    return cast(FoldedTrunk, average.module), run


class TunedClassifier(nn.Module):
    """The exported classifier: an image u8[N, S, S, 3] becomes probabilities."""

    def __init__(self, trunk: FoldedTrunk, temperature: float = 1.0, mirror: bool = False) -> None:
        super().__init__()
        self.trunk, self.temperature, self.mirror = trunk, float(temperature), bool(mirror)

    def logits(self, image: Tensor) -> Tensor:
        """Return logits f32[N, C], with `mirror` the mean over the image and its mirror image."""
        pixels = (image.permute(0, 3, 1, 2).float() - 127) / 128
        logits, _ = self.trunk(pixels)
        return (logits + self.trunk(pixels.flip(3))[0]) / 2 if self.mirror else logits

    def forward(self, image: Tensor) -> Tensor:
        """Return probabilities f32[N, C]."""
        return torch.softmax(self.logits(image) / self.temperature, 1)


def _decoded_validation(
    codec: ReferenceCodec, validation: LabelledImages, recipe: TuningRecipe, count: int = 256
) -> tuple[np.ndarray, np.ndarray]:
    """Return (decoded images, classes) of validation images at sizes drawn like the training's."""
    some, size = validation.sample(count, recipe.seed), validation.images.shape[1]
    rng = np.random.default_rng(recipe.seed + 3)
    images, classes = [], []
    for image, label in zip(some.images, some.classes):
        budget = int(draw_lengths(rng, 1, recipe)[0])
        data = codec.encode(image, budget)
        if data is not None:
            images.append(codec.decode(data, size))
            classes.append(label)
    return np.stack(images), np.array(classes)


def tune_reference(
    codec: ReferenceCodec,
    data: Path,
    strong_file: Path,
    work: Path,
    references: Path,
    folder: ModelFolder,
    recipe: TuningRecipe,
    augment: str = 'photos',
    jobs: int = 2,
) -> dict[str, Any]:
    """Run the whole recipe and enter `tuned_<codec>` into a reference folder."""
    work.mkdir(parents=True, exist_ok=True)
    references.mkdir(parents=True, exist_ok=True)
    labels, size = folder.labels, folder.image_size
    train, validation = training_and_validation(data, labels, size, recipe.seed)
    copies = encoded_copies(codec, train.images, recipe, augment, work, jobs)
    strong = load_strong(strong_file, len(labels), size).eval()
    channels_last(strong)
    trunk = channels_last(load_strong(strong_file, len(labels), size))
    trunk, run = tune(
        trunk, strong, codec, train, copies, recipe, augment, work / f'{codec.slug}.pt'
    )
    blend(trunk, strong, recipe.strong_share)
    images, classes = _decoded_validation(codec, validation, recipe)
    tuned = TunedClassifier(trunk, 1.0, bool(recipe.mirror)).eval()
    with torch.no_grad():
        logits = np.concatenate(
            [
                tuned.logits(torch.from_numpy(images[k : k + 32])).numpy()
                for k in range(0, len(images), 32)
            ]
        )
    temperature = scaling_temperature(logits, classes)
    role = f'tuned_{codec.slug}'
    example = [torch.zeros(1, size, size, 3, dtype=torch.uint8)]
    export_onnx(
        TunedClassifier(trunk, temperature, bool(recipe.mirror)),
        example,
        references / f'{role}.onnx',
        ['image'],
        ['probabilities'],
    )
    register_model(references, role, references / f'{role}.onnx', labels, size, 'references')
    some = validation.sample(150, recipe.seed)
    cache = BenchCache(work / 'validation', some.images)
    strings = cache.encodings(codec, CARD_SIZES, show=lambda line: None)
    name = f'{role}-{ModelFolder(references).model_id(role):016x}'
    answers = cache.answers(
        codec, {name: Classifier(references / f'{role}.onnx')}, strings, show=lambda line: None
    )[name]
    card = {
        'role': role,
        'codec': codec.name,
        'recipe': asdict(recipe),
        'augmentation': augment,
        'training_images': len(train.classes),
        'steps': run.step,
        'temperature': round(temperature, 3),
        'curve_end': run.curve[-1:],
        'validation_accuracy_by_bytes': {
            str(n): round(float(right_answers(answers[n], some.classes).mean()), 3)
            for n in CARD_SIZES
        },
    }
    write_card(references, role, card)
    print(card, flush=True)
    return card


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse the command line and tune."""
    parser = reference_parser(
        __doc__.split('\n')[1], TuningRecipe(), work='encodings and checkpoints'
    )
    add_teacher(parser)
    parser.add_argument('--codec', required=True, help='such as webp_6_may_downscale, jpeg, st')
    parser.add_argument('--jobs', type=int, default=2, help='processes that encode')
    parser.add_argument('--only-encode', action='store_true', help='stop before training')
    options = parser.parse_args(arguments)
    set_up_processor(options.threads)
    recipe = recipe_of(options, TuningRecipe)
    torch.manual_seed(recipe.seed)
    folder = ModelFolder(options.models)
    codec = find_codec(options.codec, options.references)
    if options.only_encode:
        options.work.mkdir(parents=True, exist_ok=True)
        train, _ = training_and_validation(
            options.data, folder.labels, folder.image_size, recipe.seed
        )
        encoded_copies(codec, train.images, recipe, options.augment, options.work, options.jobs)
        return
    tune_reference(
        codec,
        options.data,
        strong_path(options, folder),
        options.work,
        options.references,
        folder,
        recipe,
        options.augment,
        options.jobs,
    )


if __name__ == '__main__':
    main()
