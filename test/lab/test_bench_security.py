# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""The policies that ship are enforced by a middleware: what is allowed, and nothing else."""

from __future__ import annotations

import pytest

pytest.importorskip('cryptography')

from ros_domains import give_back, own_domain_id  # noqa: E402

from stl_conveyor.deploy.keystore import Grant, Keystore, grants  # noqa: E402
from stl_conveyor.deploy.security import WIRINGS, policy  # noqa: E402
from stl_conveyor.errors import MissingDependency  # noqa: E402
from stl_conveyor_lab.bench.security import peers  # noqa: E402
from stl_conveyor_lab.bench.security.command import markdown  # noqa: E402
from stl_conveyor_lab.bench.security.enforcement import Tried, topics_of, try_wiring  # noqa: E402
from stl_conveyor_lab.bench.security.latency import SIZES, WITH, WITHOUT  # noqa: E402
from stl_conveyor_lab.bench.security.peers import Middleware, Refused, until  # noqa: E402


@pytest.fixture(scope='module')
def middleware(tmp_path_factory):
    try:
        return Middleware(tmp_path_factory.mktemp('type'))
    except MissingDependency as error:
        pytest.skip(str(error))


@pytest.fixture
def domain():
    number = own_domain_id()
    yield number
    give_back(number)


@pytest.mark.parametrize('name', WIRINGS)
def test_every_node_may_use_what_its_policy_says_and_nothing_else(
    middleware, tmp_path, domain, name
):
    allowed = grants(policy(WIRINGS[name]))
    tried = try_wiring(middleware, name, tmp_path, domain)
    assert tried.wrong == tried.lost == tried.overheard == []
    ends = 2 * len(allowed) * len(topics_of(allowed))
    assert tried.allowed + tried.refused == ends
    assert tried.allowed == sum(len(g.publish) + len(g.subscribe) for g in allowed.values())
    assert tried.heard > len(allowed)


def test_without_keys_the_same_participants_would_hear_each_other(middleware, domain):
    with middleware.participant(domain) as one, middleware.participant(domain) as other:
        writer = one.ask('open', kind='writer', topic='rt/capture')
        reader = other.ask('open', kind='reader', topic='rt/capture')
        assert until(lambda: one.ask('matched', kind='writer', number=writer) == 1)
        one.ask('write', number=writer, value=5, size=300)
        assert other.ask('wait', reader=reader, seconds=30.0)
        assert other.ask('take', number=reader) == [5]


@pytest.mark.parametrize('changed', ['permissions of another node', 'permissions by hand', 'end'])
def test_a_participant_whose_papers_are_not_its_own_does_not_come_to_be(
    middleware, tmp_path, domain, changed
):
    store = Keystore(tmp_path, domain)
    for path in ('/camera', '/actuator'):
        store.add(path, Grant(('rt/capture',), ()))
    camera, actuator = (tmp_path / 'enclaves' / name for name in ('camera', 'actuator'))
    papers = camera / 'permissions.p7s'
    with middleware.participant(domain, camera) as honest:
        assert honest.ask('open', kind='writer', topic='rt/capture') > 0
    if changed == 'permissions of another node':
        papers.write_bytes((actuator / 'permissions.p7s').read_bytes())
    elif changed == 'permissions by hand':
        papers.write_bytes(papers.read_bytes().replace(b'rt/capture', b'rt/anything', 1))
    else:
        papers.unlink()
    with (
        pytest.raises(Refused, match=r'Error \(.*permissions'),
        middleware.participant(domain, camera),
    ):
        raise AssertionError('it came to be')


def test_a_system_without_the_plugins_is_told_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setattr(peers, 'LIBRARY_FOLDERS', (str(tmp_path),))
    with pytest.raises(MissingDependency, match='apt install cyclonedds-dev'):
        Middleware(tmp_path)


def test_the_tables_hold_what_was_tried_and_measured():
    tried = {'direct': Tried(allowed=3, refused=97, wrong=['x'], heard=2)}
    measured = {
        (way, size): [0.001 * factor] * 10
        for way, factor in ((WITHOUT, 1), (WITH, 2))
        for size in SIZES
    }
    text = markdown(tried, measured)
    assert '| direct | 3 | 97 | 1 | 2 | 0 | 0 |' in text
    assert text.count('| 1.00 | 2.00 | 1.00 | 2.00 |') == len(SIZES)
