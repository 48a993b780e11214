# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""The link model: conservation, order, bandwidth, outages, and the same luck by the same seed."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stl_conveyor.errors import ConfigError
from stl_conveyor.sim.link import (
    LINKS,
    MILLISECOND,
    SECOND,
    Bandwidth,
    BurstLoss,
    LinkModel,
    LinkSettings,
    named_link,
    read_trace,
)

probability = st.sampled_from([0.0, 0.3, 1.0])
bandwidths = st.none() | st.builds(
    Bandwidth,
    st.lists(st.integers(1_000, 200_000), min_size=1, max_size=4).map(tuple),
    st.integers(MILLISECOND, SECOND),
)
settings_of_any_kind = st.builds(
    LinkSettings,
    bandwidth=bandwidths,
    delay_ns=st.integers(0, 50 * MILLISECOND),
    jitter_ns=st.integers(0, 50 * MILLISECOND),
    loss=probability,
    burst_loss=st.none() | st.builds(BurstLoss, probability, probability),
    reorder=probability,
    duplicate=probability,
    corrupt=probability,
    outage=st.booleans(),
    outages=st.sampled_from([(), ((SECOND // 4, SECOND // 2),), ((0, 1), (SECOND, 3 * SECOND))]),
    queue_bytes=st.sampled_from([0, 400, 2000, 10**6]),
)
traffic = st.lists(st.tuples(st.integers(0, 200 * MILLISECOND), st.integers(0, 1500)), max_size=30)


def play(model, messages, start=0):
    """Send messages at their times, following every event in between; return deliveries."""
    out, now = [], start
    for index, (gap, size) in enumerate(messages):
        now += gap
        while model.next_event_ns() is not None and model.next_event_ns() < now:
            out += model.advance(model.next_event_ns())
        model.send(now, size, index)
    while model.next_event_ns() is not None:
        out += model.advance(model.next_event_ns())
    return out


@given(settings_of_any_kind, traffic, st.integers(0, 2**32))
def test_conservation_order_and_determinism(settings, messages, seed):
    model = LinkModel(settings, seed)
    out = play(model, messages)
    n = model.counters
    assert n.sent == len(messages) and n.delivered == len(out)
    assert n.sent + n.duplicated == n.delivered + n.lost + n.outage_lost + n.queue_dropped
    assert model.in_flight == 0 and model.queued_bytes == 0
    assert [d.time_ns for d in out] == sorted(d.time_ns for d in out)
    assert all(d.time_ns >= d.sent_ns + settings.delay_ns for d in out)
    if settings.reorder == 0:
        assert [d.payload for d in out] == sorted(d.payload for d in out)
    if settings.duplicate == 0:
        assert len({d.payload for d in out}) == len(out)
    assert out == play(LinkModel(settings, seed), messages)


@given(settings_of_any_kind, traffic, st.integers(0, 2**32))
def test_it_does_not_matter_how_often_the_model_is_advanced(settings, messages, seed):
    lazy, out, now = LinkModel(settings, seed), [], 0
    for index, (gap, size) in enumerate(messages):
        now += gap
        lazy.send(now, size, index)
    out = lazy.advance(10**15)
    assert out == play(LinkModel(settings, seed), messages)


@given(bandwidths.filter(lambda b: b is not None), traffic, st.integers(0, 100))
def test_throughput_is_never_above_the_bandwidth(bandwidth, messages, start):
    settings = LinkSettings(
        bandwidth=bandwidth, delay_ns=0, jitter_ns=0, duplicate=0.3, queue_bytes=10**6
    )
    out = play(LinkModel(settings, 1, start), messages, start)
    for i, first in enumerate(out):
        bits = 0
        for last in out[i + 1 :]:
            bits += 8 * (last.size + settings.overhead_bytes)
            assert bits * SECOND <= bandwidth.capacity(first.time_ns - start, last.time_ns - start)


@given(
    bandwidths.filter(lambda b: b is not None), st.integers(0, 5 * SECOND), st.integers(1, 10**6)
)
def test_finish_is_the_first_nanosecond_with_enough_capacity(bandwidth, start, bits):
    end = bandwidth.finish(start, bits * SECOND)
    assert bandwidth.capacity(start, end) >= bits * SECOND
    assert bandwidth.capacity(start, end - 1) < bits * SECOND


def test_time_on_the_air_by_hand():
    model = LinkModel(replace(named_link('light'), jitter_ns=0), 0)
    for index in range(2):
        model.send(0, 250, index)
    first, second = model.advance(SECOND)
    assert first.time_ns == 2 * MILLISECOND + -(-400 * 8 * SECOND // 52_000)
    assert second.time_ns == 2 * MILLISECOND + -(-800 * 8 * SECOND // 52_000)


def test_drop_tail():
    model = LinkModel(LinkSettings(Bandwidth((8000,)), queue_bytes=1000, overhead_bytes=100), 0)
    assert [model.send(0, 300, k) for k in range(4)] == [True, True, False, False]
    assert [d.payload for d in model.advance(10 * SECOND)] == [0, 1]
    assert model.counters.queue_dropped == 2


def test_loss_has_its_rate_and_bursts_are_bursts():
    def lost(settings):
        model = LinkModel(settings, 5)
        for k in range(20000):
            model.send(k * MILLISECOND, 10, k)
        arrived = {d.payload for d in model.advance(10**15)}
        return [k not in arrived for k in range(20000)]

    independent = lost(LinkSettings(loss=0.3))
    bursts = lost(LinkSettings(burst_loss=BurstLoss(to_bad=0.02, to_good=0.1)))
    assert sum(independent) / 20000 == pytest.approx(0.3, abs=0.015)
    assert sum(bursts) / 20000 == pytest.approx(0.02 / 0.12, abs=0.03)

    def again(losses):
        return sum(a and b for a, b in zip(losses, losses[1:])) / sum(losses)

    assert again(independent) == pytest.approx(0.3, abs=0.02)
    assert again(bursts) == pytest.approx(0.9, abs=0.02)


def test_what_is_on_the_air_in_an_outage_is_lost():
    # 1 kbyte/s, 100 bytes each: message k is on the air from k/10 to (k+1)/10 s
    settings = LinkSettings(
        Bandwidth((8000,)),
        delay_ns=0,
        jitter_ns=0,
        overhead_bytes=0,
        outages=((250 * MILLISECOND, 450 * MILLISECOND),),
    )
    model = LinkModel(settings, 0)
    for k in range(8):
        model.send(0, 100, k)
    assert [d.payload for d in model.advance(SECOND)] == [0, 1, 5, 6, 7]
    assert model.counters.outage_lost == 3


def test_switching_an_outage_at_run_time_hits_what_is_on_the_air():
    settings = LinkSettings(Bandwidth((8000,)), delay_ns=0, jitter_ns=0, overhead_bytes=0)
    model = LinkModel(settings, 0)
    for k in range(5):
        model.send(0, 100, k)
    out = model.advance(150 * MILLISECOND)
    model.configure(150 * MILLISECOND, replace(settings, outage=True))
    assert model.rate(150 * MILLISECOND) == 0
    model.configure(250 * MILLISECOND, settings)
    out += model.advance(SECOND)
    assert [d.payload for d in out] == [0, 3, 4]


def test_a_new_bandwidth_takes_over_in_mid_message():
    slow = LinkSettings(Bandwidth((8000,)), delay_ns=0, jitter_ns=0, overhead_bytes=0)
    model = LinkModel(slow, 0)
    model.send(0, 100, 'x')
    model.configure(50 * MILLISECOND, replace(slow, bandwidth=Bandwidth((16000,))))
    assert model.advance(SECOND)[0].time_ns == 75 * MILLISECOND


def test_a_clock_that_runs_back_holds_nothing_up():
    model = LinkModel(LinkSettings(delay_ns=0, jitter_ns=0), 0, SECOND)
    model.send(2 * SECOND, 10, 'a')
    assert len(model.advance(2 * SECOND)) == 1
    model.send(SECOND, 10, 'b')
    assert len(model.advance(2 * SECOND)) == 1


def test_named_links():
    assert {name: named_link(name).bandwidth for name in ('none', 'light', 'heavy')} == {
        'none': Bandwidth((67_500,)),
        'light': Bandwidth((52_000,)),
        'heavy': Bandwidth((34_300,)),
    }
    assert named_link('unlimited').bandwidth is None
    trace = named_link('trace').bandwidth
    assert len(trace.rates) == 60 and trace.rates[0] == 67_200 and trace.rates[-1] == 35_300
    assert trace.rate_at(SECOND // 2) == 65_200
    # the constant links are the means of the trace's three parts
    for part, name in enumerate(('none', 'light', 'heavy')):
        mean = sum(trace.rates[20 * part : 20 * part + 20]) / 20
        assert mean == pytest.approx(named_link(name).bandwidth.rates[0], abs=60)
    with pytest.raises(ConfigError, match='light'):
        named_link('medium')
    assert all(named_link(name) for name in LINKS)


@pytest.mark.parametrize('text', ['', 'kbps\n', 'kbps\nfast\n', 'kbps\n-3\n'])
def test_bad_traces_are_refused(tmp_path, text):
    path = tmp_path / 'trace.csv'
    path.write_text(text)
    with pytest.raises(ConfigError):
        Bandwidth(read_trace(path))
    with pytest.raises(ConfigError, match='missing'):
        read_trace(tmp_path / 'missing.csv')


@pytest.mark.parametrize(
    'wrong',
    [
        {'loss': 1.5},
        {'corrupt': -0.1},
        {'delay_ns': -1},
        {'outages': ((5, 3),)},
        {'burst_loss': BurstLoss(2.0, 0.1)},
    ],
)
def test_bad_settings_are_refused_by_name(wrong):
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        LinkSettings(**wrong)
