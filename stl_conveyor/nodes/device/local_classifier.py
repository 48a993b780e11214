# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Classify every item on the device with the weak model."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass

import numpy as np

from stl_conveyor.cell.description import CellDescription
from stl_conveyor.cell.number_gaps import NumberGaps
from stl_conveyor.decision.drift import DriftWatch, look_at
from stl_conveyor.decision.of_folder import detector_of
from stl_conveyor.decision.stranger_detector import LOCAL
from stl_conveyor.errors import ModelFileError
from stl_conveyor.models.classifier import Classifier
from stl_conveyor.models.model_folder import ModelFolder
from stl_conveyor.msg import Classification, ItemCapture
from stl_conveyor.nodes.base.clock import to_ns
from stl_conveyor.nodes.base.conveyor_node import ConveyorNode
from stl_conveyor.nodes.base.health import Level
from stl_conveyor.nodes.base.items import configured_path, float_array, item_key, model_image
from stl_conveyor.nodes.base.runner import run_node
from stl_conveyor.nodes.base.settings import NodeSettings, parameter

NO_DOUBT = np.empty(0, np.float32)
SURE = 0.9  # trust from which an answer tells drift which class came


@dataclass(frozen=True)
class LocalClassifierSettings(NodeSettings):
    """Parameters of the local classifier."""

    cell_file: str = parameter(
        '', 'Cell description (YAML). Empty: the one that the package ships.'
    )
    models_dir: str = parameter('', 'Model folder. Empty: the one that the package ships.')
    threads: int = parameter(1, 'Threads of the model.', minimum=1, maximum=64)


class LocalClassifier(ConveyorNode):
    """See the module."""

    NAME = 'local_classifier'
    SETTINGS = LocalClassifierSettings

    def configure(self) -> None:
        """Load and check the weak model."""
        folder = ModelFolder(configured_path(self.settings.models_dir, 'models/items'))
        self.strangers = detector_of(folder, LOCAL)
        self.classifier = Classifier(
            folder.path('weak'),
            self.settings.threads,
            () if self.strangers is None else self.strangers.tensors,
        )
        if (self.classifier.labels, self.classifier.image_size) != (
            len(folder.labels),
            folder.image_size,
        ):
            raise ModelFileError(
                f'{folder.path("weak")}: has {self.classifier.labels} labels and images of '
                f'{self.classifier.image_size}, the manifest says {len(folder.labels)} and '
                f'{folder.image_size}; export the folder again'
            )
        self.labels = folder.labels
        cell = CellDescription.load(configured_path(self.settings.cell_file, 'config/cell.yaml'))
        self.drift = DriftWatch(0.0 if self.strangers is None else cell.strangers.rejects)
        self.model_id = folder.model_id('weak')
        self.health.set_value('model', f'{folder.name} weak {self.model_id:016x}')

    def activate(self) -> None:
        """Listen for captures."""
        self._publisher = self.publish_on('classification')
        self._gaps = NumberGaps()
        self.listen('capture', self._on_capture, sole=True)

    def cleanup(self) -> None:
        """Drop the model."""
        self.forget('classifier', 'strangers')

    def _on_capture(self, message: ItemCapture) -> None:
        key = item_key(message)
        if missed := len(self._gaps.heard(key)):
            self.health.count('captures_missed', missed)
        if to_ns(message.deadline) < self.schedule_clock.ros_now_ns():
            self.warn('too_late', f'item {key.item_id} came after its deadline')
            return
        started = time.perf_counter()
        image = model_image(message.crop, self.classifier.image_size)
        answers, doubts, inside = self.classifier.look_inside(image[np.newaxis])
        probabilities = answers[0]
        unknown = 0.0 if self.strangers is None else float(self.strangers.unknown(inside)[0])
        compute_time = time.perf_counter() - started
        best = int(probabilities.argmax())
        self._publisher.publish(
            Classification(
                header=message.header,
                item_id=key.item_id,
                deadline=message.deadline,
                source=Classification.SOURCE_LOCAL,
                class_id=self.labels[best],
                score=min(1.0, float(probabilities[best])),
                probabilities=float_array(probabilities),
                posterior=float_array(NO_DOUBT if doubts is None else doubts[0]),
                model_id=self.model_id,
                final=True,
                compute_time=compute_time,
                unknown=unknown,
            )
        )
        self.tick('items')
        self.health.sample('compute_time', compute_time)
        # After the answer is out: it is for people, and keeps no item waiting.
        trust = float(probabilities[best] if doubts is None else doubts[0][best])
        label = self.labels[best] if trust >= SURE else ''
        for change in self.drift.add(look_at(image), label, unknown):
            if change.over:
                self.clear_condition(change.name, change.text)
            else:
                self.set_condition(
                    change.name, Level.WARN, f'{change.text} (since {change.items} items)'
                )


def main(arguments: list[str] | None = None) -> int:
    """Run the node as a process."""
    return run_node(LocalClassifier, arguments)


if __name__ == '__main__':
    sys.exit(main())
