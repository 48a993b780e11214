# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""The shipped codec on rendered items: more bytes, better answers."""

from __future__ import annotations

import numpy as np
import pytest

from stl_conveyor.codec import Decoder, Encoder
from stl_conveyor.errors import ConveyorError
from stl_conveyor.models.classifier import Classifier
from stl_conveyor.models.model_folder import ModelFolder
from stl_conveyor.resources import share_path

BUDGETS = (64, 256, 1024)


@pytest.fixture(scope='module')
def folder():
    try:
        found = ModelFolder(share_path('models/items'))
    except (ConveyorError, OSError) as error:
        pytest.skip(f'no shipped models: {error}')
    missing = {'weak', 'strong', 'encoder', 'edge'} - set(found.roles)
    if missing:
        pytest.skip(f'models/items has no {", ".join(sorted(missing))} yet')
    return found


@pytest.fixture(scope='module')
def items():
    mujoco = pytest.importorskip('mujoco', reason='rendering needs the extra [simulation]')
    from stl_conveyor_lab.bench.codec.accuracy import rendered_items

    try:
        return rendered_items(300)
    except (ConveyorError, mujoco.FatalError) as error:
        pytest.skip(f'cannot render here: {error}')


@pytest.fixture(scope='module')
def sessions(folder, items):
    encoder, decoder = Encoder(folder), Decoder(folder)
    weak = Classifier(folder.path('weak'))
    local = weak.classify_batch(items.images)
    found = {}
    for side in (False, True):
        for budget in BUDGETS:
            received = []
            for image, known in zip(items.images, local):
                session = decoder.start()
                for packet in encoder.encode(
                    image, known if side else None, max_bytes=budget
                ).packets:
                    session.add(packet)
                received.append(session)
            found[side, budget] = decoder.classify(received)
    return found


def right(answers, items):
    return float((answers.argmax(1) == items.classes).mean())


def loss(answers, items):
    chosen = answers[np.arange(len(items.classes)), items.classes]
    return float(-np.log(np.maximum(chosen, 1e-6)).mean())


@pytest.mark.parametrize('side', [False, True])
def test_more_bytes_are_no_worse_on_average(sessions, items, side):
    losses = [loss(sessions[side, budget], items) for budget in BUDGETS]
    assert losses[0] > losses[1] - 0.02 and losses[1] > losses[2] - 0.05
    accuracy = [right(sessions[side, budget], items) for budget in BUDGETS]
    assert accuracy[-1] >= accuracy[0]


def test_answers_are_near_the_strong_model_at_a_kilobyte(folder, sessions, items):
    strong = right(Classifier(folder.path('strong')).classify_batch(items.images), items)
    assert right(sessions[True, 1024], items) >= strong - 0.06


def test_side_information_never_leaves_it_below_the_local_model(folder, sessions, items):
    weak = right(Classifier(folder.path('weak')).classify_batch(items.images), items)
    for budget in BUDGETS:
        assert right(sessions[True, budget], items) >= weak - 0.04
        assert loss(sessions[True, budget], items) <= loss(sessions[False, budget], items) + 0.05
