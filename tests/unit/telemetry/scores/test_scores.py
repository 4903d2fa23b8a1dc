"""The four metrics over facts that are known exactly, and the checklist that goes red point by point."""

from __future__ import annotations

from dataclasses import replace

import pytest

from orchestrator.model.decision import Decision, Reason, Stage, Verdict, Waiver
from orchestrator.model.events import (
    ArtifactNamed,
    ArtifactReported,
    ExchangeDecided,
    Fact,
    JobAdmitted,
    JobEnded,
    JobFinished,
    JobOffered,
    JobRefused,
    PlatformJobNamed,
    ProvenanceSigned,
    SecretDelivered,
    TokenIssued,
)
from orchestrator.model.job import Caller, JobKey, JobOffer, JobSpec, PoolName
from orchestrator.model.outcome import EndReason, Outcome, Result
from orchestrator.model.platform import PlatformJob
from orchestrator.telemetry.scores import follow, metrics
from orchestrator.telemetry.scores.checklist import Standing, checklist
from orchestrator.telemetry.scores.collector import ScoresCollector
from orchestrator.telemetry.scores.follow import Follower
from orchestrator.telemetry.scores.metrics import Edge, SecretAge
from orchestrator.telemetry.scores.tally import DAY_NS, KEPT_DAYS, MAX_KEYS, DayTally

NOW = 20_000 * DAY_NS + 5
DIGEST = "sha256:" + "a" * 64


def tally():
    return DayTally.read(None, NOW)


class Story:
    """Facts of jobs, one after the other."""

    def __init__(self):
        self.tally = tally()
        self.follower = Follower(self.tally)
        self.numbers = 0

    def job(self, *events, pool="default", success=True, **spec):
        self.numbers += 1
        offer = JobOffer(
            JobKey("dispatch", f"j{self.numbers}"), JobSpec("job", PoolName(pool), "true", **spec), Caller("i", "s")
        )
        result = Result.SUCCESS if success else Result.FAILURE
        ended = JobEnded(Outcome(result, EndReason.COMPLETED if success else EndReason.EXIT_NONZERO, ""))
        facts = [Fact(offer.key.id, NOW, one) for one in (JobOffered(offer), *events, ended, JobFinished())]
        self.follower.observe(facts)
        return facts


def decision(verdict=Verdict.ALLOW, *codes, **more):
    return Decision("d", Stage.ADMISSION, verdict, tuple(Reason(code, "m") for code in codes), engine="regorus", **more)


def test_coverage_counts_decisions_that_a_rule_was_about():
    story = Story()
    story.job(JobAdmitted(decision()))
    story.job(JobRefused(decision(Verdict.DENY, "scan_stale")))
    story.job(JobRefused(decision(Verdict.DENY, "no_rule")))
    story.job(JobRefused(decision(Verdict.ERROR, "policy_error")))
    waived = (Waiver("sha256:x", ("sbom_missing",)),)
    observed = (Reason("ticket_missing", "m"),)
    story.job(ExchangeDecided("aud", decision(observed=observed, waivers=waived)))
    found = metrics.policy_coverage(story.tally, {"prod a": "enforce", "prod b": "observe"}, ["default"], NOW)
    assert (found["decisions"], found["decisions_explicit"], found["explicit_share"]) == (5, 3, 0.6)
    assert (found["rules"], found["rules_enforced"], found["enforced_share"]) == (2, 1, 0.5)
    assert (found["observed"], found["waived"]) == ({"ticket_missing": 1}, {"sbom_missing": 1})


def test_provenance_is_a_share_of_the_jobs_that_built_something():
    story = Story()
    built = ArtifactReported("app", DIGEST)
    story.job(built, ProvenanceSigned("{}", (DIGEST,)))
    story.job(built)
    story.job()
    story.job(built, success=False)
    story.job(built, ProvenanceSigned("{}", (DIGEST,)), pool="other")
    pools = metrics.policy_coverage(story.tally, None, ["default", "other", "idle"], NOW)["pools"]
    assert pools["default"] == {"jobs": 4, "jobs_building": 2, "jobs_with_provenance": 1, "provenance_share": 0.5}
    assert pools["other"]["provenance_share"] == 1
    assert pools["idle"]["provenance_share"] is None


