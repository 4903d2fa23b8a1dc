"""Credentials of third parties: recorded before they are made, handed over to a live job only, never to another."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import pytest

from orchestrator.errors import GiveUpError, TryAgainError
from orchestrator.identity.brokered import Credential, CredentialNotMadeError, installation_draft
from orchestrator.identity.exchange import Collaborators, Exchange
from orchestrator.identity.grammar import ExchangeRefusedError, ExchangeRequest
from orchestrator.identity.issuer import Trusted
from orchestrator.identity.issuers import IssuerSet
from orchestrator.identity.rate import RateLimit
from orchestrator.identity.trust.facts import trust_facts
from orchestrator.identity.trust.trust_map import TrustMap
from orchestrator.lifecycle.ports import RunnerIdentity
from orchestrator.model.decision import Verdict
from orchestrator.model.events import ExchangeDecided, TokenIssued, TokenRefused
from tests.unit.identity.conftest import START
from tests.unit.identity.test_exchange import World

FORGE = "https://ci.example"
MAP = """
trust_map: 1
environment: staging
targets: {code: {kind: github, audience: "github:acme"}}
grants:
  - name: own
    when: {repository_id: {equals: "34"}}
    target: code
    permissions: {contents: write}
"""
ASK = ExchangeRequest("runner-token", "github:acme")


@dataclass
class Maker:
    """A third party, with a place to put each fault."""

    vouches: str = FORGE
    error: Exception | None = None
    before_made: object = None
    log: list = field(default_factory=list)
    abandoned: list = field(default_factory=list)
    seconds: int = 3600

    def serves(self, audience):
        return audience == "github:acme"

    def draft(self, record, pool, audience, decision, trusted):
        return installation_draft(record, pool, audience, decision, trusted, vouches=self.vouches, now=START)

    async def make(self, job_id, draft):
        self.log.append(("make", draft.issued.jti, draft.repository_id, dict(draft.permissions)))
        if self.before_made:
            self.before_made()
        if self.error:
            raise self.error
        return Credential("ghs_secret", START + self.seconds)

    def abandon(self, jti):
        self.abandoned.append(jti)


@pytest.fixture
def trust(tmp_path):
    (tmp_path / "staging.yaml").write_text(MAP)
    return TrustMap.load([tmp_path])


@pytest.fixture
def world(record, pool, make_decision, trust):
    made = World(record, pool, make_decision())
    made.trust = trust
    return made


@pytest.fixture
def maker():
    return Maker()


@pytest.fixture
def exchange(world, issuer, maker, clock):
    asked = Collaborators(
        world, world.record_of, lambda _record: world.pool, world.note, world.on_secret, lambda: world.trust, maker
    )
    rate = RateLimit(per_second=1, burst=5, monotonic=clock.monotonic)
    return Exchange(IssuerSet(issuer), asked, rate, timeout_seconds=0.5)


@pytest.fixture
def runner(record):
    return RunnerIdentity(record.runner, "uid-1")


async def refusal(exchange, runner, request=ASK) -> ExchangeRefusedError:
    with pytest.raises(ExchangeRefusedError) as caught:
        await exchange.exchange(runner, request)
    return caught.value


async def test_the_facts_stand_before_anybody_is_asked(exchange, world, runner, maker):
    def seen():
        assert [type(fact) for fact in world.facts] == [ExchangeDecided, TokenIssued]

    maker.before_made = seen
    answer = await exchange.exchange(runner, ASK)
    issued = world.facts[1]
    assert answer == {
        "access_token": "ghs_secret",
        "issued_token_type": "urn:ietf:params:oauth:token-type:access_token",
        "token_type": "Bearer",
        "expires_in": 3600,
    }
    assert maker.log == [("make", issued.jti, "34", {"contents": "write"})]
    assert world.secrets == [(world.record.id, "ghs_secret")]
    assert (issued.kind, issued.rule, issued.algorithm) == ("github_installation", "staging/own", "")
    # GitHub's clock may be five minutes ahead.
    assert issued.expires_at == issued.session_expires_at == START + 3900
    assert maker.abandoned == []


async def test_its_life_is_never_longer_than_the_jobs_or_policys(exchange, world, runner, maker, make_decision):
    world.decision = make_decision(token_ttl_seconds=60)
    assert (await exchange.exchange(runner, ASK))["expires_in"] == 60
    world.decision = make_decision()
    world.record = replace(world.record, bound_at_ns=(START - 3000) * 1_000_000_000)
    assert (await exchange.exchange(runner, ASK))["expires_in"] == 600
    maker.seconds = 500
    assert (await exchange.exchange(runner, ASK))["expires_in"] == 500


async def test_a_job_that_ends_meanwhile_gets_nothing_and_what_was_made_is_ended(exchange, world, runner, maker):
    maker.before_made = world.end
    assert (await refusal(exchange, runner)).reason == "job_ended"
    assert maker.abandoned == [world.facts[1].jti]
    assert world.secrets == []


async def test_a_job_that_ends_while_facts_are_written_has_nothing_made(exchange, world, runner, maker):
    world.before_note_returns = world.end
    assert (await refusal(exchange, runner)).reason == "job_ended"
    assert (maker.log, maker.abandoned) == ([], [])


async def test_facts_that_cannot_be_kept_mean_that_nobody_is_asked(exchange, world, runner, maker):
    world.note_error = TryAgainError("disk full", reason="journal_unavailable")
    assert (await refusal(exchange, runner)).status == 503
    assert maker.log == []


async def test_a_log_that_cannot_mask_it_keeps_it_from_the_job(exchange, world, runner, maker):
    def fail(job_id, token):
        raise RuntimeError("no masking")

    exchange._with = replace(exchange._with, on_secret=fail)
    assert (await refusal(exchange, runner)).reason == "exchange_failed"
    assert len(maker.abandoned) == 1


@pytest.mark.parametrize("certain", [True, False])
@pytest.mark.parametrize(
    ("again", "status", "code"), [(True, 503, "temporarily_unavailable"), (False, 400, "invalid_target")]
)
async def test_what_was_not_made_is_on_the_record(exchange, world, runner, maker, certain, again, status, code):
    maker.error = CredentialNotMadeError("GitHub is away", reason="github_unavailable", certain=certain, again=again)
    error = await refusal(exchange, runner)
    assert (error.status, error.error, error.reason) == (status, code, "github_unavailable")
    issued, refused = world.facts[1:]
    never = issued.jti if certain else ""
    assert refused == TokenRefused("github:acme", "github_unavailable", "", "staging/own", "GitHub is away", never)


async def test_only_a_grant_and_policy_together_have_one_made(exchange, world, runner, maker, make_decision):
    world.decision = make_decision(Verdict.DENY)
    assert (await refusal(exchange, runner)).reason == "policy_deny"
    world.decision = make_decision()
    world.trust = None
    assert (await refusal(exchange, runner)).reason == "trust_no_grant"
    assert (await refusal(exchange, runner, ExchangeRequest("t", "github:other"))).reason == "audience_unlisted"
    assert maker.log == []


async def test_a_number_that_another_platform_vouched_for_is_no_repository(exchange, world, runner, maker):
    maker.vouches = "https://token.actions.githubusercontent.com"
    error = await refusal(exchange, runner)
    assert error.reason == "github_repository_foreign"
    assert world.facts[-1].rule == "staging/own"
    assert maker.log == []


@pytest.mark.parametrize("number", ["", "0", "-1", "x", "٣", "1" * 20])
def test_a_repository_has_a_number(record, pool, trust, make_decision, number):
    grant = trust.grant(trust_facts(record, pool), "github:acme")
    trusted = Trusted(replace(grant, repository_id=number), trust.digest)
    with pytest.raises(GiveUpError) as caught:
        installation_draft(record, pool, "github:acme", make_decision(), trusted, vouches=FORGE, now=START)
    assert caught.value.reason == "github_repository_foreign"


def test_nothing_is_drafted_of_a_denial(record, pool, trust, make_decision):
    trusted = Trusted(trust.grant(trust_facts(record, pool), "github:acme"), trust.digest)
    with pytest.raises(GiveUpError) as caught:
        installation_draft(record, pool, "github:acme", make_decision(Verdict.DENY), trusted, vouches=FORGE, now=START)
    assert caught.value.reason == "not_allowed"
