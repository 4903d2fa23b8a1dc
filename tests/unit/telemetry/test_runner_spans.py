"""What is below the phases of a runner, and whose time it is."""

from __future__ import annotations

from itertools import pairwise

import hypothesis.strategies as st
import pytest
from hypothesis import given

from orchestrator.model import events as e
from orchestrator.model.egress import EgressProof
from orchestrator.model.journey import ORDER, RunnerStage, StageBegan, TimeSource, in_order
from orchestrator.model.outcome import EndReason, Result
from orchestrator.model.runner import ExitCause
from orchestrator.telemetry.records import SpanRecord, SpanStatus
from orchestrator.telemetry.runner_spans import of_image
from orchestrator.telemetry.spans import trace_of
from orchestrator.telemetry.stages import STAGE_NAMES, start_seconds
from orchestrator.testing import stories
from orchestrator.testing.stories import MS, POD, PROOF, RUNNER, T0, WHOLE, end, facts_for, offer, seen

S = RunnerStage
POD_START = "schedule 30-31, pod.sandbox 31-32, image.pull 32-36, start 36-37, egress.proof 37-39, claim 39-50"
PHASES = ("provision", "bind", "execute", "teardown")


def drawn(steps: list[e.Event]) -> list[str]:
    """Phases of the runner and what is below them, with times in milliseconds; `!` for an error."""
    root, *spans = trace_of(facts_for(offer(), steps)).spans
    lines = []
    for span in spans:
        if span.parent_span_id == root.span_id and span.name in PHASES:
            below = [line_of(child) for child in spans if child.parent_span_id == span.span_id]
            lines.append(f"{line_of(span)}: {', '.join(below)}")
    return lines


def line_of(span: SpanRecord) -> str:
    assert span.end_ns is not None
    error = "!" if span.status is SpanStatus.ERROR else ""
    return f"{span.name}{error} {(span.start_ns - T0) // MS}-{(span.end_ns - T0) // MS}"


@pytest.mark.parametrize(
    ("story", "lines"),
    [
        (
            "pod",
            [
                "provision 20-30: create 22-29",
                f"bind 30-50: {POD_START}",
                "execute 50-80: image.pull 52-55, run 55-68, log.flush 68-75",
                "teardown 80-110: revoke 80-84, delete 84-90, verify 90-110",
            ],
        ),
        (
            "pod_without_its_image",
            [
                "provision 20-40: capacity.wait 30-36, create 36-39",
                "bind! 40-70: schedule 40-42, image.pull! 42-70",
                "teardown 70-90: delete 70-80, verify 80-90",
            ],
        ),
        (
            "warm_pod",
            [
                "provision 20-30: ",
                "bind 30-50: claim 30-50",
                "execute 50-60: ",
                "teardown 60-80: delete 60-70, verify 70-80",
            ],
        ),
        (
            "local_sandbox",
            [
                "provision 20-30: create 23-28",
                "bind 30-50: start 30-37, egress.proof 37-39, claim 39-50",
                "execute! 50-80: run! 50-54, log.flush 54-60",
                "teardown 80-100: delete 80-90, revoke 80-80, verify 90-100",
            ],
        ),
    ],
)
def test_stages_are_below_the_phase_in_which_they_ended(story: str, lines: list[str]) -> None:
    assert drawn(WHOLE[story]) == lines


@pytest.mark.parametrize(
    ("deleted_ms", "finished_ms", "lines"),
    [
        (0, 0, "delete 60-70, verify 70-80"),
        (64, 0, "revoke 60-64, delete 64-70, verify 70-80"),
        (0, 76, "delete 60-70, revoke 60-76, verify 70-80"),
        (0, 99, "delete 60-70, revoke 60-80, verify 70-80"),
        (64, 76, "revoke 60-64, delete 64-70, verify 70-80"),
    ],
    ids=["nobody said", "before the deletion", "after it", "by another clock", "said twice"],
)
def test_revoking_is_drawn_until_it_was_over(deleted_ms: int, finished_ms: int, lines: str) -> None:
    """Where the runner was deleted before, as on GitHub, which lets a registration go later, it lies beside that."""
    steps: list[e.Event] = [*stories.TO_WORK, end(Result.ERROR, EndReason.RUNNER_LOST)]
    steps.append(e.RunnerDeleted(RUNNER, T0 + deleted_ms * MS if deleted_ms else 0))
    steps.append(e.JobFinished(revoked_at_ns=T0 + finished_ms * MS if finished_ms else 0))
    assert drawn(steps)[-1] == f"teardown 60-80: {lines}"


