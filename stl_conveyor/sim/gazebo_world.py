# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""The command that writes the Gazebo world of a cell and the configuration of its bridges.

``python -m stl_conveyor.sim.gazebo_world [--cell FILE] [--out FOLDER]`` writes ``cell.sdf``,
``gazebo_bridge.yaml`` and ``gazebo_camera_bridge.yaml``. Without arguments it brings what the
package ships up to date.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from stl_conveyor.cell.description import CellDescription
from stl_conveyor.errors import exit_code
from stl_conveyor.resources import share_path, writing
from stl_conveyor.sim.gazebo.bridges import bridge_yaml, camera_bridges, control_bridges
from stl_conveyor.sim.gazebo.world import world_sdf


def files_of(cell: CellDescription) -> dict[str, str]:
    """Return the content of every file that Gazebo and its bridges need, by its name."""
    return {
        'cell.sdf': world_sdf(cell),
        'gazebo_bridge.yaml': bridge_yaml(control_bridges(cell), 'Commands, poses and the clock'),
        'gazebo_camera_bridge.yaml': bridge_yaml(camera_bridges(), 'The camera'),
    }


def write_files(cell: CellDescription, folder: Path) -> dict[str, Path]:
    """Write what :func:`files_of` returns; return where each file is."""
    folder.mkdir(parents=True, exist_ok=True)
    written = {}
    for name, content in files_of(cell).items():
        written[name] = folder / name
        with writing(written[name]):
            written[name].write_text(content, encoding='utf-8')
    return written


def shipped_files() -> dict[str, Path]:
    """Return where the package has the files made from its own config/cell.yaml."""
    return {
        name: Path(share_path('worlds' if name.endswith('.sdf') else 'config')) / name
        for name in ('cell.sdf', 'gazebo_bridge.yaml', 'gazebo_camera_bridge.yaml')
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the files; return the exit code, 2 if the description cannot be used."""
    parser = argparse.ArgumentParser(
        prog='python -m stl_conveyor.sim.gazebo_world',
        description='Make the Gazebo world of a cell and the configuration of its bridges.',
    )
    parser.add_argument(
        '--cell', type=Path, help='description of the cell (YAML); the default is config/cell.yaml'
    )
    parser.add_argument(
        '--out',
        type=Path,
        help='folder to write into; the default updates worlds/ and config/ of the package',
    )
    given = parser.parse_args(arguments)

    def work() -> None:
        cell = CellDescription.load(given.cell or share_path('config/cell.yaml'))
        if given.out:
            written = write_files(cell, given.out)
        else:
            written = shipped_files()
            for name, content in files_of(cell).items():
                with writing(written[name]):
                    written[name].write_text(content, encoding='utf-8')
        for path in written.values():
            print(path)

    return exit_code(parser.prog, work)


if __name__ == '__main__':
    sys.exit(main())
