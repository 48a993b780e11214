# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""From one folder of images to a model folder: what `stl-conveyor train` does.

The stages are images, strong, weak, codec, reward, decision and report. Each leaves a note in
WORK/run.json when it is done, and each that takes long has checkpoints, so a run that was killed
goes on where it was. Each may take its part of the time that was asked for (time_plan.py) and ends
with what it has by then; less time than makes sense is refused. The policies need no training of
their own: the shipped networks work for every (r, b), and what is particular to the items, the
reward estimate, is fitted here, as is what tells strangers and what a mistake costs.
"""

from __future__ import annotations

import json
import math
import re
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from stl_conveyor.assess.evaluation_images import load_unlabelled
from stl_conveyor.errors import ConfigError
from stl_conveyor.models.model_folder import ModelFolder
from stl_conveyor.vision.image_folder import LabelledImages
from stl_conveyor.vision.image_inventory import look_through
from stl_conveyor_lab.data.dataset import Dataset, prepare
from stl_conveyor_lab.data.streams import record_file
from stl_conveyor_lab.train.classifiers.networks import FoldedStrongNet
from stl_conveyor_lab.train.classifiers.pair import train_classifier
from stl_conveyor_lab.train.classifiers.posterior import add_posterior
from stl_conveyor_lab.train.classifiers.recipe import check_size, check_trunk, recipe_for
from stl_conveyor_lab.train.classifiers.training import predict
from stl_conveyor_lab.train.codec import codec
from stl_conveyor_lab.train.codec.running_start import SHIPPED, RunningStart
from stl_conveyor_lab.train.decision import (
    FOLDS,
    fit_decision,
    looked_images,
    looked_unlabelled,
    write_decision,
)
from stl_conveyor_lab.train.lite0 import origin, published_weights
from stl_conveyor_lab.train.manifest import update_manifest, write_readme
from stl_conveyor_lab.train.processor import check_device, set_up_processor
from stl_conveyor_lab.train.progress import Progress, result_table
from stl_conveyor_lab.train.report import write_training_report
from stl_conveyor_lab.train.reward import fit as policy
from stl_conveyor_lab.train.reward.estimators import fit_entropy_reward
from stl_conveyor_lab.train.time_plan import UNLIMITED, Allowance, TimePlan

STAGES = ('images', 'strong', 'weak', 'codec', 'reward', 'decision', 'report')
#: What a stage leaves in the model folder; `decision` leaves nothing where images are too few.
MADE = {
    'strong': 'strong.onnx',
    'weak': 'weak.onnx',
    'codec': 'edge.onnx',
    'reward': 'reward.json',
}
#: Part of the whole time of each stage, as it is planned and shown.
STAGE_SHARES = {
    'images': 0.03,
    'strong': 0.24,
    'weak': 0.12,
    'codec': 0.5,
    'reward': 0.06,
    'decision': 0.03,
    'report': 0.02,
}
#: What is done whatever the time, exports and the least that is measured above all, takes so many
#: seconds, and so many answers of the strong model. At least as much must be left for learning.
LEAST_SECONDS, LEAST_ANSWERS, LEAST_PARTS = 30.0, 1500, 2.0
#: Prefixes in a batch of the codec's training, as the running start was measured with.
CODEC_BATCH = 24
#: How run.json names the running start that ships, wherever it lies.
SHIPPED_START = 'shipped'
#: Images that this speed is measured on.
PROBED = 24
#: Items whose streams are recorded to know how long one takes, and the fewest that the reward is
#: fitted on.
PROBED_STREAMS, LEAST_STREAMS = 4, 20
#: Part of its time for recording streams; the rest is for the fit.
RECORD_SHARE = 0.7
#: Part of the decision's time for looking at images; the rest is for the fit.
LOOK_SHARE = 0.6
#: Before that, of looking at what does not belong.
STRANGERS_SHARE = 0.3
#: Minutes of the whole by device, where the caller says nothing.
DEFAULT_MINUTES = {'cpu': 40.0, 'cuda': 15.0}
#: Fewest validation images from which the learned reward estimate is fitted.
LEAST_REWARD_IMAGES = 100


@dataclass(frozen=True)
class TrainSettings:
    """What decides on the result of a run, apart from the images.

    Attributes:
        size: Side of the images in pixels, a multiple of 32.
        minutes: Of the whole, interruptions left out; 0 lets every stage run until its recipe
            ends.
        kind: 'photos', or 'parts' for items seen from above in any direction.
        budget: Bytes of an offload for which the reward is estimated, the size of a token.
        pretrained: Whether anything starts from weights that were trained before.
        running_start: File with what the codec begins with (`codec/running_start.py`); 'shipped':
            the one that is part of the laboratory; None: it begins with nothing.
        strangers: Folder with pictures of what does not belong, from which the detector of
            strangers learns; None: it compares with own items alone.
        strong: The trunk of strong and edge network, one of lite0.TRUNKS.
        mixed: Part of the pictures (0 to .9) that the codec learns from as mixtures of two.
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
    running_start: str | None = None
    strangers: str | None = None
    strong: str = 'lite0'
    mixed: float = 0.0

    def __post_init__(self) -> None:
        check_size(self.size)
        check_trunk(self.strong)
        if self.minutes < 0:
            raise ConfigError(f'minutes {self.minutes}: give 0 (no limit) or more')
        if self.kind not in ('photos', 'parts'):
            raise ConfigError(f'kind {self.kind!r}: use photos or parts')
        if not 0 <= self.mixed <= 0.9:
            raise ConfigError(f'mixed {self.mixed}: give a part from 0 to 0.9, such as 0.5')
        if self.running_start and not self.pretrained:
            raise ConfigError(
                'a running start is added to pretrained weights: leave out --from-scratch or '
                '--running-start'
            )
        if self.threads < 1 or self.budget < 32:
            raise ConfigError(
                f'threads {self.threads} must be 1 or more, budget {self.budget} bytes 32 or more'
            )


