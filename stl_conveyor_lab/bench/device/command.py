# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Measure the device alone: no physics, pictures of a folder as its camera.

``python -m stl_conveyor_lab.bench.device --items 500 --out out`` plays the same pictures to the
device as it is by default, one process, and to the same nodes in five processes, in turn, so that
what else the machine does falls on all of them. Link and edge are those of the simulated cell,
processes of their own. It writes OUT/device.json.

The overhead of an item is the time from its picture to the final answer at the actuator, less that
of the models and of the link: middleware, Python, scheduling and the pacing of the stream. Every
picture is accounted for: the camera counts what it showed, and each item has one outcome.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np

from stl_conveyor.assess.scoring import Quantiles
from stl_conveyor.errors import ConfigError, exit_code
from stl_conveyor.interrupts import take_sigterm_like_ctrl_c
from stl_conveyor.vision.image_inventory import look_through
from stl_conveyor_lab.bench.cell.sorting import Promise
from stl_conveyor_lab.bench.device.crash import Comeback, comebacks
from stl_conveyor_lab.bench.device.round import WAYS, Round, play
from stl_conveyor_lab.measure.machine import machine

DEFAULT_WAY = 'one process'


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Return the command line."""
    parser = argparse.ArgumentParser(
        prog='stl-conveyor bench device', description='Measure the device alone, without physics.'
    )
    parser.add_argument('--items', type=int, default=500, help='pictures of each way, in all')
    parser.add_argument('--rounds', type=int, default=2, help='in which each way has its turn')
    parser.add_argument('--rate', type=float, default=2.0, help='pictures per second')
    parser.add_argument('--out', type=Path, default=Path('out'), help='folder for the results')
    parser.add_argument(
        '--data', type=Path, default=None, help='folder of pictures; default: rendered items'
    )
    parser.add_argument(
        '--way', action='append', choices=tuple(WAYS), default=None, help='play these ways only'
    )
    parser.add_argument(
        '--crashes', type=int, default=3, help='how often the one process is killed, in the end'
    )
    options = parser.parse_args(arguments)
    if options.items < options.rounds or options.rounds < 1:
        parser.error('--items and --rounds: each round needs at least one picture')
    return options


def render(folder: Path, count: int) -> int:
    """Render items of the cell into a folder; return how many pictures are in it.

    They are not compressed: a camera hands over pixels, too.
    """
    from PIL import Image

    from stl_conveyor_lab.bench.codec.images import rendered_items

    folder.mkdir(parents=True, exist_ok=True)
    for number, picture in enumerate(rendered_items(count).images):
        Image.fromarray(np.asarray(picture)).save(folder / f'{number:06d}.png', compress_level=0)
    return count


def merged(rounds: Sequence[Round]) -> dict[str, dict[str, object]]:
    """Return what was measured of each way, over its rounds."""
    table: dict[str, dict[str, object]] = {}
    for way in dict.fromkeys(each.way for each in rounds):
        own = [each for each in rounds if each.way == way]
        overheads = [value for each in own for value in each.overheads]
        table[way] = {
            'overhead_ms': {
                **asdict(Quantiles.of(overheads)),
                'p90': float(np.percentile(overheads, 90)) if overheads else float('nan'),
                'max': max(overheads, default=float('nan')),
            },
            'local_answer_ms': asdict(Quantiles.of([v for each in own for v in each.commands])),
            'cpu_ms_per_item': float(np.mean([each.cpu_ms for each in own])),
            'pss_mb': max(each.usage.pss_mb for each in own),
            'threads': max(each.usage.threads for each in own),
            'first_item_s': float(np.median([each.first_item_s for each in own])),
            'accounts': [{**asdict(each.account), 'exact': each.account.is_exact} for each in own],
        }
    return table


def marks(rounds: Sequence[Round], crashes: Sequence[Comeback] = ()) -> list[Promise]:
    """Return what is promised of the default way, with what was measured."""
    longest = max((each.active for each in crashes), default=0.0)
    back = [Promise('back after a crash, s', longest, 'under 1', longest < 1)] if crashes else []
    own = [each for each in rounds if each.way == DEFAULT_WAY]
    overhead = Quantiles.of([value for each in own for value in each.overheads]).p99
    pss = max(each.usage.pss_mb for each in own)
    threads = max(each.usage.threads for each in own)
    cpu = float(np.mean([each.cpu_ms for each in own]))
    first = float(np.median([each.first_item_s for each in own]))
    inexact = sum(not each.account.is_exact for each in own)
    missed = sum(each.account.missed for each in own)
    return [
        Promise('overhead p99, ms', overhead, 'under 10', overhead < 10),
        Promise('memory of the device, MB (PSS)', pss, 'under 90', pss < 90),
        Promise('threads of the device', threads, 'at most 30', threads <= 30),
        Promise('processor time, ms per item', cpu, 'under 18', cpu < 18),
        Promise('first item, s', first, 'under 3', first < 3),
        Promise('rounds with an open account', inexact, '0', inexact == 0),
        Promise('missed deadlines', missed, '0', missed == 0),
        *back,
    ]


def print_table(rounds: Sequence[Round]) -> None:
    """Print everything that was measured."""
    print(f'\n{machine()}\n')
    head = ('overhead p50', 'p90', 'p99', 'max ms', 'CPU ms', 'PSS MB', 'threads', 'first s')
    print(f'{"":26}' + ''.join(f'{name:>13}' for name in head))
    for way in dict.fromkeys(each.way for each in rounds):
        own = [each for each in rounds if each.way == way]
        overheads = [value for each in own for value in each.overheads] or [float('nan')]
        values = (
            *np.percentile(overheads, (50, 90, 99, 100)),
            np.mean([each.cpu_ms for each in own]),
            max(each.usage.pss_mb for each in own),
            max(each.usage.threads for each in own),
            np.median([each.first_item_s for each in own]),
        )
        print(f'{way:26}' + ''.join(f'{value:13.1f}' for value in values))
    print(
        f'\n{"account of pictures":26}'
        + ''.join(
            f'{name:>10}' for name in ('shown', 'early', 'captured', 'acted on', 'twice', 'missed')
        )
    )
    for each in rounds:
        account = each.account
        print(
            f'{each.way:26}'
            + ''.join(f'{value:10d}' for value in vars(account).values())
            + ('' if account.is_exact else '   NOT EXACT')
        )


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print; return the exit code."""
    options = parse(arguments)
    take_sigterm_like_ctrl_c()
    return exit_code('bench-device', lambda: _measure(options))


