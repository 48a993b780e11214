# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Pictures of items from the simulated cell that both models know when nothing is wrong."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stl_conveyor.cell.description import CellDescription
from stl_conveyor.codec import Decoder, Encoder
from stl_conveyor.errors import ConveyorError
from stl_conveyor.models.classifier import Classifier
from stl_conveyor.models.model_folder import ModelFolder
from stl_conveyor.resources import share_path
from stl_conveyor.sim.arrivals import ArrivalSettings, plan_items
from stl_conveyor.sim.cell_events import Exposed
from stl_conveyor.sim.mujoco_cell import MujocoCell
from stl_conveyor.vision.image import crop_square

SEED = 431
TRIED, WANTED = 60, 12


@dataclass(frozen=True)
class Picture:
    """A picture u8[H, W, 3] of the camera, and the lane into which its item belongs."""

    image: NDArray[np.uint8]
    lane: str


def known_pictures(cell: CellDescription) -> Sequence[Picture]:
    """Return pictures whose items the device and the edge sort rightly.

    So what goes into a wrong lane does so by what was done to the cell.

    Raises:
        ConveyorError: If the models know none of the items.
    """
    folder = ModelFolder(share_path('models/items'))
    weak, encoder, decoder = Classifier(folder.path('weak')), Encoder(folder), Decoder(folder)
    plan = plan_items(TRIED, SEED, cell.classes, ArrivalSettings())
    found: list[Picture] = []
    seen = 0
    # Its renderers are freed where they were made: OpenGL lets no other thread do it.
    with closing(MujocoCell(cell, plan, SEED)) as simulated:
        while seen < TRIED and len(found) < WANTED:
            for event in simulated.step_until(simulated.time + 0.1):
                if not isinstance(event, Exposed):
                    continue
                seen += 1
                middle = ((event.image.shape[0] - 1) / 2, (event.image.shape[1] - 1) / 2)
                crop = crop_square(event.image, *middle, cell.camera.crop_size)
                session = decoder.start()
                for packet in encoder.encode(crop, max_bytes=2000).packets:
                    session.add(packet)
                lane = cell.lane_of(event.class_id)
                answers = (weak.classify(crop), decoder.classify([session])[0])
                if all(cell.lane_of(folder.labels[int(a.argmax())]) == lane for a in answers):
                    found.append(Picture(np.array(event.image), lane))
    if not found:
        raise ConveyorError('the models that ship know none of the simulated items')
    return found
