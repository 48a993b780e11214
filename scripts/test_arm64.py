#!/usr/bin/env python3
# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Run what needs no ROS as a 64-bit Arm machine would, and compare its answers with this one's.

A Debian root for arm64 is unpacked into build/arm64 (kept for the next time), with the wheels that
a device takes, and its Python runs in QEMU's user emulation: nothing is installed and no binfmt is
registered. The compiled loops are cross-compiled, dot product included. Then

1. the tests of cell, codec, decision, hardware, models, policy and vision run there, but for those
   that play many hundred pictures,
2. both machines write down what they make of 200 pictures: coefficients, packets, decisions and
   answers, and
3. both sort a folder of half of these and of strangers, from the file to the lane.

What they wrote is compared in a table.

It needs root, for debootstrap, and what it lacks it names. The wheels have the
versions of the locks in requirements/, for the Python of the Debian release.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from xml.etree import ElementTree

from pip._vendor.packaging.markers import Marker

ROOT = Path(__file__).resolve().parent.parent
#: The release whose Python the wheels are taken for: bookworm has 3.11, trixie 3.13.
SUITE, PYTHON = 'bookworm', '3.11'
MIRROR = 'http://deb.debian.org/debian'
PACKAGES = ('python3', 'libpython3-dev')
#: What a device needs, and what the tests need beside it.
WHEELS = (
    *('numpy', 'onnxruntime', 'pillow', 'pyyaml', 'opencv-python-headless', 'gpiozero'),
    *('pymodbus', 'pytest', 'pytest-timeout', 'hypothesis', 'onnx'),
)
#: Where their versions stand.
LOCKS = ('numpy', 'device', 'test')
PLATFORMS = (
    'manylinux_2_28',
    'manylinux_2_27',
    'manylinux_2_26',
    'manylinux_2_17',
    'manylinux2014',
)
#: A Raspberry Pi 5 has four of these.
PROCESSOR = 'cortex-a76'
#: ONNX Runtime reads which kernels it may use here; the host's file would be that of another kind.
CPUINFO = """processor\t: 0
BogoMIPS\t: 108.00
Features\t: fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm lrcpc \
dcpop asimddp
CPU implementer\t: 0x41
CPU architecture: 8
CPU variant\t: 0x4
CPU part\t: 0xd0b
CPU revision\t: 1

"""
TOOLS = {
    'debootstrap': 'debootstrap',
    'dpkg-deb': 'dpkg',
    'qemu-aarch64-static': 'qemu-user-static',
    'aarch64-linux-gnu-gcc': 'gcc-aarch64-linux-gnu',
}
#: Folders of tests, in the jobs that run beside each other and beside the comparison, two at a
#: time; the longest first.
TESTS = (('cell', 'decision', 'hardware', 'models', 'policy'), ('codec',), ('vision',))
#: Seconds for one test; emulation is some ten times slower.
TIMEOUT = 1500
PICTURES = 200

#: Writes pictures of the simulated camera, from seeds that no training uses.
RENDER = """
import sys
import numpy as np
from stl_conveyor_lab.bench.codec.images import rendered_items
np.savez_compressed(sys.argv[1], images=rendered_items(int(sys.argv[2])).images)
"""
#: Writes drawn pictures, where nothing can be rendered.
DRAW = """
import sys
import numpy as np
from stl_conveyor_lab.train.tiny import tiny_images
np.savez_compressed(sys.argv[1], images=tiny_images(int(sys.argv[2]), 16, seed=77)[0])
"""
#: Writes every second picture as a file; of every tenth the negative, too, which no lane takes.
AS_FILES = """
import sys
from pathlib import Path
import numpy as np
from PIL import Image
folder = Path(sys.argv[2])
folder.mkdir(parents=True, exist_ok=True)
for path in folder.iterdir():
    path.unlink()
for k, image in enumerate(np.load(sys.argv[1])['images']):
    if k % 2:
        continue
    Image.fromarray(image).save(folder / f'{k:03}.png')
    if k % 10 == 0:
        Image.fromarray(255 - image).save(folder / f'{k:03}_negative.png')
"""
#: Compares two files of answers; prints a JSON list of [what, equal, of, largest difference].
COMPARE = """
import json, sys
import numpy as np
here, there = (np.load(path) for path in sys.argv[1:3])
def strings(data):
    data, at, found = data.tobytes(), 0, []
    while at < len(data):
        end = at + 4 + int.from_bytes(data[at:at + 4], 'big')
        found.append(data[at + 4:end])
        at = end
    return found
rows = []
for name in here.files:
    a, b = here[name], there[name]
    if name.startswith('packets'):
        a, b = strings(a), strings(b)
        rows.append([name, sum(x == y for x, y in zip(a, b)), len(a), None])
        continue
    # A threshold may be infinite on both.
    differ = a != b
    apart = float(np.abs(a[differ].astype(np.float64) - b[differ]).max(initial=0))
    if name.startswith('decisions'):
        rows.append([name, int((a[:, :2] == b[:, :2]).all(1).sum()), len(a), apart])
    elif name in ('local', 'edge'):
        rows.append([name, int((a.argmax(1) == b.argmax(1)).sum()), len(a), apart])
    else:
        rows.append([name, int((a == b).sum()), a.size, apart])
print(json.dumps(rows))
"""
#: What is asked of each row of the comparison: the share that must be equal, the largest
#: difference that may be, and how the table calls it. Bytes that both machines make of the same
#: must be the same; answers in floating point need only be near.
DEMANDS = {
    'coefficients': (1.0, 0.0, 'coefficients'),
    'packets_plain': (1.0, None, 'packets without side information'),
    'packets_side': (1.0, None, 'packets, same side information'),
    'packets_own': (0.97, None, 'packets, own side information'),
    'local': (1.0, 1e-3, 'local answer (first choice)'),
    'rewards': (0.0, 1e-3, 'expected reward (to the bit)'),
    'decisions': (0.99, None, 'decisions'),
    'latents': (0.0, 1e-4, 'decoded coefficients (to the bit)'),
    'edge': (1.0, 1e-3, 'answer of the edge (first choice)'),
    'unknown': (0.0, 0.02, 'sorted from files: unknown score (to the bit)'),
    'lanes': (0.99, None, 'sorted from files: lane'),
}


