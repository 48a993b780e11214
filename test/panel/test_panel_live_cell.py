# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import csv
import io
import json
from datetime import datetime, timezone
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stl_conveyor.assess import scoring
from stl_conveyor.cell.description import CellDescription
from stl_conveyor.errors import Level
from stl_conveyor.panel.accounts import Role, User
from stl_conveyor.panel.belt_follower import DESCRIBED, RUNNING, STOPPED, UNKNOWN, BeltFollower
from stl_conveyor.panel.counts import KEPT_HOURS, ShiftCounts
from stl_conveyor.panel.items import Answer, Offload, Outcome, Stroke, Truth, ranking
from stl_conveyor.panel.live_cell import (
    FOUND_S,
    KEPT_CROPS,
    KEPT_ITEMS,
    SHOWN_ITEMS,
    SILENT_S,
    Bucket,
    LiveCell,
)

CELL = CellDescription.load(Path(__file__).parents[2] / 'config' / 'cell.yaml')
LANES = [lane.name for lane in CELL.lanes] + [CELL.reject_lane]
S = 1_000_000_000
CROP = np.zeros((8, 8, 3), np.uint8)


class Clock:
    """Seconds that a test sets."""

    def __init__(self, now=1_800_000_000.0):
        self.now = now

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def live(clock):
    return LiveCell(CELL, labels=CELL.classes, wall=clock, steady=clock)


def outcome(lane='A', **changed):
    values = {
        'lane': lane,
        'class_id': '' if lane == CELL.reject_lane else CELL.classes[0],
        'score': 0.9,
        'source': 1,
        'slack': 0.03,
        'missed': False,
        'reason': 2,
        'detail': '',
        'command_ns': 0,
        'local_delay': 0.01,
        'edge_delay': -1.0,
        'edge_bytes': 0,
    }
    return Outcome(**{**values, **changed})


def decision(offload=True):
    return Offload(offload, 1 if offload else 2, 'adaptive', 0.2, 0.1, 1.0, 400 * offload)


# One piece of news about an item: what it is, and its number among the items.
PIECES = st.one_of(
    st.tuples(st.just('capture'), st.none()),
    st.tuples(st.just('edge'), st.integers(0, 900)),
    st.tuples(st.just('decision'), st.booleans()),
    st.tuples(st.just('transfer'), st.integers(0, 900)),
    st.tuples(st.just('outcome'), st.tuples(st.sampled_from(LANES), st.booleans())),
    st.tuples(st.just('exposed'), st.sampled_from(LANES)),
    st.tuples(
        st.just('rested'), st.tuples(st.sampled_from(LANES), st.sampled_from([*LANES, 'lost']))
    ),
)


def tell_both(live, board, number, kind, value):
    stamp = number * S
    if kind == 'capture':
        live.take_capture(stamp, number, stamp, CROP)
        board.add_capture(stamp, number, stamp, 0)
    elif kind == 'edge':
        live.take_edge(stamp, Answer('x', 0.9, (), value))
        board.add_edge(stamp, number, scoring.AnswerRecord('x', 0.9, 0, bytes_used=value))
    elif kind == 'decision':
        live.take_decision(stamp, decision(value))
        board.add_decision(stamp, number, scoring.Decision(value, 1, 0, 0, 0, 0, 0))
    elif kind == 'transfer':
        live.take_transfer(stamp, value)
        board.add_transfer(stamp, number, scoring.Transfer(value, 1, 1, 0.0, 0))
    elif kind == 'outcome':
        lane, missed = value
        live.take_outcome(stamp, number, outcome(lane, missed=missed))
        board.add_action(stamp, number, scoring.Action(lane, 'x', 0.9, 1, 0.03, missed, '', 0))
    elif kind == 'exposed':
        live.take_truth(stamp, Truth('x', value))
        board.add_exposure(stamp, number, 'x', value, 0.0, 0)
    else:
        lane, rest = value
        live.take_truth(stamp, Truth('x', lane, rest))
        board.add_rest(stamp, number, 'x', lane, 0.0, rest)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 6), PIECES), max_size=60))
def test_the_counts_are_those_of_the_score_whatever_comes_in_whatever_order(pieces):
    live, board = LiveCell(CELL, wall=Clock(), steady=Clock()), scoring.ScoreBoard()
    # What an item really is does not change.
    truth = {}
    for number, (kind, value) in pieces:
        if kind == 'exposed':
            value = truth.setdefault(number, value)
        elif kind == 'rested':
            known = truth.setdefault(number, value[0])
            value = (known, value[1])
        tell_both(live, board, number, kind, value)
    score = scoring.score(board.records, CELL)
    for name in (
        'items',
        'captures',
        'outcomes',
        'missed_deadlines',
        'correct',
        'lost',
        'rejected',
        'edge_answers',
        'offloaded',
        'bytes_sent',
    ):
        assert live.counts.of(name) == getattr(score, name), name