def test_a_job_whose_proof_failed_ends_in_it() -> None:
    """The daemon that refused the claim notes what the agent said; the backend's own note comes with it."""
    tried = e.RunnerObserved(RUNNER, "uid-1", (StageBegan(S.START, T0 + 34 * MS), StageBegan(S.PROVE, T0 + 37 * MS)))
    whole = seen(20, (S.CREATE, 2), (S.SCHEDULE, 9), (S.PULL_AGENT, 11), **POD)
    unproven = [stories.ADMITTED, stories.STARTED, stories.CREATED, whole, tried]
    unproven += [end(Result.ERROR, EndReason.EGRESS_UNPROVEN), stories.DELETED, stories.FINISHED]
    provision, bind, teardown = drawn(unproven)
    assert provision == "provision 20-30: create 22-29"
    assert bind == "bind! 30-60: schedule 30-31, image.pull 31-34, start 34-37, egress.proof! 37-60"
    spans = {span.name: span for span in trace_of(facts_for(offer(), unproven)).spans}
    assert spans["egress.proof"].attributes["error.type"] == "egress_unproven"
    assert spans["teardown"].attributes["k8s.pod.name"] == POD["name"], "a note without a place takes none away"
    assert teardown.startswith("teardown 60-80")


def looked_at(steps: list[e.Event], under_way: e.RunnerObserved | None = None) -> list[str]:
    """The open phase of a job that goes on and what is below it, with times in milliseconds; `…` for what is open."""
    root, *spans = trace_of(facts_for(offer(), steps), under_way=under_way).spans
    phase = next(span for span in spans if span.end_ns is None and span.parent_span_id == root.span_id)
    own = [phase, *(span for span in spans if span.parent_span_id == phase.span_id)]
    return [
        f"{one.name} {(one.start_ns - T0) // MS}-{(one.end_ns - T0) // MS if one.end_ns is not None else '…'}"
        for one in own
    ]


def test_a_runner_on_its_way_is_drawn_as_far_as_it_came() -> None:
    way: list[e.Event] = [stories.ADMITTED, stories.STARTED]
    full = e.JobWaited(e.WaitReason.QUOTA_EXHAUSTED, "full")
    assert looked_at(way) == ["provision 20-…"]
    assert looked_at([*way, full]) == ["provision 20-…", "capacity.wait 30-…"]
    asked = seen(20, (S.CREATE, 2))
    assert looked_at(way, asked) == ["provision 20-…", "create 22-…"]
    assert looked_at([*way, full], seen(20, (S.CREATE, 16))) == [
        "provision 20-…",
        "capacity.wait 30-36",
        "create 36-…",
    ]
    way.append(stories.CREATED)
    scheduled = seen(20, (S.CREATE, 2), (S.SCHEDULE, 9), (S.PULL_AGENT, 12), **POD)
    assert looked_at(way, scheduled) == ["bind 30-…", "schedule 30-32", "image.pull 32-…"]
    # What a reason to wait had put on record already is drawn too, without any news.
    assert looked_at([*way, e.JobWaited(e.WaitReason.IMAGE_PULL, "ErrImagePull"), scheduled]) == [
        "bind 30-…",
        "schedule 30-32",
        "image.pull 32-…",
    ]
    way += [stories.POD_STARTED, stories.POD_BOUND]
    assert looked_at(way, seen(50, (S.PULL_JOB, 2), **POD)) == ["execute 50-…", "image.pull 52-…"]
    worked = seen(50, (S.PULL_JOB, 2), (S.RUN, 5), **POD)
    assert looked_at(way, worked) == ["execute 50-…", "image.pull 52-55", "run 55-…"]
    assert looked_at(way, stories.POD_ENDED) == ["execute 50-…", "image.pull 52-55", "run 55-68", "log.flush 68-…"]
    # A log may be read while the job is torn down already.
    way += [stories.POD_ENDED, end(Result.SUCCESS, EndReason.COMPLETED, 0)]
    assert looked_at(way) == ["teardown 70-…", "delete 70-…", "log.flush 70-…"]
    closed = e.LogClosed(10, 0, 0, T0 + 75 * MS)
    assert looked_at([*way, closed]) == ["teardown 70-…", "delete 70-…", "log.flush 70-75"]


