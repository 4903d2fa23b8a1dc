"""A real step-ca, set up by a recipe alone, gives jobs certificates for their identity, and nobody else one."""

from __future__ import annotations

import asyncio
import base64
import json
import secrets
import ssl
import string
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from daemon_site import Site
from forge import Forge
from interop import free_ports, needs
from page import blocks, trust_map
from step_ca import HOST, PEM, StepCa
from tls_proxy import TlsProxy
from witness import PYTHON

pytestmark = [needs("step-ca"), pytest.mark.sandbox, pytest.mark.asyncio(loop_scope="module")]

DOCUMENT = trust_map()
AUDIENCE, SESSION = DOCUMENT["targets"]["ca"]["audience"], DOCUMENT["targets"]["ca"]["session_seconds"]
OTHER = DOCUMENT["targets"]["partner"]["audience"]
BACKDATE = timedelta(minutes=1)
PINNED = ("caller_issuer", "repository", "repository_id", "repository_owner_id", "ref_protected", "trust_tier",
          "trust_rule", "environment")  # fmt: skip
ALPHABET = string.ascii_letters + string.digits + "-_"


class World:
    def __init__(self, site: Site, ca: StepCa) -> None:
        self.site, self.ca, self.forge = site, ca, Forge(site)

    async def run(self, name: str, block: str, *, show: str = "job.crt") -> tuple[str, str]:
        """The id and the log of a job that runs the page's block at this step-ca, and prints the file `show`."""
        block = block.replace(f"https://{HOST}/", f"https://{HOST}:{self.ca.port}/")
        script = f"""printf %s "$CA" > ca.pem
export SSL_CERT_FILE=$PWD/ca.pem
mkdir bin && ln -s {PYTHON} bin/python3 && export PATH=$PWD/bin:$PATH
set -e
{block}
cat {show} | rev
"""
        job_id = await self.site.submit(
            name, script, deployment_environment="prod", environment={"CA": self.ca.root_pem}
        )
        view = await self.site.here.finished(job_id, 60)
        log = (await self.site.here.command("logs", job_id)).out
        assert view["result"] == "success", log
        return job_id, log

    async def token(self, audience: str) -> str:
        """A job's. `rev` because it would be masked in the log."""
        block = f"orchestrator-token --audience {audience} --out token"
        _, log = await self.run(f"token-{secrets.token_hex(4)}", block, show="token")
        return log.strip().splitlines()[-1][::-1]

    async def sign(self, token: str, **more: str) -> tuple[int, dict[str, Any]]:
        """step-ca's answer to a request with a new key and this token."""
        return await asyncio.to_thread(self.ca.sign, token, ec.generate_private_key(ec.SECP256R1()), **more)

    async def granted(self, token: str, **more: str) -> x509.Certificate:
        """The certificate for it; step-ca's own words where it refuses."""
        status, told = await self.sign(token, **more)
        assert status == 201, f"{token}\n{self.ca.program.log.read_text()[-3000:]}"
        return certificate(told["crt"])


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    folder = tmp_path_factory.mktemp("ca")
    (port,) = free_ports(1)
    url = f"https://localhost:{port}"
    audiences: dict[str, Any] = {target["audience"]: {} for target in DOCUMENT["targets"].values()}
    site = Site(folder / "site", audiences=audiences, trust_maps=[DOCUMENT], public_url=url)
    proxy = TlsProxy(folder, port, site.url)
    ca: StepCa | None = None
    try:
        provisioner = await recipe(site)
        (ca_port,) = free_ports(1)
        site.configure((HOST, "127.0.0.1", ca_port, "tls"))
        async with proxy:
            await site.here.start()
            ca = StepCa(folder / "step-ca", provisioner, proxy.ca_file, ca_port)
            await ca.ready()
            yield World(site, ca)
    finally:
        if ca is not None:
            ca.end()
        await site.here.close()
    assert await site.here.left() == []


async def recipe(site: Site) -> dict[str, Any]:
    """What the page's command prints for the certificate's grant."""
    rule = "prod/app-ca"
    command = ("trust", "recipe", rule, str(site.here.folder / "trust"), "--url", site.issuer, "--part", "1")
    printed = await site.here.command(*command)
    assert printed.code == 0, printed.err
    return dict(json.loads(printed.out))


def certificate(pem: str) -> x509.Certificate:
    return x509.load_pem_x509_certificate(pem.encode())


def claims_of(token: str) -> dict[str, Any]:
    return dict(json.loads(base64.urlsafe_b64decode(token.split(".")[1] + "==")))


def other_spellings(token: str) -> list[str]:
    def signature(text: str) -> bytes:
        return base64.urlsafe_b64decode(text.rpartition(".")[2] + "==")

    others = (token[:-1] + last for last in ALPHABET if last != token[-1])
    return [text for text in others if signature(text) == signature(token)]


