#!/usr/bin/env python3
# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Write down all that this machine makes of some pictures, to compare it with another machine.

    machine_answers.py PICTURES.npz ANSWERS.npz [--told ANSWERS.npz] [--sort FOLDER]

PICTURES holds `images`, u8[N, S, S, 3], of the size that models/items takes. `--told` takes the
local probabilities as another machine has written them, so that packets with side information can
be compared for themselves. `--sort` sorts a folder of picture files as device and edge would, from
the camera's `source: folder` to the lane of each item, without ROS between them.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np

from stl_conveyor.cell.description import CellDescription, Costs
from stl_conveyor.codec import Decoder, Encoder
from stl_conveyor.codec.transform import PatchTransform, available_kernels
from stl_conveyor.decision.calibration_record import ROLE, CalibrationRecord, CellDecider
from stl_conveyor.decision.decide import Decider, Doubt
from stl_conveyor.decision.stranger_detector import EDGE, LOCAL, StrangerDetector
from stl_conveyor.decision.stranger_detector import ROLE as STRANGERS
from stl_conveyor.errors import ConveyorError, Level, exit_code
from stl_conveyor.hardware.frame_sources import FolderSource
from stl_conveyor.models.classifier import Classifier
from stl_conveyor.models.model_folder import ModelFolder
from stl_conveyor.policy import POLICIES, PolicyInput, PolicySettings, TokenBucket
from stl_conveyor.policy.for_cell import load_budgets, load_rewards, make_cell_policy
from stl_conveyor.vision.image import resize_square

ROOT = Path(__file__).resolve().parent.parent
SIZES = (64, 256, 1024, 4096)
#: Bytes of which the edge classifies what has arrived: it is what takes the time.
ANSWERED = 256
TOKEN_BYTES = 512
#: Pictures that every kernel of the transform is tried on.
KERNELS_ON = 20


def packed(strings: Sequence[bytes]) -> np.ndarray:
    """Return byte strings as u8[bytes of all], each behind its length of four bytes."""
    return np.frombuffer(
        b''.join(len(one).to_bytes(4, 'big') + one for one in strings), dtype=np.uint8
    )


def decisions(folder: ModelFolder, rewards: np.ndarray) -> dict[str, np.ndarray]:
    """Return for each policy that needs no chance f64[N, 3]: offloaded, share, threshold."""
    found = {}
    for name in POLICIES:
        if name in ('random', 'dqn'):
            continue  # the one draws, and the other one was trained for one bucket each
        settings = PolicySettings(rate=Fraction(1, 4), depth=Fraction(4))
        budgets = load_budgets(folder, name, TOKEN_BYTES)
        policy = make_cell_policy(name, settings, load_rewards(folder), budgets)
        bucket = TokenBucket(
            settings.rate, settings.depth, time_unit_ns=1, nominal_bytes=TOKEN_BYTES, start_ns=0
        )
        rows = []
        for now, reward in enumerate(rewards):
            bucket.advance(now)
            choice = policy.decide(
                PolicyInput(
                    float(reward),
                    bucket.available,
                    bucket.denominator,
                    now,
                    1.0 if now else np.nan,
                )
            )
            offloaded = choice.offload and bucket.spend(round(choice.share * TOKEN_BYTES))
            rows.append((offloaded, choice.share, choice.threshold))
        found[f'decisions_{name}'] = np.array(rows, np.float64)
    return found


class _Belt:
    """What a folder of pictures asks of a camera; it shows them as fast as they are taken."""

    def __init__(self) -> None:
        self._show: Callable[[], None] | None = None
        self._now_ns = 0

    @property
    def nanoseconds(self) -> int:
        """Return one more each time that somebody looks."""
        self._now_ns += 1
        return self._now_ns

    def get_clock(self) -> _Belt:
        """Return itself: it is its own clock."""
        return self

    def now(self) -> _Belt:
        """Return itself as the time."""
        return self

    def guarded(self, callback: Callable[..., None]) -> Callable[..., None]:
        """Let errors through."""
        return callback

    def every(self, period: float, callback: Callable[[], None]) -> _Belt:
        """Call back whenever the belt runs on."""
        self._show = callback
        return self

    def cancel(self) -> None:
        """The last picture was shown."""
        self._show = None

    def run(self) -> None:
        """Show all pictures."""
        while self._show is not None:
            self._show()

    def set_condition(self, name: str, level: Level, message: str) -> None:
        """Stop: nothing may be wrong with the folder."""
        raise ConveyorError(f'{name}: {message}')

    def clear_condition(self, name: str, message: str) -> None:
        """Nothing was wrong."""

    def report_value(self, name: str, value: object) -> None:
        """Say it."""
        print(f'{name}: {value}')


