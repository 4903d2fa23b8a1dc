"""Job views from facts: every shape is the documented one, at every moment of a job's life."""

from __future__ import annotations

import pytest

from orchestrator.journal.port import JobSummary
from orchestrator.model import events
from orchestrator.model.decision import Decision, Obligations, Reason, Stage, Verdict, Waiver
from orchestrator.model.egress import EgressProof, EgressRule
from orchestrator.model.events import Fact
from orchestrator.model.job import Caller, JobId, JobKey, JobOffer, JobSpec, PoolName
from orchestrator.model.outcome import EndReason, Outcome, Result
from orchestrator.model.phase import Phase
from orchestrator.model.pool import Pool, TrustTier
from orchestrator.model.record import begin, fold
from orchestrator.model.runner import runner_name
from orchestrator.server import views
from orchestrator.server.runner.work import RunnerEndpoints, work_document
from orchestrator.server.schemas import MAX_TIMEOUT_SECONDS
from orchestrator.server.shapes import JobSummaryView, JobView, PoolView
from orchestrator.testing import stories

OFFER = JobOffer(
    JobKey("dispatch", "a" * 32),
    JobSpec("build", PoolName("default"), "hidden-script", {"K": "hidden-value"}, timeout_seconds=60),
    Caller("https://i.example", "alice", {"repository": "app"}),
)
RUNNER = runner_name(OFFER.key.id)
ALLOW = Decision("d1", Stage.ADMISSION, Verdict.ALLOW, obligations=Obligations(egress=(EgressRule("a.example"),)))
DENY = Decision(
    "d2",
    Stage.EXCHANGE,
    Verdict.DENY,
    (Reason("not_yours", "it is not yours"),),
    observed=(Reason("watched", "it would be refused"),),
    waivers=(Waiver("sha256:e", ("scan_stale",)),),
)
OUTCOME = Outcome(Result.FAILURE, EndReason.EXIT_NONZERO, "exit 3", 3)
LIFE: tuple[events.Event, ...] = (
    events.JobOffered(OFFER),
    events.JobAdmitted(ALLOW),
    events.JobWaited(events.WaitReason.POOL_FULL, "2 of 2"),
    events.ProvisionStarted(RUNNER, "spec"),
    events.RunnerCreated(RUNNER, "uid-1"),
    events.RunnerBound(RUNNER, "uid-1", EgressProof(("metadata",))),
    events.ExchangeDecided("cloud", DENY),
    events.TokenRefused("cloud", "not_yours"),
    events.TokenIssued("j", "store", "sub", "RS256", "k", 1, 2, ("env",)),
    events.EgressDecided("a.example", 443, "tls", True, "a.example"),
    events.ArtifactReported("w.whl", "sha256:" + "0" * 64),
    events.JobCancelRequested("bob", "why"),
    events.AlarmRaised("second_claim", "x"),
    events.LogClosed(1, 2, 3),
    events.JobEnded(OUTCOME),
    events.ProvenanceSigned("{}", ("sha256:0",)),
    events.RunnerDeleted(RUNNER),
    events.JobFinished(("left",)),
)
FACTS = [Fact(OFFER.key.id, 1_767_225_600_123_456_789 + n, event, n + 1) for n, event in enumerate(LIFE)]


@pytest.mark.parametrize("count", range(1, len(FACTS) + 1))
def test_the_view_has_its_documented_shape_at_every_moment(count):
    view = views.job_view(FACTS[:count], "t" * 32)
    assert JobView.model_validate(view).phase is fold(FACTS[:count]).phase
    assert "hidden-" not in str(view)


def test_the_whole_life_is_told():
    view = views.job_view(FACTS, "t" * 32)
    assert [(decision["id"], decision["audience"]) for decision in view["decisions"]] == [("d1", ""), ("d2", "cloud")]
    assert view["decisions"][0]["obligations"]["egress"] == ["tls://a.example:443"]
    assert (view["decisions"][0]["observed"], view["decisions"][0]["waivers"]) == ([], [])
    assert view["decisions"][1]["observed"] == [{"code": "watched", "message": "it would be refused"}]
    assert view["decisions"][1]["waivers"] == [{"exception": "sha256:e", "codes": ["scan_stale"]}]
    assert view["decisions"][1]["reasons"] == [{"code": "not_yours", "message": "it is not yours"}]
    assert view["tokens"][0]["jti"] == "j"
    assert view["token_refusals"] == [
        {"audience": "cloud", "reason": "not_yours", "role": "", "rule": "", "detail": "", "jti": ""}
    ]
    assert view["egress"][0]["host"] == "a.example"
    assert view["artifacts"][0]["name"] == "w.whl"
    assert view["provenance"] == [{"envelope": "{}", "digests": ("sha256:0",)}]
    assert view["alarms"] == [{"alarm": "second_claim", "detail": "x"}]
    assert view["leftovers"] == ["left"]
    assert view["log"] == {"bytes_kept": 1, "bytes_dropped": 2, "secrets_masked": 3}
    assert view["cancel"] == {"by": "bob", "reason": "why"}
    assert view["runner"] == {"name": RUNNER, "uid": "uid-1"}
    assert (view["result"], view["reason"], view["exit_code"]) == ("failure", "exit_nonzero", 3)
    assert view["offered_at"] == "2026-01-01T00:00:00.123456Z"


