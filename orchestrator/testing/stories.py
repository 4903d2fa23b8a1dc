"""Whole jobs as lists of facts, one for each way a job can go, for tests of whatever reads facts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from orchestrator.model import events as e
from orchestrator.model.decision import Decision, Reason, Stage, Verdict
from orchestrator.model.egress import EgressProof, EgressRule
from orchestrator.model.job import Caller, JobKey, JobOffer, JobSpec, PoolName
from orchestrator.model.journey import RunnerPlace, RunnerStage, StageBegan
from orchestrator.model.outcome import EndReason, Outcome, Result
from orchestrator.model.platform import PlatformJob, PlatformResult
from orchestrator.model.runner import ExitCause, runner_name

T0 = 1_790_000_000_000_000_000
MS = 1_000_000
MARKER = "POISON-5f1c"
"""In every field that must never leave: script, environment, claimed facts, envelopes."""


def offer(platform_id: str = "42", attempt: int = 1, **spec: Any) -> JobOffer:
    fields: dict[str, Any] = {
        "name": "build",
        "pool": PoolName("default"),
        "script": f"echo {MARKER}",
        "environment": {"TOKEN": MARKER, MARKER: "1"},
        "claimed": {"note": MARKER},
    } | spec
    caller = Caller("https://issuer.example", "repo:octo/site", {"repository": "octo/site", "Bad Name": MARKER})
    return JobOffer(JobKey("dispatch", platform_id, attempt), JobSpec(**fields), caller, fingerprint=MARKER)


def decision(verdict: Verdict = Verdict.ALLOW, stage: Stage = Stage.ADMISSION, duration_ns: int = 2 * MS) -> Decision:
    return Decision(
        "d-1", stage, verdict, (Reason("protected_branch", MARKER),), duration_ns=duration_ns, engine="regorus"
    )


def facts_for(the_offer: JobOffer, steps: Sequence[e.Event], step_ns: int = 10 * MS) -> list[e.Fact]:
    job_id = the_offer.key.id
    every = [e.JobOffered(the_offer), *steps]
    return [e.Fact(job_id, T0 + index * step_ns, event, index + 1) for index, event in enumerate(every)]


RUNNER = runner_name(offer().key.id)
PROOF = EgressProof(denied=("tcp://192.0.2.1:80",))
ADMITTED = e.JobAdmitted(decision())
STARTED = e.ProvisionStarted(RUNNER, "abc")
CREATED = e.RunnerCreated(RUNNER, "uid-1")
BOUND = e.RunnerBound(RUNNER, "uid-1", PROOF)
DELETED = e.RunnerDeleted(RUNNER)
FINISHED = e.JobFinished()
ISSUED = e.TokenIssued("jti-1", "sts.example", "sub", "RS256", "kid", 1000, 1300, ("env=prod",))
EXCHANGE = e.ExchangeDecided("sts.example", decision(stage=Stage.EXCHANGE))
DENIED_HOST = e.EgressDecided("evil.example", 443, "tls", False, "", "not_allowed")
CANARY = e.EgressDecided("192.0.2.1", 80, "tls", False, "", "not_allowed", canary=True)


def end(result: Result, reason: EndReason, exit_code: int | None = None) -> e.JobEnded:
    return e.JobEnded(Outcome(result, reason, "what happened", exit_code))


def seen(after_ms: int, *stages: tuple[RunnerStage, int], **place: Any) -> e.RunnerObserved:
    """A note on stages that began so many milliseconds after the story, with times that are the daemon's own."""
    begun = tuple(StageBegan(stage, T0 + (after_ms + ms) * MS) for stage, ms in stages)
    return e.RunnerObserved(RUNNER, "uid-1", begun, RunnerPlace(**place))


