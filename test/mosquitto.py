# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Run Debian's mosquitto for a test, end it, and start it again on the same port."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import threading

PROGRAM = shutil.which('mosquitto') or next(
    (path for path in ('/usr/sbin/mosquitto',) if os.access(path, os.X_OK)), None
)
MISSING = 'mosquitto is not installed: apt install mosquitto'


class Mosquitto:
    """A broker on a free port of this machine, as a context manager; `lines` is its log."""

    def __init__(self, folder):
        with socket.create_server(('127.0.0.1', 0)) as free:
            self.port = free.getsockname()[1]
        self._config = folder / 'mosquitto.conf'
        self._config.write_text(
            f'listener {self.port} 127.0.0.1\nallow_anonymous true\nlog_dest stderr\n'
        )
        self._process = None

    def start(self):
        """Start it, and wait until it takes connections."""
        self._process = subprocess.Popen(
            [PROGRAM, '-c', str(self._config), '-v'], stderr=subprocess.PIPE, text=True
        )
        for line in self._process.stderr:
            if 'running' in line:
                break
        else:
            raise AssertionError(f'mosquitto ended with {self._process.wait()}')
        threading.Thread(target=self._process.stderr.read, daemon=True).start()

    def stop(self):
        """End it at once, as a crash would."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.stop()
