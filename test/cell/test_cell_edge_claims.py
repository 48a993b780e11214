# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""An edge answer counts for what was sent, and for nothing else, whatever comes first."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from stl_conveyor.cell.edge_claims import Claim, EdgeClaims
from stl_conveyor.cell.ledger import ItemKey

ITEMS = st.integers(1, 4).map(lambda number: ItemKey(number, number))
DECISION = st.tuples(st.just('decision'), ITEMS, st.sampled_from([0, 100, 200]), st.integers(0, 2))
ANSWER = st.tuples(st.just('answer'), ITEMS, st.integers(0, 250), st.integers(0, 3))


@given(events=st.lists(DECISION | ANSWER, max_size=30))
def test_claims_are_the_same_in_any_order(events):
    claims = EdgeClaims(capacity=1000)
    decisions, found, waiting = {}, {}, {}
    for number, (kind, key, n_bytes, model) in enumerate(events):
        if kind == 'decision':
            told = claims.decided(key, n_bytes, model)
            assert [answer for answer, _ in told] == waiting.pop(key, [])[-8:]
            found.update(dict(told))
            decisions.setdefault(key, (n_bytes, model))
        else:
            claim = claims.answered(key, model, n_bytes, number)
            if claim is Claim.UNDECIDED:
                assert key not in decisions
                waiting.setdefault(key, []).append(number)
            else:
                found[number] = claim
    for number, claim in found.items():
        _, key, n_bytes, model = events[number]
        budget, expected = decisions[key]
        honest = budget > 0 and 0 < n_bytes <= budget and expected in (0, model)
        assert (claim is Claim.PLAUSIBLE) == honest
        assert (claim is Claim.UNASKED) == (budget == 0)


def test_memory_is_bounded():
    claims = EdgeClaims(capacity=4)
    for number in range(1, 100):
        key = ItemKey(number, 0)
        for _ in range(50):
            claims.answered(key, 0, 10, number)
        claims.decided(ItemKey(number, 1), 10)
    assert claims.decided(ItemKey(1, 0), 10) == []
    assert claims.decided(ItemKey(99, 0), 10) == [(99, Claim.PLAUSIBLE)] * 8
    assert claims.answered(ItemKey(1, 1), 0, 10, 1) is Claim.UNDECIDED
    assert claims.answered(ItemKey(99, 1), 0, 10, 1) is Claim.PLAUSIBLE
