# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""A person sees one line for each stage of a training, and when the whole will end."""

from __future__ import annotations

import io

import pytest

from stl_conveyor_lab.train.progress import Progress, result_table

SHARES = {'images': 0.1, 'strong': 0.3, 'codec': 0.6}


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def clock():
    return Clock()


def test_stages_in_a_file_have_a_line_at_their_begin_and_end(tmp_path, clock):
    stream = io.StringIO()
    progress = Progress(stream, tmp_path / 'work' / 'train.log', 20, SHARES, clock)
    progress.over('images')
    with progress.stage('strong'):
        print('strong: step 3  loss 1.2  3.5 min left')
        clock.now = 180.0
        print('{"a": 1}')
        print('Row(codec=1)')
    progress.skip('codec', 4.0)
    assert stream.getvalue().splitlines() == [
        '== strong, planned 6.0 min, about 18 min left in all',
        'strong took 3.0 min, about 12 min left in all  strong: step 3 loss 1.2',
        '== codec: done before, 4.0 min',
    ]
    assert progress.minutes_left() == 0
    log = (tmp_path / 'work' / 'train.log').read_text()
    assert 'Row(codec=1)' in log and '{"a": 1}' in log and '3.5 min left' in log


def test_line_on_a_terminal_is_written_over_and_never_wraps(tmp_path, clock, monkeypatch):
    monkeypatch.setenv('COLUMNS', '60')
    stream = Terminal()
    progress = Progress(stream, tmp_path / 'train.log', 20, SHARES, clock)
    with progress.stage('strong'):
        for second in range(0, 120, 10):
            clock.now = second
            print('step', second, 'x' * 100)
    written = stream.getvalue().split('\r\x1b[K')[1:]
    assert len([text for text in written if text.endswith('\n')]) == 2
    assert all(len(text) < 60 for text in written[1:-1])
    assert any('1.0 of 6.0 min' in text for text in written)


def test_estimate_of_the_whole_follows_what_a_stage_takes(tmp_path, clock):
    progress = Progress(io.StringIO(), tmp_path / 'train.log', 10, SHARES, clock)
    assert progress.minutes_left() == pytest.approx(10)
    with progress.stage('images'):
        clock.now = 600.0  # ten times as long as planned
        assert progress.minutes_left() == pytest.approx(9)
    assert progress.minutes_left() == pytest.approx(9)


def test_without_a_limit_nothing_is_promised(tmp_path, clock):
    stream = io.StringIO()
    with Progress(stream, tmp_path / 'train.log', 0, SHARES, clock).stage('strong'):
        pass
    assert 'planned' not in stream.getvalue() and 'left' not in stream.getvalue()


def test_failure_of_a_stage_goes_on_and_gives_the_output_back(tmp_path, clock, capsys):
    with pytest.raises(ValueError, match='broken'):
        with Progress(io.StringIO(), tmp_path / 'train.log', 1, SHARES, clock).stage('strong'):
            raise ValueError('broken')
    print('seen')
    assert capsys.readouterr().out == 'seen\n'


def test_table_at_the_end_lines_up():
    lines = result_table(
        {'strong': 3.24, 'codec': 11.0}, {'strong': 3.5, 'codec': 8.0}, {'weak': 'right on .9'}
    )
    assert lines == [
        'stage   minutes  planned',
        'strong      3.2      3.5',
        'codec      11.0      8.0',
        'all        14.2     11.5',
        '',
        'weak  right on .9',
    ]
