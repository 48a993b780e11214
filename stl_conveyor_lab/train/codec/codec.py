# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
r"""Train the progressive codec: from images and a strong classifier to shipped files.

    python -m stl_conveyor_lab.train.codec.codec --data FOLDER --strong strong.pt --work FOLDER \\
        --models FOLDER

The transform is a PCA of image patches; groups are ordered by what they tell the strong
classifier per bit; the strong classifier is then fine-tuned, as the edge's network, on prefixes
of random length. The recipe of the second part: what restores the decoded image is trained alone
first, by its squared error; then everything by the cross-entropy of the answer with and without
the device's own probabilities, and distillation from the strong classifier on the original image.
Training resumes from its last checkpoint; the same seed gives the same files on the same machine.
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import os
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional

from stl_conveyor.assess.plotting import file_pyplot
from stl_conveyor.codec.spec import CodecSpec
from stl_conveyor.codec.wire import side_levels, side_probabilities
from stl_conveyor.models.classifier import Classifier
from stl_conveyor.models.model_folder import ModelFolder
from stl_conveyor.vision.image_folder import load_images
from stl_conveyor_lab.measure.codec_time import measure_times
from stl_conveyor_lab.measure.own_codec import OURS, OURS_WITH_SIDE, codec_rows
from stl_conveyor_lab.train.averaging import blend, running_average
from stl_conveyor_lab.train.codec.edge_network import (
    EDGE_INPUTS,
    EdgeNetwork,
    PrefixSampler,
    byte_features,
    load_strong,
)
from stl_conveyor_lab.train.codec.fit import (
    apply_spatial,
    band_regions,
    fit_side_table,
    fit_spec,
    image_patches,
    pca_transform,
    quantise,
    ring_regions,
    spatial_transform,
    spec_values,
    symbol_bits,
    transform,
)
from stl_conveyor_lab.train.manifest import register_model, write_card
from stl_conveyor_lab.train.onnx_export import count_macs, export_onnx
from stl_conveyor_lab.train.processor import set_up_processor
from stl_conveyor_lab.train.timed_run import TimedRun

SIZES = (64, 128, 256, 512, 1024, 2048)
#: Sizes of packets that the edge's network learns to miss.
PACKET_BYTES = (128, 256, 512)


@dataclass(frozen=True)
class Recipe:
    """Everything that decides what comes out, apart from the data."""

    seed: int = 7
    coarse: int = 192  # channels of the whole-patch basis
    fine: int = 24  # channels of the sub-patch basis
    patch: int = 32
    fine_patch: int = 16
    banded: int = 8  # leading channels that are transformed over the whole image too
    rings: int = 3  # regions of the grid, from the centre out
    groups: int = 3000
    fit_images: int = 1600
    importance_images: int = 192
    importance_power: float = 0.75
    steps: int = 2400
    minutes: float = 0.0  # if not 0, training ends after this time at the latest
    restore: int = 96  # channels that restore the decoded image; 0: it stays as it is
    restore_minutes: float = 4.0  # of its training alone
    restore_weight: float = 0.5  # of its squared error afterwards
    late_share: float = 0.0  # part of the steps with the early blocks frozen
    batch: int = 48
    rate: float = 1.5e-4  # of the trunk
    new_rate: float = 1e-3  # of restoration, branch and fusion
    shortest: float = 40.0
    longest: float = 4300.0
    lengthen: float = 0.7  # 1: lengths are drawn log-uniformly; less: more of the long ones
    smoothing: float = 0.05
    distil: float = 2.0
    feature: float = 1.0
    average: float = 0.99
    strong_share: float = 0.2  # of the strong classifier's own weights in the trunk at the end
    repeat: int = 2  # prefixes of each image in a batch
    mirror: int = 1  # 1: answer with the mean over the image and its mirror image


def augment_parts(images, rng, shift=6):
    """Turn, mirror and shift u8[N, S, S, 3]: a part lies on the belt in any direction."""
    size, result = images.shape[1], np.empty_like(images)
    for number, image in enumerate(images):
        image = np.rot90(image, rng.integers(4))
        if rng.random() < 0.5:
            image = image[:, ::-1]
        down, right = rng.integers(0, 2 * shift + 1, 2)
        padded = np.pad(image, ((shift, shift), (shift, shift), (0, 0)), mode='reflect')
        result[number] = padded[down : down + size, right : right + size]
    return result


def augment_photos(images, rng):
    """Mirror, crop (down to 75 % of the side) and brighten or darken u8[N, S, S, 3]."""
    from PIL import Image

    size, result = images.shape[1], np.empty_like(images)
    for number, image in enumerate(images):
        if rng.random() < 0.5:
            image = image[:, ::-1]
        side = int(size * rng.uniform(0.75, 1))
        top, left = rng.integers(0, size - side + 1, 2)
        picture = Image.fromarray(
            np.ascontiguousarray(image[top : top + side, left : left + side])
        )
        bright = np.asarray(picture.resize((size, size)), np.float32) * rng.uniform(0.85, 1.15)
        result[number] = np.clip(bright, 0, 255)
    return result


AUGMENT = {'parts': augment_parts, 'photos': augment_photos, 'none': lambda images, rng: images}


def normalised(images):
    """Return u8[N, S, S, 3] as the trunk takes it, f32[N, 3, S, S]."""
    pixels = (images.permute(0, 3, 1, 2).float() - 127) / 128
    return pixels.contiguous(memory_format=torch.channels_last)


def feature_importance(strong, images, analysis, spatial, recipe):
    """Return f32[K, regions and bands]: how much the strong classifier's features move with each.

    The mean square of the gradient of random projections of the pooled features with respect to
    the coefficients, relative to its mean.
    """
    generator = torch.Generator().manual_seed(recipe.seed)
    device = next(strong.parameters()).device
    grid = images.shape[1] // recipe.patch
    regions = ring_regions(grid, recipe.rings)
    rings = int(regions.max()) + 1
    bands = band_regions(grid**2, rings)
    inverse = spatial / np.square(spatial).sum(2, keepdims=True)
    total = np.zeros((len(analysis), int(bands.max()) + 1))
    for start in range(0, len(images), 16):
        pixels = normalised(torch.from_numpy(images[start : start + 16]).to(device))
        pixels = pixels.requires_grad_(True)
        _, pooled = strong(pixels)
        direction = torch.randn(pooled.shape, generator=generator).to(device)
        (gradient,) = torch.autograd.grad((pooled * direction).sum(), pixels)
        patches = image_patches(gradient.permute(0, 2, 3, 1).cpu().numpy(), recipe.patch)
        moved = (patches @ analysis.T).swapaxes(1, 2)
        square = np.square(apply_spatial(moved, np.float32(0), inverse)).sum(0)
        for region in range(total.shape[1]):
            total[:, region] += square[:, (bands if region >= rings else regions) == region].mean(
                1
            )
    used = total[len(spatial) :, :rings]
    return ((total / used.mean()) ** recipe.importance_power).astype(np.float32)


def local_probabilities(models, images):
    """Return the weak model's probabilities f32[N, C], or None if the folder has none."""
    folder = ModelFolder(models) if (Path(models) / 'manifest.json').exists() else None
    if folder is None or 'weak' not in folder.roles:
        return None
    weak = Classifier(folder.path('weak'), threads=1)
    found = np.concatenate(
        [weak.classify_batch(images[k : k + 64]) for k in range(0, len(images), 64)]
    )
    return np.stack([side_probabilities(side_levels(row, 16)) for row in found])


