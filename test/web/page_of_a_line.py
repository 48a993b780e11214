# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""A page that a test tells everything, item by item. NiceGUI has one server for a process."""

from __future__ import annotations

import itertools
import time
from functools import cache
from pathlib import Path

from stl_conveyor.cell.description import CellDescription
from stl_conveyor.errors import Level
from stl_conveyor.panel.items import Answer, Offload, Outcome, Stroke, Truth
from stl_conveyor.panel.live_cell import Bucket, LiveCell
from stl_conveyor.resources import share_path
from stl_conveyor.vision.image import read_image

CELL = CellDescription.load(Path(__file__).parents[2] / 'config' / 'cell.yaml')
MODELS = share_path('models/items')


@cache
def server():
    """Return the server of this process, which is never stopped."""
    from stl_conveyor.web.server import PanelServer

    started = PanelServer('127.0.0.1', 0)
    started.start()
    return started


class Line:
    """A cell of which the test says everything."""

    def __init__(self, **arguments):
        self.live = LiveCell(CELL, labels=CELL.classes, models=MODELS, **arguments)
        self.numbers = itertools.count(1)
        self.crop = read_image(MODELS / 'sample.png')

    def item(
        self,
        class_id='hex_nut_m8',
        lane='A',
        *,
        right=True,
        offload=True,
        missed=False,
        reason=0,
        detail='',
    ):
        """Tell of an item from its capture to its rest; return its stamp."""
        number, stamp = next(self.numbers), time.time_ns()
        live = self.live
        live.take_capture(stamp, number, stamp + 780_000_000, self.crop)
        live.take_truth(stamp, Truth(class_id, lane))
        live.take_local(stamp, Answer(class_id, 0.6, ((class_id, 0.6), ('lock_nut_m8', 0.3))))
        live.take_decision(stamp, Offload(offload, 1, 'adaptive', 0.3, 0.1, 2.0, 400 * offload))
        if offload:
            live.take_transfer(stamp, 340)
            live.take_edge(stamp, Answer(class_id, 0.97, ((class_id, 0.97),), 340))
        live.take_outcome(
            stamp,
            number,
            Outcome(
                lane,
                class_id,
                0.97,
                2,
                0.035,
                missed,
                reason,
                detail,
                stamp + 740_000_000,
                0.02,
                0.2,
                340,
            ),
        )
        live.take_stroke(stamp, Stroke(1, 0.003, ''))
        live.take_truth(stamp, Truth(class_id, lane, lane if right else 'lost'))
        return stamp

    def bucket(self, *, alive=True, tokens=2.0):
        self.live.take_bucket(Bucket(tokens, 0.25, 4.0, 0.5, 0.1, 3.0, alive))

    def node(self, name='actuator', level=Level.OK):
        self.live.take_node(name, level, 'OK')

    def fault(self, node, fault, level, message='', count=1):
        self.live.take_fault(node, fault, level, message, 1.0, count)
