# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""The keys of a cell: what is allowed is signed, what is signed is what the policy says."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

pytest.importorskip('cryptography')

from cryptography import x509  # noqa: E402

from stl_conveyor.cli.main import main  # noqa: E402
from stl_conveyor.deploy.keystore import GRAPH_TOPIC, Grant, Keystore, grants  # noqa: E402
from stl_conveyor.deploy.security import WIRINGS, policy  # noqa: E402
from stl_conveyor.errors import ConfigError, MissingDependency  # noqa: E402

ROOT = Path(__file__).resolve().parents[2]
#: What rcl looks for in the folder of an enclave.
LOADED = {
    'identity_ca.cert.pem',
    'cert.pem',
    'key.pem',
    'permissions_ca.cert.pem',
    'governance.p7s',
    'permissions.p7s',
}


def verified(path, authority):
    """Return what an S/MIME message says, if its signature is that of the authority."""
    done = subprocess.run(
        ['openssl', 'smime', '-verify', '-text', '-in', path, '-CAfile', authority],
        capture_output=True,
        text=True,
    )
    return done.stdout.replace('\r\n', '\n') if done.returncode == 0 else None


@pytest.mark.parametrize('name', WIRINGS)
def test_a_grant_has_every_name_of_the_policy_as_the_middleware_calls_it(name):
    wiring = WIRINGS[name]
    found = grants((ROOT / 'security' / f'{name}.policy.xml').read_text(encoding='utf-8'))
    assert list(found) == [f'/{node}' for node in wiring.nodes]
    actuator = found['/actuator']
    assert 'rt/sort_outcome' in actuator.publish and 'rt/capture' in actuator.subscribe
    assert 'rt/capture' not in actuator.publish
    assert 'rq/actuator/get_stateRequest' in actuator.subscribe
    assert 'rr/actuator/get_stateReply' in actuator.publish
    assert all(GRAPH_TOPIC in (*g.publish, *g.subscribe) for g in found.values())
    if name == 'gazebo':
        assert 'rq/spawn_entityRequest' in found['/feeder'].publish
        assert 'rr/spawn_entityReply' in found['/feeder'].subscribe


@pytest.mark.parametrize(
    'text, said',
    [
        ('<policy', 'no XML'),
        ('<policy><enclaves/></policy>', 'no enclave'),
        ('<policy><enclave path="../x"/></policy>', r"'../x'"),
        (policy(WIRINGS['direct']).replace('publish="ALLOW"', 'publish="DENY"', 1), 'DENY'),
        (policy(WIRINGS['direct']).replace('reply="ALLOW"', 'call="ALLOW"', 1), 'call='),
    ],
)
def test_what_is_no_policy_is_refused_by_name(text, said):
    with pytest.raises(ConfigError, match=said):
        grants(text)


@pytest.mark.skipif(shutil.which('openssl') is None, reason='openssl checks the signatures')
def test_the_command_makes_what_rcl_loads(tmp_path, capsys):
    keys = tmp_path / 'keys'
    arguments = ['security', 'create', str(keys), '--namespace', 'cell_1', '--domain', '7']
    assert main(arguments) == 0
    assert f'export ROS_SECURITY_KEYSTORE={keys}' in capsys.readouterr().out
    authority = keys / 'public' / 'ca.cert.pem'
    for path, grant in grants(policy(WIRINGS['direct'], ['cell_1'])).items():
        folder = keys / f'enclaves{path}'
        assert {each.name for each in folder.iterdir() if each.exists()} >= LOADED
        assert (folder / 'key.pem').stat().st_mode & 0o077 == 0
        certificate = x509.load_pem_x509_certificate((folder / 'cert.pem').read_bytes())
        assert certificate.subject.rfc4514_string() == f'CN={path}'
        certificate.verify_directly_issued_by(
            x509.load_pem_x509_certificate((folder / 'identity_ca.cert.pem').read_bytes())
        )
        document = ElementTree.fromstring(verified(folder / 'permissions.p7s', authority))
        assert document.findtext('.//subject_name') == f'CN={path}'
        assert document.findtext('.//default') == 'DENY'
        assert [each.text for each in document.iter('id')] == ['7']
        for use in ('publish', 'subscribe'):
            assert tuple(t.text for t in document.find(f'.//{use}').iter('topic')) == getattr(
                grant, use
            )
        rules = ElementTree.fromstring(verified(folder / 'governance.p7s', authority))
        assert rules.findtext('.//allow_unauthenticated_participants') == 'false'
        kinds = [each.text for each in rules.iter() if each.tag.endswith('_protection_kind')]
        assert len(kinds) == 5 and set(kinds) == {'ENCRYPT'}
    assert (keys / 'private').stat().st_mode & 0o077 == 0