def test_ten_thousand_items_leave_no_more_behind_than_the_last_ones(live, clock):
    for number in range(1, 10_001):
        stamp = number * S
        live.take_capture(stamp, number, stamp, CROP)
        live.take_outcome(stamp, number, outcome(LANES[number % 4]))
        live.take_fault('camera', f'fault_{number}', Level.WARN, 'x', 0.0, 1)
        live.take_fault('camera', f'fault_{number}', Level.OK, '', 0.0, 1)
        live.acknowledge(f'camera: fault_{number}', 'me')
        clock.now += 1.0
    assert live.counts.of('outcomes') == 10_000
    kept = [live.item(number * S) for number in range(1, 10_001)]
    kept = [item for item in kept if item is not None]
    assert len(kept) == KEPT_ITEMS
    assert sum(item.crop is not None for item in kept) == KEPT_CROPS
    news = live.news()
    assert len(news['items']) == SHOWN_ITEMS
    assert len(live.alarms._alarms) < 600
    # What is still said of an item that is forgotten changes nothing.
    before = live.counts.of('missed_deadlines'), live.counts.of('outcomes')
    live.take_outcome(S, 1, outcome(missed=True))
    assert (live.counts.of('missed_deadlines'), live.counts.of('outcomes')) == before
    json.dumps(news)


def test_another_run_with_a_clock_that_begins_again_is_shown(live):
    for number in range(1000, 1000 + KEPT_ITEMS + 5):
        live.take_capture(number * S, number, number * S, CROP)
    live.take_capture(5 * S, 1, 5 * S, CROP)
    assert [item['id'] for item in live.news()['items']] == [1]


def test_news_tell_what_changed_and_nothing_twice(live):
    live.take_capture(S, 1, 2 * S, CROP)
    live.take_capture(2 * S, 2, 3 * S, CROP)
    first = live.news()
    assert [item['id'] for item in first['items']] == [1, 2]
    live.take_outcome(2 * S, 2, outcome('B', missed=True))
    second = live.news(first['revision'])
    assert [item['id'] for item in second['items']] == [2]
    assert second['items'][0]['outcome']['lane'] == 'B'
    assert second['counts']['missed_deadlines'] == 1
    assert 'alarms' not in second and 'network' not in second
    third = live.news(second['revision'])
    assert set(third) == {'revision', 'belt'}
    # The hours, which are long, come with the time that passes, and not with each item.
    assert 'hours' in first['counts'] and 'hours' not in second['counts']
    live.advance()
    assert {'hours', 'shifts'} <= set(live.news(second['revision'])['counts'])


def test_an_item_is_told_with_everything_that_was_decided(live):
    best = ranking(live.labels, np.full(len(CELL.classes), 1 / len(CELL.classes)))
    live.take_capture(S, 7, 2 * S, CROP)
    live.take_local(S, Answer('nut', 0.5, best))
    live.take_decision(S, decision())
    live.take_transfer(S, 300)
    live.take_edge(S, Answer('bolt', 0.9, (), 200))
    live.take_edge(S, Answer('worse', 0.4, (), 100))  # overtaken by a better one
    live.take_outcome(S, 7, outcome('C'))
    live.take_outcome(S, 7, outcome('A'))  # the first stands
    live.take_stroke(S, Stroke(2, 0.0, 'no driver confirmed'))
    (told,) = live.news()['items']
    assert told['edge']['class'] == 'bolt' and told['outcome']['lane'] == 'C'
    assert told['local']['ranking'][0][1] == pytest.approx(1 / len(CELL.classes), abs=1e-4)
    assert told['bytes'] == 300 and told['decision']['budget'] == 400
    assert told['stroke'] == {'status': 2, 'detail': 'no driver confirmed'}
    json.dumps(told, allow_nan=False)


@pytest.mark.parametrize(
    'labels, probabilities',
    [((), [1.0]), (('a', 'b'), [1.0]), (('a', 'b'), [float('nan'), 1.0]), (('a',), [[1.0]])],
)
def test_probabilities_that_do_not_fit_are_left_out(labels, probabilities):
    assert ranking(labels, probabilities) == ()


