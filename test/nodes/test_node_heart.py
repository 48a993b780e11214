# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""A heart beats for as long as there is somebody to beat for, and tells of a stuck executor."""

from __future__ import annotations

import threading

from stl_conveyor.nodes.base.heart import Heart, Turn


def heart_threads():
    return [thread for thread in threading.enumerate() if thread.name == 'heart']


def test_it_beats_for_all_and_one_that_fails_stops_no_other():
    heart, counts, enough = Heart(period=0.001), {'good': 0, 'bad': 0}, threading.Event()

    def good():
        counts['good'] += 1
        if counts['good'] == 5:
            enough.set()

    def bad():
        counts['bad'] += 1
        raise RuntimeError('the middleware is gone')

    before = len(heart_threads())
    heart.add(bad)
    heart.add(good)
    (thread,) = set(heart_threads()[before:])
    assert enough.wait(10)
    heart.remove(good)
    heart.remove(good)  # twice is no error
    heart.remove(bad)
    thread.join(10)
    assert not thread.is_alive()
    assert counts['bad'] >= 5
    again = threading.Event()
    heart.add(again.set)
    assert again.wait(10)
    heart.remove(again.set)


def test_a_turn_lasts_from_the_outermost_callback_to_its_end_in_its_own_thread_only():
    turn = Turn()
    assert not turn.begin() and turn.busy == 0  # nobody's thread yet
    turn.taken_by_this_thread()
    assert turn.begin()
    assert not turn.begin()  # a callback within the callback
    first = turn.busy
    assert 0 < first <= turn.busy
    turn.end()
    assert turn.busy == 0
    begun = []
    other = threading.Thread(target=lambda: begun.append(turn.begin()))
    other.start()
    other.join()
    assert begun == [False] and turn.busy == 0