def fit_codec(train, strong, labels, side, recipe, path):
    """Fit the codec to training images and write it; returns the CodecSpec."""
    rng = np.random.default_rng(recipe.seed)
    pick = rng.permutation(len(train.images))[: recipe.fit_images]
    images = train.images[np.sort(pick)]
    begun = time.monotonic()
    mean, analysis = pca_transform(
        images, recipe.patch, recipe.coarse, recipe.fine, recipe.fine_patch
    )
    print(f'transform: {len(analysis)} channels in {time.monotonic() - begun:.0f} s', flush=True)
    offset, spatial = spatial_transform(
        transform(images, mean, analysis, recipe.patch), recipe.banded
    )
    weight = (
        feature_importance(strong, images[: recipe.importance_images], analysis, spatial, recipe)
        if recipe.importance_power
        else None
    )
    print(f'importance after {time.monotonic() - begun:.0f} s', flush=True)
    spec = fit_spec(
        images,
        mean,
        analysis,
        labels=labels,
        rings=recipe.rings,
        max_groups=recipe.groups,
        importance=weight,
        seed=recipe.seed,
        side=None if side is None else side[np.sort(pick)],
        offset=offset,
        spatial=spatial,
    )
    spec.save(path)
    print(f'codec: {spec.groups} groups in {time.monotonic() - begun:.0f} s', flush=True)
    return CodecSpec.load(path)