def test_a_node_that_falls_silent_is_taken_off_with_its_faults(live, clock):
    live.take_node('camera', Level.OK, 'OK')
    live.take_fault('camera', 'frames', Level.ERROR, 'no frame', 3.0, 1)
    live.advance()
    assert live.news()['nodes'] == [{'name': 'camera', 'level': 0, 'message': 'OK'}]
    clock.now += SILENT_S + 0.1
    live.advance()
    assert live.news()['nodes'] == []
    assert [alarm.ended for alarm in live.alarms.open()] == [clock.now]


def test_a_node_that_was_started_again_at_once_has_no_fault_of_before(live, clock):
    live.take_node('camera', Level.ERROR, 'no frame', True, {'frames'})
    live.take_fault('camera', 'frames', Level.ERROR, 'no frame', 3.0, 1)
    for _ in range(8):  # never silent for SILENT_S: a new process, which knows of no fault
        clock.now += 1.0
        live.take_node('camera', Level.OK, 'OK', True, ())
        live.advance()
    assert live.figures()['faults'] == []
    before = live.counts.effectiveness(None)
    clock.now += 1000.0
    live.take_node('camera', Level.OK, 'OK', True, ())
    live.advance()
    after = live.counts.effectiveness(None)
    assert before.availability < 0.6 and after.availability > 0.99


def test_an_alarm_of_the_log_is_over_where_nobody_tells_of_it(clock, tmp_path):
    path = tmp_path / 'alarms.jsonl'
    before = LiveCell(CELL, alarm_log=path, wall=clock, steady=clock)
    for node in ('camera', 'link_emulator'):
        before.take_fault(node, 'frames', Level.ERROR, 'x', 3.0, 1)
    before.take_fault('actuator', 'belt', Level.WARN, 'x', 3.0, 1)
    clock.now += 1000.0
    live = LiveCell(CELL, alarm_log=path, wall=clock, steady=clock)
    lasting = []
    for _ in range(round(FOUND_S) + 1):  # no link_emulator runs now
        live.take_node('camera', Level.OK, 'OK', True, ())
        live.take_node('actuator', Level.WARN, 'x', True, {'belt'})
        live.take_fault('actuator', 'belt', Level.WARN, 'x', 2000.0, 1)
        live.advance()
        lasting.append([fault['key'] for fault in live.figures()['faults']])
        clock.now += 1.0
    assert lasting[0] == ['camera: frames', 'link_emulator: frames', 'actuator: belt']
    assert lasting[-2] == ['link_emulator: frames', 'actuator: belt']
    assert lasting[-1] == ['actuator: belt']


def test_oee_is_the_product_of_what_it_says(live, clock):
    live.take_bucket(Bucket(1, 0.25, 4, 0.5, 0, 0, True))
    for second in range(11):
        live.take_node('actuator', Level.OK, 'OK')
        broken = second >= 5
        level = Level.ERROR if broken else Level.OK
        live.take_fault('actuator', 'diverter.A', level, 'diverter_silent: x', 0.0, 1)
        live.advance()
        if not broken:
            live.take_outcome(second * S, second + 1, outcome())
            live.take_truth(second * S, Truth('x', 'A', 'A' if second else 'B'))
        clock.now += 1.0
    oee = live.news()['counts']['oee']
    assert oee['availability'] == pytest.approx(0.4)  # 4 of 10 s
    assert oee['performance'] == pytest.approx(5 * 0.5 / 4)
    assert oee['quality'] == pytest.approx(0.8)
    assert oee['product'] == pytest.approx(0.4 * 0.625 * 0.8)
    assert oee['truth']


def test_a_line_that_is_paused_is_not_available(live, clock):
    for second in range(11):
        live.take_node('camera', Level.OK, 'OK', second < 5)
        live.advance()
        clock.now += 1.0
    assert live.news()['counts']['oee']['availability'] == pytest.approx(0.4)


def test_purity_and_yield_have_the_intervals_of_wilson(live):
    for number, (belongs, rests) in enumerate([('A', 'A')] * 8 + [('B', 'A')] * 2 + [('A', 'B')]):
        live.take_truth(number * S, Truth('x', belongs, rests))
    counts = live.news()['counts']
    assert (counts['purity']['A']['part'], counts['purity']['A']['whole']) == (8, 10)
    assert counts['purity']['A']['low'] == pytest.approx(0.490, abs=1e-3)
    assert (counts['yield']['A']['part'], counts['yield']['A']['whole']) == (8, 9)
    assert counts['yield']['C'] == {'part': 0, 'whole': 0, 'low': None, 'high': None}


