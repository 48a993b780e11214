# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Hand a model folder on: verified, self-contained, as a folder or a zip file."""

from __future__ import annotations

import argparse
import io
import json
import shutil
import tempfile
import zipfile
from pathlib import Path, PurePosixPath
from typing import Any

from stl_conveyor.codec import Decoder, Encoder
from stl_conveyor.decision.of_folder import detector_of
from stl_conveyor.decision.stranger_detector import EDGE
from stl_conveyor.errors import ConfigError, ModelFileError
from stl_conveyor.models.classifier import Classifier
from stl_conveyor.models.model_folder import ModelFolder
from stl_conveyor.models.serving import write_repository
from stl_conveyor.outside_files import ZIP_ERRORS
from stl_conveyor.policy.reward import RewardEstimator

#: What a cell with an edge needs at least; `strong` tells in a report what the edge can reach.
ROLES = ('weak', 'strong', 'encoder', 'edge', 'reward')
#: A time that every zip file has, so that the same folder gives the same file.
_ZIP_TIME = (1980, 1, 1, 0, 0, 0)
#: How an inference server is started on its model repository, and where it listens then.
START = {'triton': 'tritonserver --model-repository={out}', 'mlserver': 'mlserver start {out}'}
PORTS = {'triton': 8001, 'mlserver': 8081}
#: Bytes that an archive may unpack to.
LARGEST_ARCHIVE = 2_000_000_000


def check_models(path: str | Path) -> ModelFolder:
    """Return a model folder of which every file is there, is the right one and can be loaded.

    Raises:
        ModelFileError: Naming the file and the remedy.
    """
    folder = ModelFolder(path)
    for role in dict.fromkeys((*ROLES, *folder.roles)):
        folder.path(role)
    for role in ('weak', 'strong'):
        classifier = Classifier(folder.path(role))
        if (classifier.labels, classifier.image_size) != (len(folder.labels), folder.image_size):
            raise ModelFileError(
                f'{folder.path(role)}: has {classifier.labels} labels and images of '
                f'{classifier.image_size}, the manifest says {len(folder.labels)} and '
                f'{folder.image_size}; train the {role} model again'
            )
    encoder, decoder = Encoder(folder), Decoder(folder)
    if encoder.spec.image_size != folder.image_size:
        raise ModelFileError(
            f'{folder.path("encoder")}: is for images of {encoder.spec.image_size}, the manifest '
            f'says {folder.image_size}; train the codec again'
        )
    del decoder
    estimator = RewardEstimator.load(folder.path('reward'))
    if estimator.classes != len(folder.labels):
        raise ModelFileError(
            f'{folder.path("reward")}: knows {estimator.classes} classes, the '
            f'manifest {len(folder.labels)}; fit the reward again'
        )
    return folder


def export_models(models: str | Path, out: str | Path) -> Path:
    """Write what a cell needs of a model folder, with its cards, to a new folder or `.zip` file.

    Raises:
        ModelFileError: When something is missing, changed or does not fit together, and
            ConfigError when `out` exists.
    """
    models, out = Path(models), Path(out)
    check_models(models)
    _refuse_existing(out)
    manifest = json.loads((models / 'manifest.json').read_text(encoding='utf-8'))
    files = {'manifest.json': (json.dumps(manifest, indent=1) + '\n').encode()}
    for entry in manifest['files'].values():
        files[PurePosixPath(entry['path']).as_posix()] = (models / entry['path']).read_bytes()
    for path in [*sorted(models.glob('*.card.json')), models / 'README.md']:
        if path.is_file():
            files[path.name] = path.read_bytes()
    out.parent.mkdir(parents=True, exist_ok=True)
    partial = out.with_name(f'.{out.name}.part')
    if out.suffix.lower() == '.zip':
        with zipfile.ZipFile(partial, 'w', zipfile.ZIP_DEFLATED) as archive:
            for name, data in files.items():
                archive.writestr(
                    zipfile.ZipInfo(f'{out.stem}/{name}', _ZIP_TIME), data, zipfile.ZIP_DEFLATED
                )
        with tempfile.TemporaryDirectory(dir=out.parent) as scratch:
            _unpack(partial, Path(scratch))
            check_models(Path(scratch))
    else:
        shutil.rmtree(partial, ignore_errors=True)
        for name, data in files.items():
            path = partial / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        check_models(partial)
    partial.rename(out)
    return out


