# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Read what the gateway tells the plant, by each output, as the plant would."""

from __future__ import annotations

import asyncio
import json
import threading
import urllib.request
from collections.abc import Mapping
from typing import Any

from stl_conveyor.plant.sparkplug import REBIRTH, DataType, EdgeNode, Metric, decode, encode
from stl_conveyor.plant.values import VALUES

#: Those that summary.json has, too.
COMPARED = (
    'items',
    'outcomes',
    'missed_deadlines',
    'rejected',
    'offloaded',
    'correct',
    'edge_answers',
    'bytes_sent',
)
PATIENCE_S = 30.0


def differing(told: Mapping[str, Any], summary: Mapping[str, Any]) -> list[str]:
    """Return names and values of what was told otherwise than summary.json has it."""
    return [
        f'{name} {told.get(name)} for {summary[name]}'
        for name in COMPARED
        if told.get(name) != summary[name]
    ]


def from_prometheus(port: int) -> dict[str, int]:
    """Return the counters that a scrape tells."""
    from prometheus_client.parser import text_string_to_metric_families

    url = f'http://127.0.0.1:{port}/metrics'
    with urllib.request.urlopen(url, timeout=PATIENCE_S) as answer:
        families = text_string_to_metric_families(answer.read().decode())
        found = {
            sample.name: int(sample.value)
            for family in families
            for sample in family.samples
            if set(sample.labels) == {'cell'}
        }
    return {name: found[VALUES[name].prometheus_name] for name in COMPARED}


def from_mqtt(port: int, prefix: str, group: str, node: str) -> tuple[dict[str, Any], dict]:
    """Return what is told as JSON, and by a new birth of the Sparkplug node."""
    from paho.mqtt.client import Client
    from paho.mqtt.enums import CallbackAPIVersion

    found: dict[str, dict[str, Any]] = {}
    come = threading.Condition()
    edge = EdgeNode(group, node)
    born = edge.topic('NBIRTH')

    def on_message(_: Client, __: Any, message: Any) -> None:
        with come:
            if message.topic == born:
                values = {metric.name: metric.value for metric in decode(message.payload)[0]}
                found['sparkplug'] = {
                    name: values.get(VALUES[name].camel_name) for name in COMPARED
                }
            else:
                found['mqtt'] = json.loads(message.payload)
            come.notify_all()

    def on_subscribe(client: Client, *_: Any) -> None:
        rebirth = encode([Metric(REBIRTH, True, DataType.BOOLEAN)], 0, None)
        client.publish(edge.topic('NCMD'), rebirth, qos=1)

    client = Client(CallbackAPIVersion.VERSION2)
    client.on_connect = lambda c, *_: c.subscribe([(f'{prefix}/values', 1), (born, 1)])
    client.on_subscribe, client.on_message = on_subscribe, on_message
    client.connect('127.0.0.1', port)
    client.loop_start()
    try:
        with come:
            come.wait_for(lambda: len(found) == 2, PATIENCE_S)
    finally:
        client.disconnect()
        client.loop_stop()
    return found.get('mqtt', {}), found.get('sparkplug', {})


def from_opcua(port: int) -> dict[str, Any]:
    """Return the counters that the OPC UA server has."""
    from asyncua import Client

    from stl_conveyor.plant.opcua import NAMESPACE

    async def read() -> dict[str, Any]:
        async with Client(f'opc.tcp://127.0.0.1:{port}/', timeout=PATIENCE_S) as client:
            index = await client.get_namespace_index(NAMESPACE)
            found = {}
            for name in COMPARED:
                node = await client.nodes.objects.get_child(
                    [
                        f'{index}:{part}'
                        for part in ('VisionSystem', 'Production', VALUES[name].camel_name)
                    ]
                )
                found[name] = await node.read_value()
            return found

    return asyncio.run(read())