@pytest.mark.skipif(shutil.which('openssl') is None, reason='openssl checks the signatures')
def test_what_somebody_changed_is_signed_no_more(tmp_path):
    store = Keystore(tmp_path, 0)
    store.add('/camera', Grant(('rt/capture',), ()))
    path = tmp_path / 'enclaves/camera/permissions.p7s'
    authority = tmp_path / 'public' / 'ca.cert.pem'
    assert verified(path, authority)
    path.write_bytes(path.read_bytes().replace(b'rt/capture', b'rt/anything', 1))
    assert verified(path, authority) is None


def test_keys_stay_and_permissions_are_signed_anew(tmp_path):
    store = Keystore(tmp_path, 0)
    store.add('/camera', Grant(('rt/capture',), ()))
    folder = tmp_path / 'enclaves' / 'camera'
    before = {path: path.read_bytes() for path in tmp_path.rglob('*.pem')}
    Keystore(tmp_path, 0).add('/camera', Grant(('rt/other',), ()))
    assert before == {path: path.read_bytes() for path in tmp_path.rglob('*.pem')}
    text = (folder / 'permissions.xml').read_text(encoding='utf-8')
    assert 'rt/other' in text and 'rt/capture' not in text


@pytest.mark.parametrize(
    'arguments, said',
    [
        (['--domain', '233'], 'domain 233'),
        (['--days', '0'], 'days 0'),
        (['--policy', '/nowhere.xml'], '/nowhere.xml'),
        (['--policy', 'x', '--namespace', 'a'], '--namespace goes with --wiring'),
    ],
)
def test_what_cannot_be_used_is_refused_by_name(tmp_path, capsys, arguments, said):
    assert main(['security', 'create', str(tmp_path / 'keys'), *arguments]) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / 'keys').exists()


def test_the_domain_comes_from_the_environment(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv('ROS_DOMAIN_ID', '9')
    assert main(['security', 'create', str(tmp_path / 'keys')]) == 0
    assert '<id>9</id>' in (tmp_path / 'keys/enclaves/governance.xml').read_text(encoding='utf-8')
    monkeypatch.setenv('ROS_DOMAIN_ID', 'nine')
    assert main(['security', 'create', str(tmp_path / 'other')]) == 2
    assert "ROS_DOMAIN_ID is 'nine'" in capsys.readouterr().err


def test_a_folder_with_something_else_is_left_alone(tmp_path):
    (tmp_path / 'picture.png').write_bytes(b'')
    with pytest.raises(ConfigError, match='something else than keys'):
        Keystore(tmp_path, 0)
    assert [each.name for each in tmp_path.iterdir()] == ['picture.png']


def test_an_authority_without_its_key_signs_nothing(tmp_path):
    Keystore(tmp_path, 0)
    (tmp_path / 'private' / 'ca.key.pem').unlink()
    with pytest.raises(ConfigError, match='ca.key.pem is not there'):
        Keystore(tmp_path, 0)


def test_without_the_library_the_command_says_how_to_get_it(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, 'cryptography', None)
    with pytest.raises(MissingDependency, match='pip install cryptography'):
        Keystore(tmp_path / 'keys', 0)
    assert not (tmp_path / 'keys').exists()
