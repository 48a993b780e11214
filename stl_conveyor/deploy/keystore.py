# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Keys, certificates and signed permissions of a cell, as rcl loads them.

The layout is that of an SROS2 keystore, and `ros2 security` works on it:

    public/ca.cert.pem                 the certificate authority; goes to every machine
    private/ca.key.pem                 its key; signs, and goes to none
    enclaves/governance.p7s            what is protected how, signed
    enclaves/camera/cert.pem, key.pem  who a node is
    enclaves/camera/permissions.p7s    what it may use, signed

What is allowed comes from a policy file (stl_conveyor.deploy.security). The documents are those of
the OMG's DDS Security 1.1: governance 9.4.1.2, permissions 9.4.1.3, both signed by S/MIME.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from stl_conveyor.deploy.fastdds_profiles import DOMAINS
from stl_conveyor.deploy.security import resolve
from stl_conveyor.errors import ConfigError, MissingDependency
from stl_conveyor.resources import write_whole, writing

DAYS = 3650  # for which certificates and permissions hold
#: A machine without a battery for its clock may be behind when it starts.
EARLIER = datetime.timedelta(days=1)
#: The middleware's own topic, by which ROS tells which node has which publishers.
GRAPH_TOPIC = 'ros_discovery_info'
_AUTHORITY = 'stl_conveyor CA'
_SCHEMA = 'http://www.omg.org/spec/DDS-SECURITY/20170901/omg_shared_ca_{}.xsd'
_ROLES = ('identity_ca', 'permissions_ca')  # one certificate authority is both
_ENCLAVE = re.compile(r'(/[A-Za-z_][A-Za-z0-9_]*)+')


@dataclass(frozen=True)
class Grant:
    """The topics of the middleware that an enclave may write and read."""

    publish: tuple[str, ...]
    subscribe: tuple[str, ...]


def grants(policy: str) -> Mapping[str, Grant]:
    """Return what a policy allows: path of the enclave → topics, as the middleware names them.

    A topic `/capture` of ROS is `rt/capture`; a service `/camera/get_state` is a pair of topics,
    `rq/camera/get_stateRequest` and `rr/camera/get_stateReply`.

    Args:
        policy: The text of a policy file.

    Raises:
        ConfigError: If it is no policy, or holds what this does not know, such as DENY.
    """
    try:
        root = ElementTree.fromstring(policy)
    except ElementTree.ParseError as error:
        raise ConfigError(f'the policy is no XML ({error}); take one of security/') from error
    found: dict[str, Grant] = {}
    for enclave in root.iter('enclave'):
        path = enclave.get('path', '')
        if not _ENCLAVE.fullmatch(path):
            raise ConfigError(f'the policy has an enclave {path!r}; write it as /camera')
        publish, subscribe = {GRAPH_TOPIC}, {GRAPH_TOPIC}
        for profile in enclave.iter('profile'):
            node, namespace = profile.get('node', ''), profile.get('ns', '/').rstrip('/')
            for rule in profile:
                for use, verdict in rule.items():
                    if verdict != 'ALLOW' or use not in (
                        'publish',
                        'subscribe',
                        'reply',
                        'request',
                    ):
                        raise ConfigError(
                            f'the policy says {use}="{verdict}" for {path}; here a policy allows '
                            'publish, subscribe, reply and request, and refuses everything else'
                        )
                    names = {resolve(item.text or '', node, namespace) for item in rule}
                    requests = {f'rq{name}Request' for name in names}
                    replies = {f'rr{name}Reply' for name in names}
                    if use in ('publish', 'subscribe'):
                        target = publish if use == 'publish' else subscribe
                        target |= {f'rt{name}' for name in names}
                    else:
                        publish |= replies if use == 'reply' else requests
                        subscribe |= requests if use == 'reply' else replies
        found[path] = Grant(tuple(sorted(publish)), tuple(sorted(subscribe)))
    if not found:
        raise ConfigError('the policy has no enclave; take one of security/')
    return found


