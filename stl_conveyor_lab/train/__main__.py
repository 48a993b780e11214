# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Train everything that ships for the cell's items, from an empty folder to a model folder.

    python -m stl_conveyor_lab.train --work FOLDER --models models/items [--from STAGE]

The stages are render, weak, strong, codec, reward, decision and cards; each keeps what it has
done, so the command can be stopped and run again. On two cores the whole takes about an hour and a
half.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from stl_conveyor.cell.description import CellDescription
from stl_conveyor.models.model_folder import ModelFolder
from stl_conveyor.resources import share_path
from stl_conveyor.sim.parts import CLASS_IDS
from stl_conveyor.vision.image_folder import LabelledImages
from stl_conveyor_lab.data import render
from stl_conveyor_lab.train.classifiers.pair import train_classifier
from stl_conveyor_lab.train.classifiers.recipe import SEED, recipe_for
from stl_conveyor_lab.train.codec import codec
from stl_conveyor_lab.train.decision import fit_decision, looked_at, write_decision
from stl_conveyor_lab.train.manifest import write_readme
from stl_conveyor_lab.train.pipeline import fit_reward
from stl_conveyor_lab.train.processor import set_up_processor

#: The recipe of the shipped codec, where it is not the default.
PARTS_CODEC = (
    '--patch',
    '16',
    '--coarse',
    '160',
    '--fine',
    '0',
    '--banded',
    '0',
    '--groups',
    '1600',
    '--fit-images',
    '1200',
    '--importance-images',
    '256',
    '--importance-power',
    '1',
    '--restore',
    '0',
    '--late-share',
    '.6',
    '--distil',
    '1',
    '--smoothing',
    '.03',
    '--longest',
    '2600',
    '--lengthen',
    '1',
    '--repeat',
    '1',
    '--mirror',
    '0',
    '--batch',
    '24',
    '--rate',
    '3e-4',
    '--new-rate',
    '1.5e-3',
    '--strong-share',
    '0',
    '--steps',
    '4000',
    '--minutes',
    '38',
)
STAGES = ('render', 'weak', 'strong', 'codec', 'reward', 'decision', 'cards')


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse the command line and run the stages."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[1])
    parser.add_argument('--work', type=Path, required=True, help='images, checkpoints, curves')
    parser.add_argument('--models', type=Path, required=True, help='the model folder to write')
    parser.add_argument('--from', dest='first', choices=STAGES, default=STAGES[0])
    parser.add_argument('--only', choices=STAGES, help='run one stage alone')
    parser.add_argument(
        '--budget',
        type=int,
        default=512,
        help='bytes of an offload for which the reward is fitted',
    )
    parser.add_argument('--threads', type=int, default=2)
    options = parser.parse_args(arguments)
    data = options.work / 'images'
    stages = [options.only] if options.only else STAGES[STAGES.index(options.first) :]
    for stage in stages:
        print(f'== {stage}', flush=True)
        if stage == 'render':
            render.render_splits(data, 112, (21, 4, 6))
        elif stage in ('weak', 'strong'):
            set_up_processor(options.threads)
            size = CellDescription.load(share_path('config/cell.yaml')).camera.crop_size
            train_classifier(
                stage,
                data,
                options.work,
                options.models,
                CLASS_IDS,
                recipe_for('parts', stage),
                size,
                seed=SEED,
                difficulty=render.load_split(data, 'test').difficulty,
            )
        elif stage == 'codec':
            codec.main(
                [
                    '--data',
                    str(data),
                    '--strong',
                    str(options.work / 'strong.pt'),
                    '--work',
                    str(options.work),
                    '--models',
                    str(options.models),
                    *PARTS_CODEC,
                ]
            )
        elif stage == 'reward':
            set_up_processor(options.threads)
            images, seen = (
                LabelledImages(split.pixels, split.labels)
                for split in (render.load_split(data, 'val'), render.load_split(data, 'train'))
            )
            fit_reward(
                images,
                options.work,
                options.models,
                options.budget,
                threads=options.threads,
                seen=seen,
            )
        elif stage == 'decision':
            set_up_processor(options.threads)
            folder = ModelFolder(options.models)
            shards = render.shards_of(data, 'val')
            looked = looked_at(folder, shards, options.work / 'decision')
            write_decision(options.models, fit_decision(folder, looked))
        else:
            write_readme(options.models, CLASS_IDS)


if __name__ == '__main__':
    main()