def prefix_sampler(spec, images):
    """Return the PrefixSampler of a codec; what symbols cost is measured on images."""
    sample = images[np.random.default_rng(0).permutation(len(images))[:512]]
    return PrefixSampler(
        spec, symbol_bits(spec, quantise(spec_values(spec, sample), spec.finest_step))
    )


def _parameter_groups(network, recipe):
    trunk = list(network.trunk.parameters())
    known = {id(p) for p in trunk} | {id(network.synthesis)}
    rest = [p for p in network.parameters() if id(p) not in known]
    network.synthesis.requires_grad_(False)
    return [
        {'params': trunk, 'lr': recipe.rate, 'weight_decay': 1e-4},
        {'params': rest, 'lr': recipe.new_rate, 'weight_decay': 1e-4},
    ]


def rate_factor(step, done):
    """Return what the rates are multiplied by, from the step and the share that is done."""
    return min((step + 1) / 40, 0.02 + 0.49 * (1 + math.cos(math.pi * min(done, 1))))


def draw_lengths(rng, count, recipe):
    """Return `count` lengths in bytes, from `shortest` to `longest`."""
    share = rng.random(count) ** recipe.lengthen
    return np.exp(math.log(recipe.shortest) + share * math.log(recipe.longest / recipe.shortest))


def _draw_prefixes(rng, count, recipe, device):
    """Return lengths, rates of loss and bytes of a packet, each f32[count]."""
    drawn = (
        draw_lengths(rng, count, recipe),
        np.where(rng.random(count) < 0.25, rng.uniform(0.05, 0.4, count), 0),
        rng.choice(PACKET_BYTES, count),
    )
    return [torch.from_numpy(part).float().to(device) for part in drawn]


def restoration_error(restored, decoded, original):
    """Return the squared error of restored images, as a share of that of the decoded ones."""
    left = (restored - original).square().mean((1, 2, 3))
    return (left / (decoded - original).square().mean((1, 2, 3)).clamp_min(1e-4)).mean()


def loss_with_teacher(loss, logits, pooled, target, target_pooled, recipe):
    """Return a loss and what parts logits and pooled features from the strong classifier's."""
    loss = loss + recipe.distil * functional.kl_div(
        functional.log_softmax(logits, 1),
        functional.log_softmax(target, 1),
        reduction='batchmean',
        log_target=True,
    )
    return loss + recipe.feature * functional.mse_loss(pooled, target_pooled) / target_pooled.var()


def train_restoration(network, sampler, train, recipe, augment, checkpoint):
    """Train the restoration alone, by squared error on pieces of up to four patches square."""
    device = next(network.parameters()).device
    torch.manual_seed(recipe.seed)
    patch, crop = network.patch, min(sampler.grid, 4)
    run = TimedRun(
        checkpoint,
        {'restoration': network.restoration},
        torch.optim.AdamW(network.restoration.parameters(), lr=2e-3, weight_decay=1e-4),
        recipe.restore_minutes,
        recipe.seed,
        rate_factor,
    )
    while run.goes_on():
        pick = run.rng.integers(0, len(train.images), 16)
        images = torch.from_numpy(augment(train.images[pick], run.rng)).to(device)
        top, left = run.rng.integers(0, sampler.grid - crop + 1, 2) * patch
        with torch.no_grad():
            latents, received = sampler(
                images, *_draw_prefixes(run.rng, len(images), recipe, device)
            )
            decoded, original = (
                whole[:, :, top : top + crop * patch, left : left + crop * patch]
                for whole in (network.image(latents), normalised(images))
            )
        run.learn(restoration_error(network.restoration(decoded, received), decoded, original))


