# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""
Train everything that ships for the cell's items, from an empty folder to a model folder.

    python -m stl_conveyor.training --work FOLDER --models models/items [--from STAGE]

The stages are render, weak, strong, codec, reward and cards; each keeps what it has done, so the
command can be stopped and run again. On two cores the whole takes about an hour and a half.
"""
import argparse
from pathlib import Path

import numpy as np

from stl_conveyor.codec import Decoder, Encoder
from stl_conveyor.sim.parts import CLASS_IDS
from stl_conveyor.training import codec, policy, render
from stl_conveyor.training.classifiers import train_classifier
from stl_conveyor.training.manifest import write_readme
from stl_conveyor.vision.classifier import Classifier
from stl_conveyor.vision.model_folder import ModelFolder

STAGES = ('render', 'weak', 'strong', 'codec', 'reward', 'cards')
BATCH = 32


def edge_answers(folder, images, probabilities, budget, threads=2):
    """
    Return the edge's answers int [N] on what arrives of each image within a byte budget.

    images: uint8 [N, S, S, 3]. probabilities: the weak classifier's, float32 [N, C], which
    travel as side information.
    """
    encoder, decoder = Encoder(folder), Decoder(folder, threads=threads)
    answers = []
    for begin in range(0, len(images), BATCH):
        sessions = []
        for image, known in zip(images[begin:begin + BATCH], probabilities[begin:begin + BATCH]):
            session = decoder.start()
            for packet in encoder.encode(image, known, max_bytes=budget).packets:
                session.add(packet)
            sessions.append(session)
        answers.append(decoder.classify(sessions).argmax(1))
        print(f'edge answers {begin + len(sessions)}/{len(images)}', flush=True)
    return np.concatenate(answers)


def fit_reward(data, work, models, budget):
    """
    Fit the reward estimator on the validation renders, which no network was fitted to.

    budget: bytes of an offload, the nominal size of a token.
    """
    images = render.load_split(data, 'val')
    folder = ModelFolder(models)
    weak = Classifier(folder.path('weak'), threads=2)
    probabilities = np.concatenate([weak.classify_batch(images.pixels[i:i + BATCH])
                                    for i in range(0, len(images.labels), BATCH)])
    answers = edge_answers(folder, images.pixels, probabilities, budget)
    arrays = work / 'reward.npz'
    np.savez(arrays, probabilities=probabilities,
             weak_correct=probabilities.argmax(1) == images.labels,
             edge_correct=answers == images.labels)
    return policy.main(['--models', str(models), '--data', str(arrays)])


def main(arguments=None):
    """Parse the command line and run the stages."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[1])
    parser.add_argument('--work', type=Path, required=True, help='images, checkpoints, curves')
    parser.add_argument('--models', type=Path, required=True, help='the model folder to write')
    parser.add_argument('--from', dest='first', choices=STAGES, default=STAGES[0])
    parser.add_argument('--only', choices=STAGES, help='run one stage alone')
    parser.add_argument('--budget', type=int, default=512,
                        help='bytes of an offload for which the reward is fitted')
    options = parser.parse_args(arguments)
    data = options.work / 'images'
    stages = [options.only] if options.only else STAGES[STAGES.index(options.first):]
    for stage in stages:
        print(f'== {stage}', flush=True)
        if stage == 'render':
            render.render_splits(data, 112, (21, 4, 6))
        elif stage in ('weak', 'strong'):
            train_classifier(stage, data, options.work, options.models)
        elif stage == 'codec':
            codec.main(['--data', str(data), '--strong', str(options.work / 'strong.pt'),
                        '--work', str(options.work), '--models', str(options.models)])
        elif stage == 'reward':
            fit_reward(data, options.work, options.models, options.budget)
        else:
            write_readme(options.models, CLASS_IDS)


if __name__ == '__main__':
    main()
