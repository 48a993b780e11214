# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""The command that runs the simulated cell: every node in a process of its own, over real DDS.

``python -m stl_conveyor.run --items 200 --seed 1 --out out`` shows a live table and ends with a
summary, OUT/summary.json, OUT/items.csv and OUT/report.html. Exit code 0 if every item came to
rest, 1 if not or if the machine was too slow to simulate the cell, 2 if the cell could not start,
130 after Ctrl-C, which writes the results so far and marks them incomplete.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import socket
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from stl_conveyor.errors import ConfigError, MissingDependency, exit_code, install_words
from stl_conveyor.interrupts import take_sigterm_like_ctrl_c
from stl_conveyor.resources import share_path
from stl_conveyor.run.domain import domain_of_its_own
from stl_conveyor.run.faults import fault_names, named_fault
from stl_conveyor.run.nursery import Nursery
from stl_conveyor.run.plan import process_plan
from stl_conveyor.run.processes import ProcessPlan
from stl_conveyor.run.settings import DEVICE_PROCESS, RunSettings, parse_override
from stl_conveyor.run.summary import Summary
from stl_conveyor.sim.arrivals import ARRIVALS
from stl_conveyor.sim.link import LINKS

VIEW = 'cell_simulator.viewer=true'
RECORDING = 'run.mcap'  # in the folder of the results
VIEW_RATE = 5.0  # pictures of the cell in a second, of a recording
PAGE_PORT = 8090  # of the operator's page, where it is free
# What the page keeps, beside the recording: parameter → file.
PAGE_LOGS = {'alarm_log': 'alarms.jsonl', 'counts_file': 'counts.json'}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of a run to a parser."""
    defaults = RunSettings()
    parser.add_argument('--items', type=int, default=defaults.items, help='number of items')
    parser.add_argument(
        '--seed',
        type=int,
        default=defaults.seed,
        help='seeds all randomness: the same seed gives the same items',
    )
    parser.add_argument('--out', type=Path, default=Path('out'), help='folder for the results')
    parser.add_argument('--policy', default=defaults.policy, help='which policy decides')
    parser.add_argument(
        '--rate', type=float, default=defaults.rate, help='tokens per time unit, r'
    )
    parser.add_argument(
        '--bucket', type=float, default=defaults.bucket, help='most tokens kept, b'
    )
    parser.add_argument(
        '--link',
        default=defaults.link,
        choices=LINKS,
        help='bandwidth by the jamming it was measured under',
    )
    parser.add_argument(
        '--fault',
        default=defaults.fault,
        metavar='FAULT',
        help=f'what goes wrong in mid-run: {fault_names()}',
    )
    parser.add_argument(
        '--arrivals', default=defaults.arrivals, choices=ARRIVALS, help='arrival process'
    )
    parser.add_argument(
        '--foreign-share',
        type=float,
        default=defaults.foreign_share,
        metavar='SHARE',
        help='of the items that do not belong on the belt, 0 to 1',
    )
    parser.add_argument(
        '--time-unit',
        type=float,
        default=defaults.time_unit,
        help='seconds, the shortest item period',
    )
    parser.add_argument(
        '--models', default='', metavar='DIR', help='model folder; default: the shipped one'
    )
    parser.add_argument(
        '--cell', default='', metavar='FILE', help='cell description; default: the shipped one'
    )
    parser.add_argument(
        '--set',
        action='append',
        default=[],
        metavar='NODE.PARAMETER=VALUE',
        dest='overrides',
        help='any parameter of any node; may be repeated',
    )
    parser.add_argument(
        '--apart', action='store_true', help='run each node of the device in a process of its own'
    )
    parser.add_argument(
        '--page',
        action=argparse.BooleanOptionalAction,
        default=False,
        help="serve the operator's page while the cell runs",
    )
    parser.add_argument(
        '--view',
        action=argparse.BooleanOptionalAction,
        default=False,
        help="show the cell in MuJoCo's viewer, where there is a screen",
    )
    parser.add_argument(
        '--record',
        action=argparse.BooleanOptionalAction,
        default=False,
        help='record everything that is said into OUT/run.mcap',
    )
    parser.add_argument(
        '--plain', action='store_true', help='one line per item instead of a live table'
    )


def settings_of(options: argparse.Namespace) -> RunSettings:
    """Return what a command line asks for.

    Raises:
        ConfigError: Naming the option that cannot be used.
    """
    if options.items < 1:
        raise ConfigError(f'--items {options.items}: a run needs at least one')
    if not 0.0 <= options.foreign_share <= 1.0:
        raise ConfigError(f'--foreign-share {options.foreign_share}: it is a share, 0 to 1')
    if named_fault(options.fault).kill == DEVICE_PROCESS and options.apart:
        raise ConfigError(
            f'--fault {options.fault}: with --apart the device is no process; name a node, or '
            'leave --apart out'
        )
    for override in options.overrides:
        parse_override(override)
    return RunSettings(
        items=options.items,
        seed=options.seed,
        policy=options.policy,
        rate=options.rate,
        bucket=options.bucket,
        link=options.link,
        fault=options.fault,
        arrivals=options.arrivals,
        foreign_share=options.foreign_share,
        time_unit=options.time_unit,
        models=options.models,
        cell=options.cell,
        composed=not options.apart,
        overrides=(*options.overrides, *([VIEW] if options.view else [])),
    )


def run(options: argparse.Namespace, nursery: Nursery | None = None) -> int:
    """Run the cell as a command line asks for; return the exit code.

    Args:
        nursery: What forks the processes, if it was started already.

    Raises:
        ConveyorError: If the cell cannot start.
        MissingDependency: If there is no ROS 2 or no simulator.
    """
    settings = settings_of(options)
    if options.view:
        try:
            from stl_conveyor.sim.cell_viewer import check_screen
        except (ImportError, AttributeError) as error:  # the latter: OpenGL is not there
            raise MissingDependency(
                f'the viewer needs MuJoCo ({error}): pip install mujoco'
            ) from error
        check_screen()
    take_sigterm_like_ctrl_c()
    # It loads what the nodes need while this process loads its own.
    with contextlib.closing(nursery or Nursery()) as forks:
        return _run(settings, options, forks)


def _run(settings: RunSettings, options: argparse.Namespace, nursery: Nursery) -> int:
    try:
        from stl_conveyor.run.cell_run import RunInterrupted, run_cell
    except ImportError as error:
        raise MissingDependency(
            f'a run needs ROS 2 and the built messages ({error}): source the setup file of your '
            'workspace, or use make run in a checkout'
        ) from error
    try:
        with domain_of_its_own(print):
            result = run_cell(
                settings,
                options.out,
                'lines' if options.plain else 'auto',
                onlookers=onlooker_plans(settings, options, print),
                nursery=nursery,
            )
    except RunInterrupted as interrupted:
        print_result(interrupted.result.summary, options.out)
        raise
    print_result(result.summary, options.out)
    return 0 if result.summary.complete and not result.summary.too_slow else 1


def onlooker_plans(
    settings: RunSettings, options: argparse.Namespace, say: Callable[[str], None]
) -> list[ProcessPlan]:
    """Return how to start who was asked to look on, as far as it is installed."""
    page = page_plan(settings, options.out, say) if options.page else None
    recorder = recorder_plan(options.out, say) if options.record else None
    drawn = None if recorder is None else view_plan(settings)
    return [plan for plan in (page, recorder, drawn) if plan is not None]


def view_plan(settings: RunSettings) -> ProcessPlan:
    """Return how to draw the cell, which a recording is looked at with (layouts/cell.json)."""
    parameters: dict[str, object] = {'rate': VIEW_RATE}
    if settings.cell:
        parameters['cell_file'] = str(Path(settings.cell).absolute())
    return process_plan('cell_view', parameters, share_path('config/panel.yaml'))


def recorder_plan(out: Path, say: Callable[[str], None]) -> ProcessPlan | None:
    """Return how to record a run into its folder.

    None, and a word about it, where the library for it is not installed: the cell runs without.
    """
    if importlib.util.find_spec('mcap') is None:
        say(f'without a recording; to have one: {install_words("recording")}')
        return None
    path = Path(out).absolute() / RECORDING
    plan = process_plan('recorder', {'file': str(path)}, share_path('config/panel.yaml'))
    return replace(plan, replaces=(path,))


def page_plan(settings: RunSettings, out: Path, say: Callable[[str], None]) -> ProcessPlan | None:
    """Return how to start the operator's page, and say where it will be.

    None, and a word about it, where NiceGUI is not installed: the cell runs without.
    """
    if importlib.util.find_spec('nicegui') is None:
        say(f"without the operator's page; to have it: {install_words('hmi')}")
        return None
    port = free_port(PAGE_PORT)
    say(f"operator's page: http://127.0.0.1:{port}/")
    logs = {name: Path(out).absolute() / file for name, file in PAGE_LOGS.items()}
    parameters: dict[str, object] = {'port': port}
    parameters |= {name: str(path) for name, path in logs.items()}
    for name, path in (('cell_file', settings.cell), ('models_dir', settings.models)):
        if path:
            parameters[name] = str(Path(path).absolute())
    plan = process_plan('operator_panel', parameters, share_path('config/panel.yaml'))
    # Alarms and items of the run before are not those of this one.
    return replace(plan, replaces=tuple(logs.values()))


def free_port(wanted: int) -> int:
    """Return a port of this machine that nobody listens to: the wanted one, if possible."""
    for port in (wanted, 0):
        with socket.socket() as opened, contextlib.suppress(OSError):
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            opened.bind(('127.0.0.1', port))
            return int(opened.getsockname()[1])
    return wanted


def print_result(summary: Summary, out: Path) -> None:
    """Print the result of a run for people."""
    rows = summary.rows()
    width = max(len(name) for name, _ in rows)
    print()
    for name, value in rows:
        print(f'{name.ljust(width)}  {value}')
    for warning in (summary.incomplete, summary.too_slow):
        if warning:
            print(f'\n{warning}')
    print(f'\nreport: {out / "report.html"}')


def main(arguments: Sequence[str] | None = None, nursery: Nursery | None = None) -> int:
    """Run the cell from the command line and return the exit code."""
    parser = argparse.ArgumentParser(
        prog='python -m stl_conveyor.run', description='Run the simulated cell over real DDS.'
    )
    add_arguments(parser)
    options = parser.parse_args(arguments)
    return exit_code('run', lambda: run(options, nursery))
