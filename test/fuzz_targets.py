# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""What takes in bytes from outside, each as a function of bytes that may raise our errors alone.

Hypothesis plays them in test/test_fuzz_targets.py, and Atheris for as long as wanted in
test/fuzz_with_atheris.py.
"""

from __future__ import annotations

import tempfile
from functools import lru_cache
from pathlib import Path

import numpy as np
from codec_specs import shipped_spec

from stl_conveyor.codec.entropy import GroupCoder
from stl_conveyor.codec.wire import Packet, pack, unpack
from stl_conveyor.deploy.keystore import grants
from stl_conveyor.errors import ConveyorError
from stl_conveyor.outside_files import parse_yaml, read_arrays, read_json
from stl_conveyor.vision.compressed import compressed_to_rgb
from stl_conveyor.vision.encodings import image_to_rgb

IDENTITY = 0x0123456789ABCDEF
NAMES = ('rgb8', 'mono8', 'mono16', 'bgra8', 'bayer_rggb8', 'yuv422_yuy2', 'nv12', '16UC1', 'x')
_FOLDER = tempfile.TemporaryDirectory(prefix='fuzz_')


@lru_cache
def _coders():
    spec = shipped_spec()
    return GroupCoder(spec, compiled=True), GroupCoder(spec, compiled=False)


def _file(data):
    path = Path(_FOLDER.name) / 'file'
    path.write_bytes(data)
    return path


def packet(data):
    """Read a packet of a stream; one that is whole says the same to both decoders."""
    read = unpack(data, IDENTITY)
    found = []
    for coder in _coders():
        try:
            side, symbols = coder.decode(read.first_group, read.groups, read.has_side, read.body)
            found.append((None if side is None else side.tolist(), symbols.tolist()))
        except ConveyorError:
            found.append(None)
    assert found[0] == found[1], 'C and Python read a packet differently'


def body(data):
    """Read what stands in a packet whose head is right, so that the coder itself is reached."""
    head = int.from_bytes(data[:4].ljust(4, b'\0'), 'little')
    groups = min(shipped_spec().groups, 2**14)  # what two bytes of a packet's head can tell
    first = head % groups
    count = 1 + (head >> 12) % min(200, groups - first)
    sent = Packet(bool(head >> 31), first, count, data[4:])
    packet(pack(sent, IDENTITY))


def picture(data):
    """Read an image message, whose head is in the first bytes."""
    numbers = np.frombuffer(data[:8].ljust(8, b'\0'), '<u2')
    height, width, step = (int(n) % 64 for n in numbers[:3])
    name = NAMES[int(numbers[3]) % len(NAMES)]
    image_to_rgb(name, height, width, step, int(numbers[3]) >> 15, data[8:])


def compressed(data):
    """Read a compressed image."""
    compressed_to_rgb('jpeg', data)


def yaml(data):
    """Read a YAML document."""
    parse_yaml(data.decode('utf-8', 'replace'))


def json(data):
    """Read a JSON file."""
    read_json(_file(data))


def arrays(data):
    """Read a NumPy archive."""
    read_arrays(_file(data), ('tables',))


def policy(data):
    """Read a security policy."""
    grants(data.decode('utf-8', 'replace'))


TARGETS = {
    target.__name__: target
    for target in (packet, body, picture, compressed, yaml, json, arrays, policy)
}


def play(name, data):
    """Give bytes to a target; our own errors are what it may answer with."""
    try:
        TARGETS[name](data)
    except ConveyorError:
        pass