def train_edge(network, sampler, strong, train, side, recipe, augment, checkpoint):
    """Fine-tune the edge's network on prefixes; returns (its running average, the finished run).

    Resumes from `checkpoint`. Network, sampler and strong classifier lie on the same device.
    """
    torch.manual_seed(recipe.seed)
    device = next(network.parameters()).device
    average = running_average(network, recipe.average)
    optimiser = torch.optim.AdamW(_parameter_groups(network, recipe))
    optimiser.register_step_post_hook(lambda *_: average.update_parameters(network))
    run = TimedRun(
        checkpoint,
        {'network': network, 'average': average},
        optimiser,
        recipe.minutes,
        recipe.seed,
        rate_factor,
        2.0,
        recipe.steps,
    )
    order = np.random.default_rng(recipe.seed + 2).permutation(len(train.classes))
    each = recipe.batch // recipe.repeat
    while run.goes_on():
        pick = np.take(order, range(run.step * each, (run.step + 1) * each), mode='wrap')
        images = torch.from_numpy(augment(train.images[pick], run.rng)).to(device)
        original = normalised(images)
        with torch.no_grad():
            target, target_pooled = (
                part.repeat_interleave(recipe.repeat, 0) for part in strong(original)
            )
        images = images.repeat_interleave(recipe.repeat, 0)
        pick = pick.repeat(recipe.repeat)
        classes = torch.from_numpy(train.classes[pick]).to(device)
        count = len(pick)
        with torch.no_grad():
            latents, received = sampler(images, *_draw_prefixes(run.rng, count, recipe, device))
            decoded = network.image(latents)
        restored = network.restored(decoded, received)
        logits, pooled = network.logits(latents, received, run.done >= recipe.late_share, restored)
        entropy = functional.cross_entropy(logits, classes, label_smoothing=recipe.smoothing)
        loss = entropy
        if side is not None:
            log_side = torch.log(torch.from_numpy(side[pick]).clamp_min(1e-5)).to(device)
            fused = network.fuse(logits, received, log_side, torch.ones(count, device=device))
            loss = loss + 0.5 * functional.cross_entropy(fused, classes)
        loss = loss_with_teacher(loss, logits, pooled, target, target_pooled, recipe)
        if network.restoration is not None and recipe.restore_weight:
            loss = loss + recipe.restore_weight * restoration_error(
                restored, decoded, original.repeat_interleave(recipe.repeat, 0)
            )
        run.learn(loss, entropy=entropy, right=(logits.argmax(1) == classes).float().mean())
    return average.module, run


def _smooth_knots(values):
    return (values[1:] - values[:-1]).square().sum()


@torch.no_grad()
def keep_to_the_local_answer(network, logits, received, log_side, classes, most=3.0):
    """Trust the network less where the side information alone is right more often.

    Likelihood sets both weights, but what is right most often may want less of the network where
    little has arrived: there the answer is to start at the local one's accuracy. Each knot counts
    the images around it, the longest first because a weight reaches to the next knot. At most
    the network's weight is divided by `most`: validation images are few, and on too few of them
    the local answer alone would win at lengths where it should not.
    """
    nearness, everywhere = byte_features(received), torch.ones(len(classes))
    local = (log_side.argmax(1) == classes).float() @ nearness
    steps = 5
    for knot in reversed(range(nearness.shape[1])):
        for _ in range(steps):
            fused = network.fuse(logits, received, log_side, everywhere)
            if (fused.argmax(1) == classes).float() @ nearness[:, knot] >= local[knot]:
                break
            network.fused_temperature[knot] -= math.log(most) / steps


def calibrate(network, sampler, validation, side, recipe, draws=3):
    """Fit temperatures and the weight of the side information on validation images."""
    rng = np.random.default_rng(recipe.seed + 1)
    torch.manual_seed(recipe.seed + 1)
    logits, received, picks = [], [], []
    network.eval()
    with torch.no_grad():
        for _ in range(draws):
            for at in range(0, len(validation.classes), 32):
                images = torch.from_numpy(validation.images[at : at + 32])
                lengths = torch.from_numpy(
                    np.exp(
                        rng.uniform(
                            math.log(recipe.shortest), math.log(1.5 * recipe.longest), len(images)
                        )
                    )
                ).float()
                latents, arrived = sampler(images, lengths)
                logits.append(network.logits(latents, arrived)[0])
                received.append(arrived)
                picks.append(np.arange(at, at + len(images)))
    logits, received = torch.cat(logits), torch.cat(received)
    picks = np.concatenate(picks)
    classes = torch.from_numpy(validation.classes[picks])
    log_side = None if side is None else torch.log(torch.from_numpy(side[picks]).clamp_min(1e-5))
    parameters = [network.temperature, network.fused_temperature, network.side_weight]
    optimiser = torch.optim.LBFGS(parameters, max_iter=200, line_search_fn='strong_wolfe')
    none, whole = torch.zeros(len(classes)), torch.ones(len(classes))

    def closure():
        optimiser.zero_grad()
        loss = functional.cross_entropy(
            network.fuse(logits, received, torch.zeros_like(logits), none), classes
        )
        if log_side is not None:
            loss = loss + functional.cross_entropy(
                network.fuse(logits, received, log_side, whole), classes
            )
        loss = loss + 0.02 * sum(map(_smooth_knots, parameters))
        loss.backward()
        return loss

    optimiser.step(closure)
    if log_side is not None:
        keep_to_the_local_answer(network, logits, received, log_side, classes)
    for name in ('temperature', 'fused_temperature', 'side_weight'):
        print(name, np.round(getattr(network, name).detach().numpy(), 2).tolist(), flush=True)