def governance(domain: int) -> str:
    """Return the document that has everything in a domain authenticated, encrypted and checked."""
    root = _document('governance')
    rule = ElementTree.SubElement(
        ElementTree.SubElement(root, 'domain_access_rules'), 'domain_rule'
    )
    _add_domain(rule, domain)
    for name, value in (
        ('allow_unauthenticated_participants', 'false'),
        ('enable_join_access_control', 'true'),
        ('discovery_protection_kind', 'ENCRYPT'),
        ('liveliness_protection_kind', 'ENCRYPT'),
        ('rtps_protection_kind', 'ENCRYPT'),
    ):
        ElementTree.SubElement(rule, name).text = value
    topic = ElementTree.SubElement(
        ElementTree.SubElement(rule, 'topic_access_rules'), 'topic_rule'
    )
    for name, value in (
        ('topic_expression', '*'),
        ('enable_discovery_protection', 'true'),
        ('enable_liveliness_protection', 'true'),
        ('enable_read_access_control', 'true'),
        ('enable_write_access_control', 'true'),
        ('metadata_protection_kind', 'ENCRYPT'),
        ('data_protection_kind', 'ENCRYPT'),
    ):
        ElementTree.SubElement(topic, name).text = value
    return _text(root)


def permissions_document(
    path: str, grant: Grant, domain: int, begin: datetime.datetime, end: datetime.datetime
) -> str:
    """Return the document that lets an enclave use its topics in a domain, and nothing else."""
    root = _document('permissions')
    entry = ElementTree.SubElement(ElementTree.SubElement(root, 'permissions'), 'grant', name=path)
    ElementTree.SubElement(entry, 'subject_name').text = f'CN={path}'
    validity = ElementTree.SubElement(entry, 'validity')
    for name, moment in (('not_before', begin), ('not_after', end)):
        ElementTree.SubElement(validity, name).text = moment.strftime('%Y-%m-%dT%H:%M:%S')
    rule = ElementTree.SubElement(entry, 'allow_rule')
    _add_domain(rule, domain)
    for use in ('publish', 'subscribe'):
        topics = ElementTree.SubElement(ElementTree.SubElement(rule, use), 'topics')
        for name in getattr(grant, use):
            ElementTree.SubElement(topics, 'topic').text = name
    ElementTree.SubElement(entry, 'default').text = 'DENY'
    return _text(root)


class Keystore:
    """A folder with what the nodes of a cell prove themselves by."""

    def __init__(self, folder: Path, domain: int, days: int = DAYS) -> None:
        """Have a certificate authority: that of the folder, or a new one where it has none.

        Args:
            folder: Made if it is not there.
            domain: ROS_DOMAIN_ID of the nodes: what is signed holds there alone.
            days: For which what is signed holds.

        Raises:
            ConfigError: If the folder holds something else, or the authority without its key.
            MissingDependency: If the package cryptography is not installed.
        """
        if not 0 <= domain <= DOMAINS:
            raise ConfigError(f'domain {domain} must be one of 0..{DOMAINS}')
        if not 1 <= days <= 36_500:
            raise ConfigError(f'days {days} must be one of 1..36500')
        self._crypto = _Crypto()
        self._folder = folder
        self._domain = domain
        now = datetime.datetime.now(datetime.timezone.utc).replace(microsecond=0)
        self._begin, self._end = now - EARLIER, now + datetime.timedelta(days=days)
        certificate, key = folder / 'public' / 'ca.cert.pem', folder / 'private' / 'ca.key.pem'
        if folder.exists() and any(folder.iterdir()) and not certificate.exists():
            raise ConfigError(f'{folder} holds something else than keys; give a new folder')
        if certificate.exists() and not key.exists():
            raise ConfigError(
                f'{key} is not there, without which nothing can be signed; work on the folder in '
                'which the keys were made'
            )
        if not certificate.exists():
            self._make_authority(certificate, key)
        self._authority = self._crypto.load(certificate, key)
        self._sign('governance', folder / 'enclaves', governance(domain))

    def add(self, path: str, grant: Grant) -> None:
        """Make key and certificate of an enclave where it has none, and sign its permissions."""
        folder = self._folder / 'enclaves' / path.lstrip('/')
        _make_folder(folder)
        certificate, key = folder / 'cert.pem', folder / 'key.pem'
        if not (certificate.exists() and key.exists()):
            made = self._crypto.make(path, self._begin, self._end, self._authority)
            write_whole(key, self._crypto.key_pem(made), private=True)
            write_whole(certificate, self._crypto.certificate_pem(made))
        up = Path(*['..'] * len(folder.relative_to(self._folder).parts))
        for role in _ROLES:
            _link(folder / f'{role}.cert.pem', up / 'public' / f'{role}.cert.pem')
        _link(folder / 'governance.p7s', up / 'enclaves' / 'governance.p7s')
        text = permissions_document(path, grant, self._domain, self._begin, self._end)
        self._sign('permissions', folder, text)

    def _make_authority(self, certificate: Path, key: Path) -> None:
        made = self._crypto.make(_AUTHORITY, self._begin, self._end)
        _make_folder(key.parent, 0o700)
        _make_folder(certificate.parent)
        write_whole(key, self._crypto.key_pem(made), private=True)
        write_whole(certificate, self._crypto.certificate_pem(made))
        for role in _ROLES:
            _link(certificate.with_name(f'{role}.cert.pem'), Path(certificate.name))
            _link(key.with_name(f'{role}.key.pem'), Path(key.name))

    def _sign(self, name: str, folder: Path, text: str) -> None:
        _make_folder(folder)
        write_whole(folder / f'{name}.xml', text.encode())
        write_whole(folder / f'{name}.p7s', self._crypto.sign(text.encode(), self._authority))