class RunState:
    """Which stages of a run are done, and how long they took; kept in WORK/run.json."""

    FILE = 'run.json'
    #: Changing these goes on with the same run.
    FREE = ('minutes', 'threads', 'device')
    #: What holds for a run that was begun before there was such a setting.
    BEFORE = MappingProxyType(
        {'running_start': None, 'strangers': None, 'strong': 'lite0', 'mixed': 0.0}
    )

    def __init__(self, work: Path, settings: TrainSettings) -> None:
        """Read the state of a run, or begin one.

        Raises:
            ConfigError: When the folder holds a run with other settings.
        """
        self._path = work / self.FILE
        self.stages: dict[str, float] = {}
        self.settings = asdict(settings)
        saved = self.read(work)
        if saved is not None:
            for key, value in saved['settings'].items():
                if key not in self.FREE and self.settings.get(key) != value:
                    raise ConfigError(
                        f'{work}: holds a run with {key} {value}, not {self.settings.get(key)}; '
                        'go on with that, or give another folder'
                    )
            self.stages = saved['stages']
        self.save()

    @classmethod
    def read(cls, work: Path) -> dict[str, Any] | None:
        """Return settings and stages of the run in a folder, None without one."""
        path = work / cls.FILE
        if not path.exists():
            return None
        saved: dict[str, Any] = json.loads(path.read_text(encoding='utf-8'))
        return {**saved, 'settings': {**cls.BEFORE, **saved['settings']}}

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


def usual_start(work: Path, kind: str, strong: str, pretrained: bool) -> str:
    """Return what the codec begins with where nobody says: 'none', 'shipped' or a file.

    A run that has begun goes on as it began. What ships was made from photographs for Lite0, and
    was measured on these alone.

    Args:
        work: The folder of the run.
        kind: 'photos' or 'parts'.
        strong: The strong network, a key of TRUNKS.
        pretrained: Whether anything starts from weights that were trained before.
    """
    saved = RunState.read(work)
    if saved is not None:
        return saved['settings']['running_start'] or 'none'
    suits = kind == 'photos' and strong == 'lite0' and pretrained
    return SHIPPED_START if suits else 'none'