def draw_curves(curve, rows, strong_accuracy, path):
    """Draw the training curve, and accuracy against bytes."""
    pyplot = file_pyplot()
    figure, axes = pyplot.subplots(1, 2, figsize=(10, 4))
    if curve:
        step, loss, entropy, _ = zip(*curve)
        axes[0].plot(step, loss, label='loss')
        axes[0].plot(step, entropy, label='cross-entropy')
    axes[0].set(xlabel='step', yscale='log')
    axes[0].legend()
    for name in dict.fromkeys(row.codec for row in rows):
        part = [row for row in rows if row.codec == name]
        sizes = [row.mean_bytes for row in part]
        axes[1].plot(sizes, [row.accuracy for row in part], 'o-', label=name)
        axes[1].fill_between(
            sizes, [row.low for row in part], [row.high for row in part], alpha=0.2
        )
    axes[1].axhline(strong_accuracy, color='k', ls=':', label='strong, original image')
    axes[1].set(xlabel='bytes', ylabel='accuracy', xscale='log')
    axes[1].legend()
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def _accuracy_facts(rows):
    names = {OURS: 'accuracy_by_bytes', OURS_WITH_SIDE: 'accuracy_by_bytes_with_local_answer'}
    facts = {}
    for row in rows:
        facts.setdefault(names[row.codec], {})[str(row.budget)] = (
            f'{row.accuracy:.3f} [{row.low:.3f}, {row.high:.3f}]'
        )
    return facts


