# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Run Debian's mosquitto on this machine, end it, and start it again on the same port."""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
from pathlib import Path

from stl_conveyor.errors import ConfigError, MissingDependency
from stl_conveyor.run.console import free_port

PROGRAM = shutil.which('mosquitto') or next(
    (path for path in ('/usr/sbin/mosquitto',) if os.access(path, os.X_OK)), None
)
MISSING = 'mosquitto is not installed: apt install mosquitto'


class Mosquitto:
    """A broker on a free port of this machine, as a context manager."""

    def __init__(self, folder: Path) -> None:
        """Take a port, and write the configuration into a folder; nothing is started yet."""
        self.port = free_port(0)
        self._config = folder / 'mosquitto.conf'
        self._config.write_text(
            f'listener {self.port} 127.0.0.1\nallow_anonymous true\nlog_dest stderr\n'
        )
        self._process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        """Start it, and wait until it takes connections.

        Raises:
            MissingDependency: If it is not installed.
            ConfigError: If it ends at once.
        """
        if PROGRAM is None:
            raise MissingDependency(MISSING)
        self._process = process = subprocess.Popen(
            [PROGRAM, '-c', str(self._config), '-v'], stderr=subprocess.PIPE, text=True
        )
        assert process.stderr is not None
        for line in process.stderr:
            if 'running' in line:
                break
        else:
            raise ConfigError(f'mosquitto ended with {process.wait()}')
        threading.Thread(target=process.stderr.read, daemon=True).start()

    def stop(self) -> None:
        """End it at once, as a crash would."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def __enter__(self) -> Mosquitto:
        """Start it; it is ended if it does not come up, too."""
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        """End it."""
        self.stop()
