"""The runner API's certificate: accepted by strict clients for its host only, renewed while in use, CAs overlap."""

from __future__ import annotations

import shutil
import socket
import ssl
import stat
import subprocess
import threading
import time

import pytest
from cryptography import x509
from cryptography.exceptions import InvalidSignature

from orchestrator.errors import ConfigurationError
from orchestrator.identity.serving_certificate import (
    CA_DAYS,
    CA_PUBLISH_DAYS,
    CA_RENEW_DAYS,
    DAY,
    LEAF_DAYS,
    LEAF_RENEW_DAYS,
    ServingCertificate,
)

HOST = "runner-api.example.svc"


class Clock:
    """Unix time that tests move."""

    def __init__(self) -> None:
        self.now = time.time()

    def __call__(self) -> float:
        return self.now


def strict(ca_pem: str) -> ssl.SSLContext:
    """A client as strict as Python's newest: VERIFY_X509_STRICT asks for what RFC 5280 says *must* be there."""
    context = ssl.create_default_context(cadata=ca_pem)
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    return context


def handshake(server: ssl.SSLContext, client: ssl.SSLContext, host: str) -> bytes:
    """One TLS connection over a socket pair; the server's certificate in DER."""
    ours, theirs = socket.socketpair()

    def serve() -> None:
        try:
            with server.wrap_socket(theirs, server_side=True) as wrapped:
                wrapped.recv(1)
        except OSError:
            theirs.close()

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        with client.wrap_socket(ours, server_hostname=host) as wrapped:
            der = wrapped.getpeercert(binary_form=True)
            assert der is not None
            return der
    finally:
        ours.close()
        thread.join(5)


@pytest.mark.parametrize("host", [HOST, "127.0.0.1", "2001:db8::7"])
def test_a_strict_client_accepts_it_for_its_host_and_for_no_other(tmp_path, host):
    served = ServingCertificate.open(tmp_path / "keys", host, time.time)
    handshake(served.context, strict(served.ca_pem), host)
    for other in ("other.example", "127.0.0.2", "runner-api.example.svc.evil"):
        with pytest.raises(ssl.SSLCertVerificationError):
            handshake(served.context, strict(served.ca_pem), other)


def test_another_installations_ca_does_not_vouch_for_it(tmp_path):
    one = ServingCertificate.open(tmp_path / "a", HOST, time.time)
    other = ServingCertificate.open(tmp_path / "b", HOST, time.time)
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(one.context, strict(other.ca_pem), HOST)


@pytest.mark.skipif(not shutil.which("openssl"), reason="no openssl command here")
def test_openssl_verifies_the_chain_strictly(tmp_path):
    folder = tmp_path / "keys"
    served = ServingCertificate.open(folder, HOST, time.time)
    ca = tmp_path / "ca.pem"
    ca.write_text(served.ca_pem)
    leaf = tmp_path / "leaf.pem"
    leaf.write_bytes(handshake_pem(served))
    command = ["openssl", "verify", "-x509_strict", "-purpose", "sslserver", "-verify_hostname", HOST]
    run = subprocess.run([*command, "-CAfile", str(ca), str(leaf)], capture_output=True, text=True, check=False)
    assert (run.returncode, run.stdout.strip()) == (0, f"{leaf}: OK"), run.stderr
    command[-1] = "other.example"
    assert subprocess.run([*command, "-CAfile", str(ca), str(leaf)], capture_output=True, check=False).returncode != 0


def handshake_pem(served: ServingCertificate) -> bytes:
    return ssl.DER_cert_to_PEM_cert(handshake(served.context, strict(served.ca_pem), HOST)).encode()


def test_a_restart_changes_nothing_and_keys_are_private(tmp_path):
    folder = tmp_path / "keys"
    first = ServingCertificate.open(folder, HOST, time.time)
    again = ServingCertificate.open(folder, HOST, time.time)
    assert first.ca_pem == again.ca_pem
    assert handshake_pem(first) == handshake_pem(again)
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o600}
    assert sorted(path.name for path in folder.iterdir()) == ["runner-api-ca.pem", "runner-api.pem"]
    assert "PRIVATE" not in first.ca_pem


