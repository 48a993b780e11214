# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Whoever is asked to end ends, whatever the main thread is at."""

from __future__ import annotations

import signal
import threading

import pytest

from stl_conveyor.nodes.base.ending import ENDING, told_of_ending


@pytest.mark.parametrize('number', ENDING)
def test_a_signal_that_comes_while_the_event_is_locked_is_heard(number):
    asked = threading.Event()
    with told_of_ending(asked.set):
        with asked._cond:  # as `wait` and `set` hold it for a moment
            signal.raise_signal(number)
        assert asked.wait(30)


def test_afterwards_the_signals_are_what_they_were():
    before = [signal.getsignal(number) for number in ENDING]
    with pytest.raises(ValueError), told_of_ending(lambda: None):
        assert [signal.getsignal(number) for number in ENDING] != before
        raise ValueError
    assert [signal.getsignal(number) for number in ENDING] == before
