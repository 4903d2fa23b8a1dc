"""A relying party that knows only our URL: it finds the documents, verifies a token, and asks whether it counts.

It uses joserfc, which shares no code with the issuer's PyJWT.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from joserfc import jwt as jose
from joserfc.errors import JoseError
from joserfc.jwk import KeySet
from joserfc.jwt import JWTClaimsRegistry

from orchestrator.identity.introspect import Introspection
from orchestrator.identity.issuer import AudienceConfig, Issuer, IssuerConfig
from orchestrator.identity.keys import KeyStore
from orchestrator.identity.rotation import RotationSchedule
from orchestrator.lifecycle.ports import RunnerIdentity
from orchestrator.model.decision import Decision, Stage, Verdict
from orchestrator.model.job import Caller, JobKey, JobOffer, JobSpec, PoolName
from orchestrator.model.phase import Phase
from orchestrator.model.pool import Pool, TrustTier
from orchestrator.model.record import Record
from orchestrator.model.runner import runner_name

NOW = 1_800_000_000
DAY = 86400
POOL = Pool(PoolName("default"), "sandbox", TrustTier.STANDARD, 1, "host-toolchain", "bubblewrap")
ALLOW = Decision("d1", Stage.EXCHANGE, Verdict.ALLOW)


class Party:
    """What a cloud does: discovery, key set, signature, issuer, audience, times."""

    def __init__(self, session: aiohttp.ClientSession, issuer: str, audience: str) -> None:
        self.session, self.issuer, self.audience = session, issuer, audience
        self.discovery: dict = {}
        self.keys: KeySet | None = None

    async def fetch(self) -> None:
        async with self.session.get(f"{self.issuer}/.well-known/openid-configuration") as response:
            self.discovery = await response.json()
        assert self.discovery["issuer"] == self.issuer
        async with self.session.get(self.discovery["jwks_uri"]) as response:
            self.keys = KeySet.import_key_set(await response.json())

    async def accept(self, token: str, now: int = NOW) -> dict:
        if self.keys is None:
            await self.fetch()
        algorithms = self.discovery["id_token_signing_alg_values_supported"]
        found = jose.decode(token, self.keys, algorithms=algorithms)
        registry = JWTClaimsRegistry(
            now=now,
            leeway=0,
            iss={"essential": True, "value": self.issuer},
            aud={"essential": True, "value": self.audience},
            exp={"essential": True},
            iat={"essential": True},
            sub={"essential": True},
        )
        registry.validate(found.claims)
        return found.claims

    async def counts(self, token: str) -> bool:
        async with self.session.post(self.discovery["introspection_endpoint"], data={"token": token}) as response:
            return (await response.json())["active"]


@pytest.fixture
def record() -> Record:
    spec = JobSpec("deploy", PoolName("default"), "true", deployment_environment="staging")
    offer = JobOffer(JobKey("dispatch", "job1"), spec, Caller("https://ci.example", "acme"))
    return Record(
        offer=offer,
        offered_at_ns=0,
        phase=Phase.RUNNING,
        runner=runner_name(offer.key.id),
        bound_uid="uid-1",
        bound_at_ns=NOW * 1_000_000_000,
    )


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


@pytest.fixture
def live(record) -> dict:
    return {RunnerIdentity(record.runner, record.bound_uid): record}


@pytest.fixture
async def issuer(tmp_path, live) -> AsyncIterator[Issuer]:
    """The issuer behind a plain server with the three public operations."""
    holder: dict[str, Issuer] = {}

    async def introspect(request):
        introspection = Introspection(holder["issuer"], live.get)
        return web.json_response(await introspection.introspect((await request.post())["token"]))

    async def document(request):
        found = holder["issuer"].discovery if "openid" in request.path else holder["issuer"].jwks
        return web.json_response(found())

    app = web.Application()
    app.router.add_get("/.well-known/openid-configuration", document)
    app.router.add_get("/jwks.json", document)
    app.router.add_post("/v1/introspect", introspect)
    server = TestServer(app, host="127.0.0.1")
    await server.start_server()
    config = IssuerConfig(
        f"http://127.0.0.1:{server.port}", {"cloud": AudienceConfig(), "cluster": AudienceConfig(algorithm="ES256")}
    )
    keys = KeyStore.open(tmp_path / "keys", RotationSchedule(), NOW)
    holder["issuer"] = Issuer(config, keys, lambda: NOW * 1_000_000_000)
    yield holder["issuer"]
    await server.close()


@pytest.mark.parametrize("audience", ["cloud", "cluster"])
async def test_accepted_for_its_audience_and_refused_for_another(issuer, record, session, audience):
    token = issuer.sign(issuer.draft(record, POOL, audience, ALLOW))
    claims = await Party(session, issuer.url, audience).accept(token)
    assert claims["environment"] == "staging"
    with pytest.raises(JoseError):
        await Party(session, issuer.url, "another").accept(token)


async def test_refused_after_its_time(issuer, record, session):
    token = issuer.sign(issuer.draft(record, POOL, "cloud", ALLOW))
    party = Party(session, issuer.url, "cloud")
    await party.accept(token, now=NOW + 299)
    with pytest.raises(JoseError):
        await party.accept(token, now=NOW + 301)


async def test_refused_from_the_recorded_end_by_whoever_asks(issuer, record, session, live):
    token = issuer.sign(issuer.draft(record, POOL, "cloud", ALLOW))
    party = Party(session, issuer.url, "cloud")
    await party.accept(token)
    assert await party.counts(token)
    live.clear()
    assert not await party.counts(token)
    assert not await party.counts("nonsense")


async def test_a_party_that_never_refetches_survives_a_rotation(issuer, record, session):
    """Its cache holds the next key, because that was published a day before it signed."""
    issuer.keys.rotate(NOW + 6 * DAY)
    party = Party(session, issuer.url, "cloud")
    await party.fetch()
    before = issuer.sign(issuer.draft(record, POOL, "cloud", ALLOW))
    issuer.keys.rotate(NOW + 7 * DAY)
    after = issuer.sign(issuer.draft(record, POOL, "cloud", ALLOW))
    assert before.split(".")[0] != after.split(".")[0]
    await party.accept(before)
    await party.accept(after)


async def test_a_revoked_key_is_gone_for_all_who_fetch(issuer, record, session):
    token = issuer.sign(issuer.draft(record, POOL, "cloud", ALLOW))
    issuer.keys.revoke(issuer.keys.signing_key("RS256").kid, NOW)
    party = Party(session, issuer.url, "cloud")
    with pytest.raises(JoseError):
        await party.accept(token)
    assert not await party.counts(token)
