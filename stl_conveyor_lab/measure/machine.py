# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Which machine a speed was measured on."""

from __future__ import annotations

import os
import platform
import re
from pathlib import Path

from stl_conveyor.codec.transform import available_kernels


def machine() -> str:
    """Return the processor, what it has for small integers, the loops of ours in use, and more.

    A figure of speed says little without: processors that have a dot product of bytes run other
    loops than those without.
    """
    try:
        text = Path('/proc/cpuinfo').read_text(encoding='utf-8')
    except OSError:
        text = ''
    model = re.search(r'^model name\s*:\s*(.*)$', text, re.M)
    flags = re.search(r'^(?:flags|Features)\s*:\s*(.*)$', text, re.M)
    known = set() if flags is None else set(flags[1].split())
    quick = [name for name in ('avx512_vnni', 'avx_vnni', 'asimddp') if name in known]
    loops = (*available_kernels(), 'numpy')[0]
    cores = len(os.sched_getaffinity(0))
    name = model[1] if model else platform.machine()
    return (
        f'{name} ({", ".join(quick) or "no VNNI"}; codec: {loops}), {cores} cores, '
        f'{platform.system()} {platform.release()}, load {os.getloadavg()[0]:.1f}'
    )
