"""The certificates of the HTTPS listeners that a cluster asks at, under one CA of our own (RFC 5280).

Runners are given the CA's certificate with their pod, and API servers with the webhook's configuration, so no public CA
and no object of the cluster vouches for us.
The CA lives for years and is followed by a new one long before its end: for a while runners trust both, and
only then the new one signs. The serving certificate lives for weeks and is renewed while it is in use.
"""

from __future__ import annotations

import datetime as dt
import ipaddress
import ssl
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from orchestrator.private_file import damaged, private_folder, read_private_file, write_private_file

DAY = 86400.0
CA_DAYS, CA_RENEW_DAYS = 3650, 730
"""Life of a CA, and how long before its end its successor is made."""
CA_PUBLISH_DAYS = 8
"""A new CA signs only when no pod that was made before it can still be alive: a job may take seven days."""
LEAF_DAYS, LEAF_RENEW_DAYS = 30, 10
_BACKDATED = dt.timedelta(hours=1)
"""Machines whose clock is a little behind must not find a certificate of the future."""

_CA_FILE = "runner-api-ca.pem"
_MAX_FILE_BYTES = 1 << 18


@dataclass(frozen=True, slots=True)
class Listener:
    """Which listener a certificate is for: `file` is where it is kept, `name` its common name."""

    file: str
    name: str


RUNNER_API = Listener("runner-api.pem", "orchestrator runner API")
"""Where pods claim their work."""
ADMISSION = Listener("admission.pem", "orchestrator admission")
"""Where API servers ask before they start a workload."""


@dataclass(frozen=True, slots=True)
class _Pair:
    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey = field(repr=False)

    @property
    def until(self) -> float:
        return self.certificate.not_valid_after_utc.timestamp()

    @property
    def since(self) -> float:
        """When it was made."""
        return (self.certificate.not_valid_before_utc + _BACKDATED).timestamp()

    def pem(self) -> bytes:
        return self.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()) + _pem(self.certificate)


class ServingCertificate:
    """The current certificate for `host`, a DNS name or an IP address, and the context that serves it.

    `ca_pem` is what a client has to trust: one CA, or two around a change. It changes only by `open`, so that
    what running pods were given is what the running daemon knows.
    """

    def __init__(
        self,
        folder: Path,
        host: str,
        clock: Callable[[], float],
        authorities: tuple[_Pair, ...],
        listener: Listener = RUNNER_API,
    ) -> None:
        self._folder = folder
        self._listener = listener
        self._host = host
        self._clock = clock
        self._authorities = authorities
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.minimum_version = ssl.TLSVersion.TLSv1_2
        self._context.set_alpn_protocols(["http/1.1"])
        self._context.num_tickets = 0  # for peers that come back, which no agent does; two cost a fifth of a handshake
        self.ca_pem = b"".join(_pem(one.certificate) for one in authorities).decode("ascii")
        self._leaf = self._usable_leaf() or self._new_leaf()
        self._load()

    @classmethod
    def open(
        cls, folder: Path, host: str, clock: Callable[[], float], listener: Listener = RUNNER_API
    ) -> ServingCertificate:
        """Read CA and certificate in `folder`, or make them. `clock` is Unix time in seconds.

        Raises:
            ConfigurationError: reason `keys_unsafe` or `keys_corrupt`.
            TryAgainError: reason `keys_unavailable`.
        """
        private_folder(folder)
        path, now = folder / _CA_FILE, clock()
        found = [pair for pair in _read(path, "pods that wait for their work will not trust us") if pair.until > now]
        authorities = found
        if not any(pair.until - now > CA_RENEW_DAYS * DAY for pair in found):
            authorities = [*found, _authority(now)]
        if authorities != found:
            write_private_file(path, b"".join(pair.pem() for pair in authorities))
        return cls(folder, host, clock, tuple(authorities), listener)

    @property
    def context(self) -> ssl.SSLContext:
        """For the listener. A renewal is seen by the connections that come after it."""
        return self._context

    @property
    def expires_at(self) -> float:
        """Unix seconds."""
        return self._leaf.until

    def renew(self) -> bool:
        """Make and serve a new certificate when the present one is near its end; whether it was.

        Raises:
            TryAgainError: reason `keys_unavailable`; the present one is still served.
        """
        if self._leaf.until - self._clock() > LEAF_RENEW_DAYS * DAY:
            return False
        self._leaf = self._new_leaf()
        self._load()
        return True

    def _signer(self) -> _Pair:
        """The newest CA that every client knows by now; a lone one is known to all."""
        now = self._clock()
        known = [one for one in self._authorities if now - one.since >= CA_PUBLISH_DAYS * DAY]
        return max(known, key=lambda one: one.since) if known else self._authorities[0]

    def _usable_leaf(self) -> _Pair | None:
        """The stored one, if it is for our host, of our CA, and far from its end."""
        stored = _read(self._folder / self._listener.file, "a new certificate is made")
        if not stored or stored[0].until - self._clock() <= LEAF_RENEW_DAYS * DAY:
            return None
        leaf = stored[0].certificate
        names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        if list(names) != [_general_name(self._host)]:
            return None
        for authority in self._authorities:
            try:
                leaf.verify_directly_issued_by(authority.certificate)
            except (ValueError, TypeError, InvalidSignature):
                continue
            return stored[0]
        return None

    def _new_leaf(self) -> _Pair:
        signer = self._signer()
        key = ec.generate_private_key(ec.SECP256R1())
        now = _moment(self._clock())
        until = min(now + dt.timedelta(days=LEAF_DAYS), signer.certificate.not_valid_after_utc)
        usage = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH])
        certificate = (
            _builder(self._listener.name, signer.certificate.subject, key, now, until)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_key_usage(signs_certificates=False), critical=True)
            .add_extension(usage, critical=False)
            .add_extension(x509.SubjectAlternativeName([_general_name(self._host)]), critical=False)
            .add_extension(_authority_id(signer.certificate), critical=False)
            .sign(signer.key, hashes.SHA256())
        )
        pair = _Pair(certificate, key)
        write_private_file(self._folder / self._listener.file, pair.pem())
        return pair

    def _load(self) -> None:
        # OpenSSL's interface of the standard library takes a file, and only by its path.
        with tempfile.NamedTemporaryFile(dir=self._folder, prefix=".loading-") as file:
            file.write(self._leaf.pem())
            file.flush()
            self._context.load_cert_chain(file.name)