def _measure(options: argparse.Namespace) -> int:
    out = options.out
    out.mkdir(parents=True, exist_ok=True)
    each_round = options.items // options.rounds
    if options.data is not None:
        pictures = options.data.resolve()
        count = len(look_through(pictures, deep=False).read)
        if not count:
            raise ConfigError(f'--data {options.data}: holds no picture')
    else:
        pictures = (out / 'pictures').resolve()
        count = render(pictures, each_round)
    rounds: list[Round] = []
    for number in range(options.rounds):
        for way in options.way or WAYS:
            folder = out / f'round_{number + 1}' / way.replace(',', '').replace(' ', '_')
            rounds.append(play(way, pictures, count, options.rate, folder, print))
    print_table(rounds)
    result: dict[str, object] = {'machine': machine(), 'ways': merged(rounds)}
    if any(each.way == DEFAULT_WAY for each in rounds):
        crashes = comebacks(pictures, out / 'crashes', options.crashes)
        for each in crashes:
            print(
                f'killed: all nodes active again after {each.active:.2f} s, the first item '
                f'answered after {each.answered:.2f} s'
            )
        result['crashes'] = [asdict(each) for each in crashes]
        promised = marks(rounds, crashes)
        print(f'\n{"mark":36}{"measured":>9}   wanted')
        for mark in promised:
            met = 'met' if mark.met else 'NOT MET'
            print(f'{mark.name:36}{mark.measured:9.3f}   {mark.wanted}: {met}')
        result['marks'] = [asdict(mark) for mark in promised]
    (out / 'device.json').write_text(json.dumps(result, indent=1), encoding='utf-8')
    return 0 if all(each.account.is_exact for each in rounds) else 1
