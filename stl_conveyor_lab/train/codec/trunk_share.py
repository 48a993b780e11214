# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""How much of a running start's trunk suits a trunk that was tuned on somebody's items.

What reading decoded images changed in the published trunk helps where little arrives, and may harm
where much does, the more so the further a tuned trunk is from the published one. So validation
images decide before the training begins.
"""

from __future__ import annotations

import json
from pathlib import Path

import torch

from stl_conveyor.vision.image_folder import LabelledImages
from stl_conveyor_lab.train.codec.edge_network import EdgeNetwork
from stl_conveyor_lab.train.codec.prefixes import PrefixSampler
from stl_conveyor_lab.train.codec.running_start import RunningStart
from stl_conveyor_lab.train.lite0 import title

#: What is tried, the usual one first; the bytes at which it is judged, and on how many images.
SHARES, SIZES, IMAGES = (1.0, 0.5, 0.0), (256, 1024, 4096), 96
BATCH = 32


@torch.no_grad()
def right_answers(network: EdgeNetwork, sampler: PrefixSampler, images: LabelledImages) -> int:
    """Return how many answers to prefixes of SIZES are right, of all images together."""
    device = next(network.parameters()).device
    right = 0
    for at in range(0, len(images.classes), BATCH):
        pixels = torch.from_numpy(images.images[at : at + BATCH]).to(device)
        classes = torch.from_numpy(images.classes[at : at + BATCH]).to(device)
        for size in SIZES:
            lengths = torch.full((len(pixels),), float(size), device=device)
            logits, _ = network.logits(*sampler(pixels, lengths))
            right += int((logits.argmax(1) == classes).sum())
    return right


def give_best_share(
    start: RunningStart,
    network: EdgeNetwork,
    sampler: PrefixSampler,
    validation: LabelledImages,
    seed: int,
    path: Path,
) -> float | None:
    """Give a running start to a network, with the share of its trunk that is right most often.

    Args:
        start: What is given.
        network: It is changed; lies where it is trained.
        sampler: Gives the latents of prefixes; lies there, too.
        validation: Images that the network is not trained on; some are drawn.
        seed: Of the draw.
        path: Where the choice is kept, so that a training that goes on makes the same.

    Returns:
        The share; None if there are no differences, or those of another trunk than the
        network's, which then gets the restoration alone.
    """
    if not start.suits(network):
        start.give(network, None)
        if start.moves_trunk:
            print(
                f'the running start has another trunk than {title(network.trunk.name)}: its '
                'restoration alone is taken over',
                flush=True,
            )
        return None
    if path.exists():
        share = float(json.loads(path.read_text(encoding='utf-8'))['share'])
        start.give(network, share)
        return share
    few = validation.sample(IMAGES, seed)
    before = {name: value.clone() for name, value in network.trunk.state_dict().items()}
    mode = network.training
    network.eval()
    right = {}
    for share in SHARES:
        network.trunk.load_state_dict(before)
        start.give(network, share)
        right[share] = right_answers(network, sampler, few)
    share = max(SHARES, key=lambda one: right[one])
    network.trunk.load_state_dict(before)
    start.give(network, share)
    network.train(mode)
    asked = len(SIZES) * len(few.classes)
    shown = {str(one): round(count / max(1, asked), 4) for one, count in right.items()}
    path.write_text(json.dumps({'share': share, 'right': shown}) + '\n', encoding='utf-8')
    print(f'share of the trunk of the running start: {share:g} (right: {shown})', flush=True)
    return share
