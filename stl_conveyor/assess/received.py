# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""What a decoder answers to the packets that arrive."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from stl_conveyor.codec import Decoder, EncodedItem

#: Items that are classified at a time.
BATCH = 32


def receive(
    decoder: Decoder, items: Sequence[EncodedItem], arrives: Sequence[Sequence[bool]] | None = None
) -> tuple[np.ndarray, float]:
    """Return the decoder's answers f32[N, C] and the mean of all bytes that arrived."""
    answers, received = [], []
    for at in range(0, len(items), BATCH):
        sessions = []
        for number, item in enumerate(items[at : at + BATCH], at):
            session = decoder.start()
            arrived = [
                packet
                for k, packet in enumerate(item.packets)
                if arrives is None or arrives[number][k]
            ]
            for packet in arrived:
                session.add(packet)
            received.append(sum(map(len, arrived)))
            sessions.append(session)
        answers.append(decoder.classify(sessions))
    return np.concatenate(answers), float(np.mean(received))
