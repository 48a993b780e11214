# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Own items over real DDS: collecting from a running cell, and sorting with own models."""

from __future__ import annotations

import array
import io
import threading

import numpy as np
import pytest
from PIL import Image as Picture

pytest.importorskip('rclpy')
pytest.importorskip('stl_conveyor.msg')

import yaml  # noqa: E402
from cell_harness import GUARD, ROOT, CellHarness, device_specs, make_capture  # noqa: E402

from stl_conveyor.cli.main import main  # noqa: E402
from stl_conveyor.models.classifier import Classifier  # noqa: E402
from stl_conveyor.models.model_folder import ModelFolder  # noqa: E402
from stl_conveyor.msg import ItemCapture  # noqa: E402
from stl_conveyor.nodes.base.runner import NodeSpec  # noqa: E402
from stl_conveyor.nodes.device.camera import Camera  # noqa: E402
from stl_conveyor.nodes.device.item_collector import collect_from_cell  # noqa: E402
from stl_conveyor.vision.label_folder import Collector, LabelFolder  # noqa: E402
from stl_conveyor_lab.train.tiny import make_tiny_model_folder, tiny_images  # noqa: E402

pytestmark = pytest.mark.ros

LABELS = ('teapot', 'mug', 'plate')
SIZE = 96


def test_items_of_a_running_cell_land_in_the_folder_each_once(tmp_path):
    collector = Collector(LabelFolder(tmp_path, 'mug'), count=3, stream=io.StringIO())
    complaints = []
    with CellHarness([], watched=('capture',)) as cell:
        thread = threading.Thread(
            target=collect_from_cell,
            args=(collector,),
            kwargs={'domain_id': cell.domain_id, 'warn': complaints.append},
        )
        thread.start()
        try:
            # The probe is one reader, the collector the other.
            publisher = cell.publisher('capture', ItemCapture, readers=2)
            begin = cell.now_ns()
            messages = [
                make_capture(k, begin + k, np.full((48, 48, 3), 10 * k, np.uint8))
                for k in (1, 2, 3, 4)
            ]
            broken = make_capture(9, begin + 9, np.zeros((48, 48, 3), np.uint8))
            broken.crop.data = array.array('B', b'short')
            nobody = make_capture(0, begin, np.zeros((48, 48, 3), np.uint8))
            for message in (messages[0], messages[0], broken, nobody, *messages[1:]):
                publisher.publish(message)
            thread.join(timeout=20)
            assert not thread.is_alive()
        finally:
            collector.done.set()  # else its thread would outlive a failure
            thread.join(timeout=5)
    collector.finish()
    assert collector.folder.added == 3
    means = [
        int(np.asarray(Picture.open(path)).mean()) for path in sorted((tmp_path / 'mug').iterdir())
    ]
    assert means == [10, 20, 30]
    assert len(complaints) == 2 and 'item 9' in complaints[0] and 'item 0' in complaints[1]


def test_a_collector_in_another_namespace_hears_nothing_and_says_so(tmp_path, monkeypatch):
    from stl_conveyor.nodes.device import item_collector

    monkeypatch.setattr(item_collector, 'PATIENCE', 0.3)
    collector = Collector(LabelFolder(tmp_path, 'mug'), stream=io.StringIO())
    complaints = []

    def warn(text):
        complaints.append(text)
        collector.done.set()

    with CellHarness([], watched=()) as cell:
        collect_from_cell(collector, 'cell_7', domain_id=cell.domain_id, warn=warn)
    assert '/cell_7/capture' in complaints[0] and 'nobody publishes it' in complaints[0]


def test_own_models_and_a_folder_of_pictures_give_answers(tmp_path, capsys):
    """The way of docs/own_items.md: export, unpack, and let the cell see pictures."""
    images, _ = tiny_images(5, len(LABELS), SIZE, seed=4)
    (tmp_path / 'pictures').mkdir()
    for number, image in enumerate(images):
        Picture.fromarray(image).save(tmp_path / 'pictures' / f'{number}.png')
    made = make_tiny_model_folder(tmp_path / 'made', LABELS, SIZE)
    models = tmp_path / 'models'
    assert main(['export', str(made), '--out', str(tmp_path / 'm.zip')]) == 0
    assert main(['export', str(tmp_path / 'm.zip'), '--out', str(models)]) == 0
    # A slow belt, so that a loaded machine is not a failure; the own classes on its lanes.
    content = yaml.safe_load((ROOT / 'config' / 'cell.yaml').read_text(encoding='utf-8'))
    content['belt']['speed'] = 0.1
    content['camera']['crop_size'] = SIZE
    content['guard'] = GUARD
    for lane, name in zip(content['lanes'], LABELS):
        lane['classes'] = [name]
    (tmp_path / 'cell.yaml').write_text(yaml.safe_dump(content), encoding='utf-8')
    cell_file = {'cell_file': str(tmp_path / 'cell.yaml')}
    specs = [
        *device_specs(models, actuator=cell_file, offload_policy=cell_file, encoder=cell_file),
        NodeSpec(
            Camera,
            {
                **cell_file,
                'source': 'folder',
                'rate': 2.0,
                'folder': str(tmp_path / 'pictures'),
                'autostart': False,
            },
            group='camera',
        ),
    ]
    with CellHarness(specs) as cell:
        cell.wait_active()
        cell.connect('capture', publishers=0, readers=3)
        camera = cell.runner.node('camera')
        camera.executor.create_task(
            lambda: (camera.trigger_configure(), camera.trigger_activate())
        )
        cell.wait(lambda: len(cell.outcomes()) >= len(images), 40, 'an outcome for each picture')
        outcomes = sorted(cell.outcomes(), key=lambda message: message.item_id)
    folder = ModelFolder(models)
    strong = Classifier(folder.path('strong')).classify_batch(images).argmax(1)
    right = [outcome.class_id == LABELS[k] for outcome, k in zip(outcomes, strong)]
    assert sum(right) >= len(images) - 1
    assert {outcome.lane for outcome in outcomes} <= {'A', 'B', 'C', 'reject'}
    for outcome in outcomes:
        if outcome.class_id:
            lane = next(
                lane['name'] for lane in content['lanes'] if outcome.class_id in lane['classes']
            )
            assert outcome.lane == lane