class ArmError(Exception):
    """Something is missing, or a step failed; the message says what."""


def run(command: Sequence[str | Path], **options: object) -> str:
    """Run a step and return what it printed; raises ArmError with all of it if it fails."""
    done = subprocess.run(  # type: ignore[call-overload]
        [str(word) for word in command],
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        **options,
    )
    if done.returncode:
        raise ArmError(f'{done.stdout}\nThis step failed: {shlex.join(map(str, command))}')
    return str(done.stdout)


def say(text: str) -> None:
    """Print a line at once."""
    print(f'arm64: {text}', flush=True)


def pins(python: str) -> list[str]:
    """Return from the locks `name==version` of all packages, for one Python on arm64."""
    machine = {
        'python_version': python,
        'python_full_version': f'{python}.0',
        'platform_machine': 'aarch64',
        'sys_platform': 'linux',
    }
    found = []
    for name in LOCKS:
        text = (ROOT / 'requirements' / f'{name}.txt').read_text(encoding='utf-8')
        for line in text.splitlines():
            pin, _, marker = line.rstrip('\\ ').partition(';')
            if '==' in pin and (not marker.strip() or Marker(marker).evaluate(machine)):
                found.append(pin.strip())
    return sorted(set(found))


def missing_tools() -> list[str]:
    """Return the Debian packages of the programs that are not here."""
    return sorted({package for name, package in TOOLS.items() if not shutil.which(name)})


