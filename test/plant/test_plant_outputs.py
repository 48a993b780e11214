# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""What the plant reads by each output is what the cell did, also after the plant was away."""

from __future__ import annotations

import asyncio
import json
import ssl
import threading
import urllib.request

import pytest
from certificates import make_certificate
from plant_cells import INSTALL, Heard, known_cell, lasting, listener, more_items, read

from stl_conveyor.errors import ConfigError, Level
from stl_conveyor.panel.accounts import Accounts, Role, write_account
from stl_conveyor.plant.output import Commands, Result
from stl_conveyor.plant.sparkplug import DataType, Metric, decode, encode
from stl_conveyor.plant.values import VALUES, plain
from stl_conveyor_lab.measure.mosquitto import MISSING, PROGRAM, Mosquitto

needs_broker = pytest.mark.skipif(PROGRAM is None, reason=MISSING)
RESULT = Result('', 7, 1_700_000_000.5, 'A', 'nut', 0.9, 'edge', 0.04, False)


def commands(*allowed, said=None):
    def change(cell, who, values):
        (said if said is not None else []).append((cell, who, dict(values)))
        return 'no such recipe' if values.get('recipe') == 'none' else ''

    return Commands(allowed, change)


# Prometheus -----------------------------------------------------------------------------------


def scraped(url, context=None):
    parser = pytest.importorskip('prometheus_client.parser', reason=INSTALL)
    with urllib.request.urlopen(url, timeout=30, context=context) as answer:
        text = answer.read().decode()
    return {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in parser.text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_a_scrape_tells_every_value_of_the_moment():
    prometheus = pytest.importorskip('stl_conveyor.plant.prometheus', reason=INSTALL)
    live = known_cell('line_1')
    output = prometheus.PrometheusOutput('127.0.0.1', 0, lambda: read(live))
    try:
        url = f'http://127.0.0.1:{output.port}/metrics'
        for expected in (4, 12):
            found = scraped(url)
            cell = ('cell', 'line_1')
            assert found['stl_conveyor_outcomes_total', cell] == expected
            assert found['stl_conveyor_bytes_sent_bytes_total', cell] == 250 * expected
            lane = ('lane', 'reject')
            assert found['stl_conveyor_sorted_by_lane_total', cell, lane] == expected / 4
            assert found['stl_conveyor_slack_median_seconds', cell] == pytest.approx(0.04)
            assert found['stl_conveyor_state', cell, ('state', 'ContinuousExecution')] == 1
            assert found['stl_conveyor_edge_alive', cell] == 1
            names = {name for name, *_ in found}
            assert names <= {value.prometheus_name for value in VALUES.values()}
            more_items(live, 4, 8)
        with pytest.raises(ConfigError, match=f'port {output.port}'):
            prometheus.PrometheusOutput('127.0.0.1', output.port, lambda: read(live))
    finally:
        output.stop()


def test_a_fault_whose_message_has_figures_is_one_series():
    """Prometheus keeps a series for each text of a label, for ever."""
    prometheus = pytest.importorskip('stl_conveyor.plant.prometheus', reason=INSTALL)
    live = known_cell('line_1')
    output = prometheus.PrometheusOutput('127.0.0.1', 0, lambda: read(live))
    try:
        found = set()
        for behind in (0.1, 0.2, 0.3):
            live.take_fault('sim', 'too_slow', Level.WARN, f'it is: {behind} s behind', 1.0, 1)
            found |= set(scraped(f'http://127.0.0.1:{output.port}/metrics'))
    finally:
        output.stop()
    texts = {dict(labels)['worst_fault'] for name, *labels in found if name.endswith('_fault')}
    assert texts == {'sim: too_slow'}


def test_metrics_come_over_tls_where_there_is_a_certificate(tmp_path):
    prometheus = pytest.importorskip('stl_conveyor.plant.prometheus', reason=INSTALL)
    certificate, key = make_certificate(tmp_path)
    live = known_cell()
    output = prometheus.PrometheusOutput('127.0.0.1', 0, lambda: read(live), certificate, key)
    try:
        context = ssl.create_default_context(cafile=str(certificate))
        found = scraped(f'https://localhost:{output.port}/metrics', context)
        assert found['stl_conveyor_outcomes_total', ('cell', '')] == 4
    finally:
        output.stop()
    with pytest.raises(ConfigError, match='certificate'):
        prometheus.PrometheusOutput('127.0.0.1', 0, lambda: read(live), key, key)


# MQTT -----------------------------------------------------------------------------------------


def values_with(**expected):
    def find(said):
        for topic, payload in reversed(said):
            if topic.endswith('/values'):
                told = json.loads(payload)
                return told if all(told[k] == v for k, v in expected.items()) else None
        return None

    return find


@pytest.fixture
def broker(tmp_path):
    with Mosquitto(tmp_path) as running:
        yield running


@needs_broker
def test_json_tells_values_items_and_that_it_is_there(broker):
    mqtt = pytest.importorskip('stl_conveyor.plant.mqtt', reason=INSTALL)
    live = known_cell('line_1')
    output = mqtt.JsonOutput(mqtt.Broker('127.0.0.1', broker.port), 'test', 'works', commands())
    with listener(broker, 'works/#') as (heard, _):
        output.update(read(live))
        heard.wait(lambda said: ('works/online', b'true') in said, 'that it is there')
        output.update(read(live))
        told = heard.wait(values_with(outcomes=4), 'the values')
        del told['time']
        assert told == json.loads(json.dumps(plain(read(live)['line_1'])))
        output.result(Result(**{**vars(RESULT), 'cell': 'line_1'}))
        heard.wait(
            lambda said: any(
                topic == 'works/line_1/outcome' and json.loads(payload)['item_id'] == 7
                for topic, payload in said
            ),
            'the item',
        )
        assert output.trouble == ''
        output.stop()
        heard.wait(lambda said: said[-1] == ('works/online', b'false'), 'that it is gone')


def faults_of(said):
    """Return the faults that were told, by the messages that told them."""
    return [
        [fault['key'] for fault in json.loads(payload)['faults']]
        for topic, payload in said
        if topic == 'works/line_1/faults'
    ]


@needs_broker
def test_json_tells_every_fault_that_lasts(broker):
    mqtt = pytest.importorskip('stl_conveyor.plant.mqtt', reason=INSTALL)
    live = known_cell('line_1')
    output = mqtt.JsonOutput(mqtt.Broker('127.0.0.1', broker.port), 'test', 'works', commands())
    belt, frames = 'camera: belt', 'camera: frames'
    told = []
    try:
        with listener(broker, 'works/#') as (heard, _):
            live.take_fault('camera', 'belt', Level.WARN, 'slow', 1.0, 1)
            output.faults(lasting(live))  # the broker may be there, or come later
            for change, expected in (
                (None, [belt]),
                (('frames', Level.ERROR, 'no frame'), [frames, belt]),
                (('belt', Level.OK, 'ended'), [frames]),
                (('frames', Level.OK, 'ended'), []),
            ):
                if change:
                    live.take_fault('camera', *change, 1.0, 1)
                output.faults(lasting(live))
                output.faults(lasting(live))  # nothing new
                told.append(expected)
                heard.wait(lambda said: faults_of(said) == told, f'{expected}')
            (fault,) = json.loads(
                next(payload for topic, payload in heard.said if topic.endswith('faults'))
            )['faults']
            assert (fault['level'], fault['message']) == (1, 'slow') and fault['since'] > 1e9
        # It is retained: who comes later knows what lasts.
        with listener(broker, 'works/line_1/faults') as (heard, _):
            heard.wait(lambda said: faults_of(said) == [[]], 'what lasts')
    finally:
        output.stop()


@needs_broker
@pytest.mark.parametrize('kind', ['json', 'sparkplug'])
def test_after_the_broker_was_away_the_counters_are_right(broker, kind):
    mqtt = pytest.importorskip('stl_conveyor.plant.mqtt', reason=INSTALL)
    live = known_cell()
    where = mqtt.Broker('127.0.0.1', broker.port)
    output = (
        mqtt.JsonOutput(where, 'test', 'works', commands())
        if kind == 'json'
        else mqtt.SparkplugOutput(where, 'test', 'works', 'line', commands())
    )
    output._client.reconnect_delay_set(1, 1)
    up = output._up
    try:
        output.update(read(live))
        assert up.wait(30)
        gone = threading.Event()
        before, output._client.on_disconnect = output._client.on_disconnect, None
        output._client.on_disconnect = lambda *a: (before(*a), gone.set())
        broker.stop()
        assert gone.wait(30)
        assert 'not there' in output.trouble and str(broker.port) in output.trouble
        for number in range(100):
            more_items(live, 4 + number, 1)
            output.update(read(live))
            output.result(RESULT)
        # No value is kept for a broker that is away: no more than what was being sent then.
        kept = [*output._client._out_messages, *output._client._out_packet]
        assert len(kept) < 10, kept
        assert output._waiting() < 10
        assert kind == 'sparkplug' or output.left_out >= 200
        broker.start()
        topics = 'works/#' if kind == 'json' else 'spBv1.0/#'
        with listener(broker, topics) as (heard, _):
            assert up.wait(60)
            output.update(read(live))
            if kind == 'json':
                heard.wait(values_with(outcomes=104, bytes_sent=104 * 250), 'the values')
                assert not any(topic.endswith('outcome') for topic, _ in heard.said)
            else:
                assert heard.wait(
                    lambda said: (
                        {
                            metric.name: metric.value
                            for _, payload in said
                            for metric in decode(payload)[0]
                        }.get('Outcomes')
                        == 104
                        or ask_again(output, live)
                    ),
                    'the values',
                )
        assert output.trouble == ''
    finally:
        output.stop()


def ask_again(output, live):
    """Have a birth told once more: it may have come before somebody listened."""
    output._connected()
    output.update(read(live))


@needs_broker
def test_sparkplug_is_born_tells_what_changed_and_dies(broker):
    mqtt = pytest.importorskip('stl_conveyor.plant.mqtt', reason=INSTALL)
    live = known_cell()
    with listener(broker, 'spBv1.0/#') as (heard, publish):
        output = mqtt.SparkplugOutput(
            mqtt.Broker('127.0.0.1', broker.port), 'test', 'works', 'line', commands('running')
        )
        output.update(read(live))
        topic, payload = heard.wait(lambda said: said and said[0], 'the birth')
        birth, seq = decode(payload)
        assert (topic, seq) == ('spBv1.0/works/NBIRTH/line', 0)
        values = {metric.name: metric for metric in birth}
        assert values['Outcomes'] == Metric('Outcomes', 4, DataType.INT64)
        assert values['Oee'].kind is DataType.DOUBLE and values['EdgeAlive'].value is True
        assert values['SortedByLane/reject'].value == 1 and values['bdSeq'].value == 0
        assert 'Command/running' in values and 'Command/recipe' not in values
        more_items(live, 4, 1)
        output.update(read(live))
        topic, payload = heard.wait(lambda said: len(said) > 1 and said[1], 'the data')
        data, seq = decode(payload)
        changed = {metric.name: metric.value for metric in data}
        assert (topic, seq) == ('spBv1.0/works/NDATA/line', 1)
        assert changed['Outcomes'] == 5 and 'TokenDepth' not in changed
        output.update(read(live))  # nothing changed but rates: no counter is told again
        rebirth = encode([Metric('Node Control/Rebirth', True, DataType.BOOLEAN)], 1, None)
        publish('spBv1.0/works/NCMD/line', rebirth)
        payload = heard.wait(
            lambda said: [p for t, p in said if '/NBIRTH/' in t][1:], 'another birth'
        )[0]
        assert decode(payload)[1] == 0
        output.stop()
        payload = heard.wait(lambda said: [p for t, p in said if '/NDEATH/' in t], 'the death')[0]
        assert decode(payload) == ([Metric('bdSeq', 0, DataType.INT64)], None)


@needs_broker
def test_commands_are_done_only_where_they_are_allowed_by_name(broker):
    mqtt = pytest.importorskip('stl_conveyor.plant.mqtt', reason=INSTALL)
    live, done = known_cell(), []
    output = mqtt.JsonOutput(
        mqtt.Broker('127.0.0.1', broker.port), 'test', 'works', commands('running', said=done)
    )
    try:
        output.update(read(live))
        assert output._up.wait(30)
        with listener(broker, 'works/command_result', 'works/online') as (heard, publish):
            for asked, expected in (
                ('{"running": false}', ('running', True, '')),
                ('{"recipe": "nuts"}', ('recipe', False, 'does not allow')),
                ('{"policy": "mdp"}', ('policy', False, 'does not allow')),
                ('{"running": 1, "recipe": 2}', ('', False, 'one name')),
                ('no json', ('', False, 'one name')),
            ):
                before = len(heard.said)
                publish('works/command', asked)
                payload = heard.wait(
                    lambda said, n=before: [p for t, p in said[n:] if t.endswith('result')],
                    f'an answer to {asked}',
                )[0]
                told = json.loads(payload)
                assert (told['command'], told['done']) == expected[:2]
                assert expected[2] in told['trouble']
        assert done == [('', 'plant (mqtt)', {'running': False})]
    finally:
        output.stop()


@pytest.mark.parametrize(
    'changes', [{'password_file': '/nowhere', 'user': 'a'}, {'ca': '/nowhere'}]
)
def test_a_password_or_certificate_that_cannot_be_read_is_named(changes):
    mqtt = pytest.importorskip('stl_conveyor.plant.mqtt', reason=INSTALL)
    from pathlib import Path

    changes = {k: Path(v) if v.startswith('/') else v for k, v in changes.items()}
    with pytest.raises(ConfigError, match='mqtt_password_file'):
        mqtt.JsonOutput(mqtt.Broker('127.0.0.1', 1, **changes), 'test', 'works', commands())


# OPC UA ---------------------------------------------------------------------------------------


async def opcua_value(client, path):
    index = await client.get_namespace_index('urn:stl_conveyor:plant')
    node = await client.nodes.objects.get_child([f'{index}:{part}' for part in path.split('/')])
    return await node.read_value()


def ask(output, work, **security):
    """Run a coroutine of a client that is connected to the server."""
    asyncua = pytest.importorskip('asyncua', reason=INSTALL)

    async def run():
        client = asyncua.Client(output.url, timeout=30)
        if 'user' in security:
            client.set_user(security['user'])
            client.set_password(security['password'])
        if 'certificate' in security:
            await client.set_security(
                asyncua.crypto.security_policies.SecurityPolicyBasic256Sha256,
                str(security['certificate']),
                str(security['key']),
                server_certificate=str(security['server']),
                mode=asyncua.ua.MessageSecurityMode.SignAndEncrypt,
            )
        async with client:
            return await work(client)

    return asyncio.run(run())


def test_opc_ua_has_the_names_of_machine_vision_and_every_value():
    opcua = pytest.importorskip('stl_conveyor.plant.opcua', reason=INSTALL)
    live, done = known_cell(), []
    output = opcua.OpcUaOutput(
        '127.0.0.1', 0, read(live), commands('running', 'recipe', said=done)
    )
    try:
        live.take_fault('camera', 'frames', 2, 'no frame', 1.0, 1)
        more_items(live, 4, 4)
        output.update(read(live))
        output.faults(lasting(live))
        output.result(RESULT)

        async def work(client):
            index = await client.get_namespace_index('urn:stl_conveyor:plant')
            top = 'VisionSystem'
            values = {
                path: await opcua_value(client, f'{top}/{path}')
                for path in (
                    'Production/Outcomes',
                    'Production/BytesSent',
                    'Production/SortedByLane/reject',
                    'Production/SafeToRun',
                    'VisionStateMachine/CurrentState',
                    'RecipeManagement/ActiveRecipe',
                    'ResultManagement/Results/LastResult/ResultId',
                    'ResultManagement/Results/LastResult/Lane',
                    'Alarms/ActiveFaults',
                )
            }
            node = await client.nodes.objects.get_child(
                [f'{index}:{top}', f'{index}:Production', f'{index}:BytesSent']
            )
            unit = await (await node.get_child('0:EngineeringUnits')).read_value()
            machine = await client.nodes.objects.get_child(
                [f'{index}:{top}', f'{index}:VisionStateMachine']
            )
            stopped = await machine.call_method(f'{index}:Stop')
            recipes = await client.nodes.objects.get_child(
                [f'{index}:{top}', f'{index}:RecipeManagement']
            )
            refused = await recipes.call_method(f'{index}:PrepareRecipe', 'none')
            return values, unit, stopped, refused

        values, unit, stopped, refused = ask(output, work)
        assert list(values.values()) == [
            8,
            2000,
            2,
            True,
            'Error',
            'screws',
            '7',
            'A',
            ['camera: frames: no frame'],
        ]
        assert (unit.DisplayName.Text, unit.UnitId) == ('By', opcua.unit_id('AD'))
        assert (stopped, refused) == ('', 'no such recipe')
        assert done == [
            ('', 'plant (opcua)', {'running': False}),
            ('', 'plant (opcua)', {'recipe': 'none'}),
        ]
        assert output.trouble == ''
        with pytest.raises(ConfigError, match=f'port {output.port}'):
            opcua.OpcUaOutput('127.0.0.1', output.port, read(live), commands())
    finally:
        output.stop()


def test_opc_ua_tells_every_fault_that_lasts_and_an_event_of_each():
    opcua = pytest.importorskip('stl_conveyor.plant.opcua', reason=INSTALL)
    live, heard = known_cell(), Heard()
    output = opcua.OpcUaOutput('127.0.0.1', 0, read(live), commands())

    class Events:
        def event_notification(self, event):
            heard.add(event.Message.Text, event.Severity)

    async def work(client):
        index = await client.get_namespace_index('urn:stl_conveyor:plant')
        system = await client.nodes.objects.get_child([f'{index}:VisionSystem'])
        subscription = await client.create_subscription(50, Events())
        await subscription.subscribe_events(system)

        async def after(change, number):
            change()
            output.faults(lasting(live))
            await asyncio.to_thread(heard.wait, lambda said: len(said) >= number, 'an event')
            return await opcua_value(client, 'VisionSystem/Alarms/ActiveFaults')

        def fault(name, level, text):
            live.take_fault('camera', name, Level(level), text, 1.0, 1)

        first = await after(lambda: fault('belt', 1, 'slow'), 1)
        both = await after(lambda: fault('frames', 2, 'no frame'), 2)
        output.faults(lasting(live))  # nothing new, and no event of it
        one = await after(lambda: fault('frames', 0, 'ended'), 3)
        none = await after(lambda: fault('belt', 0, 'ended'), 4)
        return first, both, one, none

    try:
        assert ask(output, work) == (
            ['camera: belt: slow'],
            ['camera: frames: no frame', 'camera: belt: slow'],
            ['camera: belt: slow'],
            [],
        )
        assert heard.said == [
            ('camera: belt: slow', 400),
            ('camera: frames: no frame', 700),
            ('camera: frames: ended', 100),
            ('camera: belt: ended', 100),
        ]
        assert output.trouble == ''
    finally:
        output.stop()


def test_an_opc_ua_server_that_ended_says_so_and_gives_its_port_back():
    opcua = pytest.importorskip('stl_conveyor.plant.opcua', reason=INSTALL)
    live = known_cell()
    ended = opcua.OpcUaOutput('127.0.0.1', 0, read(live), commands())
    assert not ended.has_ended
    ended._loop.call_soon_threadsafe(ended._loop.stop)
    ended._thread.join(30)
    assert ended.has_ended
    ended.stop()
    again = opcua.OpcUaOutput('127.0.0.1', ended.port, read(live), commands())
    try:
        assert not again.has_ended

        async def outcomes(client):
            return await opcua_value(client, 'VisionSystem/Production/Outcomes')

        assert ask(again, outcomes) == 4
        closing = asyncio.run_coroutine_threadsafe(again._server.stop(), again._loop)
        closing.result(30)
        assert again.has_ended
    finally:
        again.stop()


def test_opc_ua_asks_for_certificate_and_password_where_they_are_set(tmp_path):
    opcua = pytest.importorskip('stl_conveyor.plant.opcua', reason=INSTALL)
    from asyncua.ua import UaError

    folders = [tmp_path / name for name in ('server', 'client', 'trusted', 'other')]
    for folder in folders:
        folder.mkdir()
    server, mine, trusted, other = folders
    certificate, key = make_certificate(server, uri='urn:stl_conveyor:plant')
    known = dict(zip(('certificate', 'key'), make_certificate(mine, uri='urn:freeopcua:client')))
    strange = dict(
        zip(('certificate', 'key'), make_certificate(other, uri='urn:freeopcua:client'))
    )
    (trusted / 'client.pem').write_bytes(known['certificate'].read_bytes())
    accounts = tmp_path / 'accounts.yaml'
    write_account(accounts, 'scada', Role.VIEWER, 'a long password')
    access = opcua.Access(certificate, key, trusted, Accounts.load(accounts))
    live = known_cell()
    output = opcua.OpcUaOutput('127.0.0.1', 0, read(live), commands(), access)
    right = {'user': 'scada', 'password': 'a long password', 'server': certificate}
    try:

        async def outcomes(client):
            return await opcua_value(client, 'VisionSystem/Production/Outcomes')

        assert ask(output, outcomes, **known, **right) == 4
        for wrong in (
            {},
            {**known, 'server': certificate},
            {**known, **right, 'password': 'another password'},
            {**strange, **right},
        ):
            with pytest.raises((UaError, OSError, asyncio.TimeoutError, ConnectionError)):
                ask(output, outcomes, **wrong)
    finally:
        output.stop()
