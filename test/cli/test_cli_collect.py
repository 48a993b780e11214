# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""stl-conveyor collect without ROS: from folders and devices into folders of labels."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from stl_conveyor.cell.description import CellDescription
from stl_conveyor.cli.collect import ItemCropper, SourceHost, collect_from_source
from stl_conveyor.cli.main import main
from stl_conveyor.errors import BadImage, ConfigError
from stl_conveyor.vision.label_folder import Collector, LabelFolder

ROOT = Path(__file__).resolve().parents[2]
CELL = CellDescription.load(ROOT / 'config' / 'cell.yaml')


def picture(value=90, size=(40, 40)):
    return np.full((*size, 3), value, np.uint8)


def write(folder, count, suffix='.png', first=0):
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(first, first + count):
        Image.fromarray(picture(number % 250)).save(folder / f'{number:03d}{suffix}')
    return folder


# The folder of a label ------------------------------------------------------------------------


def test_numbers_go_on_and_nothing_is_overwritten(tmp_path):
    first = LabelFolder(tmp_path, 'nut M8')
    names = [first.add(picture(k)).name for k in (1, 2)]
    assert names == ['nut M8_000001.png', 'nut M8_000002.png']
    (first.path / 'nut M8_000007.jpg').write_bytes(b'from elsewhere')
    (first.path / 'other_000099.png').write_bytes(b'')
    again = LabelFolder(tmp_path, ' nut M8 ')
    assert again.before == 3
    assert again.add(picture(3)).name == 'nut M8_000008.png'
    assert (np.asarray(Image.open(first.path / 'nut M8_000001.png')) == 1).all()