async def test_a_job_gets_the_certificate_that_the_recipe_describes(world: World) -> None:
    (block,) = blocks("sh", "4. A certificate from step-ca", "What to mind")
    job_id, log = await world.run("certificate", block)
    pem = "\n".join(line[::-1] for line in log.splitlines())
    found = certificate(pem[pem.index("-----BEGIN") :])
    found.verify_directly_issued_by(certificate(world.ca.root_pem))
    assert found.subject.rfc4514_string() == f"CN={job_id}"
    names = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert list(names) == [x509.UniformResourceIdentifier(f"{world.site.issuer}/jobs/{job_id}")]
    usage = found.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usage) == [x509.ExtendedKeyUsageOID.CLIENT_AUTH]
    assert found.not_valid_after_utc - found.not_valid_before_utc == timedelta(seconds=SESSION) + BACKDATE
    (token,) = await world.site.tokens(job_id)
    assert (token["rule"], token["target"]) == ("prod/app-ca", "ca")
    assert token["session_expires_at"] == 0, "not known"


async def test_a_longer_life_than_granted_is_refused(world: World) -> None:
    status, told = await world.sign(await world.token(AUDIENCE), notAfter="20m")
    assert (status, "more than the authorized maximum" in told["message"]) == (403, True), told
    assert await world.granted(await world.token(AUDIENCE), notAfter="2m")


async def test_the_end_is_not_known_since_a_request_chooses_the_beginning(world: World) -> None:
    """Once this fails the recipe's note can go, and receipts can name an end."""
    found = await world.granted(await world.token(AUDIENCE), notBefore="90000h", notAfter="10m")
    assert found.not_valid_before_utc > datetime.now(UTC) + timedelta(days=3000)


async def test_a_certificate_cannot_be_renewed(world: World, tmp_path: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    status, told = await asyncio.to_thread(world.ca.sign, await world.token(AUDIENCE), key)
    assert status == 201
    pair = tmp_path / "pair.pem"
    private = key.private_bytes(PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    pair.write_bytes(private + told["crt"].encode())
    trust = ssl.create_default_context(cadata=world.ca.root_pem)
    trust.load_cert_chain(pair)
    status, told = await asyncio.to_thread(world.ca.ask, "1.0/renew", {}, trust)
    assert (status, "crt" in told) == (401, False)


async def test_a_token_is_good_once_however_it_is_spelled(world: World) -> None:
    """The last character of a signature has four bits that nobody reads (RFC 4648 section 3.5)."""
    token = await world.token(AUDIENCE)
    same = other_spellings(token)
    assert len(same) == 15
    assert await world.granted(token)
    assert [(await world.sign(text))[0] for text in [token, *same]] == [401] * 16
    plain = world.forge.claims(AUDIENCE, **without(claims_of(token), "nonce", "jti"))
    text = world.forge.sign(plain)
    shown = (text, text, other_spellings(text)[0])
    assert [(await world.sign(one))[0] for one in shown] == [201, 401, 201], "what the nonce is for"


async def test_a_token_for_another_audience_is_refused(world: World) -> None:
    status, told = await world.sign(await world.token(OTHER))
    assert (status, "crt" in told) == (401, False)


async def test_the_same_token_with_one_thing_wrong_is_refused(world: World) -> None:
    forge, good = world.forge, claims_of(await world.token(AUDIENCE))
    now = int(time.time())

    def fresh(**more: Any) -> dict[str, Any]:
        """Never shown to it before."""
        name = secrets.token_hex(8)
        return good | {"jti": name, "nonce": name} | more

    assert await world.granted(forge.sign(fresh()))
    wrong = {
        "another key": forge.sign(fresh(), key=forge.stranger),
        "an unknown key": forge.sign(fresh(), key=forge.stranger, kid="unknown"),
        "another audience": forge.sign(fresh(aud=OTHER)),
        "another issuer": forge.sign(fresh(iss="https://elsewhere.example")),
        "the issuer with a slash": forge.sign(fresh(iss=forge.issuer + "/")),
        "expired": forge.sign(fresh(iat=now - 400, nbf=now - 400, exp=now - 100)),
        "not yet valid": forge.sign(fresh(nbf=now + 200)),
        "no signature": forge.unsigned(fresh()),
        "changed after signing": forge.tampered(fresh(), "repository"),
    }
    answers = {name: await world.sign(token) for name, token in wrong.items()}
    assert {name: (status, "crt" in told) for name, (status, told) in answers.items()} == dict.fromkeys(
        wrong, (401, False)
    )


@pytest.mark.parametrize("claim", PINNED)
async def test_a_token_of_ours_that_the_grant_did_not_give_is_refused(world: World, claim: str) -> None:
    """Signed by us and for this audience: the recipe's template looks at the claims."""
    forge, good = world.forge, without(claims_of(await world.token(AUDIENCE)), "nonce", "jti")
    for claims in (good | {claim: "another"}, without(good, claim)):
        status, told = await world.sign(forge.sign(forge.claims(AUDIENCE, **claims)))
        assert (status, "crt" in told, claim in told["message"]) == (400, False, True), told


def without(claims: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in claims.items() if name not in names}