def train_items(
    source: str | Path,
    work: str | Path,
    models: str | Path,
    settings: TrainSettings,
    name: str | None = None,
    show: Callable[[str], None] = print,
    begun: float | None = None,
) -> Path:
    """Train everything for the items in a folder of images; returns the model folder.

    Args:
        source: The folder of images.
        work: Folder for checkpoints, curves and the report.
        models: The model folder to write.
        settings: What decides on the result.
        name: Of the set of models; None takes the folder's.
        show: Prints a line for people.
        begun: When the run began, by time.monotonic(); None: now.

    Raises:
        ConfigError: For images and settings that cannot be used, and for less time than makes
            sense.
        MissingDependency: If the weights that the strong network starts from are not installed.
    """
    begun = time.monotonic() if begun is None else begun
    work, models = Path(work), Path(models)
    check_device(settings.device)
    set_up_processor(settings.threads)
    if settings.strangers is not None and not look_through(settings.strangers).read:
        raise ConfigError(
            f'{settings.strangers}: has no picture that can be read; give --strangers a folder of '
            'pictures of things that do not belong'
        )
    state = RunState(work, settings)
    for stage, file in MADE.items():
        if stage in state.stages and not (models / file).is_file():
            raise ConfigError(
                f'{models}: lacks {file}, which the run in {work} has made; give '
                'the model folder that it was begun with, or another work folder'
            )
    if settings.pretrained and 'strong' not in state.stages:
        published_weights(settings.strong)  # said now, not when the images have been read
    plan = TimePlan(settings.minutes, STAGE_SHARES, state.seconds, begun=begun)
    progress = Progress(sys.stdout, work / 'train.log', plan)
    stage_begun = time.monotonic()
    plan.begin('images')
    data = prepare(
        source, work / 'images', settings.size, settings.seed, settings.label_column, show=show
    )
    for note in data.notes:
        show(f'note: {note}')
    show(
        f'{len(data.labels)} classes; '
        + ', '.join(f'{count} {split}' for split, count in data.counts.items())
    )
    if len(state.stages) < len(STAGES):
        check_minutes(plan, data, settings)
    if 'images' not in state.stages:
        state.done('images', time.monotonic() - (begun if not state.stages else stage_begun))
    plan.end('images', state.stages['images'])
    progress.header()
    name = name or data.source
    jobs: dict[str, Callable[[Allowance], object]] = {
        'strong': lambda time: _classifier('strong', data, work, models, settings, name, time),
        'weak': lambda time: _classifier('weak', data, work, models, settings, name, time),
        'codec': lambda time: _codec(data, work, models, settings, name, time),
        'reward': lambda time: fit_reward(
            data.load('val'),
            work,
            models,
            settings.budget,
            settings.seed,
            settings.threads,
            allowance=time,
        ),
        'decision': lambda time: make_decision(
            data.load('val'), models, settings.seed, time, settings.strangers
        ),
        'report': lambda _: write_readme(models, data.labels, origin=_origin(data, settings)),
    }
    for stage, job in jobs.items():
        if stage in state.stages:
            progress.skip(stage, state.stages[stage])
            continue
        with progress.stage(stage) as allowance:
            job(allowance)
        state.done(stage, plan.taken[stage])
    report = write_training_report(work, models, data, state.stages, state.settings)
    asked = f' of {settings.minutes:g} asked for' if settings.minutes else ''
    show(f'{"all".ljust(max(map(len, STAGES)))}  {plan.seconds_spent() / 60:7.1f}{asked}')
    show('')
    for line in result_table(model_rows(models)):
        show(line)
    show('')
    for line in gain_of(models):
        show(line)
    show(f'report: {report}')
    show(f'model folder: {models}')
    return models