@dataclass
class Machine:
    """The emulated machine, in a folder of its own."""

    folder: Path
    mirror: str = MIRROR

    @property
    def root(self) -> Path:
        """Return its file system."""
        return self.folder / 'root'

    @property
    def site(self) -> Path:
        """Return its Python packages."""
        return self.folder / 'site'

    @property
    def python(self) -> Path:
        """Return a program that runs its Python."""
        return self.folder / 'python'

    def build(self) -> None:
        """Bring all parts up to date, each only where something has changed."""
        self.folder.mkdir(parents=True, exist_ok=True)
        constraints = pins(PYTHON)
        sources = sorted((ROOT / 'src').glob('*.c'))
        self._part('root', [SUITE, *PACKAGES, CPUINFO], self._unpack_root)
        self._part('site', [PYTHON, *WHEELS, *constraints], lambda: self._fetch(constraints))
        self._part('loops', [path.read_text() for path in sources], lambda: self._compile(sources))
        self.python.write_text(
            '#!/bin/sh\n'
            f'exec qemu-aarch64-static -cpu {PROCESSOR} -L {shlex.quote(str(self.root))} '
            f'{shlex.quote(str(self.root / "usr" / "bin" / f"python{PYTHON}"))} "$@"\n'
        )
        self.python.chmod(0o755)
        # What starts another Python, as some tests do, must start this one: the kernel knows no
        # other.
        (self.site / 'sitecustomize.py').write_text(
            f'import sys\nsys.executable = {str(self.python)!r}\n'
        )

    def environment(self) -> dict[str, str]:
        """Return the variables of a process on the machine."""
        home = self.folder / 'home'
        home.mkdir(exist_ok=True)
        names = ('PATH', 'LANG', 'TMPDIR', 'HYPOTHESIS_PROFILE')
        return {
            **{name: os.environ[name] for name in names if name in os.environ},
            'HOME': str(home),
            'PYTHONPATH': f'{ROOT}{os.pathsep}{self.site}',
            'PYTHONDONTWRITEBYTECODE': '1',
        }

    def _part(self, name: str, depends: Iterable[str], make: object) -> None:
        stamp = self.folder / f'{name}.stamp'
        wanted = hashlib.sha256('\0'.join(depends).encode()).hexdigest()
        if stamp.exists() and stamp.read_text() == wanted:
            return
        begun = time.monotonic()
        stamp.unlink(missing_ok=True)
        make()  # type: ignore[operator]
        stamp.write_text(wanted)
        say(f'made {name} in {time.monotonic() - begun:.0f} s')

    def _unpack_root(self) -> None:
        shutil.rmtree(self.root, ignore_errors=True)
        if os.geteuid():
            raise ArmError('debootstrap needs root; run it with sudo')
        run(
            [
                *('debootstrap', '--foreign', '--variant=minbase', '--arch=arm64'),
                *(f'--include={",".join(PACKAGES)}', SUITE, self.root, self.mirror),
            ]
        )
        # The second stage, which would run every package's scripts, is not needed.
        for package in sorted((self.root / 'var/cache/apt/archives').glob('*.deb')):
            run(['dpkg-deb', '-x', package, self.root])
        (self.root / 'proc').mkdir(exist_ok=True)
        (self.root / 'proc' / 'cpuinfo').write_text(CPUINFO)

    def _fetch(self, constraints: Sequence[str]) -> None:
        shutil.rmtree(self.site, ignore_errors=True)
        (self.folder / 'loops.stamp').unlink(missing_ok=True)
        chosen = self.folder / 'constraints.txt'
        chosen.write_text('\n'.join(constraints) + '\n')
        platforms = [f'--platform={name}_aarch64' for name in PLATFORMS]
        run(
            [
                *(sys.executable, '-m', 'pip', 'install', '--disable-pip-version-check'),
                *('--only-binary=:all:', '--implementation=cp', f'--python-version={PYTHON}'),
                *(*platforms, '--target', self.site, '-c', chosen, *WHEELS),
            ]
        )

    def _compile(self, sources: Sequence[Path]) -> None:
        target = self.site / 'stl_conveyor'
        target.mkdir(exist_ok=True)
        headers = self.root / 'usr' / 'include'
        for source in sources:
            name = f'_{source.stem}.cpython-{PYTHON.replace(".", "")}-aarch64-linux-gnu.so'
            run(
                [
                    *('aarch64-linux-gnu-gcc', '-O3', '-Wall', '-Werror', '-ffp-contract=off'),
                    *('-shared', '-fPIC', f'-I{headers / f"python{PYTHON}"}'),
                    *('-idirafter', headers, source, '-o', target / name),
                ]
            )


@dataclass
class Tally:
    """What passed and what did not."""

    passed: int = 0
    skipped: int = 0
    failures: list[str] = field(default_factory=list)

    def check(self, good: bool, name: str) -> None:
        """Count one more."""
        if good:
            self.passed += 1
        else:
            self.failures.append(name)

    def read(self, report: Path, name: str) -> None:
        """Count the tests of a report in JUnit's format; without one, all of them failed."""
        if not report.exists():
            self.failures.append(f'{name}: ended without a report')
            return
        for case in ElementTree.parse(report).iter('testcase'):
            outcome = {child.tag for child in case}
            if 'skipped' in outcome:
                self.skipped += 1
            else:
                self.check(
                    not outcome & {'failure', 'error'},
                    f'{case.get("classname")}::{case.get("name")}',
                )


def run_tests(machine: Machine, folders: Sequence[str], tally: Tally) -> None:
    """Run some folders of tests on the machine; their output stays in its folder."""
    name = '-'.join(folders)
    report, log = (machine.folder / f'tests-{name}{end}' for end in ('.xml', '.log'))
    report.unlink(missing_ok=True)
    begun = time.monotonic()
    with open(log, 'w', encoding='utf-8') as out:
        done = subprocess.run(
            [
                *(machine.python, '-m', 'pytest', '-q', '-p', 'no:cacheprovider'),
                *('-o', f'timeout={TIMEOUT}', '--durations=10', f'--junitxml={report}'),
                *('-m', 'not film'),
                *(f'test/{folder}' for folder in folders),
            ],
            cwd=ROOT,
            env=machine.environment(),
            stdout=out,
            stderr=subprocess.STDOUT,
        )
    say(f'tests of {", ".join(folders)}: {time.monotonic() - begun:.0f} s, output in {log}')
    tally.read(report, name)
    if done.returncode not in (0, 1):
        tally.failures.append(f'{name}: pytest ended with {done.returncode}')