def one_thread_times(models, images):
    """Return measure_times of a model folder, from a process in which NumPy has one thread.

    The libraries read that number when they are loaded, here long ago.
    """
    names = ('OMP_NUM_THREADS', 'OPENBLAS_NUM_THREADS', 'MKL_NUM_THREADS')
    before = {name: os.environ.get(name) for name in names}
    os.environ.update(dict.fromkeys(names, '1'))
    try:
        with ProcessPoolExecutor(1, multiprocessing.get_context('spawn')) as pool:
            return pool.submit(measure_times, ModelFolder(models), images).result()
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def train_codec(
    data,
    strong_path,
    work,
    models,
    labels,
    size,
    recipe,
    augment='parts',
    test_images=600,
    name=None,
    device='cpu',
):
    """Run the whole recipe and enter `encoder` and `edge` into a model folder.

    `device` ('cpu', 'cuda') does the gradients; all else runs on the processor. Returns the edge's
    model card.

    Raises:
        FileNotFoundError: When there are no images.
    """
    work, models = Path(work), Path(models)
    work.mkdir(parents=True, exist_ok=True)
    models.mkdir(parents=True, exist_ok=True)
    begun = time.monotonic()
    train = load_images(data, 'train', labels, size)
    if train is None:
        raise FileNotFoundError(f'no training images of {", ".join(labels)} under {data}/train')
    validation = load_images(data, 'val', labels, size)
    if validation is None:
        train, validation = train.split(recipe.seed)
    test = (
        load_images(data, 'test', labels, size)
        or load_images(data, 'validation', labels, size)
        or validation
    )
    print(
        f'{len(train.classes)} training, {len(validation.classes)} validation, '
        f'{len(test.classes)} test images',
        flush=True,
    )
    strong = load_strong(strong_path, len(labels), size).eval().to(device)
    strong.to(memory_format=torch.channels_last)
    side = local_probabilities(models, train.images)
    codec_path = work / 'encoder.npz'
    spec = (
        CodecSpec.load(codec_path)
        if codec_path.exists()
        else fit_codec(train, strong, len(labels), side, recipe, codec_path)
    )
    sampler = prefix_sampler(spec, train.images)
    trained_from = load_strong(strong_path, len(labels), size)
    network = EdgeNetwork(
        trained_from, spec, mirror=bool(recipe.mirror), restore=recipe.restore
    ).to(device, memory_format=torch.channels_last)
    sampler.to(device)
    if recipe.restore:
        train_restoration(
            network, sampler, train, recipe, AUGMENT[augment], work / 'restoration.checkpoint.pt'
        )
    network, run = train_edge(
        network,
        sampler,
        strong,
        train,
        side,
        recipe,
        AUGMENT[augment],
        work / 'edge.checkpoint.pt',
    )
    network, sampler, strong = network.cpu(), sampler.cpu(), strong.cpu()
    blend(network.trunk, strong, recipe.strong_share)
    limited = validation.sample(1200, recipe.seed)
    local_validation = local_probabilities(models, limited.images)
    calibrate(network, sampler, limited, local_validation, recipe)

    if local_validation is not None:
        spec = replace(spec, side_table=fit_side_table(local_validation))
    spec.save(models / 'encoder.npz')
    example = [
        torch.zeros(1, spec.channels, spec.grid, spec.grid),
        torch.full((1,), 100.0),
        torch.full((1, len(labels)), 1 / len(labels)),
        torch.ones(1),
    ]
    export_onnx(network, example, models / 'edge.onnx', EDGE_INPUTS, ['probabilities'])
    for role, file in (('encoder', 'encoder.npz'), ('edge', 'edge.onnx')):
        register_model(models, role, models / file, labels, size, name)
    minutes = (time.monotonic() - begun) / 60

    measured = test.sample(test_images, seed=1)
    with torch.no_grad():
        answers = (
            torch.cat(
                [
                    strong(normalised(torch.from_numpy(measured.images[k : k + 32])))[0]
                    for k in range(0, len(measured.classes), 32)
                ]
            )
            .argmax(1)
            .numpy()
        )
    clean = float((answers == measured.classes).mean())
    print(f'strong on the originals {clean:.4f}', flush=True)
    folder = ModelFolder(models)
    rows = codec_rows(folder, measured, SIZES, show=lambda row: print(row, flush=True))
    draw_curves(run.curve, rows, clean, work / 'codec.png')
    card = {
        'role': 'edge',
        'recipe': asdict(recipe),
        'augmentation': augment,
        'training_images': len(train.classes),
        'test_images': len(measured.classes),
        'training_minutes': round(minutes, 1),
        'steps': run.step,
        'strong_on_originals': round(clean, 4),
        **_accuracy_facts(rows),
        'bytes': (models / 'edge.onnx').stat().st_size,
        'parameters': sum(p.numel() for p in network.parameters()),
        'macs': count_macs(network, example) + int(network.synthesis.numel()) * spec.grid**2,
        'milliseconds': one_thread_times(models, measured.images[:20]),
    }
    write_card(models, 'edge', card)
    write_card(
        models,
        'encoder',
        {
            'role': 'encoder',
            'recipe': asdict(recipe),
            'training_images': len(train.classes),
            'channels': spec.channels,
            'groups': spec.groups,
            'bytes': (models / 'encoder.npz').stat().st_size,
            'parameters': int(spec.analysis.size),
            'macs': int(spec.analysis.size) * spec.grid**2,
            'milliseconds': card['milliseconds']['encode_1024'],
        },
    )
    print(json.dumps(card, indent=1))
    return card


def _labels(data, models):
    if (Path(models) / 'manifest.json').exists():
        folder = ModelFolder(models)
        return list(folder.labels), folder.image_size
    return sorted(p.name for p in (Path(data) / 'train').iterdir() if p.is_dir()), 160


def main(arguments=None):
    """Parse the command line and train."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[1])
    parser.add_argument(
        '--data',
        type=Path,
        required=True,
        help='folder with train/ (val/, test/): .npz shards, a folder per label, or train.csv',
    )
    parser.add_argument(
        '--strong',
        type=Path,
        required=True,
        help='EfficientNet-Lite0 of these labels: checkpoint or strong.onnx',
    )
    parser.add_argument('--work', type=Path, required=True, help='checkpoints and curves')
    parser.add_argument('--models', type=Path, required=True, help='the model folder to write')
    parser.add_argument('--augment', choices=sorted(AUGMENT), default='parts')
    parser.add_argument('--threads', type=int, default=2)
    parser.add_argument('--device', default='cpu', help='cpu or cuda')
    parser.add_argument('--test-images', type=int, default=600)
    for field, value in asdict(Recipe()).items():
        parser.add_argument(f'--{field.replace("_", "-")}', type=type(value), default=value)
    options = vars(parser.parse_args(arguments))
    set_up_processor(options['threads'])
    recipe = Recipe(**{field: options[field] for field in asdict(Recipe())})
    labels, size = _labels(options['data'], options['models'])
    train_codec(
        options['data'],
        options['strong'],
        options['work'],
        options['models'],
        labels,
        size,
        recipe,
        options['augment'],
        options['test_images'],
        device=options['device'],
    )


if __name__ == '__main__':
    main()
