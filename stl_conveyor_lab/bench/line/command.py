# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Play what goes wrong on a real line, and say what the nodes make of it.

``python -m stl_conveyor_lab.bench.line --out out`` plays every situation on the real nodes over
real DDS, in a ROS domain of its own on this machine, or on the pure core where it says so. It
writes OUT/line.csv, OUT/line.md and OUT/line.png, also when it is interrupted, and ends with 1 if
a situation is wrong. `--only stop --only 'plc/slow*'` plays some of them, `--list` names all;
`--rest line.csv` takes the others from an earlier run.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from stl_conveyor.errors import exit_code
from stl_conveyor.interrupts import take_sigterm_like_ctrl_c
from stl_conveyor.resources import writing
from stl_conveyor.run.domain import domain_of_its_own
from stl_conveyor_lab.bench.line import table
from stl_conveyor_lab.bench.line.situation import Row, Situation, play, selected


def play_all(situations: Sequence[Situation], rows: list[Row]) -> None:
    """Play the situations one after the other; say what came of each, and append its row."""
    for number, situation in enumerate(situations, 1):
        row = play(situation)
        rows.append(row)
        print(
            f'[{number}/{len(situations)}] {row.name}: {"right" if row.holds else "WRONG"}, '
            f'{row.figure} ({row.seconds:.1f} s)'
        )
        if not row.holds:
            print(f'    right is: {row.right}')
            if row.detail:
                print(f'    {row.detail}')
        sys.stdout.flush()


def joined(
    situations: Sequence[Situation], rows: Sequence[Row], rest: Mapping[str, Row]
) -> list[Row]:
    """Return a row for each situation, in their order: as it was played now, or else before."""
    found = {**rest, **{row.name: row for row in rows}}
    return [found[each.name] for each in situations if each.name in found]


def write(out: Path, rows: Sequence[Row], before: Path | None) -> None:
    """Write table and picture."""
    earlier = table.read_csv(before) if before else None
    with writing(out):
        out.mkdir(parents=True, exist_ok=True)
        (out / 'line.md').write_text(table.markdown(rows, earlier), encoding='utf-8')
    table.write_csv(out / 'line.csv', rows)
    table.draw(out / 'line.png', rows, earlier)
    print(f'{table.summary(rows)} The table: {out / "line.md"}')


@contextmanager
def _quiet_nodes(logs: bool) -> Iterator[None]:
    """Keep what the nodes log from the terminal: it stands in the account of each situation."""
    from rclpy.logging import LoggingSeverity, get_logger_level, set_logger_level

    before = get_logger_level('')
    set_logger_level('', before if logs else LoggingSeverity.FATAL)
    try:
        yield
    finally:
        set_logger_level('', before)


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Return the command line."""
    parser = argparse.ArgumentParser(
        prog='stl-conveyor bench line',
        description='Play what goes wrong on a real line, on the real nodes.',
    )
    parser.add_argument('--out', type=Path, default=Path('out'), help='folder for the results')
    parser.add_argument(
        '--only',
        action='append',
        default=[],
        metavar='NAME',
        help="a situation, a kind, or a pattern such as 'stop/*s'; may be repeated",
    )
    parser.add_argument('--list', action='store_true', help='name the situations and play none')
    parser.add_argument(
        '--before',
        type=Path,
        metavar='CSV',
        help='the line.csv of an earlier run, to compare with',
    )
    parser.add_argument(
        '--rest',
        type=Path,
        metavar='CSV',
        help='the line.csv of an earlier run, from which the table takes what is not played now',
    )
    parser.add_argument('--logs', action='store_true', help='show what the nodes log, too')
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Play, print and write; return the exit code."""
    options = parse(arguments)

    def work() -> int:
        from stl_conveyor_lab.bench.line.situations import ALL

        situations = selected(ALL, options.only)
        if options.list:
            print('\n'.join(f'{s.name}: {s.right}' for s in situations))
            return 0
        if options.before:
            table.read_csv(options.before)  # before an hour's work, not after it
        rest = table.read_csv(options.rest) if options.rest else {}
        take_sigterm_like_ctrl_c()
        rows: list[Row] = []
        try:
            with domain_of_its_own(print), _quiet_nodes(options.logs):
                play_all(situations, rows)
        finally:
            if rows:
                write(options.out, joined(ALL, rows, rest), options.before)
        return 0 if all(row.holds for row in rows) else 1

    return exit_code('bench-line', work)


if __name__ == '__main__':
    sys.exit(main())
