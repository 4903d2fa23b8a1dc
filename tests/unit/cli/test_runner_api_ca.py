"""`orchestrator runner-api-ca` prints what the daemon left, and says what to do where there is nothing."""

from __future__ import annotations

import ssl
import time

import pytest

from orchestrator.daemon.cluster.room import CA_FILE, publish_ca
from orchestrator.identity.serving_certificate import ServingCertificate


def test_what_the_daemon_published_is_printed_as_it_is(cli, tmp_path):
    made = ServingCertificate.open(tmp_path / "keys", "runner-api.example", time.time)
    publish_ca(tmp_path, made.ca_pem)
    done = cli("--state-dir", str(tmp_path), "runner-api-ca")
    assert done.exit_code == 0, done.stderr
    assert done.stdout == made.ca_pem
    assert "PRIVATE KEY" not in done.stdout
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(cadata=done.stdout)
    assert context.cert_store_stats()["x509_ca"] == 1


@pytest.mark.parametrize("what", ["nothing", "folder", "binary"])
def test_what_cannot_be_read_is_named_with_a_way_out(cli, tmp_path, what):
    if what == "folder":
        (tmp_path / CA_FILE).mkdir()
    elif what == "binary":
        (tmp_path / CA_FILE).write_bytes(b"\xff")
    done = cli("--state-dir", str(tmp_path), "runner-api-ca")
    assert done.exit_code == 1
    assert done.stdout == ""
    assert str(tmp_path) in done.stderr
    assert "fix:" in done.stderr
