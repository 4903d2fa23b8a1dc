"""The listener for API servers: TLS, whose certificate may ask, and that nothing that goes wrong allows anything."""

from __future__ import annotations

import asyncio
import datetime as dt
import io
import json
import ssl
import time
from dataclasses import dataclass

import aiohttp
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from orchestrator.errors import TryAgainError
from orchestrator.identity.serving_certificate import ADMISSION, ServingCertificate
from orchestrator.server.app import bind_listener
from orchestrator.server.cluster.admission import MAX_REVIEW_BYTES, REVIEW_PATH, AdmissionLimits, AdmissionServer
from orchestrator.server.cluster.admission_review import Answer
from tests.unit.server.test_admission_review import DIGEST, review


class Gate:
    """Allows what it is told to, after what it is told to wait for."""

    def __init__(self) -> None:
        self.asked = []
        self.answer = Answer(allowed=True)
        self.error = None
        self.hold = None
        self.inside = self.most = 0

    async def __call__(self, workload):
        self.asked.append(workload)
        self.inside += 1
        self.most = max(self.most, self.inside)
        if self.hold is not None:
            await self.hold.wait()
        self.inside -= 1
        if self.error is not None:
            raise self.error
        return self.answer


@dataclass
class Site:
    url: str
    server: AdmissionServer
    gate: Gate
    client: aiohttp.ClientSession
    trusted: ssl.SSLContext

    async def post(self, document, *, path=REVIEW_PATH, **more):
        body = document if isinstance(document, bytes) else json.dumps(document).encode()
        headers = {"Content-Type": "application/json"} | more.pop("headers", {})
        tls = more.pop("tls", self.trusted)
        async with self.client.post(self.url + path, data=io.BytesIO(body), headers=headers, ssl=tls, **more) as answer:
            return answer.status, json.loads(await answer.read())


@pytest.fixture
def limits():
    """Overridden by tests that need tight ones."""
    return AdmissionLimits(answer_seconds=5)


@pytest.fixture
def client_names():
    return frozenset()


@pytest.fixture
def client_ca(tmp_path):
    """None, or the file of a CA whose certificates are asked for."""
    return


@pytest.fixture
async def site(tmp_path, limits, client_names, client_ca):
    certificate = ServingCertificate.open(tmp_path / "keys", "127.0.0.1", time.time, ADMISSION)
    if client_ca is not None:
        certificate.context.load_verify_locations(client_ca)
        certificate.context.verify_mode = ssl.CERT_REQUIRED
    gate = Gate()
    server = AdmissionServer(gate, limits, client_names)
    listener = bind_listener("127.0.0.1", 0)
    url = f"https://127.0.0.1:{listener.getsockname()[1]}"
    await server.serve(listener, certificate.context)
    trusted = ssl.create_default_context(cadata=certificate.ca_pem)
    async with aiohttp.ClientSession() as client:
        yield Site(url, server, gate, client, trusted)
    await server.stop()


async def test_a_review_is_answered(site):
    status, document = await site.post(review(), path=f"{REVIEW_PATH}?timeout=10s")
    assert (status, document["response"]) == (200, {"uid": "u-1", "allowed": True})
    assert site.gate.asked[0].images[0].digest == DIGEST
    site.gate.answer = Answer(allowed=False, message="no scan")
    status, document = await site.post(review())
    assert (status, document["response"]["allowed"]) == (200, False)
    assert document["response"]["status"] == {"code": 403, "reason": "Forbidden", "message": "no scan"}


@pytest.mark.parametrize(
    ("body", "options", "status", "reason"),
    [
        (b"{}", {}, 400, "review_unfit"),
        (review(operation="DELETE"), {}, 400, "review_unfit"),
        (review(), {"path": "/"}, 404, "not_found"),
        (review(), {"headers": {"Content-Type": "text/plain"}}, 415, "media_type_unsupported"),
        (b" " * (MAX_REVIEW_BYTES + 1), {}, 413, "body_too_large"),
    ],
)
async def test_what_is_no_review_is_answered_with_an_error(site, body, options, status, reason):
    found, document = await site.post(body, **options)
    assert (found, document["reason"]) == (status, reason)
    assert not site.gate.asked


async def test_only_post(site):
    async with site.client.get(site.url + REVIEW_PATH, ssl=site.trusted) as answer:
        assert answer.status == 405


async def test_a_gate_that_fails_allows_nothing(site):
    site.gate.error = TryAgainError("later", reason="audit_unavailable")
    status, document = await site.post(review())
    assert (status, document["reason"]) == (503, "audit_unavailable")
    site.gate.error = ValueError("a defect")
    status, document = await site.post(review())
    assert (status, document["reason"]) == (500, "internal_error")
    assert "a defect" not in json.dumps(document)