def test_the_hours_are_saved_as_a_table(live, clock):
    live.take_outcome(1 * S, 1, outcome('A'))
    live.take_transfer(1 * S, 120)
    clock.now += 3600
    live.take_outcome(2 * S, 2, outcome('reject'))
    live.take_transfer(1 * S, 150)  # corrected later, for its own hour
    rows = list(csv.DictReader(io.StringIO(live.counts.csv())))
    assert [(row['outcomes'], row['rejected'], row['bytes_sent']) for row in rows] == [
        ('1', '0', '150'),
        ('1', '1', '0'),
    ]
    assert rows[1]['hour_utc'] > rows[0]['hour_utc']
    assert (rows[0]['lane_A'], rows[1]['lane_reject']) == ('1', '1')


def test_the_table_has_classes_reasons_purity_and_yield(live, clock):
    live.take_outcome(1 * S, 1, outcome('A'))
    for number, reason in ((2, 14), (3, 2), (4, 14)):
        live.take_outcome(number * S, number, outcome('reject', reason=reason))
    live.take_outcome(5 * S, 5, outcome('B', class_id='=1+1, "x"'))
    live.take_truth(1 * S, Truth('x', 'A', 'A'))
    live.take_truth(5 * S, Truth('x', 'A', 'B'))
    for text in (live.csv(), live.csv(by_shift=True)):
        header, row = csv.reader(io.StringIO(text))
        told = dict(zip(header, row))
        assert len(told) == len(header)
        assert told[f'class_{CELL.classes[0]}'] == '1' and told['class_=1+1, "x"'] == '1'
        assert told[f'class_{CELL.classes[1]}'] == '0'
        assert [(name, told[name]) for name in header if name.startswith('reject_')] == [
            ('reject_2', '1'),
            ('reject_14', '2'),
        ]
        shares = ('purity_A', 'purity_B', 'purity_C', 'yield_A', 'yield_B', 'yield_C')
        assert [told[name] for name in shares] == ['1.0000', '0.0000', '', '0.5000', '', '']
        assert header[-4:] == ['availability', 'performance', 'quality', 'oee']
        # A spreadsheet takes none of the names for a formula.
        assert not [cell for cell in (*header, *row) if cell.startswith(('=', '+', '-', '@'))]