def check_minutes(plan: TimePlan, data: Dataset, settings: TrainSettings) -> None:
    """Refuse less time than makes sense for these images on this machine, as it is now.

    Raises:
        ConfigError: Saying how many minutes it takes at least.
    """
    if not plan.limited:
        return
    network = FoldedStrongNet(len(data.labels), pretrained=False, trunk=settings.strong)
    pixels = data.load('train').images[:PROBED]
    predict(network, pixels[:1])
    each = Allowance().timed(lambda: predict(network, pixels)) / len(pixels)
    least = LEAST_PARTS * (LEAST_SECONDS + LEAST_ANSWERS * each)
    left = plan.seconds_left()
    if left < least:
        spent = plan.seconds_spent()
        # Rounded up, so that what is named is enough.
        enough = math.ceil((spent + least) / 6) / 10
        raise ConfigError(
            f'--minutes {plan.minutes:g}: reading the images took {spent / 60:.1f}, and training '
            f'takes {least / 60:.1f} at least with pictures of {settings.size} pixels on this '
            f'machine, as busy as it is now; ask for {enough:g} or more, or for a smaller --size'
        )


def model_rows(models: Path) -> list[tuple[str, str, str, str]]:
    """Return what the cards of a model folder say of its models, as rows of a table."""
    rows = [('model', 'right', '95 % interval', 'images')]
    for role in ('weak', 'strong'):
        card = json.loads((models / f'{role}.card.json').read_text(encoding='utf-8'))
        low, high = card['accuracy_interval']
        rows.append(
            (role, f'{card["accuracy"]:.3f}', f'{low:.3f} - {high:.3f}', str(card['test_images']))
        )
    card = json.loads((models / 'edge.card.json').read_text(encoding='utf-8'))
    fused, alone, webp = (
        card.get(f'accuracy_by_bytes{what}', {}) for what in ('_with_local_answer', '', '_of_webp')
    )
    for name, by_bytes in (('edge, {} bytes', fused or alone), ('strong, WebP of {} bytes', webp)):
        for size, text in by_bytes.items():
            accuracy, low, high = re.findall(r'[\d.]+', text)
            interval = f'{low} - {high}'
            rows.append((name.format(size), accuracy, interval, str(card['test_images'])))
    return rows


def gain_of(models: Path) -> list[str]:
    """Return what the edge's card says of what the network brings."""
    card = json.loads((models / 'edge.card.json').read_text(encoding='utf-8'))
    return list(card.get('gain', ()))


def _first_weights(settings: TrainSettings) -> str:
    if not settings.pretrained:
        return 'the networks start at random'
    if settings.strong == 'lite0':
        return f'the networks start from {origin("lite0")}'
    weak = f', the weak one from {origin("lite0")}' if settings.kind == 'photos' else ''
    return f'strong and edge network start from {origin(settings.strong)}{weak}'


def _origin(data: Dataset, settings: TrainSettings) -> str:
    start = _first_weights(settings)
    if settings.running_start == SHIPPED_START:
        start += (
            '; the codec begins with the running start of the laboratory (Apache-2.0), made from '
            'the photographs of Clothing (CC0) and Grocery (MIT) and from renders'
        )
    elif settings.running_start:
        start += (
            f'; the codec begins with the running start {Path(settings.running_start).name!r}, '
            'whose pictures have a licence, too'
        )
    return (
        f'Made by `stl-conveyor train`, which also wrote this page from what it measured. '
        f'Trained on {data.counts["train"]} images of the folder {data.source!r}; {start}. '
        'The licence of the images decides who may use these files. Accuracies are on '
        f'{data.counts["test"]} test images that nothing was trained or selected on.'
    )


def _classifier(
    role: str,
    data: Dataset,
    work: Path,
    models: Path,
    settings: TrainSettings,
    name: str,
    allowance: Allowance,
) -> None:
    train_classifier(
        role,
        data.folder,
        work,
        models,
        data.labels,
        recipe_for(settings.kind, role, settings.device, strong=settings.strong),
        data.image_size,
        settings.device,
        settings.seed,
        name,
        pretrained=settings.pretrained,
        allowance=allowance,
    )


