# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Publishers of the dead and of those that stand by are counted while the graph has them."""

from __future__ import annotations

from stl_conveyor.cell.topic_claims import MOST_CLAIMS, REMEMBERED_NS, TopicClaims

SILENCE_NS = 600_000_000


def test_a_dead_publisher_excuses_another_one_no_longer_than_the_graph_has_it():
    claims = TopicClaims(SILENCE_NS)
    claims.heard(1, 'capture', 0)
    for now_ns, dead in (
        (SILENCE_NS, 0),
        (SILENCE_NS + 1, 1),
        (REMEMBERED_NS - 1, 1),
        (REMEMBERED_NS, 0),
        (1000 * REMEMBERED_NS, 0),
    ):
        assert claims.ghosts(now_ns)['capture'] == dead, now_ns
        assert claims.idle(now_ns)['capture'] == dead, now_ns


def test_one_that_stands_by_is_idle_while_it_lives_and_no_ghost():
    claims = TopicClaims(SILENCE_NS)
    claims.heard(1, 'sort_outcome', 0, stands_by=True)
    claims.heard(2, 'sort_outcome', 0)
    assert (claims.idle(1)['sort_outcome'], claims.ghosts(1)['sort_outcome']) == (1, 0)
    claims.heard(1, 'sort_outcome', 2)
    assert claims.idle(3)['sort_outcome'] == 0
    claims.heard(1, 'sort_outcome', 4, stands_by=True)
    dead_ns = 4 + REMEMBERED_NS
    assert claims.idle(dead_ns - 1)['sort_outcome'] == 1  # its end, and nothing of the other
    assert claims.idle(dead_ns)['sort_outcome'] == 0


def test_one_that_left_counts_no_more_and_the_newest_claims_are_kept():
    claims = TopicClaims(SILENCE_NS)
    claims.heard(1, 'capture', 0)
    claims.left(1)
    claims.left(2)
    assert not claims.idle(SILENCE_NS + 1)
    for instance in range(MOST_CLAIMS + 10):
        claims.heard(instance, 'capture', instance)
        claims.heard(0, 'belt_state', instance)
    counted = claims.idle(2 * SILENCE_NS)
    assert counted == {'capture': MOST_CLAIMS - 1, 'belt_state': 1}
