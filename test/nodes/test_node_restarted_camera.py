# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""A camera that was killed and started again is heard from its first capture on."""

from __future__ import annotations

import array

import pytest

pytest.importorskip('rclpy')
pytest.importorskip('stl_conveyor.msg')

from cell_harness import GUARDED, CellHarness, NodeSpec, node_process, to_stamp  # noqa: E402
from sensor_msgs.msg import Image  # noqa: E402

from stl_conveyor.nodes.base.clock import to_ns  # noqa: E402
from stl_conveyor.nodes.device.actuator import Actuator  # noqa: E402

pytestmark = pytest.mark.ros


def test_captures_of_a_camera_that_was_started_again_all_have_their_outcomes():
    size = 256
    data = array.array('B', bytes(3 * size * size))
    spec = NodeSpec(Actuator, GUARDED)
    with CellHarness([spec], watched=('capture', 'sort_outcome')) as cell:
        cell.wait_active()
        cell.connect('sort_outcome')
        frames = cell.publisher('camera/image_raw', Image, readers=0)

        def captured():
            return {to_ns(m.header.stamp) for m in cell.heard.of('capture')}

        for number in range(3):
            before = captured()
            with node_process('camera', domain_id=cell.domain_id) as camera:

                def a_few_more(before=before):
                    frame = Image(height=size, width=size, step=3 * size, encoding='rgb8')
                    frame.header.stamp = to_stamp(cell.now_ns())
                    frame.data = data
                    frames.publish(frame)
                    return len(captured() - before) >= 10

                cell.wait(a_few_more, 60, f'captures of camera {number}')
                camera.kill()

        def all_acted_on():
            return captured() <= {to_ns(m.header.stamp) for m in cell.heard.of('sort_outcome')}

        cell.wait(all_acted_on, 10, 'outcomes of all that was captured')
