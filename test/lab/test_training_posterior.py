# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""The second head of the weak model, and the streams that byte budgets are fitted on."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest

pytest.importorskip('torch')
onnx = pytest.importorskip('onnx')
pytest.importorskip('onnxruntime')

import torch  # noqa: E402

from stl_conveyor.errors import ModelFileError  # noqa: E402
from stl_conveyor.models.classifier import Classifier  # noqa: E402
from stl_conveyor.models.model_folder import ModelFolder  # noqa: E402
from stl_conveyor.policy import RewardEstimator  # noqa: E402
from stl_conveyor.policy.byte_budget import BudgetTable  # noqa: E402
from stl_conveyor.vision.image_folder import LabelledImages  # noqa: E402
from stl_conveyor_lab.data.streams import byte_budgets, load_streams  # noqa: E402
from stl_conveyor_lab.train.classifiers import posterior  # noqa: E402
from stl_conveyor_lab.train.classifiers.networks import WeakNet  # noqa: E402
from stl_conveyor_lab.train.onnx_export import export_onnx  # noqa: E402
from stl_conveyor_lab.train.pipeline import fit_reward  # noqa: E402
from stl_conveyor_lab.train.reward import fit as training  # noqa: E402
from stl_conveyor_lab.train.tiny import make_tiny_model_folder, tiny_images  # noqa: E402

LABELS = ('bolt', 'nut', 'washer')
SIZE = 64


class Calibrated(torch.nn.Module):
    """A weak network with random weights, as it is exported."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.network = WeakNet(len(LABELS), width=4)

    def forward(self, image):
        return torch.softmax(self.network(image), 1)


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """Return a tiny model folder whose weak model is a convolutional one."""
    path = make_tiny_model_folder(tmp_path_factory.mktemp('models'), LABELS, SIZE)
    export_onnx(
        Calibrated(),
        [torch.zeros(1, SIZE, SIZE, 3, dtype=torch.uint8)],
        path / 'weak.onnx',
        ['image'],
        ['probabilities'],
    )
    training.update_manifest(path, 'weak', 'weak.onnx')
    return path


def test_the_posterior_beside_the_answer(folder, tmp_path, monkeypatch):
    """The answer stays what it was; the posterior is a distribution, and a better one."""
    monkeypatch.setattr(posterior, 'EPOCHS', 40)
    monkeypatch.setattr(posterior, 'BATCH', 32)
    path = tmp_path / 'weak.onnx'
    shutil.copy(folder / 'weak.onnx', path)
    images, classes = tiny_images(400, len(LABELS), SIZE, 0)
    posterior.add_posterior(path, images, classes, len(LABELS))
    fresh, truth = tiny_images(200, len(LABELS), SIZE, 5)
    plain, doubting = Classifier(folder / 'weak.onnx'), Classifier(path)
    assert not plain.has_posterior and doubting.has_posterior
    assert plain.classify_doubting(fresh)[1] is None
    answers, told = doubting.classify_doubting(fresh)
    np.testing.assert_array_equal(answers, plain.classify_batch(fresh))
    np.testing.assert_array_equal(doubting.classify_batch(fresh), answers)
    np.testing.assert_allclose(told.sum(1), 1, atol=1e-5)
    assert (told.argmax(1) == truth).mean() > (answers.argmax(1) == truth).mean() + 0.2
    # Once more replaces the head.
    size = path.stat().st_size
    posterior.add_posterior(path, images, classes, len(LABELS), seed=1)
    assert abs(path.stat().st_size - size) < 200
    assert len(onnx.load(str(path)).graph.output) == 2


def test_models_without_convolutions_are_refused(tmp_path):
    """A weak model that has nothing to read from is named as the trouble."""
    path = make_tiny_model_folder(tmp_path, LABELS, SIZE)
    images, classes = tiny_images(20, len(LABELS), SIZE, 0)
    with pytest.raises(ModelFileError, match='two convolutions'):
        posterior.add_posterior(path / 'weak.onnx', images, classes, len(LABELS))


def test_one_command_fits_everything(folder, tmp_path, monkeypatch):
    """Posterior, reward estimate and byte budgets are written and entered in the manifest."""
    monkeypatch.setattr(posterior, 'EPOCHS', 10)
    monkeypatch.setattr(training, 'EPOCHS', 10)
    monkeypatch.setattr(training, 'MEMBERS', 1)
    models = tmp_path / 'models'
    shutil.copytree(folder, models)
    split = {
        name: LabelledImages(*tiny_images(count, len(LABELS), SIZE, seed))
        for name, count, seed in (('train', 300, 0), ('val', 120, 1))
    }
    fit_reward(split['val'], tmp_path, models, 256, threads=1, seen=split['train'])
    files = ModelFolder(models)
    assert {'weak', 'reward', 'budget'} <= set(files.roles)
    table = BudgetTable.load(files.path('budget'))
    budgets = byte_budgets(256)
    np.testing.assert_allclose(table.shares * table.nominal_bytes, budgets)
    measured = json.loads(files.path('reward').read_text())['measured']
    assert {'entropy', 'network', 'posterior', 'perfect'} <= set(measured['shares'][0])
    estimator = RewardEstimator.load(files.path('reward'))
    assert estimator.classes == len(LABELS)
    with np.load(tmp_path / 'reward.npz') as data:
        streams = load_streams(data)
        whole = streams[256].correct[:, -1]
        np.testing.assert_array_equal(data['edge_correct'], whole)
    for budget, recorded in streams.items():
        assert (recorded.bytes <= budget).all() and (recorded.bytes > 0).all()
        assert (np.diff(recorded.bytes, axis=1) >= 0).all()
        assert ((0 < recorded.score) & (recorded.score <= 1 + 1e-5)).all()
