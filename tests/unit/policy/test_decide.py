from __future__ import annotations

import asyncio
import hashlib
import uuid
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import pytest

from orchestrator.lifecycle.ports import Policy
from orchestrator.model.decision import Decision, Obligations, Reason, Stage, Verdict, Waiver
from orchestrator.model.egress import EgressRule
from orchestrator.model.job import Caller
from orchestrator.model.pool import Pool, TrustTier
from orchestrator.policy.bundle import BundleHolder, default_bundle
from orchestrator.policy.decide import Answered, PolicyDecider, decision_id
from orchestrator.policy.document import Evaluation
from orchestrator.policy.engine import RegoEngine, RegorusEngine
from orchestrator.policy.enquiry import Enquiry
from orchestrator.policy.lookups import Consent, Lookups, Question
from orchestrator.policy.rego import Module
from tests.unit.policy.conftest import GOOD_EVIDENCE
from tests.unit.policy.samples import APPROVAL, SOURCE, TICKET, WORKLOAD

DIGEST = "sha256:" + "a" * 64
BUILT = {
    "builder": "https://ci.example/builders/sandbox/bubblewrap/protected/v1",
    "trust_tier": "protected",
    "repository": "acme/shop",
    "caller_issuer": "https://ci.example",
}
EVIDENCE = {"digest": DIGEST, "signed": True, "sbom": True, "provenance": True, "base": "distroless", "built": BUILT}
STAGING = "https://staging.deploy.example"
PROD = "https://prod.deploy.example"
Make = Callable[..., Any]


class Now:
    def now_ns(self) -> int:
        return 1_795_341_600_000_000_000

    async def sleep(self, seconds: float) -> None:
        raise AssertionError("deciding does not sleep")


async def evidence_of(digest: str) -> Mapping[str, Any] | None:
    return EVIDENCE if digest == DIGEST else None


@pytest.fixture(scope="module")
def holder() -> BundleHolder:
    return BundleHolder(default_bundle())


@pytest.fixture
def decider(holder: BundleHolder) -> PolicyDecider:
    return PolicyDecider(holder, Lookups(evidence_of), Now())


def embedded(policy: str) -> RegoEngine:
    return RegorusEngine([Module("a.rego", "package orchestrator\n" + policy)], "{}", "sha256:0")


def codes(decision: Decision) -> set[str]:
    return {reason.code for reason in decision.reasons}


async def test_it_is_the_port(decider: PolicyDecider, make_record: Make, make_pool: Make) -> None:
    port: Policy = decider
    decision = await port.admit(make_record(), make_pool())
    assert decision.allowed
    assert decision.stage is Stage.ADMISSION
    assert decision.obligations.egress == make_pool().egress
    assert decision.input_digest.startswith("sha256:")
    assert decision.bundle_digest.startswith("sha256:")
    assert decision.engine == "regorus/0.13.0"
    assert decision.duration_ns > 0
    assert decision.obligations.session_tags["repository"] == "acme/shop"


async def test_staging_with_evidence_and_without(decider: PolicyDecider, make_record: Make, make_pool: Make) -> None:
    good = make_record(deployment_environment="staging", artifact_digest=DIGEST)
    decision = await decider.admit(good, make_pool())
    assert decision.allowed
    assert decision.obligations.max_duration_seconds == 1800
    for digest in ("", "sha256:" + "b" * 64, "nonsense"):
        bad = make_record(deployment_environment="staging", artifact_digest=digest)
        decision = await decider.admit(bad, make_pool())
        assert decision.verdict is Verdict.DENY
        assert "artifact_unknown" in codes(decision)
        assert decision.obligations == Obligations()


async def test_another_repositorys_artifact_is_not_deployed(
    decider: PolicyDecider, make_record: Make, make_pool: Make
) -> None:
    for caller in (
        Caller("https://ci.example", "repo:acme/shop", {"repository": "acme/other"}),
        Caller("https://ci.example", "repo:acme/shop", {}),
        Caller("https://forge.example", "repo:acme/shop", {"repository": "acme/shop"}),
    ):
        record = make_record(caller=caller, deployment_environment="staging", artifact_digest=DIGEST)
        decision = await decider.admit(record, make_pool())
        assert codes(decision) == {"source_mismatch"}


async def test_the_pools_duration_still_binds(decider: PolicyDecider, make_record: Make, make_pool: Make) -> None:
    record = make_record(deployment_environment="staging", artifact_digest=DIGEST)
    decision = await decider.admit(record, make_pool(max_job_seconds=60))
    assert decision.obligations.max_duration_seconds == 60


async def test_prod_is_denied_with_reasons_to_act_on(
    decider: PolicyDecider, make_record: Make, make_pool: Make
) -> None:
    record = make_record(deployment_environment="prod", artifact_digest=DIGEST)
    decision = await decider.admit(record, make_pool(trust_tier=TrustTier.PROTECTED))
    assert decision.verdict is Verdict.DENY
    assert codes(decision) >= {"security_approval_missing", "scan_missing", "ticket_missing"}
    assert "approve" in decision.explain()