def _authority(now: float) -> _Pair:
    key = ec.generate_private_key(ec.SECP256R1())
    begin = _moment(now)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"orchestrator runner API CA {begin:%Y-%m-%d}")])
    certificate = (
        _builder(name, name, key, begin, begin + dt.timedelta(days=CA_DAYS))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(signs_certificates=True), critical=True)
        .sign(key, hashes.SHA256())
    )
    return _Pair(certificate, key)


def _builder(
    subject: x509.Name | str,
    issuer: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    now: dt.datetime,
    until: dt.datetime,
) -> x509.CertificateBuilder:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, subject)]) if isinstance(subject, str) else subject
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _BACKDATED)
        .not_valid_after(until)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def _key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _authority_id(certificate: x509.Certificate) -> x509.AuthorityKeyIdentifier:
    own = certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(own)


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _moment(seconds: float) -> dt.datetime:
    return dt.datetime.fromtimestamp(int(seconds), dt.UTC)


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(Encoding.PEM)


def _read(path: Path, consequence: str) -> list[_Pair]:
    """Pairs of key and certificate, in the order they were written."""
    data = read_private_file(path, _MAX_FILE_BYTES)
    if data is None:
        return []
    try:
        return list(_pairs(data))
    except (ValueError, TypeError, UnsupportedAlgorithm, x509.ExtensionNotFound):
        raise damaged(path, consequence) from None


def _pairs(data: bytes) -> Iterable[_Pair]:
    end = b"-----END CERTIFICATE-----\n"
    *blocks, rest = data.split(end)
    if rest or not blocks:
        raise ValueError("not pairs of key and certificate")
    for block in blocks:
        key = load_pem_private_key(block, password=None)
        certificate = x509.load_pem_x509_certificate(block[block.index(b"-----BEGIN CERT") :] + end)
        if not isinstance(key, ec.EllipticCurvePrivateKey) or certificate.public_key() != key.public_key():
            raise ValueError("a certificate is not for the key before it")
        yield _Pair(certificate, key)
