"""No secret of a job leaves by its trace: not where it was planted, not cut in two, not by the API either."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace

import hypothesis.strategies as st
from hypothesis import given

from orchestrator.journal.redact import Masker
from orchestrator.model import events as e
from orchestrator.model.decision import Reason, Verdict
from orchestrator.model.egress import EgressProof
from orchestrator.model.job import Caller, JobOffer
from orchestrator.model.journey import RunnerPlace, RunnerStage, StageBegan
from orchestrator.model.outcome import EndReason, Outcome, Result
from orchestrator.model.runner import ExitCause
from orchestrator.telemetry.encode import encode_events, encode_spans
from orchestrator.telemetry.records import MAX_NAME, MAX_STRING
from orchestrator.telemetry.spans import trace_of
from orchestrator.telemetry.waterfall import trace_document
from orchestrator.testing import stories
from orchestrator.testing.stories import ADMITTED, CREATED, DELETED, FINISHED, RUNNER, STARTED, T0, facts_for, offer

KNOWN = "Zq7-registered-secret-of-the-job-9f3kXw"
"""A word that was registered when it was handed to the job."""
TOKEN = "ghp_" + "Zq7LooksLikeACredential0123456789"
"""A word that nobody registered."""
MARK = "Zq7"
"""The beginning of what is secret in both: nothing of it may leave. The pattern for the second begins before it."""

Text = Callable[[str], str]


def planted(say: Text) -> tuple[JobOffer, list[e.Event]]:
    """A job in which each text that a job, its runner, its platform or an adapter can influence says something."""
    why = replace(stories.decision(Verdict.DENY), reasons=(Reason("rule", say("reason")),))
    job = offer(name=say("name"), script=say("script"), environment={"A": say("env"), say("variable"): "1"})
    job = replace(job, caller=Caller("https://issuer.example", say("subject"), {"ref": say("fact")}))
    place = RunnerPlace("runners", say("pod"), say("machine"), say("image"), say("image"))
    stages = tuple(StageBegan(stage, T0) for stage in (RunnerStage.PULL_AGENT, RunnerStage.PULL_JOB))
    seen = e.RunnerObserved(RUNNER, "uid-1", stages, place)
    return job, [
        *(ADMITTED, e.JobWaited(e.WaitReason.BACKEND_UNAVAILABLE, say("wait")), STARTED, CREATED),
        *(e.RunnerVanished(RUNNER, say("gone")), e.ProvisionStarted(RUNNER, "abc", 2), CREATED, seen),
        e.JobWaited(e.WaitReason.IMAGE_PULL, say("pull")),
        e.RunnerBound(RUNNER, "uid-1", EgressProof((say("probe"),), (say("reached"),))),
        *(
            e.ExchangeDecided(say("audience"), why),
            e.TokenRefused(say("audience"), "policy_denied", detail=say("claim")),
        ),
        e.EgressDecided(say("host"), 443, "tls", False, say("rule"), say("reason"), say("address")),
        e.ArtifactReported(say("artifact"), "sha256:00"),
        e.RunnerExited(RUNNER, 1, ExitCause.EXITED, say("exit")),
        *(e.JobCancelRequested(say("by"), say("cancel")), e.AlarmRaised("second_claim", say("alarm"))),
        e.JobEnded(Outcome(Result.ERROR, EndReason.RUNNER_LOST, say("message"))),
        *(DELETED, FINISHED),
    ]


def sent(job: JobOffer, steps: list[e.Event], redact: Text) -> bytes:
    """All that leaves: what a receiver gets, and what the API answers."""
    facts = facts_for(job, steps)
    trace = trace_of(facts, public_url="https://ci.example")
    document = json.dumps(trace_document(facts, redact=redact)).encode()
    return encode_spans(trace.spans, {}, redact) + encode_events(trace.events, {}, redact) + document


@given(st.sampled_from([KNOWN, TOKEN]), st.sampled_from([0, MAX_NAME, MAX_STRING]), st.integers(-60, 60))
def test_no_secret_leaves_wherever_it_stands_in_a_text(secret: str, near: int, off: int) -> None:
    masker = Masker()
    masker.register("dispatch.42.1", KNOWN)
    lead = "." * max(near + off, 0)
    out = sent(*planted(lambda _: f"{lead} {secret} and more"), masker.text)
    assert MARK.encode() not in out
    assert b"***" in out or len(lead) > MAX_NAME - len(secret)


def test_every_text_that_is_planted_would_be_found() -> None:
    """Without a mask all of these leave, and the script, the environment and a decision's sentences never do."""
    places: set[str] = set()

    def say(place: str) -> str:
        places.add(place)
        return f"[{place}]"

    out = sent(*planted(say), str)
    held_back = {place for place in places if f"[{place}]".encode() not in out}
    assert held_back == {"script", "env", "variable", "claim"}