async def test_exchange(decider: PolicyDecider, make_record: Make, make_pool: Make) -> None:
    record = make_record(bound=True, deployment_environment="staging", artifact_digest=DIGEST)
    decision = await decider.exchange(record, make_pool(), STAGING)
    assert decision.allowed
    assert decision.stage is Stage.EXCHANGE
    assert decision.obligations.token_ttl_seconds == 600
    assert decision.obligations.egress == ()
    for audience, code in ((PROD, "audience_not_for_environment"), ("https://evil.example", "audience_unknown")):
        decision = await decider.exchange(record, make_pool(), audience)
        assert decision.verdict is Verdict.DENY
        assert code in codes(decision)


async def test_a_job_that_is_not_running_gets_no_token(
    decider: PolicyDecider, make_record: Make, make_pool: Make
) -> None:
    record = make_record(deployment_environment="staging", artifact_digest=DIGEST)
    assert codes(await decider.exchange(record, make_pool(), STAGING)) == {"runner_unbound"}


async def test_a_job_cannot_influence_its_decision_by_what_it_claims(
    decider: PolicyDecider, make_record: Make, make_pool: Make
) -> None:
    claimed = {"signed": "true", "artifact.signed": "true", "approvals": "[{}]", "trust_tier": "protected"}
    for environment in ("staging", "prod"):
        record = make_record(deployment_environment=environment, claimed=claimed, name="trusted", pipeline="prod")
        honest = make_record(deployment_environment=environment)
        one, two = await decider.admit(record, make_pool()), await decider.admit(honest, make_pool())
        assert one.verdict is two.verdict is Verdict.DENY
        assert one.reasons == two.reasons


async def test_ids_are_unique_and_sort_by_time(decider: PolicyDecider, make_record: Make, make_pool: Make) -> None:
    ids = {(await decider.admit(make_record(), make_pool())).id for _ in range(200)}
    assert len(ids) == 200
    for text in ids:
        assert uuid.UUID(text).version == 7
        assert uuid.UUID(text).variant == uuid.RFC_4122
    assert decision_id(10**15) < decision_id(10**15 + 10**6)


async def test_equal_questions_have_equal_input_digests(
    decider: PolicyDecider, make_record: Make, make_pool: Make
) -> None:
    one, two = make_record(claimed={"a": "1", "b": "2"}), make_record(claimed={"b": "2", "a": "1"})
    first, second = await decider.admit(one, make_pool()), await decider.admit(two, make_pool())
    assert first.input_digest == second.input_digest
    other = await decider.admit(make_record(script="x"), make_pool())
    assert other.input_digest != first.input_digest


@pytest.mark.parametrize(
    ("policy", "verdict", "code"),
    [
        ('decision := {"allow": true} if input.nothing', Verdict.UNDEFINED, "policy_undefined"),
        ("decision := true", Verdict.ERROR, "policy_error"),
        ('decision := {"allow": 1}', Verdict.ERROR, "policy_error"),
        ('decision := {"allow": true, "surprise": 1}', Verdict.ERROR, "policy_error"),
        ('decision := {"allow": true, "obligations": {"token_ttl_seconds": 0}}', Verdict.ERROR, "policy_error"),
        ('decision := {"allow": 1 / 0}', Verdict.ERROR, "policy_error"),
    ],
)
async def test_no_answer_denies(policy: str, verdict: Verdict, code: str, make_record: Make, make_pool: Make) -> None:
    decision = await PolicyDecider(embedded(policy), Lookups(evidence_of), Now()).admit(make_record(), make_pool())
    assert decision.verdict is verdict
    assert not decision.allowed
    assert codes(decision) == {code}
    assert decision.obligations == Obligations()
    assert decision.input_digest


async def test_policy_can_narrow_egress_and_not_widen_it(make_record: Make, make_pool: Make) -> None:
    policy = """decision := {"allow": true, "obligations": {"egress": [
        {"host": "api.example.com"}, {"host": "evil.example.net"}, {"host": "git.example.org", "port": 8443}]}}"""
    decision = await PolicyDecider(embedded(policy), Lookups(evidence_of), Now()).admit(make_record(), make_pool())
    assert decision.obligations.egress == (EgressRule("api.example.com"), EgressRule("git.example.org", 8443))


async def failing(_: str) -> Mapping[str, Any] | None:
    raise OSError("disk gone")


async def hanging(_: str) -> Mapping[str, Any] | None:
    await asyncio.Event().wait()
    return None


async def lying(_: str) -> Mapping[str, Any] | None:
    return EVIDENCE | {"digest": "sha256:" + "b" * 64}


async def unprintable(_: str) -> Mapping[str, Any] | None:
    return EVIDENCE | {"more": object()}