_S = RunnerStage
POD = {
    "namespace": "pool-default",
    "name": "runner-1",
    "machine": "node-1",
    "agent_image": "registry.example/agent:1.2@sha256:" + "a" * 64,
    "job_image": "registry.example:5000/build",
}
POD_STARTED = seen(20, (_S.CREATE, 2), (_S.SCHEDULE, 9), (_S.SANDBOX, 11), (_S.PULL_AGENT, 12), (_S.START, 15), **POD)
POD_ENDED = seen(50, (_S.PULL_JOB, 2), (_S.RUN, 5), (_S.FLUSH, 18), **POD)
TIMED_PROOF = EgressProof(("tcp:192.0.2.1:80",), (), T0 + 36 * MS, T0 + 37 * MS, T0 + 39 * MS)
POD_BOUND = e.RunnerBound(RUNNER, "uid-1", TIMED_PROOF)
TO_WORK: list[e.Event] = [ADMITTED, STARTED, CREATED, CANARY, BOUND]
WHOLE: dict[str, list[e.Event]] = {
    "success": [
        *TO_WORK,
        EXCHANGE,
        ISSUED,
        DENIED_HOST,
        end(Result.SUCCESS, EndReason.COMPLETED, 0),
        DELETED,
        FINISHED,
    ],
    "failure": [*TO_WORK, end(Result.FAILURE, EndReason.EXIT_NONZERO, 1), DELETED, FINISHED],
    "denied": [
        e.JobRefused(decision(Verdict.DENY)),
        end(Result.DENIED, EndReason.POLICY_DENIED),
        FINISHED,
    ],
    "cancelled": [
        *TO_WORK,
        e.JobCancelRequested("operator"),
        end(Result.CANCELLATION, EndReason.CANCELLED),
        DELETED,
        FINISHED,
    ],
    "cancelled_in_queue": [e.JobCancelRequested("operator"), end(Result.CANCELLATION, EndReason.CANCELLED), FINISHED],
    "admission_timeout": [end(Result.TIMEOUT, EndReason.ADMISSION_TIMEOUT), FINISHED],
    "capacity_timeout": [
        ADMITTED,
        e.JobWaited(e.WaitReason.POOL_FULL, "2 of 2"),
        end(Result.TIMEOUT, EndReason.CAPACITY_TIMEOUT),
        FINISHED,
    ],
    "provision_timeout": [ADMITTED, STARTED, end(Result.TIMEOUT, EndReason.PROVISION_TIMEOUT), DELETED, FINISHED],
    "bind_timeout": [ADMITTED, STARTED, CREATED, end(Result.TIMEOUT, EndReason.BIND_TIMEOUT), DELETED, FINISHED],
    "run_timeout": [*TO_WORK, end(Result.TIMEOUT, EndReason.RUN_TIMEOUT), DELETED, FINISHED],
    "lost": [*TO_WORK, end(Result.ERROR, EndReason.RUNNER_LOST), DELETED, FINISHED],
    "unproven": [ADMITTED, STARTED, CREATED, end(Result.ERROR, EndReason.EGRESS_UNPROVEN), DELETED, FINISHED],
    "vanished_then_success": [
        ADMITTED,
        STARTED,
        CREATED,
        e.RunnerVanished(RUNNER, "gone"),
        e.ProvisionStarted(RUNNER, "abc", 2),
        CREATED,
        BOUND,
        end(Result.SUCCESS, EndReason.COMPLETED, 0),
        DELETED,
        FINISHED,
    ],
    "restarted": [
        *TO_WORK,
        e.DaemonRestarted("daemon-2", T0 + 50 * MS),
        end(Result.SUCCESS, EndReason.COMPLETED, 0),
        DELETED,
        e.DaemonRestarted("daemon-3", T0 + 80 * MS),
        FINISHED,
    ],
    "claim_overtakes_create": [
        ADMITTED,
        STARTED,
        BOUND,
        CREATED,
        end(Result.SUCCESS, EndReason.COMPLETED, 0),
        DELETED,
        FINISHED,
    ],
    "exchange_cut_off": [*TO_WORK, EXCHANGE, end(Result.SUCCESS, EndReason.COMPLETED, 0), DELETED, FINISHED],
    "pod": [
        ADMITTED,
        STARTED,
        e.RunnerCreated(RUNNER, "uid-1"),
        POD_STARTED,
        POD_BOUND,
        DENIED_HOST,
        POD_ENDED,
        end(Result.SUCCESS, EndReason.COMPLETED, 0),
        e.RunnerDeleted(RUNNER, T0 + 84 * MS),
        e.LogClosed(10, 0, 0, T0 + 75 * MS),
        FINISHED,
    ],
    "pod_without_its_image": [
        ADMITTED,
        STARTED,
        e.JobWaited(e.WaitReason.QUOTA_EXHAUSTED, "full"),
        CREATED,
        e.JobWaited(e.WaitReason.IMAGE_PULL, "ErrImagePull"),
        seen(30, (_S.CREATE, 6), (_S.SCHEDULE, 9), (_S.PULL_AGENT, 12), **POD),
        end(Result.ERROR, EndReason.IMAGE_PULL_FAILED),
        DELETED,
        FINISHED,
    ],
    "warm_pod": [
        ADMITTED,
        STARTED,
        CREATED,
        seen(-900, (_S.CREATE, 0), (_S.SCHEDULE, 9), (_S.PULL_AGENT, 12), (_S.START, 99), warm=True, **POD),
        e.RunnerBound(RUNNER, "uid-1", EgressProof(PROOF.denied, (), T0 - 800 * MS, T0 - 9 * MS, T0 - 3 * MS)),
        end(Result.CANCELLATION, EndReason.CANCELLED),
        DELETED,
        FINISHED,
    ],
    "local_sandbox": [
        ADMITTED,
        STARTED,
        CREATED,
        seen(20, (_S.CREATE, 3), (_S.START, 8)),
        e.RunnerBound(RUNNER, "uid-1", replace(TIMED_PROOF, agent_began_ns=0)),
        e.LogClosed(10, 0, 0),
        seen(20, (_S.FLUSH, 34)),
        end(Result.FAILURE, EndReason.EXIT_NONZERO, 1),
        e.RunnerDeleted(RUNNER, T0 + 80 * MS),
        FINISHED,
    ],
    "teardown_stuck": [
        *TO_WORK,
        end(Result.SUCCESS, EndReason.COMPLETED, 0),
        DELETED,
        e.AlarmRaised("teardown_stuck", "not gone"),
        FINISHED,
    ],
}