def test_another_host_gets_another_certificate_of_the_same_ca(tmp_path):
    folder = tmp_path / "keys"
    first = ServingCertificate.open(folder, HOST, time.time)
    moved = ServingCertificate.open(folder, "10.0.0.7", time.time)
    assert moved.ca_pem == first.ca_pem
    handshake(moved.context, strict(first.ca_pem), "10.0.0.7")


def test_it_is_renewed_while_it_is_in_use(tmp_path):
    clock = Clock()
    clock.now -= 25 * DAY  # so that before and after are both valid today
    served = ServingCertificate.open(tmp_path / "keys", HOST, clock)
    before = handshake_pem(served)
    clock.now += (LEAF_DAYS - LEAF_RENEW_DAYS - 1) * DAY
    assert not served.renew()
    clock.now += 2 * DAY
    assert served.renew()
    assert not served.renew()
    after = handshake_pem(served)  # the context that the listener has
    assert after != before
    assert served.expires_at == pytest.approx(clock.now + LEAF_DAYS * DAY, abs=5)


def test_a_new_ca_is_trusted_before_it_signs_and_the_old_one_goes_when_it_ends(tmp_path):
    folder, clock = tmp_path / "keys", Clock()
    clock.now -= (CA_DAYS - CA_RENEW_DAYS + 1) * DAY  # so that today both are valid, for real clients check dates
    old = ServingCertificate.open(folder, HOST, clock)
    clock.now = time.time()
    both = ServingCertificate.open(folder, HOST, clock)
    assert both.ca_pem.startswith(old.ca_pem)
    assert both.ca_pem.count("BEGIN CERTIFICATE") == 2
    handshake(both.context, strict(old.ca_pem), HOST)  # signed by the old one: pods from before trust it
    assert ServingCertificate.open(folder, HOST, clock).ca_pem == both.ca_pem

    clock.now += (CA_PUBLISH_DAYS + LEAF_DAYS) * DAY
    assert both.renew()
    new_only = both.ca_pem.removeprefix(old.ca_pem)
    assert issued_by(handshake_der(both), new_only)
    assert not issued_by(handshake_der(both), old.ca_pem)
    clock.now += CA_RENEW_DAYS * DAY
    assert ServingCertificate.open(folder, HOST, clock).ca_pem == new_only


def handshake_der(served: ServingCertificate) -> bytes:
    """Without a look at dates: the certificate may be of the tests' future."""
    anybody = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    anybody.check_hostname, anybody.verify_mode = False, ssl.CERT_NONE
    return handshake(served.context, anybody, HOST)


def issued_by(der: bytes, ca_pem: str) -> bool:
    leaf, ca = x509.load_der_x509_certificate(der), x509.load_pem_x509_certificate(ca_pem.encode())
    try:
        leaf.verify_directly_issued_by(ca)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


@pytest.mark.parametrize("name", ["runner-api-ca.pem", "runner-api.pem"])
@pytest.mark.parametrize("damage", ["empty", "cut", "swapped"])
def test_damaged_files_are_not_used(tmp_path, name, damage):
    folder = tmp_path / "keys"
    ServingCertificate.open(folder, HOST, time.time)
    ServingCertificate.open(tmp_path / "other", HOST, time.time)
    path = folder / name
    text = path.read_text()
    other = (tmp_path / "other" / name).read_text()
    key, certificate = text.index("-----BEGIN CERT"), other.index("-----BEGIN CERT")
    path.write_text({"empty": "", "cut": text[:-40], "swapped": text[:key] + other[certificate:]}[damage])
    with pytest.raises(ConfigurationError) as caught:
        ServingCertificate.open(folder, HOST, time.time)
    assert caught.value.reason == "keys_corrupt"
    assert "PRIVATE" not in str(caught.value)


def test_a_certificate_of_a_lost_ca_is_made_anew(tmp_path):
    folder = tmp_path / "keys"
    ServingCertificate.open(folder, HOST, time.time)
    (folder / "runner-api-ca.pem").unlink()
    served = ServingCertificate.open(folder, HOST, time.time)
    handshake(served.context, strict(served.ca_pem), HOST)
