"""The gate of a cluster: every image is asked about, everything is recorded first, and nothing is guessed."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from orchestrator.daemon.promotion.deployment import CHECK_BURST, DeploymentGate, PolicyDesk, workload_facts
from orchestrator.daemon.records.audit_notes import AuditNotes
from orchestrator.errors import GiveUpError, TryAgainError
from orchestrator.model.decision import Decision, Reason, Stage, Verdict, Waiver
from orchestrator.model.job import Caller, PoolName
from orchestrator.model.pool import Pool, TrustTier
from orchestrator.server.cluster.admission_review import Workload
from orchestrator.server.cluster.pod_demands import Image
from orchestrator.server.deps import PolicyQuestion
from tests.unit.policy.samples import WORKLOAD

GOOD, BAD, WAIVED, WATCHED = (f"sha256:{word * 32}" for word in ("aa", "bb", "cc", "dd"))
EXCEPTION = f"sha256:{'ee' * 32}"


class Rules:
    """Allows GOOD, WAIVED by an exception and WATCHED with a warning; refuses all else."""

    def __init__(self) -> None:
        self.asked = []

    async def __call__(self, enquiry):
        self.asked.append(enquiry)
        decision = Decision(f"d{len(self.asked)}", enquiry.stage, Verdict.ALLOW, input_digest=GOOD, bundle_digest=GOOD)
        match enquiry.artifact_digest:
            case "sha256:" | "":
                raise AssertionError("policy is not asked about nothing")
            case digest if digest == GOOD:
                return decision
            case digest if digest == WAIVED:
                return replace(decision, waivers=(Waiver(EXCEPTION, ("scan_stale",)),))
            case digest if digest == WATCHED:
                return replace(decision, observed=(Reason("scan_missing", "no scan"),))
        return replace(decision, verdict=Verdict.DENY, reasons=(Reason("artifact_unsigned", "sign it"),))


class Notes(AuditNotes):
    """Keeps what is told, in order; refuses to when it is full."""

    def __init__(self) -> None:
        super().__init__(None)
        self.told = []
        self.full = False

    async def _note(self, kind, data, actor) -> None:
        if self.full:
            raise TryAgainError("the disk is full", reason="audit_unavailable")
        self.told.append((kind, data, actor))


@pytest.fixture
def rules():
    return Rules()


@pytest.fixture
def notes():
    return Notes()


@pytest.fixture
def gate(rules, notes):
    def make(**changes):
        given = {"cluster": "eu", "namespaces": {"shop-prod": "prod"}, "enquire": rules, "notes": notes}
        return DeploymentGate(**(given | changes))

    return make


def workload(*digests: str, **changes) -> Workload:
    images = tuple(Image(f"c{n}", f"reg.example/shop{n}@{digest}", digest) for n, digest in enumerate(digests))
    made = Workload("u", "shop-prod", "Pod", "shop", "create", "ReplicaSet/shop", "ada", "sa", images)
    return replace(made, **changes)


async def test_what_policy_lets_in_starts_and_is_recorded(gate, rules, notes):
    made = gate()
    answer = await made(workload(GOOD, privileges=("pod: hostPID",)))
    assert (answer.allowed, answer.message) == (True, "")
    (enquiry,) = rules.asked
    assert (enquiry.stage, enquiry.environment, enquiry.artifact_digest) == (Stage.DEPLOYMENT, "prod", GOOD)
    assert (enquiry.caller, enquiry.pool) == (None, None)
    assert enquiry.workload == {
        "cluster": "eu",
        "namespace": "shop-prod",
        "kind": "Pod",
        "name": "shop",
        "operation": "create",
        "owner": "ReplicaSet/shop",
        "requested_by": "ada",
        "service_account": "sa",
        "image": f"reg.example/shop0@{GOOD}",
        "images": [f"reg.example/shop0@{GOOD}"],
        "privileged": True,
        "privileges": ["pod: hostPID"],
    }
    (told,) = notes.told
    assert (told[0], told[1]["outcome"], told[1]["decisions"][0]["id"]) == ("deployment.judged", "allowed", "d1")
    assert made.counts == {True: 1, False: 0}


def test_the_sample_by_which_rules_are_tested_is_what_a_cluster_is_judged_by():
    made = workload_facts(workload(GOOD), "eu", f"reg.example/shop0@{GOOD}")
    assert {name: type(value) for name, value in made.items()} == {name: type(one) for name, one in WORKLOAD.items()}


async def test_one_bad_image_is_enough(gate, notes):
    made = gate()
    answer = await made(workload(GOOD, BAD))
    assert not answer.allowed
    assert "[artifact_unsigned] sign it" in answer.message
    assert "Pod shop of shop-prod" in answer.message
    assert [one["verdict"] for one in notes.told[0][1]["decisions"]] == ["allow", "deny"]
    assert notes.told[0][1]["reasons"] == ["artifact_unsigned"]
    assert made.counts == {True: 0, False: 1}


async def test_an_image_in_two_containers_is_asked_about_once(gate, rules):
    assert (await gate()(workload(GOOD, GOOD))).allowed
    assert len(rules.asked) == 1


async def test_of_many_images_a_few_are_judged_at_a_time(gate, rules):
    """All at once, those of one pod would hold up every job for a quarter of a second."""
    inside = most = 0

    async def slow(enquiry):
        nonlocal inside, most
        inside += 1
        most = max(most, inside)
        await asyncio.sleep(0)
        inside -= 1
        return await rules(enquiry)

    answer = await replace(gate(), enquire=slow)(workload(*(f"sha256:{number:064x}" for number in range(64))))
    assert not answer.allowed
    assert (most, len(rules.asked)) == (4, 64)


async def test_an_image_without_a_digest_is_refused_by_name_and_policy_not_asked(gate, rules, notes):
    images = (Image("app", "reg.example/shop:latest", ""), Image("side", f"s@{GOOD}", GOOD))
    answer = await gate()(workload(images=images))
    assert not answer.allowed
    assert "[image_not_pinned] container app runs 'reg.example/shop:latest'" in answer.message
    assert "side" not in answer.message
    assert not rules.asked
    assert notes.told[0][1]["reasons"] == ["image_not_pinned"]


async def test_a_pod_without_images_is_refused(gate, rules):
    assert "[image_missing]" in (await gate()(workload())).message
    assert not rules.asked


@pytest.mark.parametrize("changed", [True, False])
async def test_a_namespace_that_is_no_environment_is_refused(gate, rules, changed):
    answer = await gate()(workload(GOOD, namespace="elsewhere", changed=changed))
    assert not answer.allowed
    assert "[namespace_not_guarded]" in answer.message
    assert not rules.asked


async def test_an_update_that_changes_nothing_is_not_judged_again(gate, rules, notes):
    assert (await gate()(workload(BAD, changed=False))).allowed
    assert (rules.asked, notes.told) == ([], [])


async def test_a_dry_run_leaves_nothing_behind(gate, notes):
    spent = []

    async def spend(enquiry, decision):
        spent.append(enquiry)
        return decision

    made = gate(spend=spend)
    assert (await made(workload(WAIVED, dry_run=True))).allowed
    assert not (await made(workload(BAD, dry_run=True))).allowed
    assert (notes.told, spent, made.counts) == ([], [], {True: 0, False: 0})


async def test_nothing_is_allowed_that_is_not_recorded(gate, notes):
    notes.full = True
    answer = await gate()(workload(GOOD))
    assert not answer.allowed
    assert "[audit_unavailable]" in answer.message


async def test_nothing_starts_while_the_audit_log_is_anchored_nowhere(gate, rules):
    answer = await gate(lacking=lambda: "no anchor has the checkpoint")(workload(GOOD))
    assert not answer.allowed
    assert "[audit_unanchored]" in answer.message
    assert not rules.asked


async def test_an_exception_is_counted_before_it_is_good(gate):
    spent = []

    async def spend(enquiry, decision):
        spent.append((enquiry.artifact_digest, decision.waivers))
        return decision

    assert (await gate(spend=spend)(workload(WAIVED))).allowed
    assert spent == [(WAIVED, (Waiver(EXCEPTION, ("scan_stale",)),))]


async def test_an_exception_that_cannot_be_counted_is_no_good(gate, notes):
    async def spend(_enquiry, _decision):
        raise TryAgainError("the disk is full", reason="approvals_unavailable")

    answer = await gate(spend=spend)(workload(WAIVED))
    assert not answer.allowed
    assert "[approvals_unavailable]" in answer.message
    assert notes.told[0][1]["decisions"][0]["verdict"] == "error"
    assert "[exception_not_counted]" in (await gate()(workload(WAIVED))).message


async def test_an_exception_used_up_meanwhile_refuses(gate):
    async def spend(_enquiry, decision):
        return replace(decision, verdict=Verdict.DENY, reasons=(Reason("exception_exhausted", "used up"),))

    assert "[exception_exhausted] used up" in (await gate(spend=spend)(workload(WAIVED))).message


async def test_rules_that_are_only_watched_warn(gate):
    answer = await gate()(workload(WATCHED))
    assert answer.allowed
    assert list(answer.warnings) == ["scan_missing: no scan"]


async def test_the_desk_asks_for_whom_it_was_asked(rules):
    pool = Pool(PoolName("deploy"), "memory", TrustTier.PROTECTED, 1, "base", "none")
    desk = PolicyDesk(rules, {pool.name: pool})
    caller = Caller("https://issuer.example", "repo:shop", {"repository": "shop"})
    decision = await desk(caller, PolicyQuestion("prod", GOOD, "SHOP-1", "deploy", ("legacy",)))
    assert decision.allowed
    (asked,) = rules.asked
    assert (asked.stage, asked.environment, asked.artifact_digest) == (Stage.CHECK, "prod", GOOD)
    assert (asked.caller, asked.pool, asked.ticket, asked.secrets) == (caller, pool, "SHOP-1", ("legacy",))
    assert asked.workload is None
    with pytest.raises(GiveUpError) as refused:
        await desk(caller, PolicyQuestion("prod", GOOD, pool="other"))
    assert refused.value.reason == "pool_unknown"
    assert len(rules.asked) == 1


async def test_a_caller_may_ask_only_so_often_and_keeps_nobody_else_from_it(rules):
    now = [0.0]
    desk = PolicyDesk(rules, {}, lambda: now[0])
    busy, other = Caller("https://issuer.example", "busy"), Caller("https://issuer.example", "other")
    for _ in range(CHECK_BURST):
        assert (await desk(busy, PolicyQuestion("prod", GOOD))).allowed
    with pytest.raises(TryAgainError) as refused:
        await desk(busy, PolicyQuestion("prod", GOOD))
    assert refused.value.retry_after_seconds == pytest.approx(0.5)
    assert len(rules.asked) == CHECK_BURST
    assert (await desk(other, PolicyQuestion("prod", GOOD))).allowed
    now[0] += 0.5
    assert (await desk(busy, PolicyQuestion("prod", GOOD))).allowed
