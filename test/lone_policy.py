# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""The offload policy as the only node, with an edge that is played to it."""

from __future__ import annotations

from contextlib import contextmanager

from cell_harness import CellHarness, described

from stl_conveyor.msg import FeatureFeedback
from stl_conveyor.nodes.base.runner import NodeSpec
from stl_conveyor.nodes.device.offload_policy import OffloadPolicy


@contextmanager
def lone_policy(models, *watched, **parameters):
    """Yield a cell with the policy alone, active, and its node; a sign of life lasts a minute.

    Args:
        models: Folder of the models.
        watched: Topics that are heard beside its decisions and diagnostics.
        parameters: Of the node.
    """
    given = {
        'models_dir': str(models),
        'answer_time': 0.0,
        **described(edge__timeout=60.0),
        **parameters,
    }
    with CellHarness(
        [NodeSpec(OffloadPolicy, given)], watched=('offload_decision', '/diagnostics', *watched)
    ) as cell:
        cell.wait_active()
        for topic in ('offload_decision', *watched):
            cell.connect(topic)
        yield cell, cell.runner.node('offload_policy')


def let_edge_live(cell, node):
    """Give a sign of life of the edge, and wait until it is heard."""
    cell.publisher('feedback_rx').publish(
        FeatureFeedback(codec_id=node.codec_id, status=FeatureFeedback.STATUS_ALIVE)
    )
    cell.wait(lambda: node.edge_alive, 10, 'a sign of life')
