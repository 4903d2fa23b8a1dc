"""The spans of a runner's stages, below the phases of its job. Pure.

Stages are noted when a phase is over, so they are drawn then: as far as they were seen, and not at all where they were
not. A stage that reaches over from one phase into the next belongs to the one in which it ended, and the span says how
long it took in all.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from orchestrator.model.egress import EgressProof
from orchestrator.model.events import RunnerObserved, WaitReason
from orchestrator.model.journey import RunnerPlace, RunnerStage, StageBegan
from orchestrator.telemetry import semconv
from orchestrator.telemetry.open_span import CAPACITY_WAIT, OpenSpan
from orchestrator.telemetry.records import Attributes, AttributeValue, bounded
from orchestrator.telemetry.semconv import OWN
from orchestrator.telemetry.stages import STAGE_NAMES, Stretch, before_work, with_work

_UNOBSERVED = f"{OWN}runner.unobserved"
_NO_ROOM = (WaitReason.QUOTA_EXHAUSTED, WaitReason.GUARD_MISSING, WaitReason.BACKEND_UNAVAILABLE)
_NOT_TOLD = RunnerPlace()
_PULLS = (RunnerStage.PULL_AGENT, RunnerStage.PULL_JOB)
_NOT_YET = 1 << 62
"""The end of what goes on, in Unix nanoseconds: later than anything that has happened."""
_IMAGE = re.compile(r"(?P<name>[^@]+?)(?::(?P<tag>[^:/@]+))?(?:@(?P<digest>.+))?")

OpenBelow = Callable[[str, OpenSpan, Attributes, int], OpenSpan]
"""Name, parent, attributes and start (Unix nanoseconds) to a new span."""


class RunnerSpans:
    """Of one job, whose runners come one after the other. `phases` are told as they begin."""

    def __init__(self, open_below: OpenBelow) -> None:
        self._open = open_below
        self._phases: list[OpenSpan] = []
        self._bound_ns = 0
        self._log_closed_ns = 0
        self._flush: Stretch | None = None
        self._forget()

    def _forget(self) -> None:
        self._phases = []
        self._begun: dict[RunnerStage, StageBegan] = {}
        self._place = RunnerPlace()
        self._uid = ""
        self._no_room: tuple[int, str] | None = None
        self._over: tuple[int, str] | None = None
        self._exited_ns = 0
        self._drawn_in: OpenSpan | None = None

    def begin(self, provision: OpenSpan) -> None:
        """A runner is meant to be made, in this phase."""
        self._forget()
        self._phases.append(provision)

    def enter(self, phase: OpenSpan) -> None:
        """The job's next phase, in which stages may end."""
        if self._phases:
            self._phases.append(phase)
            phase.attributes |= self._where()

    def note(self, event: RunnerObserved) -> None:
        news = not self._begun
        for one in event.stages:
            self._begun.setdefault(one.stage, one)
        self._place, self._uid = event.place if event.place != _NOT_TOLD else self._place, event.uid
        if self._phases:
            self._phases[-1].attributes |= self._where()
        if news and self._over is not None:  # who recorded the end had not seen any of it
            self.over(*self._over)

    def wait(self, reason: WaitReason, at_ns: int) -> None:
        """Nothing could be made now, for want of room, of a guard or of an answer."""
        if reason in _NO_ROOM and self._no_room is None and len(self._phases) == 1:
            self._no_room = at_ns, reason.value

    def bound(self, at_ns: int, proof: EgressProof) -> None:
        """The runner has the work."""
        self._bound_ns = at_ns
        self._draw_start(at_ns, proof, "")

    def exited(self, at_ns: int) -> None:
        """The runner is known to have ended; its job goes on until its platform has said how that went."""
        self._exited_ns = at_ns

    def over(self, at_ns: int, error_type: str = "") -> None:
        """The runner vanished, or its job ended. `error_type` is put on the stage that it was at."""
        if not self._phases:
            return
        self._over = at_ns, error_type
        if self._bound_ns:
            self._draw_work(self._exited_ns or at_ns, error_type)
        else:
            self._draw_start(at_ns, None, error_type)

    def so_far(self, news: RunnerObserved | None) -> None:
        """Draw the stages of a runner that is on its way, the last one open. `news` is what is not on record yet."""
        if news is not None:
            self.note(news)
        if self._over is not None:
            self._look_at(self._flush)
        elif self._phases:
            self._draw_way()

    def _draw_way(self) -> None:
        end_ns = self._exited_ns or _NOT_YET
        if self._bound_ns:
            stretches = with_work(self._begun, self._bound_ns, end_ns, contained=bool(self._place.namespace))
        else:
            stretches = self._stretches_before_work(end_ns, None)
            self._draw_wait(stretches, _NOT_YET)
        for one in stretches:
            ended_ns = self._log_closed_ns or _NOT_YET if one.stage is RunnerStage.FLUSH else one.ended_ns
            if ended_ns < _NOT_YET:
                self._draw(one, max(ended_ns, one.began_ns), self._bound_ns)
            else:
                self._look_at(one)

    def _look_at(self, one: Stretch | None) -> None:
        """Draw a stage that goes on, in the phase that does."""
        if one is not None and self._phases[-1].end_ns is None:
            self._open_stage(one, self._phases[-1], max(one.began_ns, self._phases[-1].start_ns))

    def log_closed(self, at_ns: int) -> None:
        """All output has been read."""
        self._log_closed_ns = at_ns
        if self._flush is not None:
            self._draw(self._flush, max(at_ns, self._flush.began_ns), self._bound_ns)
            self._flush = None

    def _draw_start(self, at_ns: int, proof: EgressProof | None, error_type: str) -> None:
        stretches = self._stretches_before_work(at_ns, proof)
        self._drawn_in = self._drawn_in or self._phases[-1]
        phase = self._drawn_in.attributes
        if self._begun:
            phase.pop(_UNOBSERVED, None)
        else:
            phase[_UNOBSERVED] = True
        if self._place.warm:
            phase[f"{OWN}runner.warm"] = True
        self._draw_wait(stretches, at_ns)
        for one in stretches:
            span = self._draw(one, one.ended_ns)
            if one.cut and error_type and span is not None:
                span.fail(error_type)

    def _stretches_before_work(self, end_ns: int, proof: EgressProof | None) -> list[Stretch]:
        return before_work(self._begun, proof, end_ns, 0 if self._place.warm else self._phases[0].start_ns)

    def _draw_wait(self, stretches: list[Stretch], at_ns: int) -> None:
        if self._no_room is None:
            return
        began_ns, reason = self._no_room
        made = next((one.began_ns for one in stretches if one.stage is RunnerStage.CREATE), None)
        provision = self._phases[0]
        if made is None:
            if len(self._phases) > 1:
                return  # it was made in the end, and nobody saw when it was asked for
            made = at_ns
        if made >= began_ns:
            values = {**_state(provision), f"{OWN}wait.reason": reason}
            span = self._open(CAPACITY_WAIT, provision, values, began_ns)
            if made < _NOT_YET:
                span.close(made)

    def _draw_work(self, at_ns: int, error_type: str) -> None:
        stretches = with_work(self._begun, self._bound_ns, at_ns, contained=bool(self._place.namespace))
        blamed = next((one for one in stretches if one.stage is RunnerStage.RUN), stretches[-1] if stretches else None)
        for one in stretches:
            if one.stage is RunnerStage.FLUSH:
                self._flush = one
                continue
            span = self._draw(one, one.ended_ns, self._bound_ns)
            if one is blamed and error_type and span is not None:
                span.fail(error_type)
        if self._flush is not None and self._log_closed_ns:
            self.log_closed(self._log_closed_ns)

    def _draw(self, one: Stretch, ended_ns: int, since_ns: int = 0) -> OpenSpan | None:
        """Below the phase in which it ended, of those that began then or later."""
        phases = [phase for phase in self._phases if phase.start_ns >= since_ns]
        phase = next((phase for phase in phases if phase.end_ns is None or ended_ns <= phase.end_ns), None)
        if phase is None:
            return None
        began_ns = max(one.began_ns, phase.start_ns)
        if ended_ns < phase.start_ns or (ended_ns == phase.start_ns and one.began_ns < ended_ns):
            return None  # a warm runner had come so far before the job was there
        span = self._open_stage(one, phase, began_ns)
        if began_ns > one.began_ns:
            span.attributes[f"{OWN}stage.seconds"] = (ended_ns - one.began_ns) / 1e9
        span.close(ended_ns)
        return span

    def _open_stage(self, one: Stretch, phase: OpenSpan, began_ns: int) -> OpenSpan:
        values: dict[str, AttributeValue] = {**_state(phase), f"{OWN}time.source": one.source.value}
        if one.stage in _PULLS:
            job = one.stage is RunnerStage.PULL_JOB
            values |= of_image(self._place.job_image if job else self._place.agent_image)
        return self._open(STAGE_NAMES[one.stage], phase, values, began_ns)

    def _where(self) -> Attributes:
        return of_place(self._place, self._uid)


def of_place(place: RunnerPlace, uid: str) -> Attributes:
    """Where a runner is, in the names for Kubernetes; nothing for one that is elsewhere."""
    if not place.namespace:
        return {}
    return bounded(
        {
            semconv.K8S_NAMESPACE_NAME: place.namespace,
            semconv.K8S_POD_NAME: place.name,
            semconv.K8S_POD_UID: uid,
            semconv.K8S_NODE_NAME: place.machine,
        }
    )


def of_image(reference: str) -> Attributes:
    """An image's reference in its parts."""
    parts = _IMAGE.fullmatch(reference)
    if parts is None:
        return {}
    name, tag, digest = parts.group("name", "tag", "digest")
    tags, digests = ((tag,) if tag else ()), ((f"{name}@{digest}",) if digest else ())
    return bounded(
        {
            semconv.CONTAINER_IMAGE_NAME: name,
            semconv.CONTAINER_IMAGE_TAGS: tags,
            semconv.CONTAINER_IMAGE_REPO_DIGESTS: digests,
        }
    )


def _state(phase: OpenSpan) -> Attributes:
    key = semconv.CICD_PIPELINE_RUN_STATE
    return {key: phase.attributes[key]} if key in phase.attributes else {}