@dataclass(frozen=True)
class _Party:
    """A certificate and its key, as the package cryptography has them."""

    certificate: Any
    key: Any


class _Crypto:
    """What the package cryptography does here; it is an extra that few machines need."""

    def __init__(self) -> None:
        """Load the package.

        Raises:
            MissingDependency: If it is not installed.
        """
        try:
            from cryptography import x509
            from cryptography.hazmat.primitives import hashes, serialization
            from cryptography.hazmat.primitives.asymmetric import ec
            from cryptography.hazmat.primitives.serialization import pkcs7
        except ImportError as error:
            raise MissingDependency(
                f'keys need the package cryptography ({error}): pip install cryptography, or '
                'apt install python3-cryptography'
            ) from error
        self._x509, self._ec, self._pkcs7 = x509, ec, pkcs7
        self._serialization = serialization
        self._sha256 = hashes.SHA256()

    def make(
        self,
        name: str,
        begin: datetime.datetime,
        end: datetime.datetime,
        authority: _Party | None = None,
    ) -> _Party:
        """Return a new key on the curve P-256 and its certificate; without an authority, one."""
        x509 = self._x509
        key = self._ec.generate_private_key(self._ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        certificate = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(authority.certificate.subject if authority else subject)
            .serial_number(x509.random_serial_number())
            .not_valid_before(begin)
            .not_valid_after(end)
            .public_key(key.public_key())
            .add_extension(
                x509.BasicConstraints(ca=not authority, path_length=None if authority else 1),
                critical=not authority,
            )
            .sign(authority.key if authority else key, self._sha256)
        )
        return _Party(certificate, key)

    def load(self, certificate: Path, key: Path) -> _Party:
        """Return what stands in two PEM files.

        Raises:
            ConfigError: If they cannot be used.
        """
        try:
            return _Party(
                self._x509.load_pem_x509_certificate(certificate.read_bytes()),
                self._serialization.load_pem_private_key(key.read_bytes(), None),
            )
        except (ValueError, TypeError) as error:
            raise ConfigError(
                f'{certificate} and {key} are no certificate and key ({error}); give a new folder'
            ) from error

    def key_pem(self, party: _Party) -> bytes:
        """Return a key as a PEM file."""
        pem: bytes = party.key.private_bytes(
            self._serialization.Encoding.PEM,
            self._serialization.PrivateFormat.PKCS8,
            self._serialization.NoEncryption(),
        )
        return pem

    def certificate_pem(self, party: _Party) -> bytes:
        """Return a certificate as a PEM file."""
        pem: bytes = party.certificate.public_bytes(self._serialization.Encoding.PEM)
        return pem

    def sign(self, data: bytes, signer: _Party) -> bytes:
        """Return data with its signature beside it, as an S/MIME message of text."""
        options = self._pkcs7.PKCS7Options
        signed: bytes = (
            self._pkcs7.PKCS7SignatureBuilder()
            .set_data(data)
            .add_signer(signer.certificate, signer.key, self._sha256)
            .sign(self._serialization.Encoding.SMIME, [options.Text, options.DetachedSignature])
        )
        return signed


def _document(kind: str) -> ElementTree.Element:
    return ElementTree.Element(
        'dds',
        {
            'xmlns:xsi': 'http://www.w3.org/2001/XMLSchema-instance',
            'xsi:noNamespaceSchemaLocation': _SCHEMA.format(kind),
        },
    )


def _add_domain(rule: ElementTree.Element, domain: int) -> None:
    ElementTree.SubElement(ElementTree.SubElement(rule, 'domains'), 'id').text = str(domain)


def _text(root: ElementTree.Element) -> str:
    ElementTree.indent(root)
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        + ElementTree.tostring(root, encoding='unicode')
        + '\n'
    )


def _make_folder(folder: Path, mode: int = 0o755) -> None:
    with writing(folder):
        folder.mkdir(mode=mode, parents=True, exist_ok=True)


def _link(path: Path, target: Path) -> None:
    if not path.is_symlink():
        with writing(path):
            path.symlink_to(target)
