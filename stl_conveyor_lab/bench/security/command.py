# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Try whether the policies that ship are enforced, and measure what that costs.

``python -m stl_conveyor_lab.bench.security --out out`` makes keys with `stl-conveyor security
create`, starts a participant of Cyclone DDS for every node of every wiring, each in a process with
its own enclave, and has each try to write and to read every topic. It writes OUT/security.md, and
ends with 1 if anything is allowed or refused against the policy. Needs Cyclone DDS and its
security plug-ins from the distribution (`apt install cyclonedds-dev cyclonedds-tools gcc`).
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import quantiles

from stl_conveyor.deploy.security import WIRINGS
from stl_conveyor.errors import exit_code
from stl_conveyor.resources import writing
from stl_conveyor_lab.bench.security.enforcement import Tried, try_wiring
from stl_conveyor_lab.bench.security.latency import SIZES, WITH, WITHOUT, Measured, measure
from stl_conveyor_lab.bench.security.peers import Middleware

#: Cyclone DDS knows nothing of ROS_DOMAIN_ID: a pair of domains that ROS does not use by itself.
DOMAIN = 140


def markdown(tried: Mapping[str, Tried], measured: Measured) -> str:
    """Return both tables."""
    lines = [
        '# Security',
        '',
        '| wiring | writers and readers allowed | refused | against the policy '
        '| words heard by whom they are for | lost | overheard by or from strangers |',
        '|---|---|---|---|---|---|---|',
    ]
    for name, found in tried.items():
        lines.append(
            f'| {name} | {found.allowed} | {found.refused} | {len(found.wrong)} '
            f'| {found.heard} | {len(found.lost)} | {len(found.overheard)} |'
        )
    lines += [
        '',
        '| round trip (ms) | p50 without | p50 with security | p99 without | p99 with security |',
        '|---|---|---|---|---|',
    ]
    for size in SIZES:
        cells = []
        for percent in (50, 99):
            for way in (WITHOUT, WITH):
                cut = quantiles(measured[way, size], n=100)[percent - 1]
                cells.append(f'{1000 * cut:.2f}')
        lines.append(f'| {size} bytes there, 32 back | {" | ".join(cells)} |')
    return '\n'.join([*lines, ''])


def main(arguments: Sequence[str] | None = None) -> int:
    """Try, measure, print and write; return the exit code."""
    parser = argparse.ArgumentParser(
        prog='stl-conveyor bench security',
        description='Try whether the security policies are enforced, and what that costs.',
    )
    parser.add_argument('--out', type=Path, default=Path('out'), help='folder for the results')
    options = parser.parse_args(arguments)

    def work() -> int:
        with tempfile.TemporaryDirectory(prefix='bench_security_') as temporary:
            folder = Path(temporary)
            middleware = Middleware(folder)
            tried = {}
            for name in WIRINGS:
                tried[name] = found = try_wiring(middleware, name, folder / name, DOMAIN)
                print(
                    f'{name}: {found.allowed} allowed, {found.refused} refused, '
                    f'{found.heard} words heard',
                    flush=True,
                )
                for text in (*found.wrong, *found.lost, *found.overheard):
                    print(f'    WRONG: {text}', flush=True)
            measured = measure(middleware, folder, (DOMAIN, DOMAIN + 1))
        text = markdown(tried, measured)
        print(text)
        with writing(options.out):
            options.out.mkdir(parents=True, exist_ok=True)
            (options.out / 'security.md').write_text(text, encoding='utf-8')
        return int(any(each.wrong or each.lost or each.overheard for each in tried.values()))

    return exit_code('bench-security', work)


if __name__ == '__main__':
    sys.exit(main())