def test_a_third_party_s_token_says_whether_it_was_made_and_ended():
    issued = [events.TokenIssued(j, "github:acme", "s", "", "", 1, 2, kind="github_installation") for j in ("a", "b")]
    after = (
        *issued,
        events.TokenRefused("github:acme", "github_refused", jti="a"),
        events.CredentialRevoked("b", "github_installation"),
    )
    more = [Fact(OFFER.key.id, FACTS[7].at_ns + n, event, 8 + n) for n, event in enumerate(after)]
    other, not_made, ended = views.job_view([*FACTS[:7], FACTS[8], *more], "t")["tokens"]
    assert not {"not_made", "revoked_at"} & set(other)
    assert (not_made["not_made"], "revoked_at" in not_made) == (True, False)
    assert (ended["revoked_at"], "not_made" in ended) == (views.timestamp(more[-1].at_ns), False)


def test_waiting_has_a_reason_until_it_is_over():
    assert views.job_view(FACTS[:3], "t")["wait"] == {"reason": "pool_full", "detail": "2 of 2"}
    assert views.job_view(FACTS[:4], "t")["wait"] is None


def test_the_line_that_compaction_keeps_is_a_view():
    line = events.JobCompacted("build", "default", OUTCOME, 1_767_225_600_000_000_000, 1_767_225_700_000_000_000)
    view = JobView.model_validate(views.job_view([Fact(OFFER.key.id, 1, line, 9)], "t"))
    assert (view.compacted, view.phase, view.result, view.attempt) == (True, Phase.FINISHED, Result.FAILURE, 1)
    assert (view.source, view.caller.subject) == ("dispatch", "")


def test_a_flood_of_egress_is_cut_and_counted():
    flood = [Fact(OFFER.key.id, 1, LIFE[9], 100 + n) for n in range(1200)]
    view = views.job_view([*FACTS[:6], *flood], "t")
    assert (len(view["egress"]), view["egress_omitted"]) == (1000, 200)


@pytest.mark.parametrize("story", list(stories.PLATFORM))
def test_a_job_that_its_platform_names_has_its_documented_shape_at_every_moment(story):
    facts = stories.facts_for(stories.platform_offer(), stories.PLATFORM[story])
    for count in range(1, len(facts) + 1):
        JobView.model_validate(views.job_view(facts[:count], "t" * 32))


@pytest.mark.parametrize(
    ("story", "states"),
    [
        ("completed_after_exit", ["expected"] * 5 + ["awaited", "named", "named", "completed"]),
        ("refused", ["expected"] * 5 + ["awaited", "refused", "refused"]),
    ],
)
def test_what_is_known_of_the_platforms_job_is_told(story, states):
    facts = stories.facts_for(stories.platform_offer(), stories.PLATFORM[story])
    shown = [views.job_view(facts[:count], "t" * 32) for count in range(1, len(states) + 1)]
    assert [view["platform_job"]["state"] for view in shown] == states
    assert {view["name"] for view in shown[:6]} == {"linux"}
    last = views.job_view(facts, "t" * 32)
    assert (last["name"], last["pipeline"], last["platform_job"]["key"]) == (
        "unit tests",
        "ci.yml",
        stories.PLATFORM_JOB.key,
    )
    assert last["caller"]["facts"] == {"repository": "octo/site"}
    assert [decision["verdict"] for decision in last["decisions"]] == [
        "allow",
        "deny" if story == "refused" else "allow",
    ]
    if story != "refused":
        assert (last["platform_job"]["result"], last["platform_job"]["told_by"]) == ("succeeded", "message")


@pytest.mark.parametrize("fact", FACTS, ids=lambda fact: type(fact.event).__name__)
def test_every_fact_can_be_shown_without_the_script(fact):
    view = views.event_view(fact)
    assert (view["seq"], view["kind"], view["job_id"]) == (fact.seq, type(fact.event).__name__, fact.job_id)
    assert "hidden-" not in str(view)


def test_summary_and_pool_have_their_documented_shapes():
    line = JobSummary(JobId("a.b.1"), "n", "p", "", "c", Phase.QUEUED, 1_767_225_600_000_000_000)
    assert JobSummaryView.model_validate(views.summary_view(line, None)).finished_at is None
    pool = Pool(PoolName("p"), "sandbox", TrustTier.STANDARD, 4, "b", "i", (EgressRule("a.example"),))
    assert PoolView.model_validate(views.pool_view(pool, 1, 2)).egress == ["tls://a.example:443"]


@pytest.mark.parametrize(
    ("wish", "obligation", "expected"), [(0, None, 600), (60, None, 60), (MAX_TIMEOUT_SECONDS, None, 600), (60, 30, 30)]
)
def test_work_carries_the_shortest_limit_and_no_credential(wish, obligation, expected):
    from dataclasses import replace

    record = begin(FACTS[0])
    spec = replace(OFFER.spec, timeout_seconds=wish)
    record = replace(record, offer=replace(OFFER, spec=spec), obligations=Obligations(max_duration_seconds=obligation))
    pool = Pool(PoolName("p"), "sandbox", TrustTier.STANDARD, 4, "b", "i", max_job_seconds=600)
    work = work_document(record, pool, RunnerEndpoints(), "00-tp")
    assert work["job"]["timeout_seconds"] == expected
    assert (work["traceparent"], work["otlp_endpoint"]) == ("00-tp", "")
    assert work["exchange_url"] == "http://127.0.0.1:3129/runner/v1/token"
