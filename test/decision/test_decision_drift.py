# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Changes of the world are noticed soon, and what has not changed is left alone."""

from __future__ import annotations

import numpy as np
import pytest

from stl_conveyor.decision.drift import (
    DriftWatch,
    EvidenceCusum,
    ItemLook,
    MissingClassDetector,
    RankDetector,
    RateDetector,
    look_at,
)

LIMIT = 10_000.0


def picture(rng, light=1.0, blur=0, tint=0):
    """Return a bright disc on a belt, as a camera sees it."""
    y, x = np.mgrid[:96, :96] - 48.0 + rng.uniform(-8, 8, (2, 1, 1))
    image = np.where(np.hypot(x, y) < 18 + rng.uniform(-4, 4), 180.0 + rng.uniform(-25, 25), 60)
    for _ in range(blur):
        image = (
            image
            + np.roll(image, 1, 0)
            + np.roll(image, -1, 0)
            + np.roll(image, 1, 1)
            + np.roll(image, -1, 1)
        ) / 5
    coloured = image[..., None] + np.array([tint, 0, -tint])
    noisy = light * coloured + rng.normal(0, 2, coloured.shape)
    return np.clip(noisy, 0, 255).astype(np.uint8)


def test_evidence_starts_again_when_it_is_gone():
    evidence = EvidenceCusum(100.0)
    assert not any(evidence.add(0.5) for _ in range(50))
    assert [evidence.add(4.0) for _ in range(4)] == [False, False, False, True]
    assert evidence.since == 4


def test_ranks_of_steady_values_give_no_alarm_and_moved_ones_do():
    rng = np.random.default_rng(1)
    detector = RankDetector(LIMIT)
    assert all(detector.add(v) is None for v in rng.normal(size=3000))
    alarms = [detector.add(value) for value in rng.normal(3.0, 1.0, 20)]
    assert [alarm[0] for alarm in alarms if alarm is not None][0] == 1
    assert detector.add(float('nan')) is None


def test_alarms_are_rarer_than_promised_on_ties_too():
    rng = np.random.default_rng(2)
    limit = 300.0
    alarms = sum(
        RankDetector(limit, seed).add(value) is not None
        for seed in range(3)
        for value in rng.integers(0, 4, 2000).astype(float)
    )
    detector = RankDetector(limit, 9)
    alarms += sum(detector.add(v) is not None for v in rng.integers(0, 4, 6000).astype(float))
    assert alarms <= 6000 / limit


def test_rate_that_rises_is_noticed():
    rng = np.random.default_rng(3)
    detector = RateDetector(LIMIT, 0.02, 0.08)
    assert all(detector.add(bool(rng.random() < 0.02)) is None for _ in range(5000))
    delays = [detector.add(bool(rng.random() < 0.3)) for _ in range(100)]
    assert any(delay is not None for delay in delays)


def test_class_that_stays_away_is_named():
    rng = np.random.default_rng(4)
    detector = MissingClassDetector(LIMIT)
    assert all(detector.add('abcd'[rng.integers(4)]) is None for _ in range(2000))
    found = [detector.add('abc'[rng.integers(3)]) for _ in range(120)]
    named = [alarm for alarm in found if alarm]
    assert [name for name, _ in named] == ['d']
    assert named[0][1] < 60
    assert detector.add('d') is None


@pytest.mark.parametrize(
    'change, name, words',
    [
        ({'light': 0.67}, 'light_changed', 'darker'),
        ({'blur': 4}, 'sharpness_changed', 'focus'),
        ({'tint': 4}, 'ground_changed', 'replaced'),
    ],
)
def test_changed_pictures_are_named_with_the_remedy(change, name, words):
    rng = np.random.default_rng(5)
    watch = DriftWatch(0.02)
    for _ in range(300):
        assert watch.add(look_at(picture(rng)), 'abcd'[rng.integers(4)]) == []
    found = {}
    for _ in range(40):
        for change_found in watch.add(look_at(picture(rng, **change)), 'abcd'[rng.integers(4)]):
            found[change_found.name] = change_found
    assert name in found
    assert words in found[name].text and found[name].items <= 40 and not found[name].over
    # Back to what it was: the change is over.
    again = [
        change_found
        for _ in range(200)
        for change_found in watch.add(look_at(picture(rng)), 'abcd'[rng.integers(4)])
    ]
    assert (name, True) in {(c.name, c.over) for c in again}


def test_new_kind_and_missing_class_are_told():
    rng = np.random.default_rng(6)
    watch = DriftWatch(0.02)
    # All of this belt looks a little strange: that alone is no new kind.
    for _ in range(1500):
        assert watch.add(None, 'abcd'[rng.integers(4)], rng.uniform(0.3, 1.0)) == []
    names = set()
    for _ in range(300):
        unknown = 1.0 if rng.random() < 0.2 else rng.uniform(0.3, 1.0)
        names |= {c.name for c in watch.add(None, 'abc'[rng.integers(3)], unknown)}
    assert names == {'new_kind', 'class_missing'}
    over = set()
    for _ in range(600):
        label = 'abcd'[rng.integers(4)]
        over |= {c.name for c in watch.add(None, label, rng.uniform(0.3, 1.0)) if c.over}
    assert over == names


def test_class_that_nobody_is_sure_of_counts_as_an_item_alone():
    rng = np.random.default_rng(8)
    detector = MissingClassDetector(LIMIT)
    assert all(detector.add('abc'[rng.integers(3)]) is None for _ in range(300))
    # Doubtful answers for long: every class stays away, each is named once.
    named = [alarm[0] for alarm in (detector.add('') for _ in range(200)) if alarm]
    assert sorted(named) == ['a', 'b', 'c']
    assert detector.missing == ('a', 'b', 'c')
    assert detector.add('b') is None and detector.missing == ('a', 'c')


def test_false_alarms_are_rarer_than_one_in_ten_thousand_items():
    rng = np.random.default_rng(9)
    alarms, items = 0, 20_000
    watch = DriftWatch(0.02)
    for _ in range(items):
        look = ItemLook(rng.normal(), rng.gamma(2.0), round(rng.normal(), 1))
        alarms += len(watch.add(look, 'abcdef'[rng.integers(6)], rng.uniform(0.1, 1.0)))
    assert alarms <= items / 10_000
