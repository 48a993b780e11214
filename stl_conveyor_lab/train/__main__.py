# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Train everything that ships for the cell's items, from an empty folder to a model folder.

    python -m stl_conveyor_lab.train --work FOLDER --models models/items [--from STAGE]

The stages are render, weak, strong, codec, reward, decision and cards; each keeps what it has
done, so the command can be stopped and run again. The whole takes two hours of one core of an AMD
EPYC: half an hour to render, an hour for the codec, and half an hour for all else.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from stl_conveyor.cell.description import CellDescription
from stl_conveyor.models.model_folder import ModelFolder
from stl_conveyor.resources import share_path
from stl_conveyor.sim.parts import CLASS_IDS
from stl_conveyor.vision.image_folder import LabelledImages
from stl_conveyor_lab.data import render
from stl_conveyor_lab.data.decoys import decoy_shards
from stl_conveyor_lab.train.classifiers.pair import train_classifier
from stl_conveyor_lab.train.classifiers.recipe import SEED, recipe_for
from stl_conveyor_lab.train.codec import codec
from stl_conveyor_lab.train.decision import fit_decision, looked_at, write_decision
from stl_conveyor_lab.train.manifest import write_readme
from stl_conveyor_lab.train.pipeline import fit_reward
from stl_conveyor_lab.train.processor import set_up_processor

#: The recipe of the shipped codec, where it is not the default.
PARTS_CODEC = (
    '--groups',
    '2400',
    '--fit-images',
    '1600',
    '--importance-images',
    '256',
    '--importance-power',
    '1',
    '--restore',
    '64',
    '--longest',
    '2600',
    '--lengthen',
    '1',
    '--mirror',
    '0',
    '--rate',
    '2e-4',
    '--strong-share',
    '0',
    '--steps',
    '4000',
    '--minutes',
    '55',
)
#: How often each picture is seen: belts are worth more than looking at one again.
EPOCHS = {'weak': 12.0, 'strong': 3.5}
#: Belts of things that do not belong, from which the detector of strangers learns.
DECOY_BELTS = 120
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
    data, decoys = options.work / 'images', options.work / 'decoys'
    stages = [options.only] if options.only else STAGES[STAGES.index(options.first) :]
    for stage in stages:
        print(f'== {stage}', flush=True)
        if stage == 'render':
            render.render_splits(data, jobs=options.threads)
            decoy_shards(decoys, DECOY_BELTS, jobs=options.threads)
        elif stage in ('weak', 'strong'):
            set_up_processor(options.threads)
            size = CellDescription.load(share_path('config/cell.yaml')).camera.crop_size
            train_classifier(
                stage,
                data,
                options.work,
                options.models,
                CLASS_IDS,
                replace(recipe_for('parts', stage), epochs=EPOCHS[stage]),
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
                    '--threads',
                    str(options.threads),
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
            looked, strange = (
                looked_at(folder, shards, options.work / 'decision')
                for shards in (
                    render.shards_of(data, 'val'),
                    decoy_shards(decoys, DECOY_BELTS, jobs=options.threads),
                )
            )
            write_decision(options.models, fit_decision(folder, looked, decoys=strange))
        else:
            write_readme(options.models, CLASS_IDS)


if __name__ == '__main__':
    main()
