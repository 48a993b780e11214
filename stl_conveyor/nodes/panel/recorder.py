# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Records everything that is said in a cell into a file (MCAP)."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ament_index_python.packages import PackageNotFoundError, get_package_share_directory

from stl_conveyor.errors import ConfigError, Level
from stl_conveyor.nodes.base.clock import clock_ns
from stl_conveyor.nodes.base.conveyor_node import ConveyorNode
from stl_conveyor.nodes.base.runner import run_node
from stl_conveyor.nodes.base.settings import NodeSettings, onlooker_niceness, parameter
from stl_conveyor.nodes.base.topics import RECORDED, Topic
from stl_conveyor.recording.message_schema import schema_text

if TYPE_CHECKING:
    from stl_conveyor.recording.run_file import Recorded, RunFile

MEGABYTE = 1_000_000
FRAMES = ('camera/image_raw', 'camera/image_raw/compressed')  # first to go when space is short
LOOK_S = 1.0


@dataclass(frozen=True)
class RecorderSettings(NodeSettings):
    """Parameters of recorder."""

    niceness: int = onlooker_niceness()
    file: str = parameter(
        '~/.ros/stl_conveyor/run.mcap',
        'File to record into; one that is there is put aside as NAME.1.mcap.',
    )
    limit_mb: float = parameter(
        500.0,
        'Most megabytes that the file may have. Whole pictures of the camera are left out from '
        'half of it on.',
        minimum=1.0,
        maximum=1e6,
    )
    topics: tuple[str, ...] = parameter(
        [''], 'Topics to record, by their names in the cell; an empty one stands for all.'
    )
    frames: bool = parameter(True, 'Record the whole pictures of the camera, too.')


class Recorder(ConveyorNode):
    """Takes messages as they come, unread, and hands them to a thread that writes them."""

    NAME = 'recorder'
    SETTINGS = RecorderSettings
    HEARTBEATS = False  # nobody waits for it

    def __init__(self, **arguments: Any) -> None:
        """See `ConveyorNode`.

        Raises:
            ConfigError: Naming the parameter that is unknown or has a wrong value.
        """
        self.recording: RunFile | None = None
        super().__init__(**arguments)

    def check_settings(self, settings: RecorderSettings) -> None:
        """Check that there is a file, and that the topics are some of the cell's."""
        if not settings.file.strip():
            raise ConfigError('file: it is empty; name the file to record into')
        unknown = set(settings.topics) - {topic.name for topic in RECORDED} - {''}
        if unknown:
            raise ConfigError(
                f'topics: no topic {", ".join(sorted(unknown))}; there are '
                + ', '.join(topic.name for topic in RECORDED)
            )

    def configure(self) -> None:
        """Find the definitions of all messages, without which a recording says nothing."""
        from stl_conveyor.recording.run_file import Recorded

        settings = self.settings
        wanted = [topic for topic in RECORDED if {topic.name, ''} & set(settings.topics)]
        self._recorded: dict[str, Recorded] = {}
        for topic in wanted:
            if topic.name in FRAMES and not settings.frames:
                continue
            name = self.resolve_topic_name(topic.name)
            # Where nothing stands between device and edge, two names are one topic.
            if name not in {known.topic for known in self._recorded.values()}:
                self._recorded[topic.name] = Recorded(
                    name,
                    topic.message_type,
                    schema_text(topic.message_type, definition_of),
                    first_to_go=topic.name in FRAMES,
                    qos=offered_qos(topic),
                )

    def activate(self) -> None:
        """Record from now on."""
        from stl_conveyor.recording.run_file import RunFile

        self.recording = RunFile(
            Path(self.settings.file).expanduser(),
            self._recorded,
            limit=round(self.settings.limit_mb * MEGABYTE),
            about={'namespace': self.get_namespace()},
        )
        # Closed last, after everything that could still bring something.
        self.resources.callback(self.recording.close)
        for name in self._recorded:
            self.listen(name, partial(self._take, name), raw=True)
        self.every(LOOK_S, self._look)
        self.report_value('file', str(self.recording.path))

    def refresh_health(self) -> None:
        """Report how much was recorded."""
        if self.recording is not None:
            self.health.set_value('messages', self.recording.messages)
            self.health.set_value('megabytes', f'{self.recording.size / MEGABYTE:.1f}')
            self.health.set_value('left_out', self.recording.left_out)
            self.health.set_value('overrun', self.recording.overrun)

    def _take(self, name: str, data: bytes) -> None:
        assert self.recording is not None
        self.recording.add(name, clock_ns(self.get_clock()), data)

    def _look(self) -> None:
        assert self.recording is not None
        if self.recording.trouble:
            self.set_condition('recording', Level.ERROR, self.recording.trouble)
        if self.recording.full:
            self.set_condition(
                'recording_full',
                Level.WARN,
                f'{self.recording.path}: {self.settings.limit_mb:g} MB are used; nothing more is '
                'recorded. Raise limit_mb, or set frames: false',
            )
        if self.recording.overrun:
            self.set_condition(
                'recording_gaps',
                Level.WARN,
                f'{self.recording.overrun} messages came faster than the disk takes them, and '
                'are not in the recording',
            )


def definition_of(package: str, name: str) -> str:
    """Return the definition of a message.

    Raises:
        ConfigError: If the package, or the message, is not installed.
    """
    try:
        path = Path(get_package_share_directory(package)) / 'msg' / f'{name}.msg'
        return path.read_text(encoding='utf-8')
    except (PackageNotFoundError, OSError) as error:
        raise ConfigError(
            f'the definition of {package}/{name} is not installed, without which a recording '
            f'cannot be read: install the package {package} ({type(error).__name__})'
        ) from error


def offered_qos(topic: Topic) -> str:
    """Return the QoS of a topic as rosbag2 writes it into a file."""
    profile = topic.profile
    return (
        '- history: keep_last\n'
        f'  depth: {profile.depth}\n'
        f'  reliability: {"reliable" if profile.reliable else "best_effort"}\n'
        f'  durability: {"transient_local" if profile.latched else "volatile"}\n'
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the node."""
    return run_node(Recorder, arguments)


if __name__ == '__main__':
    sys.exit(main())
