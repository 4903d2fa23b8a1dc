"""What the audit log is told of a job: the four that every record answers, and no value that a job has chosen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.evidence.audit.egress_tally import MAX_ROWS
from orchestrator.evidence.audit.facts import JobFacts
from orchestrator.evidence.audit.keyed import KeyedHash
from orchestrator.evidence.audit.record import MAX_RECORD_BYTES, AuditEvent, prepare
from orchestrator.model import events
from orchestrator.model.decision import Decision, Obligations, Reason, Stage, Verdict, Waiver
from orchestrator.model.egress import EgressProof, EgressRule
from orchestrator.model.events import Event, Fact
from orchestrator.model.job import Caller, JobKey, JobOffer, JobSpec, PoolName
from orchestrator.model.outcome import EndReason, Outcome, Result
from orchestrator.model.platform import MAX_KEY, PlatformJob
from orchestrator.model.runner import RunnerName

KEYED = KeyedHash(b"k" * 32)
KEY = JobKey("dispatch", "a")
JOB = KEY.id
CALLER = Caller(
    "https://issuer.test",
    "repo:octo/app",
    {"workflow": "ci.yml", "job_workflow_ref": "octo/app/ci.yml@main", "sha": "c0ffee", "repository_id": "42"},
)
SPEC = JobSpec("unit tests", PoolName("default"), "echo $TOKEN", {"TOKEN": "s3cret"}, 60, "staging", pipeline="mine")
OFFER = events.JobOffered(JobOffer(KEY, SPEC, CALLER, "f" * 64))
RULE = EgressRule("cache.example")
DECISION = Decision(
    "d-1", Stage.ADMISSION, Verdict.ALLOW, (Reason("ok", "because of repo octo/app"),), Obligations((RULE,)),
    "sha256:i", "sha256:b", "regorus",
)  # fmt: skip
DENIED = replace(DECISION, id="d-2", verdict=Verdict.DENY)
ADMITTED = events.JobAdmitted(DECISION)
PLATFORM_CALLER = Caller("https://github.test", "repo:other/app", {"workflow_ref": "other/x.yml@r", "sha": "beef"})
NAMED = events.PlatformJobNamed(PlatformJob("gh/1/2/3/4", "a job", PLATFORM_CALLER, "x", "prod", "oidc"), DENIED)
ISSUED = events.TokenIssued("jti-1", "aws", "job:a", "RS256", "kid", 1, 2, ("stage",), "role", "prod/app", "sha256:t")
FINISHED = events.JobFinished()
CALLER_ID = KEYED.of("caller", CALLER.id)


def facts(*of: Event, start: int = 1) -> list[Fact]:
    return [Fact(JOB, 1000 + seq, event, seq) for seq, event in enumerate(of, start)]


def made() -> JobFacts:
    return JobFacts(KEYED, lambda job_id: f"trace-of-{job_id}")


def told(*of: Event) -> list[AuditEvent]:
    return made().told(facts(*of))


def one(*of: Event) -> AuditEvent:
    return told(*of)[-1]


def test_an_admission_says_who_wanted_what_and_why_it_was_allowed() -> None:
    [event] = told(OFFER, ADMITTED)
    assert (event.kind, event.job_id, event.trace_id) == ("job.admitted", JOB, f"trace-of-{JOB}")
    assert (event.at_ns, event.journal_seq, event.actor) == (1002, 2, CALLER_ID)
    assert (event.workflow, event.commit, event.environment, event.outcome) == (
        *("octo/app/ci.yml@main", "c0ffee", "staging", "allow"),
    )
    assert event.data == {
        "source": "dispatch",
        "attempt": 1,
        "pool": "default",
        "issuer": "https://issuer.test",
        "subject": KEYED.of("subject", "repo:octo/app"),
        "name": KEYED.of("name", "unit tests"),
        "work": KEYED.of("work", "f" * 64),
        "artifact_digest": "",
        "repository_id": "42",
        "decision": {
            "id": "d-1",
            "verdict": "allow",
            "reasons": ["ok"],
            "observed": [],
            "waived": [],
            "input_digest": "sha256:i",
            "bundle_digest": "sha256:b",
            "engine": "regorus",
        },
        "egress": ["tls://cache.example:443"],
        "egress_rules": 1,
        "caller": CALLER_ID,
    }


def test_a_job_without_verified_facts_still_has_the_four() -> None:
    bare = replace(OFFER.offer, caller=Caller("i", "s"))
    event = one(events.JobOffered(bare), ADMITTED)
    assert (event.workflow, event.commit) == (KEYED.of("pipeline", "mine"), "")
    nothing = replace(bare, spec=replace(SPEC, pipeline="", deployment_environment=""))
    event = one(events.JobOffered(nothing), ADMITTED)
    assert (event.workflow, event.commit, event.environment, event.outcome) == ("", "", "", "allow")


def test_from_its_naming_on_a_record_is_of_the_named_job() -> None:
    admitted, named, refused, ended = told(
        OFFER, ADMITTED, NAMED, events.JobRefused(DENIED), events.JobEnded(_outcome())
    )
    assert (admitted.workflow, admitted.outcome) == ("octo/app/ci.yml@main", "allow")
    for event in (named, refused, ended):
        assert (event.workflow, event.commit, event.environment) == ("other/x.yml@r", "beef", "prod")
        assert event.outcome == "deny"
    assert named.actor == KEYED.of("caller", PLATFORM_CALLER.id)
    assert named.data["platform_key"] == "gh/1/2/3/4"
    assert named.data["proof"] == "oidc"


def _outcome() -> Outcome:
    return Outcome(Result.FAILURE, EndReason.EXIT_NONZERO, "exit 3 of s3cret", 3)


@pytest.mark.parametrize(
    ("event", "kind", "data"),
    [
        (events.JobEnded(_outcome()), "job.ended", {"result": "failure", "reason": "exit_nonzero", "exit_code": 3}),
        (
            events.RunnerBound(RunnerName("r-1"), "uid", EgressProof(("dns",), ("x",))),
            "runner.bound",
            {"runner": "r-1", "runner_uid": "uid", "egress_denied": ["dns"], "egress_reached": ["x"]},
        ),
        (
            events.TokenRefused("aws", "trust_no_grant", "role", "prod/app", "ref is main"),
            "token.refused",
            {"audience": "aws", "reason": "trust_no_grant", "role": "role", "rule": "prod/app"},
        ),
        (events.ArtifactNamed("sha256:a"), "artifact.named", {"artifact": "sha256:a"}),
        (events.CredentialRevoked("j", "github"), "credential.revoked", {"jti": "j", "kind": "github"}),
        (events.ReceiptSigned("{}", "sha256:r"), "receipt.signed", {"digest": "sha256:r"}),
        (events.AlarmRaised("second_claim", "by 10.0.0.1"), "alarm.raised", {"alarm": "second_claim"}),
        (
            events.ProvenanceSigned("{}", ("sha256:a",)),
            "artifact.signed",
            {
                "artifacts": ["sha256:a"],
                "artifact_count": 1,
                "envelope": "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a",
            },
        ),
    ],
)
def test_what_happened_later_is_told_by_ids_and_verdicts(event: Event, kind: str, data: dict[str, Any]) -> None:
    found = one(OFFER, ADMITTED, event)
    assert found.kind == kind
    assert found.data == {**data, "caller": CALLER_ID}
    assert found.outcome == "allow"


def test_a_token_is_told_by_everything_but_itself() -> None:
    decided, issued = told(OFFER, events.ExchangeDecided("aws", DENIED), ISSUED)
    assert decided.data["decision"] == {
        "id": "d-2", "verdict": "deny", "reasons": ["ok"], "observed": [], "waived": [], "input_digest": "sha256:i",
        "bundle_digest": "sha256:b", "engine": "regorus",
    }  # fmt: skip
    assert (decided.outcome, issued.kind) == ("deny", "token.issued")
    assert set(issued.data) == {field.name for field in fields(ISSUED)} | {"caller"}
    assert issued.data["subject"] == KEYED.of("token_subject", "job:a")
    assert issued.data["session_tags"] == ["stage"]


def test_what_is_only_watched_and_what_was_set_aside_is_told_by_codes() -> None:
    observed = (Reason("scan_stale", "a sentence"),)
    waivers = (Waiver("sha256:e", ("scan_missing", "ticket_unfit")), Waiver("sha256:f", ("sbom_unfit",)))
    decision = replace(DECISION, observed=observed, waivers=waivers)
    found = one(OFFER, events.JobAdmitted(decision)).data["decision"]
    assert found["observed"] == ["scan_stale"]
    assert found["waived"] == ["sha256:e scan_missing", "sha256:e ticket_unfit", "sha256:f sbom_unfit"]


def test_who_cancelled_is_the_actor() -> None:
    by_caller = one(OFFER, events.JobCancelRequested("repo:octo/app", "not needed"))
    assert by_caller.actor == KEYED.of("subject", "repo:octo/app") == made_admission().data["subject"]
    assert one(OFFER, events.JobCancelRequested("daemon")).actor == "daemon"
    assert by_caller.data == {"caller": CALLER_ID}


def made_admission() -> AuditEvent:
    return one(OFFER, ADMITTED)


def verdict(host: str, *, allowed: bool = False, **more: Any) -> events.EgressDecided:
    given = {"port": 443, "protocol": "tls", "rule": "tls://cache.example:443" if allowed else "", **more}
    return events.EgressDecided(host, allowed=allowed, **given)


def test_the_end_sums_up_egress_and_names_no_host_that_nobody_granted() -> None:
    event = one(
        OFFER,
        ADMITTED,
        verdict("cache.example", allowed=True, bytes_up=10, bytes_down=20),
        verdict("cache.example", allowed=True, bytes_up=1, bytes_down=2, connections=3),
        verdict("secret-in-a-name.evil.test", reason="host_not_listed", connections=5),
        verdict("secret-in-a-name.evil.test", reason="host_not_listed"),
        verdict("cache.example", port=80, reason="port_not_listed"),
        verdict("canary.test", canary=True),
        events.JobFinished(("pod x",)),
    )
    refused = [
        {"host": "cache.example", "port": 80, "reason": "port_not_listed", "connections": 1},
        {
            "host": KEYED.of("host", "secret-in-a-name.evil.test"),
            "port": 443,
            "reason": "host_not_listed",
            "connections": 6,
        },
    ]
    assert event.kind == "teardown.finished"
    assert event.data == {
        "leftovers": ["pod x"],
        "leftover_count": 1,
        "egress": {
            "allowed": [{"rule": "tls://cache.example:443", "connections": 4, "bytes_up": 11, "bytes_down": 22}],
            "refused": refused,
            "probes": 1,
        },
        "caller": CALLER_ID,
    }


def test_a_flood_of_destinations_is_counted_together() -> None:
    flood = [verdict(f"{number}.evil.test", reason="host_not_listed") for number in range(10 * MAX_ROWS)]
    event = one(OFFER, *flood, FINISHED)
    refused: Any = event.data["egress"]["refused"]  # type: ignore[index,call-overload]
    assert len(refused) == MAX_ROWS + 1
    assert sum(row["connections"] for row in refused) == 10 * MAX_ROWS
    assert refused[0]["host"] == ""


def test_a_finished_job_is_forgotten() -> None:
    mapping = made()
    mapping.told(facts(OFFER, ADMITTED))
    assert len(mapping) == 1
    mapping.told(facts(FINISHED, start=3))
    assert len(mapping) == 0
    mapping.told(facts(ISSUED, start=4))
    mapping.recall(facts(OFFER, FINISHED))
    assert len(mapping) == 0


COMPONENT = st.text("abcXYZ019_-", min_size=1, max_size=20)
st.register_type_strategy(JobKey, st.builds(JobKey, COMPONENT, COMPONENT, st.integers(1, 1_000_000)))
st.register_type_strategy(
    PlatformJob, st.builds(PlatformJob, st.text(min_size=1, max_size=MAX_KEY), st.text(), st.builds(Caller))
)
st.register_type_strategy(int, st.integers(-(2**63), 2**63 - 1))
ANY = st.one_of([st.builds(kind) for kind in get_args(events.Event)])


@given(st.lists(ANY, max_size=8))
def test_whatever_a_fact_holds_its_record_can_be_written(of: Sequence[Event]) -> None:
    found = made().told(facts(OFFER, *of))
    assert len(found) <= len(of) + 1
    for event in found:
        record = prepare(event)
        assert len(record.line(1, "0" * 64)[0]) <= MAX_RECORD_BYTES


def test_the_largest_of_all_records_can_be_written() -> None:
    worst = "\x01" * 5000
    many = (worst,) * 100
    caller = Caller(worst, worst, dict.fromkeys(("workflow", "sha", "repository_id"), worst))
    offer = events.JobOffered(JobOffer(KEY, replace(SPEC, deployment_environment=worst, artifact_digest=worst), caller))
    decision = Decision(
        worst,
        Stage.ADMISSION,
        Verdict.DENY,
        tuple(Reason(worst, worst) for _ in many),
        DECISION.obligations,
        worst,
        worst,
        worst,
        0,
        tuple(Reason(worst, worst) for _ in many),
        tuple(Waiver(worst, many) for _ in many),
    )
    issued = events.TokenIssued(*(worst,) * 5, 2**62, 2**62, many, *(worst,) * 4, 2**62, worst, worst)
    flood = [verdict(f"{n}.test", reason="host_not_listed" * 4) for n in range(100)]
    flood += [verdict("x", allowed=True, rule=f"tls://*.{'x' * 250}{n}:443") for n in range(100)]
    for event in (events.JobAdmitted(decision), events.ExchangeDecided(worst, decision), issued):
        prepare(one(offer, event))
    prepare(one(offer, *flood, events.JobFinished(many)))


@given(st.lists(ANY.filter(lambda event: not isinstance(event, events.JobOffered)), max_size=8), st.integers(0, 8))
def test_after_a_restart_the_records_are_those_that_would_have_been(of: Sequence[Event], at: int) -> None:
    everything = facts(OFFER, *of)
    whole, restarted = made(), made()
    whole.told(everything[: at + 1])
    restarted.recall(everything[: at + 1])
    assert restarted.told(everything[at + 1 :]) == whole.told(everything[at + 1 :])


def test_nothing_that_a_job_chose_stands_in_a_record() -> None:
    """Neither its words nor those of its caller: the keyed hash of one can be recognised, not read."""
    chosen = ("unit tests", "echo", "s3cret", "TOKEN", "mine", "repo:octo", "exfil", "because", "not needed", "a job")
    found = told(
        OFFER, ADMITTED, NAMED, ISSUED, events.JobCancelRequested("repo:octo/app", "not needed"),
        events.ExchangeDecided("aws", DECISION), events.TokenRefused("aws", "r", "", "", "s3cret"),
        verdict("exfil.test", reason="host_not_listed"), events.AlarmRaised("x", "s3cret"),
        events.JobEnded(_outcome()), FINISHED,
    )  # fmt: skip
    lines = b"\n".join(prepare(event).line(1, "0" * 64)[0] for event in found).decode()
    assert len(found) == 9
    assert [word for word in chosen if word in lines] == []
    assert CALLER.id not in lines, "the plain hash of a subject tells it to whoever guesses"