def test_a_log_is_read_on_when_its_runner_has_ended() -> None:
    way = [*stories.TO_WORK[:-1], stories.POD_STARTED, stories.POD_BOUND, stories.NAMED, e.RunnerExited(RUNNER, 0)]
    spans = trace_of(facts_for(stories.platform_offer(), [*way, stories.POD_ENDED])).spans
    assert [span.name for span in spans[1:] if span.end_ns is None] == ["platform.completing", "log.flush"]


def test_a_stage_that_is_open_is_the_one_that_is_sent_in_the_end() -> None:
    way: list[e.Event] = [stories.ADMITTED, stories.STARTED, stories.CREATED]
    scheduled = seen(20, (S.CREATE, 2), (S.SCHEDULE, 9), (S.SANDBOX, 11), (S.PULL_AGENT, 12), **POD)
    now = {span.name: span for span in trace_of(facts_for(offer(), way), under_way=scheduled).spans}
    then = {
        span.name: span for span in trace_of(facts_for(offer(), [*way, stories.POD_STARTED, stories.POD_BOUND])).spans
    }
    for name in ("create", "schedule", "pod.sandbox", "image.pull"):
        assert (now[name].span_id, now[name].start_ns) == (then[name].span_id, then[name].start_ns)
    assert now["image.pull"].attributes == then["image.pull"].attributes


def test_a_runner_whose_job_was_refused_has_no_stage_in_a_phase_that_is_over() -> None:
    steps = [*stories.TO_WORK[:-1], seen(40, (S.CREATE, 2)), stories.BOUND, stories.NAMED_REFUSED, stories.REFUSED]
    spans = trace_of(facts_for(stories.platform_offer(), steps)).spans
    assert [span.name for span in spans if span.end_ns is None] == ["RUN unit tests", "platform.refused"]


def test_a_runner_that_is_lost_runs_until_that_is_known_not_until_its_platform_has_spoken() -> None:
    lost = e.RunnerExited(RUNNER, None, ExitCause.LOST)
    ended = end(Result.ERROR, EndReason.RUNNER_LOST)
    steps = [*stories.TO_WORK[:-1], seen(40, (S.CREATE, 2)), e.RunnerBound(RUNNER, "uid-1", PROOF), stories.NAMED, lost]
    spans = trace_of(facts_for(stories.platform_offer(), [*steps, ended, stories.DELETED, stories.FINISHED])).spans
    below = {span.span_id: span.name for span in spans}
    (run,) = (span for span in spans if span.name == "run")
    (execute,) = (span for span in spans if span.name == "execute")
    assert (below[run.parent_span_id], run.end_ns, run.status) == ("execute", execute.end_ns, SpanStatus.ERROR)


def attributes(story: list[e.Event], name: str) -> dict[str, object]:
    span = next(span for span in trace_of(facts_for(offer(), story)).spans if span.name == name)
    return dict(span.attributes)


def test_pods_and_images_have_the_names_of_the_conventions() -> None:
    bind = attributes(WHOLE["pod"], "bind")
    names = ("k8s.namespace.name", "k8s.pod.name", "k8s.pod.uid", "k8s.node.name")
    assert [bind[name] for name in names] == ["pool-default", "runner-1", "uid-1", "node-1"]
    assert {name: attributes(WHOLE["pod"], "execute")[name] for name in names} == {name: bind[name] for name in names}
    pull = attributes(WHOLE["pod"], "image.pull")
    assert pull["container.image.name"] == "registry.example/agent"
    assert pull["container.image.tags"] == ("1.2",)
    assert pull["container.image.repo_digests"] == ("registry.example/agent@sha256:" + "a" * 64,)
    assert not [key for key in attributes(WHOLE["local_sandbox"], "bind") if key.startswith("k8s.")]


