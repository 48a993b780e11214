# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""What a training on the processor asks of the machine: threads, and memory that stays."""

from __future__ import annotations

import ctypes

import torch

from stl_conveyor.errors import ConfigError

# From glibc's malloc.h: parameter and value.
_KEEP_FREED = (
    (-4, 0),  # M_MMAP_MAX: no mapping of its own for a large tensor
    (-1, 2**31 - 1),  # M_TRIM_THRESHOLD: nothing goes back to the system
    (-2, 2**28),  # M_TOP_PAD: ask for much at once
    (-8, 1),
)  # M_ARENA_MAX: the threads of autograd share it


def keep_freed_memory() -> bool:
    """Let the C library keep what is freed, for the next step; returns whether it does.

    The tensors of a step are hundreds of megabytes. Left alone, glibc maps each anew, and the
    system clears its pages again: more than a third of the processor time of a step of
    EfficientNet-Lite0 on images of 224 pixels. Other C libraries are left as they are.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return False
    return 0 not in [mallopt(name, value) for name, value in _KEEP_FREED]


def set_up_processor(threads: int) -> None:
    """Train with so many threads, and keep memory from step to step."""
    torch.set_num_threads(threads)
    keep_freed_memory()


def check_device(device: str) -> str:
    """Return 'cpu' or a CUDA device that is there; raises ConfigError without one."""
    if device.startswith('cuda') and not torch.cuda.is_available():
        raise ConfigError(
            f'device {device}: torch {torch.__version__} finds no CUDA GPU; install '
            'a build of torch with CUDA and the driver, or use --device cpu'
        )
    if device != 'cpu' and not device.startswith('cuda'):
        raise ConfigError(f'device {device!r}: use cpu or cuda')
    return device