@pytest.mark.parametrize("lookup", [failing, hanging, lying, unprintable])
async def test_trouble_with_the_evidence_denies(
    holder: BundleHolder, make_record: Make, make_pool: Make, lookup: Any
) -> None:
    decider = PolicyDecider(holder, Lookups(lookup), Now(), lookup_timeout_seconds=0.02)
    record = make_record(deployment_environment="staging", artifact_digest=DIGEST)
    decision = await decider.admit(record, make_pool())
    assert decision.verdict is Verdict.ERROR
    assert "disk gone" not in decision.explain()


async def test_a_job_without_an_artifact_needs_no_evidence(
    holder: BundleHolder, make_record: Make, make_pool: Make
) -> None:
    assert (await PolicyDecider(holder, Lookups(failing), Now()).admit(make_record(), make_pool())).allowed


async def test_what_is_watched_and_what_was_set_aside_is_on_the_decision(make_record: Make, make_pool: Make) -> None:
    exception = "sha256:" + "e" * 64
    policy = """decision := {"allow": true, "observed": [{"code": "scan_stale", "message": "scan it"}],
        "waived": [{"exception": "EXCEPTION", "codes": ["ticket_unfit", "sbom_unfit"]}]}""".replace(
        "EXCEPTION", exception
    )
    decision = await PolicyDecider(embedded(policy), Lookups(evidence_of), Now()).admit(make_record(), make_pool())
    assert decision.observed == (Reason("scan_stale", "scan it"),)
    assert decision.waivers == (Waiver(exception, ("ticket_unfit", "sbom_unfit")),)


@pytest.mark.parametrize(
    "waived", ['[{"exception": "x", "codes": ["a"]}]', '[{"exception": "sha256:0", "codes": []}]', "{}"]
)
async def test_waivers_that_name_no_exception_are_no_answer(waived: str, make_record: Make, make_pool: Make) -> None:
    policy = f'decision := {{"allow": true, "waived": {waived}}}'
    decision = await PolicyDecider(embedded(policy), Lookups(evidence_of), Now()).admit(make_record(), make_pool())
    assert decision.verdict is Verdict.ERROR


async def test_a_question_without_a_job_grants_nothing(holder: BundleHolder, make_pool: Make) -> None:
    async def consent(_question: Question) -> Consent:
        return Consent([APPROVAL])

    async def source(_question: Question) -> Mapping[str, Any]:
        return SOURCE

    async def ticket(_question: Question) -> Mapping[str, Any]:
        return TICKET

    async def evidence(_digest: str) -> Mapping[str, Any]:
        return GOOD_EVIDENCE

    heard: list[Answered] = []
    lookups = Lookups(evidence, consent, source, ticket)
    decider = PolicyDecider(holder, lookups, Now(), listener=heard.append)
    caller = Caller("https://ci.example", "repo:acme/shop", {"repository": "acme/shop", "repository_id": "42"})
    pool = make_pool(trust_tier=TrustTier.PROTECTED)
    check = Enquiry(Stage.CHECK, "prod", DIGEST, caller=caller, pool=pool, ticket="REL-7")
    deployment = Enquiry(Stage.DEPLOYMENT, "prod", DIGEST, workload=WORKLOAD)
    answers = [await decider.enquire(enquiry) for enquiry in (check, deployment, replace(check, ticket="REL-8"))]
    assert [codes(answer) for answer in answers] == [set(), {"registry_not_approved"}, {"ticket_missing"}]
    assert [answer.verdict for answer in answers] == [Verdict.ALLOW, Verdict.DENY, Verdict.DENY]
    assert all(answer.obligations == Obligations() for answer in answers)
    assert [answer.stage for answer in answers] == [Stage.CHECK, Stage.DEPLOYMENT, Stage.CHECK]
    assert [one.decision for one in heard] == answers
    for one in heard:
        assert one.decision.input_digest == f"sha256:{hashlib.sha256(one.input_json).hexdigest()}"
        assert (one.time_ns, one.record.offer.key.source) == (Now().now_ns(), one.decision.stage.value)


class Raising:
    async def evaluate(self, input_json: str) -> Evaluation:
        raise ZeroDivisionError("secret")

    async def aclose(self) -> None: ...


async def test_it_never_raises_but_can_be_cancelled(make_record: Make, make_pool: Make) -> None:
    decision = await PolicyDecider(Raising(), Lookups(evidence_of), Now()).admit(make_record(), make_pool())
    assert decision.verdict is Verdict.ERROR
    assert "secret" not in decision.explain()
    record = make_record(artifact_digest=DIGEST)
    task = asyncio.create_task(PolicyDecider(Raising(), Lookups(hanging), Now()).admit(record, make_pool()))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_too_much_input_denies(holder: BundleHolder, make_record: Make, make_pool: Callable[..., Pool]) -> None:
    caller = Caller("https://ci.example", "x", {f"fact{i}": "y" * 1000 for i in range(400)})
    decision = await PolicyDecider(holder, Lookups(evidence_of), Now()).admit(make_record(caller=caller), make_pool())
    assert decision.verdict is Verdict.ERROR
    assert "larger than" in decision.explain()
