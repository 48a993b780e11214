# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Whether an edge answer can be the answer to what the device sent."""

from __future__ import annotations

import enum
from collections import OrderedDict
from typing import Generic, TypeVar

from stl_conveyor.cell.ledger import ItemKey

AnswerT = TypeVar('AnswerT')


class Claim(enum.Enum):
    """What became of an edge answer that was compared with the decision to send its item."""

    PLAUSIBLE = 'plausible'
    UNDECIDED = 'undecided_answer'  # no decision came yet: it is kept for it
    UNASKED = 'unasked_answer'  # the item was not sent to the edge
    TOO_MANY_BYTES = 'impossible_answer'  # more bytes stand behind it than may have been sent
    OTHER_MODEL = 'wrong_model_answer'  # the model is not the one of our model folder


class EdgeClaims(Generic[AnswerT]):
    """Compare the answers of the edge with the policy's decisions, in whatever order they come.

    Without this, whoever can publish on the topic of edge answers moves every item: an answer
    outranks the device's own by its source alone. An answer counts only for an item that was to
    be sent, with some bytes behind it and no more than were promised.

    Examples:
        >>> claims = EdgeClaims()
        >>> item = ItemKey(item_id=1, stamp_ns=0)
        >>> claims.answered(item, model_id=5, bytes_used=128, answer='nut').value
        'undecided_answer'
        >>> claims.decided(item, byte_budget=512, model_id=5)
        [('nut', <Claim.PLAUSIBLE: 'plausible'>)]
        >>> claims.answered(item, model_id=5, bytes_used=513, answer='bolt').value
        'impossible_answer'
    """

    def __init__(self, capacity: int = 512) -> None:
        """Know of no decision.

        Args:
            capacity: How many decisions are kept, and how many items whose answers wait for one.
        """
        self._capacity = capacity
        self._decisions: OrderedDict[ItemKey, tuple[int, int]] = OrderedDict()
        self._waiting: OrderedDict[ItemKey, list[tuple[int, int, AnswerT]]] = OrderedDict()

    def decided(
        self, key: ItemKey, byte_budget: int, model_id: int = 0
    ) -> list[tuple[AnswerT, Claim]]:
        """Take in a decision; return the answers that waited for it, with their claims.

        Of two decisions about an item the first counts.

        Args:
            byte_budget: The most bytes that may be sent; 0 for an item that stays here.
            model_id: Of the model that is to answer; 0 lets every model do so.
        """
        if key in self._decisions:
            return []
        self._decisions[key] = byte_budget, model_id
        if len(self._decisions) > self._capacity:
            self._decisions.popitem(last=False)
        return [
            (answer, self._compare(answered_by, bytes_used, byte_budget, model_id))
            for answered_by, bytes_used, answer in self._waiting.pop(key, [])
        ]

    def answered(self, key: ItemKey, model_id: int, bytes_used: int, answer: AnswerT) -> Claim:
        """Return what an answer is worth; one without a decision is kept until that comes."""
        decision = self._decisions.get(key)
        if decision is not None:
            return self._compare(model_id, bytes_used, *decision)
        kept = self._waiting.setdefault(key, [])
        kept.append((model_id, bytes_used, answer))
        del kept[:-_KEPT_ANSWERS]
        if len(self._waiting) > self._capacity:
            self._waiting.popitem(last=False)
        return Claim.UNDECIDED

    @staticmethod
    def _compare(answered_by: int, bytes_used: int, budget: int, model_id: int) -> Claim:
        if budget == 0:
            return Claim.UNASKED
        if model_id and answered_by != model_id:
            return Claim.OTHER_MODEL
        return Claim.PLAUSIBLE if 0 < bytes_used <= budget else Claim.TOO_MANY_BYTES


# Of an item; the edge answers again after each packet.
_KEPT_ANSWERS = 8
