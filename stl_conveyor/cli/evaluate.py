# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""The command `stl-conveyor evaluate`: what the models know, and what offloading buys."""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path
from typing import Any


def _evaluate(options: argparse.Namespace) -> None:
    # Pulls in the codec and the policies, which no other command of this kind needs.
    from stl_conveyor.assess.evaluation import evaluate
    from stl_conveyor.cell.description import CellDescription

    evaluate(
        options.models,
        options.data,
        options.out,
        options.budget,
        options.split,
        options.label_column,
        show=partial(print, flush=True),
        cell=None if options.cell is None else CellDescription.load(options.cell),
        strangers=options.strangers,
    )


def add_evaluate(commands: Any) -> None:
    """Add the command to the parsers of `stl-conveyor`."""
    evaluate = commands.add_parser(
        'evaluate',
        help='report what models know about labelled pictures',
        description='Writes evaluation.md, evaluation.json, items.csv and pictures.',
    )
    evaluate.set_defaults(run=_evaluate)
    evaluate.add_argument('models', type=Path, metavar='MODELS')
    evaluate.add_argument(
        '--data',
        type=Path,
        required=True,
        help="folder of pictures, or images/ of a training's work folder",
    )
    evaluate.add_argument('--out', type=Path, required=True)
    evaluate.add_argument('--budget', type=int, default=512, help='bytes of an offload')
    evaluate.add_argument(
        '--split',
        choices=('train', 'val', 'test', 'all'),
        help='default: test, else val, else all',
    )
    evaluate.add_argument('--label-column', help='of the CSV files')
    evaluate.add_argument(
        '--cell',
        type=Path,
        help='a cell description: purity, yield, rejects and cost of its lanes are reported too',
    )
    evaluate.add_argument(
        '--strangers',
        type=Path,
        help='folder of pictures of what belongs to no class, with --cell',
    )