def test_shifts_begin_at_their_hours_and_have_an_oee_of_their_own(clock):
    midnight = datetime(2026, 1, 2, tzinfo=timezone.utc).timestamp()
    counts = ShiftCounts(CELL, (6, 14, 22), lambda t: datetime.fromtimestamp(t, timezone.utc))
    # Two hours before midnight to the early shift: all ran but the first ten minutes of hour 23.
    for minute in range(10 * 60):
        at = midnight - 2 * 3600 + 60 * minute
        hour = int(at // 3600)
        counts.advance(60.0 * minute, runs=not 60 <= minute < 70, hour=hour)
        counts.replace({}, {('outcomes', ''): 60, ('rejected', ''): 6}, hour, 60.0 * minute)
    early, night = counts.shifts(time_unit=0.5)
    assert [shift['outcomes'] for shift in (night, early)] == [8 * 3600, 2 * 3600]
    assert night['start'] == (midnight - 2 * 3600) * 1000
    assert night['availability'] == pytest.approx(1 - 10 / (8 * 60), abs=2e-3)
    assert early['availability'] == 1.0
    assert early['performance'] == pytest.approx(0.5) and early['quality'] == pytest.approx(0.9)
    assert early['oee'] == pytest.approx(0.45)
    rows = list(csv.DictReader(io.StringIO(counts.shifts_csv(0.5))))
    assert [row['shift_local'] for row in rows] == ['2026-01-01T22:00', '2026-01-02T06:00']
    assert rows[1]['oee'] == '0.4500' and rows[1]['rejected'] == str(2 * 360)
    hours = counts.hours(time_unit=0.5)
    assert len(hours) == 10 and hours[-2]['availability'] == pytest.approx(5 / 6, abs=0.01)
    assert list(csv.DictReader(io.StringIO(counts.csv())))[0]['oee'] == ''


def test_hours_survive_a_restart_and_what_began_with_it_does_not(clock, tmp_path):
    path = tmp_path / 'new' / 'counts.json'
    first = LiveCell(CELL, counts_file=path, wall=clock, steady=clock)
    for number in range(3):
        first.take_node('camera', Level.OK, 'OK', True)
        first.advance()
        first.take_outcome(number * S, number + 1, outcome('A' if number else 'reject'))
        clock.now += 1.0
    first.keep_counts()
    assert first.counts_trouble == ''
    assert [each.name for each in path.parent.iterdir()] == ['counts.json']
    again = LiveCell(CELL, counts_file=path, wall=clock, steady=clock)
    assert again.counts.hours(0.5) == first.counts.hours(0.5) != []
    assert again.counts.shifts(0.5) == first.counts.shifts(0.5)
    assert again.csv() == first.csv()
    assert again.counts.of('outcomes') == 0
    assert again.counts.effectiveness(0.5).availability is None
    again.take_outcome(9 * S, 9, outcome('A'))
    assert again.counts.of('outcomes') == 1
    assert again.counts.hours()[0]['outcomes'] == 4


GOOD_HOUR = {'seconds': [2.0, 1.0], 'counts': [['outcomes', '', 3]]}


@pytest.mark.parametrize(
    'text',
    [
        b'\xff',
        b'',
        b'[]',
        b'[' * 100_000,
        *(
            json.dumps({'500000': GOOD_HOUR, **wrong}).encode()
            for wrong in (
                {'x': GOOD_HOUR},
                {'-1': GOOD_HOUR},
                {'99999999999': GOOD_HOUR},
                {'1': None},
                {'1': {**GOOD_HOUR, 'seconds': [1.0, 2.0]}},
                {'1': {**GOOD_HOUR, 'seconds': [float('nan'), 0.0]}},
                {'1': {**GOOD_HOUR, 'seconds': [float('inf'), 0.0]}},
                {'1': {**GOOD_HOUR, 'seconds': [1.0]}},
                {'1': {**GOOD_HOUR, 'counts': [['outcomes', '']]}},
                {'1': {**GOOD_HOUR, 'counts': [['outcomes', '', 1.5]]}},
                {'1': {**GOOD_HOUR, 'counts': [['outcomes', '', True]]}},
                {'1': {**GOOD_HOUR, 'counts': [['outcomes', '', 10**30]]}},
                {'1': {**GOOD_HOUR, 'counts': [['outcomes', None, 1]]}},
                {'1': {**GOOD_HOUR, 'counts': 7}},
            )
        ),
    ],
)
def test_damaged_counts_begin_empty_and_are_named(clock, tmp_path, text):
    path = tmp_path / 'counts.json'
    path.write_bytes(text)
    live = LiveCell(CELL, counts_file=path, wall=clock, steady=clock)
    assert 'counts.json' in live.counts_trouble and live.counts.hours() == []
    live.keep_counts()
    assert live.counts_trouble == ''
    assert LiveCell(CELL, counts_file=path, wall=clock, steady=clock).counts_trouble == ''


def test_counts_that_cannot_be_written_cost_nothing_else(clock, tmp_path):
    (tmp_path / 'file').write_text('')
    path = tmp_path / 'file' / 'counts.json'
    live = LiveCell(CELL, counts_file=path, wall=clock, steady=clock)
    live.take_outcome(S, 1, outcome('A'))
    live.keep_counts()
    assert 'counts.json' in live.counts_trouble and live.counts.of('outcomes') == 1


def test_no_more_hours_are_taken_up_than_are_kept():
    counts = ShiftCounts(CELL)
    counts.take_up({str(500_000 + hour): GOOD_HOUR for hour in range(KEPT_HOURS + 5)})
    rows = list(csv.DictReader(io.StringIO(counts.csv())))
    assert len(rows) == KEPT_HOURS
    assert counts.hours()[0]['hour'] == (500_000 + KEPT_HOURS + 4) * 3_600_000


def test_items_per_minute_are_those_of_the_last_minute(live, clock):
    for number in range(120):
        live.take_outcome(number * S, number + 1, outcome())
        live.advance()
        clock.now += 0.5
    assert live.news()['counts']['per_minute'] == pytest.approx(120, abs=3)
    clock.now += 61
    live.advance()
    assert live.news()['counts']['per_minute'] == 0


def test_the_rate_of_the_link_and_what_was_sent_over_it_in_the_last_minute(live, clock):
    live.take_bucket(Bucket(1, 0.25, 4, 0.5, 0, 0, True))
    assert live.news()['network']['payload'] == 0 and live.news()['network']['link'] is None
    for second in range(120):
        live.take_node('link_emulator', Level.OK, 'OK')
        live.take_link(32.0)
        live.take_transfer(second * S, 500)
        live.advance()
        clock.now += 1.0
    live.take_transfer(119 * S, 1000)  # corrected upwards, the rest of it is sent now
    live.advance()
    told = live.news()['network']
    assert told['link'] == 32.0 and not told['unlimited']
    assert told['payload'] == pytest.approx(8 * 0.5 * 61 / 60, abs=0.1)  # kbit/s
    live.take_link(float('inf'))
    told = live.news()['network']
    assert told['unlimited'] and told['link'] is None
    json.dumps(live.news(), allow_nan=False)
    seen = live.news()['revision']
    clock.now += 61.0
    live.advance()
    told = live.news(seen)['network']  # the emulator is silent, and nothing was sent
    assert (told['payload'], told['unlimited'], told['link']) == (0, False, None)


def test_a_belt_that_nobody_reports_runs_as_described():
    belt = BeltFollower(CELL)
    assert belt.motion(5 * S).state == DESCRIBED
    assert belt.x_of(4 * S, 5 * S) == pytest.approx(0.4)


def test_a_measured_belt_stands_and_is_unknown_as_it_is_told():
    belt = BeltFollower(CELL)
    for n in range(41):
        belt.add(n * 50_000_000, 0.01 * n, 0.2, 0)  # half as fast as described
    now = 2 * S
    assert belt.motion(now).state == RUNNING
    assert belt.motion(now).speed == pytest.approx(0.2, abs=0.01)
    assert belt.x_of(S, now) == pytest.approx(0.2, abs=0.01)
    for n in range(41, 61):
        belt.add(n * 50_000_000, 0.4, 0.0, 0)
    assert belt.motion(3 * S).state == STOPPED
    assert belt.x_of(S, 3 * S) == pytest.approx(0.2, abs=0.01)
    assert belt.motion(9 * S) == type(belt.motion(0))(0.0, UNKNOWN)
    assert belt.x_of(S, 9 * S) == pytest.approx(0.2, abs=0.01)  # where it was seen last


def test_the_scene_is_the_cell_description(live):
    scene = live.scene()
    assert [lane['name'] for lane in scene['lanes']] == ['A', 'B', 'C']
    assert scene['camera']['crop'] == pytest.approx(0.08)
    json.dumps(scene)


def test_another_recipe_brings_its_classes_and_leaves_what_was_answered_before(live, tmp_path):
    stamp = 10 * S
    live.take_capture(stamp, 1, 11 * S, None)
    assert live.item(stamp).models is None and not live.scene()['sees']
    live.use(live.cell, 'others', ('b', 'a'), tmp_path)
    live.take_capture(stamp + S, 2, 12 * S, None)
    assert (live.item(stamp).models, live.item(stamp + S).models) == (None, tmp_path)
    assert live.labels == ('b', 'a') and live.news()['scene']['sees']


class Pausable:
    """A cell whose guard says at once what follows from a change; nothing else can be changed."""

    def __init__(self, live):
        self.live, self.running = live, True

    def values(self):
        return {'running': self.running}

    def apply(self, values):
        self.running = values['running']
        if not self.running:
            guard_says(self.live, 'not_safe_to_run', 'node_not_active.camera')


def guard_says(live, *faults, level=Level.WARN):
    for fault in faults:
        live.take_fault('cell_guard', fault, level, 'because', 0.0, 1)


def seen(live):
    return {alarm.fault: alarm.acknowledged_by for alarm in live.alarms.open()}


def test_whoever_pauses_the_line_has_seen_what_follows_and_nothing_else(clock, live):
    live.control, ada = Pausable(live), User('Ada', Role.OPERATOR)
    guard_says(live, 'node_not_active.actuator')
    clock.now += 1
    live.change(ada, {'running': False})
    guard_says(live, 'node_not_active.actuator', 'node_gone.encoder')  # the former still lasts
    clock.now += 600
    guard_says(live, 'node_not_active.camera')  # it is still paused
    assert seen(live) == {
        'not_safe_to_run': 'Ada',
        'node_not_active.camera': 'Ada',
        'node_not_active.actuator': '',
        'node_gone.encoder': '',
    }
    live.change(ada, {'running': True})
    guard_says(live, 'not_safe_to_run', 'node_not_active.camera', level=Level.OK)
    assert set(seen(live)) == {'node_not_active.actuator', 'node_gone.encoder'}
    clock.now += 60
    guard_says(live, 'not_safe_to_run')
    assert seen(live)['not_safe_to_run'] == ''