def test_what_was_built_and_deployed_is_left_to_be_looked_up():
    story = Story()
    story.job(ArtifactReported("a", DIGEST), ArtifactReported("b", DIGEST))
    story.job(deployment_environment="prod", artifact_digest=DIGEST)
    story.job(deployment_environment="prod", artifact_digest=DIGEST, success=False)
    assert [(one.digests, one.deployed) for one in story.follower.made] == [((DIGEST,), False), ((DIGEST,), True)]


def test_what_a_platforms_job_deploys_is_counted_as_what_it_said():
    story = Story()
    named = PlatformJobNamed(PlatformJob("k", "deploy", Caller("i", "s"), deployment_environment="prod"), decision())
    story.job(named, ArtifactNamed(DIGEST), ArtifactNamed("sha256:" + "e" * 64))
    story.job(named)
    assert [(one.digests, one.deployed) for one in story.follower.made] == [((DIGEST,), True)]


def test_traceability_needs_all_three():
    counted = tally()
    whole = {"signed": True, "sbom": True, "provenance": True}
    for facts in (whole, whole | {"sbom": False}, None, whole | {"signed": "yes"}):
        metrics.count_artifact(counted, NOW, facts, deployed=True)
    metrics.count_artifact(counted, NOW, whole, deployed=False)
    found = metrics.artifact_traceability(counted, NOW)
    assert (found["deploys"], found["deploys_signed"], found["deploys_sbom"], found["deploys_provenance"]) == (
        4,
        2,
        2,
        3,
    )
    assert (found["deploys_traced_share"], found["builds_traced_share"]) == (0.25, 1)


def test_scope_is_what_is_granted_beside_what_is_used():
    story = Story()
    token = TokenIssued("jti", "aud", "sub", "RS256", "kid", 0, 1, role="deployer", rule="prod/release")
    story.job(token, token)
    edges = [Edge("repository_id=42", "prod/release", role) for role in ("deployer", "admin")]
    edges.append(Edge("repository_id=7", "prod/other", ""))
    found = metrics.permission_scope(edges, story.tally, NOW)
    assert (found["edges_granted"], found["edges_used"], found["identities"]) == (3, 1, 2)
    assert (found["widest_identity"], found["widest_edges"]) == ("repository_id=42", 2)
    assert metrics.permission_scope([], story.tally, NOW)["used_share"] is None


def test_ages():
    ages = [SecretAge("a", 10, 20), SecretAge("b", 21, 20, failing=True), SecretAge("c", None, 20, idle=True)]
    found = metrics.secret_age(ages)
    assert (found["secrets"], found["overdue"], found["oldest_seconds"]) == (3, 2, 21)
    assert found["within_limit_share"] == pytest.approx(1 / 3)
    assert metrics.secret_age([])["within_limit_share"] is None


def test_counts_survive_and_old_days_go():
    counted = tally()
    counted.add("use secret a", NOW)
    counted.add("use secret a", NOW + DAY_NS, 2)
    again = DayTally.read(counted.encode(), 0)
    assert again.total("use secret a") == 3
    assert again.total("use secret a", NOW + DAY_NS) == 2
    assert again.last_ns("use secret a") == NOW + DAY_NS
    assert list(again.keys("use secret ")) == [("a", 3)]
    again.add("x", NOW + (KEPT_DAYS + 1) * DAY_NS)
    assert again.total("use secret a") == 0
    with pytest.raises(ValueError, match="document"):
        DayTally.read(b"{}", 0)


def test_keys_are_bounded():
    counted = tally()
    for number in range(MAX_KEYS + 10):
        counted.add(f"k{number}", NOW)
    assert counted.total("other") == 10


def test_a_window_is_whole_days_and_ends_today():
    assert (NOW - metrics.window_start_ns(NOW)) // DAY_NS == metrics.WINDOW_DAYS - 1
    counted = tally()
    counted.add("deploys", metrics.window_start_ns(NOW) - 1)
    assert metrics.artifact_traceability(counted, NOW)["deploys"] == 0