def platform_offer() -> JobOffer:
    """A runner that a platform has asked for, before it said for which job."""
    hosts = (EgressRule("platform.example"),)
    return offer(name="linux", script="", awaits_platform_job=True, platform_egress=hosts)


PLATFORM_JOB = PlatformJob(
    "platform.example/101/9001/1/31337",
    "unit tests",
    Caller("https://platform.example", "repo:octo/site:ref:refs/heads/main", {"repository": "octo/site"}),
    pipeline="ci.yml",
    proof="oidc",
)
NAMED = e.PlatformJobNamed(PLATFORM_JOB, decision())
NAMED_REFUSED = e.PlatformJobNamed(PLATFORM_JOB, decision(Verdict.DENY))
REFUSED = e.JobRefused(decision(Verdict.DENY))
COMPLETED = e.PlatformJobCompleted(PlatformResult("succeeded", "message"))
EXITED = e.RunnerExited(RUNNER, 0, ExitCause.EXITED)
PLATFORM: dict[str, list[e.Event]] = {
    "success": [
        *TO_WORK,
        NAMED,
        EXCHANGE,
        ISSUED,
        COMPLETED,
        EXITED,
        end(Result.SUCCESS, EndReason.COMPLETED, 0),
        DELETED,
        FINISHED,
    ],
    "completed_after_exit": [
        *TO_WORK,
        NAMED,
        EXITED,
        COMPLETED,
        end(Result.SUCCESS, EndReason.COMPLETED, 0),
        DELETED,
        FINISHED,
    ],
    "named_after_exit": [
        *TO_WORK,
        EXITED,
        NAMED,
        COMPLETED,
        end(Result.SUCCESS, EndReason.COMPLETED, 0),
        DELETED,
        FINISHED,
    ],
    "failed": [*TO_WORK, NAMED, EXITED, end(Result.FAILURE, EndReason.JOB_FAILED), DELETED, FINISHED],
    "no_job": [*TO_WORK, end(Result.CANCELLATION, EndReason.NO_JOB), DELETED, FINISHED],
    "refused": [*TO_WORK, NAMED_REFUSED, REFUSED, end(Result.DENIED, EndReason.POLICY_DENIED), DELETED, FINISHED],
    "second_job": [
        *TO_WORK,
        NAMED,
        e.AlarmRaised("second_job", "two"),
        end(Result.ERROR, EndReason.SECOND_JOB),
        DELETED,
        FINISHED,
    ],
}
"""The same for a `platform_offer`."""