def import_models(archive: str | Path, out: str | Path) -> Path:
    """Unpack an exported zip file to a new folder that `models_dir` takes; returns the folder.

    Raises:
        ModelFileError: When the archive or what it holds cannot be used, and ConfigError when
            `out` exists.
    """
    out = Path(out)
    _refuse_existing(out)
    out.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=f'.{out.name}.', dir=out.parent))
    try:
        _unpack(Path(archive), scratch)
        check_models(scratch)
        scratch.chmod(0o755)
        scratch.rename(out)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return out


def export_repository(models: str | Path, out: str | Path, kind: str, workers: int = 0) -> str:
    """Write the edge's network as an inference server takes it; return its name there.

    Args:
        out: A new folder.
        kind: 'triton' or 'mlserver'.
        workers: Items that the server computes at the same time; 0: as it does by itself.

    Raises:
        ModelFileError: When the models cannot be used, and ConfigError when `out` exists.
    """
    out = Path(out)
    folder = check_models(models)
    _refuse_existing(out)
    detector = detector_of(folder, EDGE)
    inside = () if detector is None else detector.tensors
    return write_repository(folder, inside, kind, out, workers=workers)


def _refuse_existing(out: Path) -> None:
    if out.exists():
        raise ConfigError(f'{out}: exists already; give a new name or remove it')


def _unpack(archive: Path, folder: Path) -> None:
    """Write the files of an archive, less the folder that they share, into `folder`."""
    try:
        with zipfile.ZipFile(archive) as stream:
            entries = [entry for entry in stream.infolist() if not entry.is_dir()]
            if sum(entry.file_size for entry in entries) > LARGEST_ARCHIVE:
                raise ModelFileError(
                    f'{archive}: unpacks to more than '
                    f'{LARGEST_ARCHIVE / 1e9:g} GB; that is no model folder'
                )
            manifests = [
                entry.filename
                for entry in entries
                if PurePosixPath(entry.filename).name == 'manifest.json'
            ]
            if len(manifests) != 1:
                raise ModelFileError(
                    f'{archive}: holds {len(manifests)} manifest.json, not one; '
                    'export the models again'
                )
            root = PurePosixPath(manifests[0]).parent
            for entry in entries:
                name = PurePosixPath(entry.filename)
                if '..' in name.parts or name.is_absolute():
                    raise ModelFileError(f'{archive}: {entry.filename!r} lies outside the folder')
                if not name.is_relative_to(root):
                    continue
                target = folder / name.relative_to(root)
                target.parent.mkdir(parents=True, exist_ok=True)
                with stream.open(entry) as source, open(target, 'wb') as sink:
                    shutil.copyfileobj(source, sink, io.DEFAULT_BUFFER_SIZE)
    except ZIP_ERRORS as error:
        raise ModelFileError(
            f'{archive}: cannot be unpacked ({error}); export the models again'
        ) from error


def _export(options: argparse.Namespace) -> None:
    if options.kind:
        name = export_repository(options.models, options.out, options.kind, options.workers)
        print(f'{options.out}: a model repository for {options.kind} with {name}')
        print(
            f'start the server: {START[options.kind].format(out=options.out.resolve())}\n'
            "then the edge with inference: open_inference and inference_urls: ['HOST:"
            f"{PORTS[options.kind]}']"
        )
        return
    if options.models.is_file():
        out = import_models(options.models, options.out)
    else:
        out = export_models(options.models, options.out)
    print(f'{out}: verified, {_megabytes(out):.1f} MB')
    if out.is_file():
        print('unpack it on device and edge: stl-conveyor export FILE.zip --out FOLDER')
        return
    print(f'start the cell with models_dir:={out.resolve()}')
    print('its classes, for the lanes of the cell file: ' + ', '.join(ModelFolder(out).labels))


def _megabytes(path: Path) -> float:
    files = [path] if path.is_file() else [p for p in path.rglob('*') if p.is_file()]
    return sum(p.stat().st_size for p in files) / 1e6


def add_export(commands: Any) -> None:
    """Add the command to the parsers of `stl-conveyor`."""
    export = commands.add_parser(
        'export',
        help='verify a model folder and hand it on, or unpack what was exported',
        description='MODELS is a model folder, written to a new folder or .zip file; or such a '
        'file, unpacked to a new folder.',
    )
    export.set_defaults(run=_export)
    export.add_argument('models', type=Path, metavar='MODELS')
    export.add_argument('--out', type=Path, required=True)
    export.add_argument(
        '--for',
        dest='kind',
        choices=tuple(START),
        help='write the network of the edge as this inference server takes it',
    )
    export.add_argument(
        '--workers', type=int, default=0, help='items that the server computes at the same time'
    )
