# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Add to pyproject.toml what is computed: the version, the files and the compiled loops."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

from setuptools import Extension, find_packages, setup

ROOT = Path(__file__).resolve().parent
PACKAGE = 'stl_conveyor'
#: Folders without Python code, which setuptools wants to be named all the same.
DATA = (f'{PACKAGE}.sim.data', f'{PACKAGE}.web.static')


def shipped(folder: str) -> list[tuple[str, list[str]]]:
    """Return the entries of `data_files` for all files below a folder, as CMake installs them."""
    files = [
        path.relative_to(ROOT)
        for path in sorted((ROOT / folder).rglob('*'))
        if path.is_file() and '__pycache__' not in path.parts
    ]
    parents = sorted({path.parent for path in files})
    return [
        (f'share/{PACKAGE}/{parent}', [str(path) for path in files if path.parent == parent])
        for parent in parents
    ]


setup(
    version=ElementTree.parse(ROOT / 'package.xml').findtext('version'),
    packages=[*find_packages(include=[PACKAGE, f'{PACKAGE}.*']), *DATA],
    package_data={
        **dict.fromkeys(DATA, ['*']),
        f'{PACKAGE}.panel': ['texts/*.yaml'],
        f'{PACKAGE}.web': ['*.js'],
    },
    data_files=[
        entry
        for folder in ('config', 'launch', 'layouts', 'models', 'worlds')
        for entry in shipped(folder)
    ],
    # The codec's inner loops; where there is no compiler, Python code makes the same bytes.
    ext_modules=[
        Extension(
            f'{PACKAGE}._{loop}',
            [f'src/{loop}.c'],
            optional=True,
            extra_compile_args=['-O3', '-ffp-contract=off'],
        )
        for loop in ('coder', 'transform')
    ],
    zip_safe=False,
)