def test_two_collectors_into_one_folder_keep_every_picture(tmp_path):
    folders = [LabelFolder(tmp_path, 'a') for _ in range(3)]

    def run(folder, value):
        for _ in range(15):
            folder.add(picture(value))

    threads = [
        threading.Thread(target=run, args=(folder, value)) for value, folder in enumerate(folders)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = [int(np.asarray(Image.open(path)).mean()) for path in (tmp_path / 'a').iterdir()]
    assert [found.count(value) for value in range(3)] == [15, 15, 15]


@pytest.mark.parametrize('label', ['', '  ', '.git', '../x', 'a/b', 'a\\b', 'a\0', 'x' * 101])
def test_a_label_that_is_no_folder_is_refused(tmp_path, label):
    with pytest.raises(ConfigError, match='label'):
        LabelFolder(tmp_path, label)


def test_a_file_in_the_way_is_named(tmp_path):
    (tmp_path / 'out').write_text('')
    with pytest.raises(ConfigError, match='out'):
        LabelFolder(tmp_path / 'out', 'a')


def test_a_full_disk_ends_the_collection_and_is_told(tmp_path, monkeypatch):
    collector = Collector(LabelFolder(tmp_path, 'a'), stream=io.StringIO())

    def full(*_):
        raise ConfigError('a: cannot be written (No space left on device)')

    collector.take(picture())
    monkeypatch.setattr(collector.folder, 'add', full)
    collector.take(picture())
    assert collector.done.is_set()
    with pytest.raises(ConfigError, match='No space'):
        collector.finish()


def test_the_count_is_shown_live_on_a_terminal(tmp_path):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    stream = Terminal()
    collector = Collector(LabelFolder(tmp_path, 'nut'), count=2, stream=stream)
    for _ in range(3):
        collector.take(picture())
    collector.finish()
    text = stream.getvalue()
    assert text.count('\r') == 2 and 'nut: 2 new, 2 in all' in text
    assert text.endswith('2 pictures of nut added to ' + str(tmp_path / 'nut') + ', 2 in all\n')


# Sources --------------------------------------------------------------------------------------


def collect_nuts(folder, *more):
    """Collect what lies in FOLDER/in into FOLDER/out; return the exit code."""
    words = ('--out', folder / 'out', '--label', 'nut', '--folder', folder / 'in', *more)
    return main(['collect', *map(str, words)])


def test_a_folder_of_pictures_and_a_broken_one(tmp_path, capsys):
    write(tmp_path / 'in', 4)
    (tmp_path / 'in' / '001b.png').write_bytes(b'no image')
    code = collect_nuts(tmp_path)
    said = capsys.readouterr()
    assert code == 0 and '001b.png' in said.err
    assert 'nut: 4 new, 4 in all' in said.out
    crop = Image.open(tmp_path / 'out' / 'nut' / 'nut_000004.png')
    assert crop.size == (CELL.camera.crop_size,) * 2 and np.asarray(crop).mean() == 3


def test_count_stops_in_the_middle_of_a_folder(tmp_path, capsys):
    write(tmp_path / 'in', 6)
    assert collect_nuts(tmp_path, '--count', '2') == collect_nuts(tmp_path, '--count', '2') == 0
    assert '2 new, 4 in all' in capsys.readouterr().out


@pytest.mark.parametrize(
    'extra, words',
    [
        (['--folder', '/nowhere'], ('holds no image',)),
        (['--folder', 'x', '--device', '0'], ('one of them',)),
        (['--folder', 'x', '--cell', '/no/cell.yaml'], ('cell.yaml',)),
    ],
)
def test_what_cannot_be_used_is_said_without_a_traceback(tmp_path, capsys, extra, words):
    code = main(['collect', '--out', str(tmp_path), '--label', 'nut', *extra])
    said = capsys.readouterr().err
    assert code == 2 and all(word in said for word in words) and 'Traceback' not in said


def test_a_film_of_a_belt_gives_each_item_once(tmp_path):
    cv2 = pytest.importorskip('cv2', reason='a device needs OpenCV')
    height, width = CELL.camera.image_height, CELL.camera.image_width
    step = round(CELL.belt.speed * CELL.camera.pixels_per_metre / 30)
    film = cv2.VideoWriter(
        str(tmp_path / 'film.avi'), cv2.VideoWriter_fourcc(*'MJPG'), 30, (width, height)
    )
    for number in range(60):
        frame = np.full((height, width, 3), 60, np.uint8)
        for first in (height + 40, height + 40 + 10 * height // 4):
            row = first - number * step
            if -40 < row < height + 40:
                frame[max(0, row - 25) : max(0, row + 25), 140:190] = (40, 40, 220)  # BGR: red
        film.write(frame)
    film.release()
    stamps = iter(range(0, 10**12, 10**9 // 30))
    collector = Collector(LabelFolder(tmp_path / 'out', 'cube'), stream=io.StringIO())
    cropper = ItemCropper(CELL, 'image', 'up', 24.0, 400, collector.take)
    capture = cv2.VideoCapture(str(tmp_path / 'film.avi'))
    while (read := capture.read())[0]:
        cropper.on_frame(np.ascontiguousarray(read[1][:, :, ::-1]), next(stamps))
    assert collector.folder.added == 2
    crop = np.asarray(Image.open(tmp_path / 'out' / 'cube' / 'cube_000001.png')).astype(int)
    middle = crop.shape[0] // 2
    assert crop[middle, middle, 0] > 180 > crop[middle, middle, 2]
    assert abs(crop[:, middle, 0].astype(float) > 140).sum() in range(44, 60)


def test_a_device_delivers_frames_until_there_are_enough(tmp_path):
    cv2 = pytest.importorskip('cv2', reason='a device needs OpenCV')
    film = cv2.VideoWriter(
        str(tmp_path / 'film.avi'), cv2.VideoWriter_fourcc(*'MJPG'), 30, (320, 240)
    )
    for _ in range(5):
        film.write(np.full((240, 320, 3), 120, np.uint8))
    film.release()
    collector = Collector(LabelFolder(tmp_path / 'out', 'x'), count=3, stream=io.StringIO())
    collect_from_source(collector, CELL, device=str(tmp_path / 'film.avi'), trigger='frame')
    assert collector.folder.added == 3


def test_the_host_shows_conditions_once_and_survives_errors():
    said = []
    host = SourceHost(threading.Event(), said.append)

    def fail():
        raise BadImage('a.png: cannot be read')

    host.guarded(fail)()
    for _ in range(3):
        host.set_condition('device', None, 'no frame')
    host.clear_condition('device', 'delivers')
    host.clear_condition('device', 'delivers')
    assert said == ['left out: a.png: cannot be read', 'no frame', 'delivers']
    assert host.skipped == 1 and host.get_clock().now().nanoseconds > 0


def test_an_error_of_another_kind_ends_the_work_and_is_kept():
    ended = threading.Event()
    host = SourceHost(ended, lambda text: None)
    host.every(0.0, lambda: 1 // 0)
    assert ended.wait(30)
    assert isinstance(host.failure, ZeroDivisionError)


def test_nobody_who_reads_the_count_any_more_ends_it(tmp_path):
    class Closed(io.StringIO):
        def write(self, text):
            raise BrokenPipeError

    collector = Collector(LabelFolder(tmp_path / 'out', 'nut'), stream=Closed())
    collect_from_source(collector, CELL, folder=str(write(tmp_path / 'in', 400)), trigger='frame')
    assert collector.folder.added == 1 and isinstance(collector.failure, BrokenPipeError)


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_with_the_count(tmp_path, number):
    write(tmp_path / 'in', 400)
    process = subprocess.Popen(
        [
            sys.executable,
            '-m',
            'stl_conveyor.cli.main',
            'collect',
            '--out',
            str(tmp_path / 'out'),
            '--label',
            'nut',
            '--folder',
            str(tmp_path / 'in'),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, 'PYTHONPATH': os.pathsep.join([str(ROOT), *sys.path])},
    )
    try:
        assert 'nut: 1 new' in process.stdout.readline()
        process.send_signal(number)
        out, err = process.communicate(timeout=20)
    finally:
        process.kill()
    assert process.returncode == 0, err
    kept = list((tmp_path / 'out' / 'nut').iterdir())
    assert 1 <= len(kept) < 400
    assert f'{len(kept)} pictures of nut added' in out
    for path in kept:
        assert Image.open(path).size == (CELL.camera.crop_size,) * 2
