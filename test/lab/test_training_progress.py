# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""A person sees one line for each stage of a training, and when the whole will end."""

from __future__ import annotations

import io
import threading

import pytest

from stl_conveyor_lab.train import progress as progress_module
from stl_conveyor_lab.train.progress import Progress, result_table
from stl_conveyor_lab.train.time_plan import TimePlan

SHARES = {'images': 0.1, 'strong': 0.3, 'codec': 0.6}


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


class Terminal(io.StringIO):
    """A terminal that tells when it was written to."""

    def __init__(self):
        super().__init__()
        self.written = threading.Condition()

    def isatty(self):
        return True

    def write(self, text):
        with self.written:
            result = super().write(text)
            self.written.notify_all()
        return result

    def await_text(self, text):
        with self.written:
            assert self.written.wait_for(lambda: text in self.getvalue(), timeout=60)


@pytest.fixture
def clock():
    return Clock()


def begin(stream, tmp_path, clock, minutes=20):
    plan = TimePlan(minutes, SHARES, clock=clock)
    return Progress(stream, tmp_path / 'work' / 'train.log', plan, wall=lambda: 0.0)


def test_stages_in_a_file_have_a_line_at_their_begin_and_end(tmp_path, clock):
    stream = io.StringIO()
    progress = begin(stream, tmp_path, clock)
    progress.header()
    progress.skip('images', 66.0)
    with progress.stage('strong'):
        print('strong: step 3  loss 1.2  3.5 min left')
        clock.now = 180.0
        print('{"a": 1}')
        print('Row(codec=1)')
    progress.skip('codec', 240.0)
    asked, *lines = stream.getvalue().splitlines()
    assert asked.startswith('20 minutes were asked for: the end is at about ')
    assert lines == [
        'stage   minutes  planned  whole left',
        'images      1.1      2.0        20.0  done before',
        'strong               6.0        20.0  begun',
        'strong      3.0      6.0        17.0  step 3 loss 1.2',
        'codec       4.0     12.0        17.0  done before',
    ]
    log = (tmp_path / 'work' / 'train.log').read_text()
    assert 'Row(codec=1)' in log and '{"a": 1}' in log and '3.5 min left' in log


@pytest.mark.parametrize('columns', [80, 110])
def test_line_on_a_terminal_is_written_over_and_never_wraps(tmp_path, clock, monkeypatch, columns):
    monkeypatch.setenv('COLUMNS', str(columns))
    monkeypatch.setattr(progress_module, 'WRITE', 0.001)
    stream = Terminal()
    progress = begin(stream, tmp_path, clock)
    with progress.stage('strong'):
        for step in range(5):
            clock.now += 10
            print('step', step, 'x' * 100)
            stream.await_text(f'step {step} ')
    written = stream.getvalue().split('\r\x1b[K')[1:]
    assert sum(text.endswith('\n') for text in written) == 1
    assert all(len(text.rstrip('\n')) < columns for text in written)
    assert any(len(text) == columns - 1 and text.endswith('…') for text in written)


def test_line_on_a_terminal_goes_on_while_nothing_is_printed(tmp_path, clock, monkeypatch):
    monkeypatch.setattr(progress_module, 'WRITE', 0.001)
    stream = Terminal()
    progress = begin(stream, tmp_path, clock)
    with progress.stage('strong'):
        clock.now = 96.0
        stream.await_text('strong      1.6      6.0        18.4')


def test_without_a_limit_nothing_is_promised(tmp_path, clock):
    stream = io.StringIO()
    progress = begin(stream, tmp_path, clock, minutes=0)
    progress.header()
    with progress.stage('strong'):
        pass
    assert 'planned' not in stream.getvalue() and 'left' not in stream.getvalue()


def test_failure_of_a_stage_goes_on_and_gives_the_output_back(tmp_path, clock, capsys):
    with pytest.raises(ValueError, match='broken'):
        with begin(Terminal(), tmp_path, clock).stage('strong'):
            raise ValueError('broken')
    print('seen')
    assert capsys.readouterr().out == 'seen\n'


def test_table_at_the_end_lines_up():
    lines = result_table(
        [('model', 'right', 'images'), ('weak', '0.900', '150'), ('edge, 64 bytes', '1', '50')]
    )
    assert lines == [
        'model           right  images',
        'weak            0.900     150',
        'edge, 64 bytes      1      50',
    ]