def sorted_folder(pictures: Path) -> dict[str, np.ndarray]:
    """Return what becomes of the items of a folder, by the device alone and with the edge.

    Lanes are numbers: those of the cell that ships, and of the same cell where costs decide; the
    reject lane of strangers is the negative of its number.
    """
    models = ModelFolder(ROOT / 'models' / 'items')
    cell = CellDescription.load(ROOT / 'config' / 'cell.yaml')
    crops: list[np.ndarray] = []
    belt = _Belt()
    folder = FolderSource(
        belt,
        lambda image, stamp_ns, frame_id: crops.append(resize_square(image, models.image_size)),
        str(pictures),
        rate=1.0,
        repeat=False,
    )
    folder.start()
    belt.run()
    own, others = (
        StrangerDetector.load(models.path(STRANGERS), source) for source in (LOCAL, EDGE)
    )
    weak = Classifier(models.path('weak'), inside=own.tensors)
    encoder, decoder = Encoder(models), Decoder(models, inside=others.tensors)
    plain = Decider(cell, models.labels)
    record = CalibrationRecord.load(models.path(ROLE))
    by_cost = CellDecider(replace(cell, costs=Costs()), models.labels, record)
    names = ('local', 'edge')
    unknown: dict[str, list[float]] = {name: [] for name in names}
    lanes: dict[str, list[int]] = {f'{name}{kind}': [] for name in names for kind in ('', '_cost')}
    for crop in crops:
        known, _, inside = weak.look_inside(crop[np.newaxis])
        item = encoder.encode(crop, known[0], max_bytes=ANSWERED)
        session = decoder.start()
        for packet in item.packets:
            session.add(packet)
        received = sum(map(len, item.packets))
        answer, edge_inside = decoder.look_inside([session])
        for name, given, strange, count in (
            ('local', known[0], own.unknown(inside), None),
            ('edge', answer[0], others.unknown(edge_inside, [received]), received),
        ):
            score = float(strange[0])
            unknown[name].append(score)
            for kind, choice in (
                ('', plain.choose(given, score)),
                ('_cost', by_cost.choose(given, score, count)),
            ):
                sign = -1 if choice.doubt is Doubt.UNKNOWN else 1
                lanes[f'{name}{kind}'].append(sign * choice.lane)
    return {
        **{f'unknown_{name}': np.array(found) for name, found in unknown.items()},
        **{f'lanes_{name}': np.array(found) for name, found in lanes.items()},
    }


def answers(images: np.ndarray, told: np.ndarray | None) -> dict[str, np.ndarray]:
    """Return everything that this machine makes of u8[N, S, S, 3], by name."""
    folder = ModelFolder(ROOT / 'models' / 'items')
    encoder, decoder = Encoder(folder), Decoder(folder)
    found: dict[str, np.ndarray] = {}
    found['coefficients'] = np.stack([encoder.quantise(image) for image in images])
    for kernel in ('numpy', *available_kernels()):
        transform = PatchTransform(encoder.spec, kernel)
        integers = [transform.quantise(image) for image in images[:KERNELS_ON]]
        if not np.array_equal(integers, found['coefficients'][:KERNELS_ON]):
            raise ConveyorError(f'kernel {kernel!r} makes other coefficients than the best one')
    weak = Classifier(folder.path('weak'))
    local, posteriors = weak.classify_doubting(images)
    found['local'] = local
    rewards = load_rewards(folder).expected_rewards(local, posteriors)
    found |= {'rewards': rewards, **decisions(folder, rewards)}
    known = local if told is None else told
    for size in SIZES:
        plain = [encoder.encode(image, max_bytes=size) for image in images]
        side = [encoder.encode(image, row, max_bytes=size) for image, row in zip(images, known)]
        for name, items in (('plain', plain), ('side', side)):
            found[f'packets_{name}_{size}'] = packed([b''.join(item.packets) for item in items])
        if size == ANSWERED:
            sessions = []
            for item in side:
                sessions.append(decoder.start())
                for packet in item.packets:
                    sessions[-1].add(packet)
            found['latents'] = np.stack([session.latents() for session in sessions])
            found['edge'] = np.concatenate([decoder.classify([one]) for one in sessions])
    own = [encoder.encode(image, row, max_bytes=ANSWERED) for image, row in zip(images, local)]
    found[f'packets_own_{ANSWERED}'] = packed([b''.join(item.packets) for item in own])
    return found


def write(options: argparse.Namespace) -> None:
    """Read the pictures, and write what becomes of them."""
    with np.load(options.pictures) as given:
        images = given['images']
    told = None
    if options.told:
        with np.load(options.told) as given:
            told = given['local']
    begun = time.perf_counter()
    found = answers(images, told)
    print(f'{len(images)} pictures in {time.perf_counter() - begun:.0f} s')
    if options.sort:
        begun = time.perf_counter()
        found |= sorted_folder(options.sort)
        print(f'{len(found["lanes_local"])} sorted in {time.perf_counter() - begun:.0f} s')
    np.savez_compressed(options.answers, **found)


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the answers; return 0, or say what is wrong and return another number."""
    parser = argparse.ArgumentParser(description='Write down what this machine makes of pictures.')
    parser.add_argument('pictures', type=Path)
    parser.add_argument('answers', type=Path)
    parser.add_argument('--told', type=Path, help='answers of another machine')
    parser.add_argument('--sort', type=Path, help='folder of pictures to sort')
    options = parser.parse_args(arguments)
    return exit_code('machine_answers', lambda: write(options))


if __name__ == '__main__':
    raise SystemExit(main())
