# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Fast DDS profiles: valid, and each knows of the other side what it must and no more."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from xml.etree import ElementTree

import pytest

from stl_conveyor.deploy.fastdds_profiles import (
    GATEWAYS,
    ROLES,
    SOCKET_ROOM,
    discovery_port,
    environment,
    main,
    profile_xml,
    user_port,
)
from stl_conveyor.errors import ConfigError

DDS = '{http://www.eprosima.com}'


def peers(text):
    """Return (address, port or None) of every initial peer."""
    found = ElementTree.fromstring(text).iter(f'{DDS}initialPeersList')
    return [
        (udp.findtext(f'{DDS}address'), udp.findtext(f'{DDS}port'))
        for entry in found
        for udp in entry.iter(f'{DDS}udpv4')
    ]


def profile(role, **options):
    return profile_xml(role, **({'peer': '192.0.2.7'} if role in GATEWAYS else {}), **options)


def test_ports_follow_rtps():
    # RTPS 2.5, 9.6.2.3, with the offsets of table 9.9
    assert (discovery_port(0, 0), user_port(0, 0)) == (7410, 7411)
    assert (discovery_port(3, 2), user_port(3, 2)) == (8164, 8165)


def test_ordinary_nodes_stay_on_their_machine():
    text = profile('local')
    assert peers(text) == [('127.0.0.1', None)]
    root = ElementTree.fromstring(text)
    (interfaces,) = root.iter(f'{DDS}interfaceWhiteList')
    assert [item.text for item in interfaces] == ['127.0.0.1']
    # To Fast DDS a process that began with other addresses is on another host, and no stranger.
    assert not list(root.iter(f'{DDS}ignoreParticipantFlags'))


@pytest.mark.parametrize('role', ['uplink', 'downlink'])
def test_a_gateway_is_told_of_one_port_of_the_other_side(role):
    text = profile(role, domain=5, number=2)
    here, there = peers(text)
    assert here == ('127.0.0.1', None)
    assert there == ('192.0.2.7', str(discovery_port(5, 102)))
    (number,) = ElementTree.fromstring(text).iter(f'{DDS}participantID')
    assert number.text == '102'
    root = ElementTree.fromstring(text)
    for kind in ('default', 'metatraffic'):
        (here,) = root.iter(f'{DDS}{kind}UnicastLocatorList')
        # By the second one the nodes of its machine find it, whatever its address has become.
        assert [each.text for each in here.iter(f'{DDS}address')] == ['0.0.0.0', '127.0.0.1']


def test_a_device_is_told_of_the_edge_by_an_address_or_by_its_environment():
    assert peers(profile('device'))[1] == ('${EDGE_ADDRESS}', None)
    assert peers(profile_xml('device', peer='192.0.2.7'))[1] == ('192.0.2.7', None)
    assert peers(profile('edge')) == [('127.0.0.1', None)]


@pytest.mark.parametrize('role', ROLES)
@pytest.mark.parametrize('old', [False, True])
def test_what_is_told_at_a_start_is_short_and_finds_room(role, old):
    root = ElementTree.fromstring(profile(role, old=old))
    (participant,) = root.iter(f'{DDS}participant')
    assert participant.get('is_default_profile') == 'true'
    (told,) = participant.iter(f'{DDS}property')
    assert [each.text for each in told] == ['fastdds.type_propagation', 'disabled']
    # The room of sockets that Fast DDS makes by itself, or that of those which the profile names.
    name = 'listenSocketBufferSize' if role == 'writers' else 'receiveBufferSize'
    (room,) = root.iter(f'{DDS}{name}')
    assert int(room.text) == SOCKET_ROOM


@pytest.mark.parametrize('role', ROLES)
def test_profiles_are_valid(role, tmp_path):
    schema = next(
        (
            path
            for prefix in os.environ.get('AMENT_PREFIX_PATH', '').split(os.pathsep)
            for path in [Path(prefix) / 'share/fastdds/fastdds_profiles.xsd']
            if path.is_file()
        ),
        None,
    )
    if schema is None or not shutil.which('xmllint'):
        pytest.skip('needs xmllint and the schema that comes with Fast DDS 3')
    path = tmp_path / 'profile.xml'
    path.write_text(profile(role), encoding='utf-8')
    done = subprocess.run(
        ['xmllint', '--noout', '--schema', str(schema), str(path)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    'options, named',
    [
        ({'role': 'lan'}, 'lan'),
        ({'role': 'local', 'domain': 233}, '233'),
        ({'role': 'uplink'}, "peer ''"),
        ({'role': 'downlink', 'peer': 'edge.local'}, 'edge.local'),
        ({'role': 'uplink', 'peer': '192.0.2.7', 'number': 20}, 'gateway 20'),
    ],
)
def test_what_cannot_be_is_refused_by_name(options, named):
    with pytest.raises(ConfigError, match=named):
        profile_xml(**options)


@pytest.mark.parametrize(
    'distro, variable',
    [
        ('jazzy', 'FASTRTPS_DEFAULT_PROFILES_FILE'),
        ('kilted', 'FASTDDS_DEFAULT_PROFILES_FILE'),
        ('lyrical', 'FASTDDS_DEFAULT_PROFILES_FILE'),
    ],
)
def test_the_variable_is_the_one_that_the_distribution_reads(monkeypatch, distro, variable):
    monkeypatch.setenv('ROS_DISTRO', distro)
    assert environment(Path('/x.xml')) == {
        'ROS_AUTOMATIC_DISCOVERY_RANGE': 'SYSTEM_DEFAULT',
        'ROS_STATIC_PEERS': '',
        variable: '/x.xml',
    }


def test_the_command_prints_a_profile_or_says_why_not(capsys):
    assert main(['uplink', '--peer', '192.0.2.7', '--domain', '1']) == 0
    assert capsys.readouterr().out == profile('uplink', domain=1)
    assert main(['uplink']) == 2
    assert 'IPv4 address of the other side' in capsys.readouterr().err


@pytest.mark.parametrize('role', ROLES)
def test_heartbeats_are_quick_and_slower_on_a_slow_link(role):
    for old, name in ((False, 'heartbeat_period'), (True, 'heartbeatPeriod')):
        periods = list(ElementTree.fromstring(profile(role, old=old)).iter(f'{DDS}{name}'))
        assert [period.findtext(f'{DDS}nanosec') for period in periods] == (
            ['250000000'] if role in GATEWAYS else ['50000000']
        )