def running_start(settings: TrainSettings) -> RunningStart | None:
    """Return what the codec begins with; raises ConfigError if its file cannot be read."""
    if not settings.running_start:
        return None
    shipped = settings.running_start == SHIPPED_START
    return RunningStart.load(SHIPPED if shipped else settings.running_start)


def _codec(
    data: Dataset,
    work: Path,
    models: Path,
    settings: TrainSettings,
    name: str,
    allowance: Allowance,
) -> None:
    codec.train_codec(
        data.folder,
        work / 'strong.pt',
        work,
        models,
        list(data.labels),
        data.image_size,
        codec.CodecRecipe(seed=settings.seed, batch=CODEC_BATCH, mixed=settings.mixed),
        augment=settings.kind,
        # A test image is sent at a dozen sizes; `stl-conveyor evaluate` takes all.
        test_images=300,
        name=name,
        device=settings.device,
        allowance=allowance,
        start=running_start(settings),
    )


def fit_reward(
    images: LabelledImages,
    work: Path,
    models: Path,
    budget: int,
    seed: int = 0,
    threads: int = 2,
    seen: LabelledImages | None = None,
    allowance: Allowance = UNLIMITED,
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
        allowance: Time for all of it; as many images are taken as it affords.

    Raises:
        ConfigError: If the estimate cannot be fitted.
    """
    folder = ModelFolder(models)
    if seen is not None:
        weak = folder.path('weak')
        add_posterior(weak, seen.images, seen.classes, len(folder.labels), seed)
        update_manifest(models, 'weak', weak.name)
        folder = ModelFolder(models)
    path = work / 'reward.npz'
    if allowance.limited:
        few = images.sample(PROBED_STREAMS, seed)
        each = allowance.timed(
            lambda: record_file(folder, few.images, few.classes, budget, path, threads)
        ) / len(few.classes)
        count = allowance.part(RECORD_SHARE).affords(each, len(images.classes), LEAST_STREAMS)
        images = images.sample(count, seed)
    record_file(folder, images.images, images.classes, budget, path, threads)
    if len(images.classes) >= LEAST_REWARD_IMAGES:
        print(json.dumps(policy.fit_file(models, path, seed, allowance), indent=2))
        return
    with np.load(path) as data:
        fit_entropy_reward(data['probabilities'], data['weak_correct'], data['edge_correct']).save(
            models / 'reward.json',
            {
                'items': len(images.classes),
                'note': 'too few images to compare the estimators; fitted and judged on the same',
            },
        )
    update_manifest(models, 'reward', 'reward.json')


def make_decision(
    images: LabelledImages,
    models: Path,
    seed: int = 0,
    allowance: Allowance = UNLIMITED,
    strangers: str | None = None,
) -> None:
    """Make strangers.npz and decision.npz from validation images; no network is trained.

    Fewer than FOLDS images leave the folder without, as too few to compare each with others.

    Args:
        images: The validation images.
        models: The model folder, which has weak model, codec and edge.
        seed: Of everything random.
        allowance: Time for all of it; as many images are looked at as it affords.
        strangers: Folder with pictures of what does not belong; None: there are none.
    """
    if len(images.classes) < FOLDS:
        print(f'{len(images.classes)} validation images are too few for strangers and costs')
        return
    folder = ModelFolder(models)
    foreign = None
    if strangers is not None:
        pixels = load_unlabelled(Path(strangers), folder)
        foreign = looked_unlabelled(folder, pixels, seed, allowance.part(STRANGERS_SHARE))
    looked = looked_images(folder, images, seed, allowance.part(LOOK_SHARE))
    write_decision(models, fit_decision(folder, looked, seed, foreign))
    print(
        f'strangers and costs from {len(looked.classes)} validation images'
        + ('' if foreign is None else f' and {len(foreign.classes)} of what does not belong')
    )