def test_jobs_of_an_earlier_daemon_are_known_and_not_counted_again():
    story = Story()
    facts = story.job(SecretDelivered("a", "v"))
    fresh = Story()
    fresh.follower.adopt([facts[:-1]])
    assert fresh.tally.total("use secret a") == 0
    fresh.follower.observe(facts[-1:])
    assert (fresh.tally.total("jobs default"), fresh.tally.total(follow.SECRETLESS)) == (1, 0)


def test_a_job_without_secrets_is_one_job():
    story = Story()
    story.job()
    story.job(SecretDelivered("a", "v"))
    assert sum(count for _, count in story.tally.keys(follow.JOBS)) == 2
    assert story.tally.total(follow.SECRETLESS) == 1


def test_the_exporter_has_each_metric_and_no_sample_of_nothing():
    measured = {
        "secret_age": metrics.secret_age([SecretAge("a", 30, 20)]),
        "permission_scope": metrics.permission_scope([], tally(), NOW),
        "artifact_traceability": metrics.artifact_traceability(tally(), NOW),
        "policy_coverage": metrics.policy_coverage(tally(), None, ["default"], NOW),
    }
    samples = {
        (sample.name, *sample.labels.values()): sample.value
        for family in ScoresCollector(lambda: measured).collect()
        for sample in family.samples
    }
    assert samples["orchestrator_secret_age_seconds", "a"] == 30
    assert samples["orchestrator_secret_overdue", "a"] == 1
    assert samples["orchestrator_permission_edges", "granted"] == 0
    assert samples["orchestrator_artifacts", "deploys", "traced"] == 0
    assert not any(name[0].endswith("_ratio") for name in samples)


GOOD = Standing(
    secretless_share=1.0, secrets=0, secrets_overdue=0, secrets_failing=0, secrets_by_hand=0,
    longest_token_seconds=900, longest_session_seconds=3600, environments=("staging", "prod"), issuers=("", "prod"),
    bundle_digest="sha256:x", bundle_tests=7, deploys_traced_share=1.0, pools=2, pools_proving_egress=2,
    audit_enabled=True, audit_healthy=True, anchors=1,
)  # fmt: skip


def test_all_is_met():
    assert [(point["number"], point["state"], point["fix"]) for point in checklist(GOOD)] == [
        (number, "met", "") for number in range(1, 9)
    ]
    assert all(point["evidence"] for point in checklist(GOOD))


@pytest.mark.parametrize(
    ("number", "change", "state"),
    [
        (1, {"secrets": 1, "secretless_share": 0.5}, "partly"),
        (2, {"longest_session_seconds": 43200}, "partly"),
        (3, {"bundle_tests": 0}, "unmet"),
        (3, {"bundle_tests": None}, "unknown"),
        (4, {"deploys_traced_share": 0.0}, "unmet"),
        (4, {"deploys_traced_share": 0.9}, "partly"),
        (4, {"deploys_traced_share": None}, "unknown"),
        (5, {"pools_proving_egress": 1}, "partly"),
        (6, {"environments": (), "issuers": ()}, "unmet"),
        (6, {"issuers": ("",)}, "partly"),
        (7, {"audit_enabled": False, "audit_healthy": False}, "unmet"),
        (7, {"anchors": 0}, "partly"),
        (8, {"secrets": 2, "secrets_overdue": 1, "secretless_share": 1.0}, "unmet"),
        (8, {"secrets": 2, "secrets_by_hand": 1, "secretless_share": 1.0}, "partly"),
    ],
)
def test_one_broken_makes_that_point_red_and_no_other(number, change, state):
    points = {point["number"]: point for point in checklist(replace(GOOD, **change))}
    assert points[number]["state"] == state
    assert points[number]["fix"]
    assert all(point["state"] == "met" for at, point in points.items() if at != number)


def test_what_is_to_be_done_about_the_log_is_what_it_lacks():
    def fix(**change):
        return next(point["fix"] for point in checklist(replace(GOOD, **change)) if point["number"] == 7)

    assert fix(anchors=0) == "anchor its checkpoints elsewhere"
    assert fix(audit_healthy=False) == "see in the daemon's log why the audit log cannot be written"
    off = {"audit_enabled": False, "audit_healthy": False, "anchors": 0}
    assert fix(**off) == "switch the audit log on, and anchor its checkpoints elsewhere"
