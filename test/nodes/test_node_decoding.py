# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Nodes of one process that listen to the same topic take a message apart once."""

from __future__ import annotations

import threading

import pytest

pytest.importorskip('rclpy')

from rclpy.serialization import serialize_message  # noqa: E402

from stl_conveyor.msg import Classification, SortOutcome  # noqa: E402
from stl_conveyor.nodes.base.decoding import KEPT, MessageDecoder  # noqa: E402


def test_who_listens_to_the_same_is_handed_the_same_message():
    one, other = (MessageDecoder(None, Classification, 'classification') for _ in range(2))
    first, second = (serialize_message(Classification(item_id=n, score=0.1)) for n in (1, 2))
    message = one(first)
    assert message == Classification(item_id=1, score=message.score)
    assert other(second).item_id == 2
    assert other(bytes(bytearray(first))) is message  # by what it holds, not by where it lies
    assert one(second) is other(second)


def test_who_listens_alone_keeps_nothing():
    alone = MessageDecoder(None, SortOutcome, 'nobody_else')
    data = serialize_message(SortOutcome(item_id=7))
    assert alone(data) is not alone(data)
    gone = MessageDecoder(None, SortOutcome, 'nobody_else')
    assert alone(data) is gone(data)
    del gone
    assert alone(data) is not alone(data)


def test_no_more_is_kept_than_others_may_be_about_to_ask_for():
    one, other = (MessageDecoder(None, Classification, 'many') for _ in range(2))
    data = [serialize_message(Classification(item_id=n)) for n in range(1, KEPT + 2)]
    messages = [one(each) for each in data]
    assert other(data[1]) is messages[1]
    assert other(data[0]) is not messages[0]  # the oldest was let go of


def test_threads_that_take_messages_apart_together_get_the_right_ones():
    decoders = [MessageDecoder(None, Classification, 'together') for _ in range(4)]
    data = [serialize_message(Classification(item_id=n)) for n in range(1, 200)]
    wrong = []

    def take(decoder):
        for number, each in enumerate(data, 1):
            if decoder(each).item_id != number:
                wrong.append(number)

    threads = [threading.Thread(target=take, args=(decoder,)) for decoder in decoders]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