@pytest.mark.parametrize("limits", [AdmissionLimits(answer_seconds=0.1)])
async def test_a_gate_that_hangs_allows_nothing(site):
    site.gate.hold = asyncio.Event()
    status, document = await site.post(review())
    assert (status, document["reason"]) == (503, "temporarily_unavailable")
    site.gate.hold.set()
    assert (await site.post(review()))[0] == 200


@pytest.mark.parametrize("limits", [AdmissionLimits(answer_seconds=5, at_once=2)])
async def test_only_so_many_are_judged_at_once_and_the_others_wait(site):
    site.gate.hold = asyncio.Event()
    asking = asyncio.gather(*(site.post(review()) for _ in range(6)))
    async with asyncio.timeout(5):
        while site.gate.inside < 2:
            await asyncio.sleep(0.005)
    site.gate.hold.set()
    assert {status for status, _ in await asking} == {200}
    assert (site.gate.most, len(site.gate.asked)) == (2, 6)


@pytest.mark.parametrize("limits", [AdmissionLimits(answer_seconds=5, usual_bytes=8 << 10, large_at_once=1)])
async def test_of_large_reviews_only_so_many_are_taken_in_at_once(site):
    """Else whoever reaches the port makes us keep eight megabytes for each connection."""
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def slowly():
        yield json.dumps(review()).encode()
        begun.set()
        await go_on.wait()
        yield b" " * (16 << 10)

    headers = {"Content-Type": "application/json"}
    first = asyncio.create_task(
        asyncio.wait_for(
            site.client.post(site.url + REVIEW_PATH, data=slowly(), headers=headers, ssl=site.trusted), timeout=10
        )
    )
    await begun.wait()
    async with asyncio.timeout(5):
        while not site.server._large.locked():
            await asyncio.sleep(0.005)
    second = asyncio.create_task(site.post(json.dumps(review()).encode() + b" " * (16 << 10)))
    assert (await site.post(review()))[0] == 200
    assert len(site.gate.asked) == 1
    assert not second.done()
    go_on.set()
    assert (await first).status == 200
    assert (await second)[0] == 200


async def test_without_tls_nobody_is_heard(site):
    with pytest.raises(aiohttp.ClientError):
        await site.client.post(site.url.replace("https", "http") + REVIEW_PATH, data=b"{}")


async def test_after_its_end_nobody_is_answered(site):
    await site.server.stop()
    await site.server.stop()
    with pytest.raises(aiohttp.ClientError):
        await site.post(review())


class Authority:
    """A CA of API servers' client certificates."""

    def __init__(self, folder) -> None:
        self.folder = folder
        self.key, self.certificate = _issue("api servers", None, None)
        self.file = folder / "client-ca.pem"
        self.file.write_bytes(self.certificate.public_bytes(serialization.Encoding.PEM))

    def client(self, trusted_file, name):
        """A client's TLS context with a certificate of this name."""
        key, certificate = _issue(name, self.key, self.certificate)
        file = self.folder / f"{name}.pem"
        file.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
            + certificate.public_bytes(serialization.Encoding.PEM)
        )
        context = ssl.create_default_context(cafile=trusted_file)
        context.load_cert_chain(file)
        return context


def _issue(name, signer, issuer):
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = dt.datetime.fromtimestamp(time.time(), dt.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(minutes=5))
        .not_valid_after(now + dt.timedelta(hours=1))
        .add_extension(x509.BasicConstraints(issuer is None, None), True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False)
    )
    return key, made.sign(signer or key, hashes.SHA256())


class TestClientCertificates:
    @pytest.fixture
    def authority(self, tmp_path):
        return Authority(tmp_path)

    @pytest.fixture
    def client_ca(self, authority):
        return str(authority.file)

    @pytest.fixture
    def client_names(self):
        return frozenset({"kube-apiserver"})

    @pytest.fixture
    def trusted_file(self, site, tmp_path):
        file = tmp_path / "serving-ca.pem"
        file.write_text("".join(ssl.DER_cert_to_PEM_cert(one) for one in site.trusted.get_ca_certs(binary_form=True)))
        return str(file)

    async def test_an_api_server_of_the_right_name_is_answered(self, site, authority, trusted_file):
        status, _ = await site.post(review(), tls=authority.client(trusted_file, "kube-apiserver"))
        assert status == 200

    async def test_another_name_of_the_same_ca_is_refused(self, site, authority, trusted_file):
        status, document = await site.post(review(), tls=authority.client(trusted_file, "somebody"))
        assert (status, document["reason"]) == (403, "api_server_unknown")
        assert not site.gate.asked

    async def test_nobody_without_a_certificate_or_with_one_of_another_ca(self, site, tmp_path, trusted_file):
        other = tmp_path / "other"
        other.mkdir()
        for tls in (site.trusted, Authority(other).client(trusted_file, "kube-apiserver")):
            with pytest.raises((aiohttp.ClientError, ConnectionError, ssl.SSLError)):
                await site.post(review(), tls=tls)
        assert not site.gate.asked
