#!/usr/bin/env python3
# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Exit with 0 if this system can render without a display through `egl` or `osmesa`.

A library that can be found may still lack its driver, so EGL is really initialised: on a device
(EGL_EXT_platform_device) as MuJoCo does it. A broken driver may crash, therefore this is a
process of its own.
"""

from __future__ import annotations

import ctypes
import sys
from ctypes.util import find_library

EGL_PLATFORM_DEVICE_EXT = 0x313F


def load(*names: str) -> ctypes.CDLL:
    """Return the first of these libraries that loads; raise OSError if none does."""
    for name in names:
        try:
            return ctypes.CDLL(name)
        except OSError:
            pass
    found = find_library(names[0].removeprefix('lib').split('.so')[0])
    if found is None:
        raise OSError(f'{names[0]} is not installed')
    return ctypes.CDLL(found)


def initialises_egl() -> bool:
    """Return whether a display of some EGL device can be initialised."""
    load('libOpenGL.so.0', 'libGL.so.1')
    egl = load('libEGL.so.1')
    egl.eglGetProcAddress.restype = ctypes.c_void_p
    egl.eglGetProcAddress.argtypes = [ctypes.c_char_p]
    query_address = egl.eglGetProcAddress(b'eglQueryDevicesEXT')
    display_address = egl.eglGetProcAddress(b'eglGetPlatformDisplayEXT')
    if not query_address or not display_address:
        return False
    query_devices = ctypes.CFUNCTYPE(
        ctypes.c_uint, ctypes.c_int, ctypes.POINTER(ctypes.c_void_p), ctypes.POINTER(ctypes.c_int)
    )(query_address)
    get_display = ctypes.CFUNCTYPE(
        ctypes.c_void_p, ctypes.c_uint, ctypes.c_void_p, ctypes.c_void_p
    )(display_address)
    devices, count = (ctypes.c_void_p * 16)(), ctypes.c_int()
    if not query_devices(16, devices, ctypes.byref(count)):
        return False
    egl.eglInitialize.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p]
    egl.eglTerminate.argtypes = [ctypes.c_void_p]
    for device in devices[: count.value]:
        display = get_display(EGL_PLATFORM_DEVICE_EXT, device, None)
        if display and egl.eglInitialize(display, None, None):
            egl.eglTerminate(display)
            return True
    return False


def main() -> int:
    """Probe the backend that the command line names."""
    try:
        if sys.argv[1:] == ['egl']:
            return 0 if initialises_egl() else 1
        if sys.argv[1:] == ['osmesa']:
            load('libOSMesa.so.8', 'libOSMesa.so.6')
            return 0
    except OSError as error:
        print(error, file=sys.stderr)
        return 1
    print('usage: probe_rendering.py egl|osmesa', file=sys.stderr)
    return 2


if __name__ == '__main__':
    sys.exit(main())