@pytest.mark.parametrize(
    ("reference", "parts"),
    [
        ("registry.example:5000/a/b", {"container.image.name": "registry.example:5000/a/b"}),
        ("a:1", {"container.image.name": "a", "container.image.tags": ("1",)}),
        ("a@sha256:0", {"container.image.name": "a", "container.image.repo_digests": ("a@sha256:0",)}),
        ("", {}),
    ],
)
def test_an_image_is_told_in_its_parts(reference: str, parts: dict[str, object]) -> None:
    assert of_image(reference) == parts


def test_each_stage_says_whose_word_its_beginning_is() -> None:
    sources = {
        span.name: span.attributes.get("orchestrator.time.source")
        for span in trace_of(facts_for(offer(), WHOLE["pod"])).spans
    }
    assert (sources["create"], sources["egress.proof"], sources["bind"]) == ("observed", "agent", None)


def test_a_stage_from_the_phase_before_has_its_whole_length() -> None:
    assert attributes(WHOLE["pod"], "schedule")["orchestrator.stage.seconds"] == 0.002
    assert "orchestrator.stage.seconds" not in attributes(WHOLE["pod"], "pod.sandbox")


def test_a_way_that_nobody_saw_is_said_to_be_unseen() -> None:
    assert attributes(WHOLE["bind_timeout"], "bind")["orchestrator.runner.unobserved"] is True
    assert attributes(WHOLE["provision_timeout"], "provision")["orchestrator.runner.unobserved"] is True
    assert "orchestrator.runner.unobserved" not in attributes(WHOLE["pod"], "bind")
    assert attributes(WHOLE["warm_pod"], "bind")["orchestrator.runner.warm"] is True


def test_a_way_that_is_told_only_at_the_end_is_drawn_then() -> None:
    late = [
        *(stories.ADMITTED, stories.STARTED, stories.CREATED, end(Result.TIMEOUT, EndReason.BIND_TIMEOUT)),
        stories.DELETED,
        seen(20, (S.CREATE, 1), (S.SCHEDULE, 5), (S.PULL_AGENT, 14), **POD),
        stories.FINISHED,
    ]
    assert drawn(late)[:2] == ["provision 20-30: create 21-25", "bind! 30-40: schedule 30-34, image.pull! 34-40"]
    assert "orchestrator.runner.unobserved" not in attributes(late, "bind")


def test_work_in_a_sandbox_runs_from_the_binding_also_when_nobody_saw_it_end() -> None:
    steps = [one for one in WHOLE["local_sandbox"] if not isinstance(one, e.LogClosed | e.JobEnded)]
    noted = next(number for number, one in enumerate(steps) if isinstance(one, e.RunnerObserved) and number > 3)
    steps[noted] = end(Result.TIMEOUT, EndReason.RUN_TIMEOUT)
    assert [line for line in drawn(steps) if line.startswith("execute")] == ["execute! 50-60: run! 50-60"]


def test_a_clock_of_whole_seconds_puts_nothing_before_the_runner_or_before_the_work() -> None:
    """What a new daemon reads of a pod after a kill is older than it was, by up to a second."""
    floored = seen(0, (S.CREATE, -900), (S.SCHEDULE, -900), (S.PULL_AGENT, 5), (S.PULL_JOB, 5), (S.RUN, 30), **POD)
    bound = [stories.ADMITTED, stories.STARTED, stories.CREATED, floored, stories.BOUND]
    steps = [*bound, end(Result.SUCCESS, EndReason.COMPLETED, 0), stories.DELETED, stories.FINISHED]
    assert drawn(steps)[:3] == [
        "provision 20-30: create 20-20, schedule 20-20",
        "bind 30-50: image.pull 30-50",
        "execute 50-60: image.pull 50-50, run 50-60",
    ]


def test_an_agent_cannot_have_begun_before_its_runner() -> None:
    bound = e.RunnerBound(RUNNER, "uid-1", EgressProof(("x",), (), 1, 1, T0 + 40 * MS))
    steps = [stories.ADMITTED, stories.STARTED, stories.CREATED, bound, end(Result.SUCCESS, EndReason.COMPLETED, 0)]
    assert attributes(steps, "egress.proof")["orchestrator.stage.seconds"] == 0.02


