"""The exchange: every way in which no token may come out, and the order in which one does."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, replace

import pytest

from orchestrator.errors import GiveUpError, TryAgainError
from orchestrator.identity.exchange import Collaborators, Exchange, Summary
from orchestrator.identity.grammar import ExchangeRefusedError, ExchangeRequest
from orchestrator.identity.introspect import Introspection
from orchestrator.identity.issuers import IssuerSet
from orchestrator.identity.rate import RateLimit
from orchestrator.lifecycle.ports import RunnerIdentity
from orchestrator.model.decision import Decision, Reason, Stage, Verdict
from orchestrator.model.events import ExchangeDecided, JobCancelRequested, SummarySigned, TokenIssued, TokenRefused
from orchestrator.model.phase import Phase
from orchestrator.model.platform import PlatformState
from orchestrator.model.record import Record
from orchestrator.model.runner import RunnerName, RunnerState, RunnerView

REQUEST = ExchangeRequest("runner-token", "cloud")
REFUSED = Decision("d", Stage.ADMISSION, Verdict.DENY, (Reason("branch", "main only"),))


@dataclass
class World:
    """The daemon around one job, with a place to put each fault."""

    record: Record | None
    pool: object
    decision: Decision
    facts: list = field(default_factory=list)
    secrets: list = field(default_factory=list)
    log: list = field(default_factory=list)
    policy_error: BaseException | None = None
    note_error: BaseException | None = None
    before_policy_returns: object = None
    before_note_returns: object = None
    trust: object = None
    summary: object = None

    async def admit(self, record, pool):
        raise AssertionError("not asked at an exchange")

    async def exchange(self, record, pool, audience):
        self.log.append("policy")
        await asyncio.sleep(0)
        if self.before_policy_returns:
            self.before_policy_returns()
        if self.policy_error:
            raise self.policy_error
        return self.decision

    async def note(self, job_id, *events):
        self.log.append("note")
        await asyncio.sleep(0)
        if self.before_note_returns:
            self.before_note_returns()
        if self.note_error:
            raise self.note_error
        self.facts.extend(events)

    async def summarize(self, record, decision):
        if isinstance(self.summary, BaseException):
            raise self.summary
        return self.summary

    def record_of(self, runner):
        return self.record

    def on_secret(self, job_id, token):
        self.log.append("secret")
        self.secrets.append((job_id, token))

    def end(self):
        self.record = replace(self.record, phase=Phase.TEARDOWN)


@pytest.fixture
def world(record, pool, make_decision):
    return World(record, pool, make_decision())


@pytest.fixture
def runner(record):
    return RunnerIdentity(record.runner, "uid-1")


@pytest.fixture
def exchange(world, issuer, clock):
    collaborators = Collaborators(
        policy=world,
        record_of=world.record_of,
        pool_of=lambda record: world.pool,
        note=world.note,
        on_secret=world.on_secret,
        summarize=world.summarize,
    )
    rate = RateLimit(per_second=1, burst=5, monotonic=clock.monotonic)
    return Exchange(IssuerSet(issuer), collaborators, rate, timeout_seconds=0.5)


async def refusal(exchange, runner, request=REQUEST) -> ExchangeRefusedError:
    with pytest.raises(ExchangeRefusedError) as caught:
        await exchange.exchange(runner, request)
    return caught.value


async def test_a_granted_token(exchange, world, runner, issuer):
    answer = await exchange.exchange(runner, REQUEST)
    assert answer["issued_token_type"] == "urn:ietf:params:oauth:token-type:id_token"
    assert answer["token_type"] == "N_A"
    assert answer["expires_in"] == 300
    claims = issuer.open(answer["access_token"])
    assert claims["aud"] == "cloud"
    decided, issued = world.facts
    assert decided == ExchangeDecided("cloud", world.decision)
    assert isinstance(issued, TokenIssued)
    assert issued.jti == claims["jti"]
    assert world.log == ["policy", "note", "secret"]
    assert world.secrets == [(world.record.id, answer["access_token"])]
    assert answer["access_token"] not in repr(world.facts)


SIGNED = SummarySigned("{}", "sha256:" + "5" * 64, "sha256:" + "a" * 64, "prod", "d1")


async def test_a_deploy_jobs_token_names_the_summary_that_is_recorded_before_it(exchange, world, runner, issuer):
    world.summary = Summary(SIGNED.digest, SIGNED)
    answer = await exchange.exchange(runner, REQUEST)
    assert issuer.open(answer["access_token"])["verification_summary"] == SIGNED.digest
    assert [type(event) for event in world.facts] == [ExchangeDecided, SummarySigned, TokenIssued]
    assert world.log == ["policy", "note", "secret"]
    world.summary = Summary(SIGNED.digest)
    answer = await exchange.exchange(runner, REQUEST)
    assert issuer.open(answer["access_token"])["verification_summary"] == SIGNED.digest
    assert [type(event) for event in world.facts[3:]] == [ExchangeDecided, TokenIssued]


async def test_no_token_without_the_summary_that_it_would_be_bound_to(exchange, world, runner):
    for error, reason, status in (
        (GiveUpError("gone", reason="summary_unmade"), "summary_unmade", 400),
        (TryAgainError("disk", reason="journal_unavailable"), "journal_unavailable", 503),
        (RuntimeError("a defect with a secret"), "exchange_failed", 500),
    ):
        world.facts.clear()
        world.summary = error
        refused = await refusal(exchange, runner)
        assert refused.status == status
        assert "secret" not in refused.diagnostics()
        assert not [event for event in world.facts if isinstance(event, TokenIssued)]
        if status == 400:
            assert world.facts[-1] == TokenRefused("cloud", reason)
    assert world.secrets == []


async def test_a_callers_fact_cannot_pass_for_a_summary(exchange, world, runner, issuer):
    caller = replace(world.record.offer.caller, facts={"verification_summary": SIGNED.digest})
    world.record = replace(world.record, offer=replace(world.record.offer, caller=caller))
    answer = await exchange.exchange(runner, REQUEST)
    assert "verification_summary" not in issuer.open(answer["access_token"])


@pytest.mark.parametrize("verdict", [Verdict.DENY, Verdict.UNDEFINED, Verdict.ERROR])
async def test_only_allow_gives_a_token(exchange, world, runner, make_decision, verdict):
    world.decision = replace(make_decision(verdict), reasons=(Reason("sbom_missing", "attach an SBOM"),))
    error = await refusal(exchange, runner)
    assert (error.error, error.reason) == ("invalid_target", f"policy_{verdict.value}")
    assert world.facts == [ExchangeDecided("cloud", world.decision), TokenRefused("cloud", error.reason)]
    assert world.secrets == []
    assert "attach an SBOM [sbom_missing]" in str(error)
    assert "SBOM" not in str(error.wire())
    assert error.reference in error.wire()["error_description"]


async def test_the_jobs_own_listener_hears_why_but_nothing_of_our_failures(exchange, world, runner, make_decision):
    world.decision = replace(make_decision(Verdict.DENY), reasons=(Reason("sbom_missing", "attach an SBOM"),))
    document = (await refusal(exchange, runner)).answer()
    assert document["error"] == "invalid_target"
    assert document["reason"] == "policy_deny"
    assert "attach an SBOM" in document["explanation"]
    world.policy_error = RuntimeError("secret detail of ours")
    error = await refusal(exchange, runner)
    assert error.status == 500
    assert set(error.answer()) == {"error", "error_description"}
    assert "secret detail" not in error.diagnostics()


async def test_an_unlisted_audience_is_refused_before_policy(exchange, world, runner):
    error = await refusal(exchange, runner, ExchangeRequest("t", "unlisted"))
    assert (error.error, error.reason) == ("invalid_target", "audience_unlisted")
    assert world.log == ["note"]
    assert world.facts == [TokenRefused("unlisted", "audience_unlisted")]


@pytest.mark.parametrize("phase", [phase for phase in Phase if phase is not Phase.RUNNING])
async def test_only_a_running_job_gets_a_token(exchange, world, runner, phase):
    world.record = replace(world.record, phase=phase)
    assert (await refusal(exchange, runner)).reason == "job_ended"
    assert world.log == []


async def test_no_record_no_token(exchange, world, runner):
    world.record = None
    assert (await refusal(exchange, runner)).reason == "job_ended"


async def test_a_cancelled_job_gets_no_token(exchange, world, runner):
    world.record = replace(world.record, cancel=JobCancelRequested("operator"))
    assert (await refusal(exchange, runner)).reason == "job_ended"
    assert world.facts == []


@pytest.mark.parametrize(
    ("platform", "reason"),
    [
        (PlatformState(), "job_not_named"),
        (PlatformState("k", named_at_ns=1, refused=REFUSED, refused_at_ns=1), "job_refused"),
        (PlatformState("k", named_at_ns=1, exit=RunnerView(RunnerName("r"), RunnerState.EXITED)), "job_ended"),
    ],
)
async def test_a_runner_without_a_job_that_policy_allows_gets_no_token(exchange, world, runner, platform, reason):
    world.record = replace(world.record, platform=platform)
    refused = await refusal(exchange, runner)
    assert refused.reason == reason
    assert (world.log, world.facts) == ([], [])
    if reason == "job_refused":
        assert "main only [branch]" in str(refused)


async def test_a_named_job_gets_a_token_which_is_worth_nothing_without_the_name(exchange, world, runner, issuer):
    introspection = Introspection(issuer, lambda identity: world.record)
    world.record = replace(world.record, platform=PlatformState("k", named_at_ns=world.record.bound_at_ns))
    token = (await exchange.exchange(runner, REQUEST))["access_token"]
    assert (await introspection.introspect(token))["active"]
    world.record = replace(world.record, platform=PlatformState())
    assert await introspection.introspect(token) == {"active": False}


@pytest.mark.parametrize(
    "other",
    [
        lambda r: RunnerIdentity(r.name, "uid-2"),
        lambda r: RunnerIdentity(r.name, ""),
        lambda r: RunnerIdentity("runner-of-another-job", r.uid),
    ],
)
async def test_another_runner_gets_no_token_even_if_the_registry_errs(exchange, world, runner, other):
    error = await refusal(exchange, other(runner))
    assert (error.reason, error.status) == ("runner_not_bound", 401)
    assert world.log == []


async def test_an_unbound_record_matches_no_empty_uid(exchange, world, runner):
    world.record = replace(world.record, bound_uid="")
    assert (await refusal(exchange, RunnerIdentity(runner.name, ""))).reason == "runner_not_bound"


async def test_a_job_that_ends_while_policy_thinks_gets_no_token(exchange, world, runner):
    world.before_policy_returns = world.end
    assert (await refusal(exchange, runner)).reason == "job_ended"
    assert world.secrets == []


async def test_a_job_that_ends_while_facts_are_written_gets_no_token(exchange, world, runner):
    world.before_note_returns = world.end
    assert (await refusal(exchange, runner)).reason == "job_ended"
    assert world.secrets == []
    # The journal may tell of a token that never left, never the other way round.
    assert isinstance(world.facts[-1], TokenIssued)


async def test_a_record_that_became_another_jobs_gives_no_token(exchange, world, runner, make_record):
    def swap():
        world.record = replace(make_record(platform_id="job2"), runner=runner.name)

    world.before_note_returns = swap
    assert (await refusal(exchange, runner)).reason == "job_ended"


@pytest.mark.parametrize(
    ("failure", "status", "reason"),
    [
        (TryAgainError("disk full", reason="journal_unavailable"), 503, "journal_unavailable"),
        (GiveUpError("late", reason="job_finished"), 400, "job_ended"),
        (GiveUpError("odd", reason="something_else"), 500, "exchange_failed"),
        (RuntimeError("boom"), 500, "exchange_failed"),
        (TimeoutError(), 503, "exchange_timeout"),
    ],
)
async def test_facts_that_cannot_be_kept_mean_no_token(exchange, world, runner, failure, status, reason):
    world.note_error = failure
    error = await refusal(exchange, runner)
    assert (error.status, error.reason) == (status, reason)
    assert world.secrets == []
    assert error.reference


@pytest.mark.parametrize("failure", [RuntimeError("boom"), TryAgainError("later"), KeyError("x"), RecursionError()])
async def test_a_policy_that_fails_gives_no_token(exchange, world, runner, failure):
    world.policy_error = failure
    assert (await refusal(exchange, runner)).status >= 500
    assert world.log == ["policy"]


async def test_a_log_that_cannot_mask_the_token_stops_it(exchange, world, runner, monkeypatch):
    def fail(job_id, token):
        raise RuntimeError("no masking")

    exchange._with = replace(exchange._with, on_secret=fail)
    assert (await refusal(exchange, runner)).reason == "exchange_failed"


async def test_a_policy_that_never_answers_is_given_up(exchange, world, runner, issuer):
    never = asyncio.Event()

    async def hang(record, pool, audience):
        await never.wait()

    world.exchange = hang
    assert (await refusal(exchange, runner)).reason == "exchange_timeout"


async def test_a_pool_that_is_gone_gives_no_token(exchange, world, runner):
    world.pool = None
    assert (await refusal(exchange, runner)).reason == "exchange_failed"


async def test_an_obligation_that_cannot_be_kept_gives_no_token(exchange, world, runner, make_decision):
    world.decision = make_decision(session_tags={"bad;key": "v"})
    error = await refusal(exchange, runner)
    assert error.reason == "session_tags_invalid"
    assert world.facts == [
        ExchangeDecided("cloud", world.decision),
        TokenRefused("cloud", "session_tags_invalid"),
    ]


async def test_a_job_past_its_deadline_gets_no_token(exchange, world, runner, clock):
    clock.step(3600)
    assert (await refusal(exchange, runner)).reason == "job_deadline_passed"


async def test_asking_too_often_is_refused_for_that_audience_only(exchange, world, runner, clock):
    for _ in range(5):
        await exchange.exchange(runner, REQUEST)
    before = list(world.facts)
    error = await refusal(exchange, runner)
    assert (error.status, error.reason, error.retry_after_seconds) == (429, "rate_limited", 2)
    assert world.facts == before
    await exchange.exchange(runner, ExchangeRequest("t", "cluster"))
    clock.step(1)
    await exchange.exchange(runner, REQUEST)


async def test_made_up_audiences_share_one_allowance(exchange, world, runner):
    reasons = [(await refusal(exchange, runner, ExchangeRequest("t", f"made-up-{i}"))).reason for i in range(7)]
    assert reasons == ["audience_unlisted"] * 5 + ["rate_limited"] * 2
    await exchange.exchange(runner, REQUEST)


async def test_many_at_once_get_a_token_each_and_stop_at_the_end(exchange, world, runner, clock):
    exchange._rate = RateLimit(per_second=1, burst=100, monotonic=clock.monotonic)
    answers = await asyncio.gather(*(exchange.exchange(runner, REQUEST) for _ in range(20)))
    assert len({answer["access_token"] for answer in answers}) == 20
    pending = [asyncio.create_task(exchange.exchange(runner, REQUEST)) for _ in range(20)]
    await asyncio.sleep(0)
    world.end()
    results = await asyncio.gather(*pending, return_exceptions=True)
    assert all(isinstance(result, ExchangeRefusedError) for result in results)
    assert len(world.secrets) == 20


async def test_tokens_are_inactive_from_the_recorded_end(exchange, world, runner, issuer, clock):
    introspection = Introspection(issuer, lambda identity: world.record if world.record.live else None)
    token = (await exchange.exchange(runner, REQUEST))["access_token"]
    seen = await introspection.introspect(token)
    assert seen["active"] is True
    assert (seen["aud"], seen["iss"], seen["job_id"]) == ("cloud", issuer.url, world.record.id)
    world.end()
    assert await introspection.introspect(token) == {"active": False}


async def test_introspection_says_no_more_than_inactive(exchange, world, runner, issuer, clock):
    records = {runner: world.record}
    introspection = Introspection(issuer, records.get)
    token = (await exchange.exchange(runner, REQUEST))["access_token"]
    caller_token, _ = issuer.mint_caller_token()
    head, body, signature = token.split(".")
    for bad in ("", "x", "a.b.c", "é", token[:-4], f"{head}.{body}.{'A' * len(signature)}", caller_token, token * 20):
        assert await introspection.introspect(bad) == {"active": False}
    for other in (replace(runner, uid="uid-2"), replace(runner, name="runner-2")):
        records.clear()
        records[other] = world.record
        assert await introspection.introspect(token) == {"active": False}
    key = replace(world.record.offer.key, attempt=2)
    records[runner] = replace(world.record, offer=replace(world.record.offer, key=key))
    assert await introspection.introspect(token) == {"active": False}
    records[runner] = world.record
    assert (await introspection.introspect(token))["active"]
    clock.step(300)
    assert await introspection.introspect(token) == {"active": False}


def test_the_rate_limits_memory_is_bounded(clock, monkeypatch):
    monkeypatch.setattr("orchestrator.identity.rate._MAX_BUCKETS", 10)
    rate = RateLimit(per_second=1, burst=2, monotonic=clock.monotonic)
    assert [rate.take(i) for i in range(10)] == [0.0] * 10
    assert rate.take("eleventh") > 0
    clock.step(1)
    assert rate.take("eleventh") == 0
    assert len(rate._buckets) == 1
