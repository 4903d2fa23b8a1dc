"""How long each stage of a runner's way took, from what was noted of it. Pure; traces and metrics read the same."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from orchestrator.model.egress import EgressProof
from orchestrator.model.events import RunnerBound, RunnerObserved
from orchestrator.model.journey import RunnerStage, StageBegan, TimeSource, in_order

STAGE_NAMES: Mapping[RunnerStage, str] = {
    RunnerStage.CREATE: "create",
    RunnerStage.SCHEDULE: "schedule",
    RunnerStage.SANDBOX: "pod.sandbox",
    RunnerStage.PULL_AGENT: "image.pull",
    RunnerStage.START: "start",
    RunnerStage.PROVE: "egress.proof",
    RunnerStage.CLAIM: "claim",
    RunnerStage.PULL_JOB: "image.pull",
    RunnerStage.RUN: "run",
    RunnerStage.FLUSH: "log.flush",
}
"""The span of each stage."""

_WORK = (RunnerStage.PULL_JOB, RunnerStage.RUN, RunnerStage.FLUSH)
"""What comes after the binding."""

Begun = Mapping[RunnerStage, StageBegan]


@dataclass(frozen=True, slots=True)
class Stretch:
    """A stage with both its ends, in Unix nanoseconds. `cut` says that the next stage was never seen to begin."""

    stage: RunnerStage
    began_ns: int
    ended_ns: int
    source: TimeSource
    cut: bool


def before_work(begun: Begun, proof: EgressProof | None, end_ns: int, since_ns: int = 0) -> list[Stretch]:
    """The stages until the binding, or until the end of a runner that never got that far, which is `end_ns`.

    What the agent says of itself when it claims is more exact than what its cluster writes down. `since_ns` is when a
    runner that was not there before its job was begun: a clock of whole seconds may say that it came further earlier,
    and so may an agent.
    """
    stages = {stage: _not_before(one, since_ns) for stage, one in begun.items() if stage not in _WORK}
    if proof is not None:
        told = (
            (RunnerStage.START, proof.agent_began_ns),
            (RunnerStage.PROVE, proof.began_ns),
            (RunnerStage.CLAIM, proof.ended_ns),
        )
        agent = (StageBegan(stage, at_ns, TimeSource.AGENT) for stage, at_ns in told if at_ns)
        stages |= {one.stage: _not_before(one, since_ns) for one in agent}
    return list(_stretches(stages.values(), end_ns))


def with_work(begun: Begun, bound_ns: int, end_ns: int, *, contained: bool) -> list[Stretch]:
    """The stages from the binding to the end of the runner; the last one is cut at `end_ns`.

    The work comes with the binding, whatever a clock of whole seconds says. Unless it is `contained`, in a container of
    its own whose start would have been seen, it begins there.
    """
    stages = {stage: _not_before(begun[stage], bound_ns) for stage in _WORK if stage in begun}
    if begun and not contained:
        stages[RunnerStage.RUN] = StageBegan(RunnerStage.RUN, bound_ns)
    return list(_stretches(stages.values(), end_ns))


def start_seconds(
    observed: Iterable[RunnerObserved], bound: RunnerBound, since_ns: int, bound_at_ns: int
) -> list[tuple[str, float]]:
    """Name (`create`, `schedule`, `pod_sandbox`, `image_pull`, `start`, `egress_proof`, `claim`) and length of each
    stage of a runner that was bound.

    `observed` are the notes on this runner, `since_ns` is when it was begun for its job: what was over by then, as much
    of the way of a warm runner is, took nothing of the job's time. Times are Unix nanoseconds.
    """
    begun = {one.stage: one for note in observed for one in note.stages}
    return [
        (STAGE_NAMES[one.stage].replace(".", "_"), (one.ended_ns - max(one.began_ns, since_ns)) / 1e9)
        for one in before_work(begun, bound.proof, bound_at_ns)
        if one.ended_ns >= since_ns
    ]


def _not_before(one: StageBegan, at_ns: int) -> StageBegan:
    return one if one.at_ns >= at_ns else StageBegan(one.stage, at_ns, one.source)


def _stretches(stages: Iterable[StageBegan], end_ns: int) -> Iterator[Stretch]:
    ordered: Sequence[StageBegan] = in_order(stages)
    for number, one in enumerate(ordered):
        last = number + 1 == len(ordered)
        ended_ns = end_ns if last else min(ordered[number + 1].at_ns, end_ns)
        yield Stretch(one.stage, min(one.at_ns, ended_ns), ended_ns, one.source, last)