def write_pictures(target: Path, count: int) -> str:
    """Write pictures u8[count, S, S, 3] and return what they show."""
    own: list[str | Path] = [ROOT / 'scripts' / 'env', 'python', '-c']
    try:
        run([*own, RENDER, target, str(count)], cwd=ROOT)
        return 'rendered items'
    except ArmError as error:
        say(
            f'nothing can be rendered here ({str(error).strip().splitlines()[-2]}): drawn pictures'
        )
        run([*own, DRAW, target, str(count)], cwd=ROOT)
        return 'drawn pictures'


def compare(machine: Machine, count: int, tally: Tally) -> list[str]:
    """Let both machines answer, and return the lines of a table."""
    pictures = machine.folder / 'pictures.npz'
    here, there = (machine.folder / f'answers-{name}.npz' for name in ('x86_64', 'arm64'))
    shown = write_pictures(pictures, count)
    own, script = ROOT / 'scripts' / 'env', ROOT / 'scripts' / 'machine_answers.py'
    files = machine.folder / 'pictures'
    run([own, 'python', '-c', AS_FILES, pictures, files])
    run([own, 'python', script, pictures, here, '--sort', files], cwd=ROOT)
    begun = time.monotonic()
    run(
        [machine.python, script, pictures, there, '--told', here, '--sort', files],
        cwd=ROOT,
        env=machine.environment(),
    )
    say(f'answers of the emulated machine: {time.monotonic() - begun:.0f} s')
    rows = json.loads(run([own, 'python', '-c', COMPARE, here, there], cwd=ROOT))
    lines = [
        f'| {count} {shown}, x86-64 against arm64 | equal | of | largest difference |',
        '|---|---:|---:|---:|',
    ]
    for name, equal, of, apart in rows:
        key = next(key for key in sorted(DEMANDS, key=len, reverse=True) if name.startswith(key))
        share, limit, title = DEMANDS[key]
        detail = name[len(key) :].lstrip('_')
        detail = detail.replace('_', ' by ')
        detail = f', {detail}{" B" if detail.isdigit() else ""}' if detail else ''
        good = equal >= share * of and (limit is None or apart <= limit)
        tally.check(good, f'{title}{detail}: {equal} of {of} equal')
        distance = '' if apart is None else f'{apart:.1e}' if apart else '0'
        lines.append(f'| {title}{detail} | {equal:,} | {of:,} | {distance} |')
    return lines


def main(arguments: Sequence[str] | None = None) -> int:
    """Return 0 if everything passed, 1 if something failed, 2 if it could not be run."""
    parser = argparse.ArgumentParser(description='Test on an emulated arm64 machine.')
    parser.add_argument('--folder', type=Path, default=ROOT / 'build' / 'arm64')
    parser.add_argument('--mirror', default=MIRROR, help='of Debian packages (%(default)s)')
    parser.add_argument('--pictures', type=int, default=PICTURES, help='to compare (%(default)s)')
    parser.add_argument('--no-tests', action='store_true', help='only compare the two machines')
    options = parser.parse_args(arguments)
    begun = time.monotonic()
    machine, tally = Machine(options.folder.absolute(), options.mirror), Tally()
    try:
        if missing := missing_tools():
            raise ArmError(
                'This needs more than is installed. As root: apt-get install -y '
                f'{" ".join(missing)}'
            )
        machine.build()
        jobs = () if options.no_tests else TESTS
        with ThreadPoolExecutor(2) as pool:
            # The comparison first: it is the longest.
            table = pool.submit(compare, machine, options.pictures, tally)
            tests = [pool.submit(run_tests, machine, folders, tally) for folders in jobs]
            for job in tests:
                job.result()
            lines = table.result()
        print('\n' + '\n'.join(lines) + '\n')
    except ArmError as error:
        print(error, file=sys.stderr)
        return 2
    for failure in tally.failures:
        print(f'FAILED {failure}')
    say(f'{time.monotonic() - begun:.0f} s in all, {tally.skipped} tests skipped')
    print(f'{tally.passed} passed, {len(tally.failures)} failed')
    return 1 if tally.failures else 0


if __name__ == '__main__':
    raise SystemExit(main())