def test_each_runner_of_a_job_has_its_own_way() -> None:
    again = e.ProvisionStarted(RUNNER, "abc", 2)
    first = seen(20, (S.CREATE, 1), (S.SCHEDULE, 5), **POD)
    second = seen(60, (S.CREATE, 2), (S.SCHEDULE, 8), (S.PULL_AGENT, 14), **POD)
    lines = drawn(
        [
            *(stories.ADMITTED, stories.STARTED, stories.CREATED, first, e.RunnerVanished(RUNNER, "gone")),
            *(again, e.RunnerCreated(RUNNER, "uid-2"), second, end(Result.ERROR, EndReason.UNSCHEDULABLE)),
            stories.FINISHED,
        ]
    )
    assert lines[:4] == [
        "provision 20-30: create 21-25",
        "bind! 30-50: schedule! 30-50",
        "provision 60-70: create 62-68",
        "bind! 70-90: schedule 70-74, image.pull! 74-90",
    ]


def test_the_trace_and_the_metric_tell_the_same_lengths() -> None:
    facts = facts_for(offer(), WHOLE["pod"])
    bound = next(fact for fact in facts if isinstance(fact.event, e.RunnerBound))
    begun = next(fact for fact in facts if isinstance(fact.event, e.ProvisionStarted))
    told = start_seconds([stories.POD_STARTED], stories.POD_BOUND, begun.at_ns, bound.at_ns)
    whole = {
        span.name.replace(".", "_"): span.attributes.get(
            "orchestrator.stage.seconds", ((span.end_ns or 0) - span.start_ns) / 1e9
        )
        for span in trace_of(facts).spans
        if (span.end_ns or 0) <= bound.at_ns and "orchestrator.time.source" in span.attributes
    }
    assert dict(told) == whole
    assert list(whole) == ["create", "schedule", "pod_sandbox", "image_pull", "start", "egress_proof", "claim"]


def test_what_a_warm_runner_had_behind_it_is_no_start_of_a_job() -> None:
    note = next(event for event in WHOLE["warm_pod"] if isinstance(event, e.RunnerObserved))
    bound = next(event for event in WHOLE["warm_pod"] if isinstance(event, e.RunnerBound))
    assert start_seconds([note], bound, T0 + 20 * MS, T0 + 50 * MS) == [("claim", 0.03)]


_STAGES = st.lists(
    st.builds(StageBegan, st.sampled_from(ORDER), st.integers(T0 - 99 * MS, T0 + 99 * MS), st.sampled_from(TimeSource))
)


@given(_STAGES)
def test_stages_in_order_come_once_and_never_before_one_another(stages: list[StageBegan]) -> None:
    ordered = in_order(stages)
    assert [one.stage for one in ordered] == [stage for stage in ORDER if stage in {one.stage for one in stages}]
    assert all(one.at_ns <= other.at_ns for one, other in pairwise(ordered))
    for one in ordered:
        assert one.at_ns >= min(other.at_ns for other in stages if other.stage is one.stage)


@given(_STAGES, st.lists(st.integers(T0 - 99 * MS, T0 + 99 * MS), min_size=3, max_size=3), st.integers(0, 40))
def test_stages_of_whatever_times_lie_one_after_the_other_within_their_phases(
    stages: list[StageBegan], told: list[int], revoked_ms: int
) -> None:
    note = e.RunnerObserved(RUNNER, "uid-1", tuple(stages))
    bound = e.RunnerBound(RUNNER, "uid-1", EgressProof(("x",), (), *told))
    steps: list[e.Event] = [
        *(stories.ADMITTED, stories.STARTED, stories.CREATED, note, bound, note),
        *(end(Result.SUCCESS, EndReason.COMPLETED, 0), e.RunnerDeleted(RUNNER, T0 + 70 * MS + revoked_ms * MS)),
        *(e.LogClosed(1, 0, 0, told[0]), stories.FINISHED),
    ]
    spans = trace_of(facts_for(offer(), steps)).spans
    by_id = {span.span_id: span for span in spans}
    assert len(by_id) == len(spans)
    for parent in spans:
        below = [one for one in spans if one.parent_span_id == parent.span_id and one.name in STAGE_NAMES.values()]
        assert all(parent.start_ns <= one.start_ns <= (one.end_ns or 0) <= (parent.end_ns or 0) for one in below)
        assert all((one.end_ns or 0) <= other.start_ns for one, other in pairwise(below))
