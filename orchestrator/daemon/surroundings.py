"""What the daemon knows of why a job stands where it stands, beside the job's own record."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from orchestrator.backends.kubernetes.view import Limits
from orchestrator.journal.trail import KeptJournal
from orchestrator.lifecycle.engine import Engine
from orchestrator.lifecycle.observation import SECOND
from orchestrator.lifecycle.why import Around, Surroundings
from orchestrator.model.events import WaitReason
from orchestrator.model.record import Record
from orchestrator.settings import Settings

_CLUSTER = "kubernetes"


def surroundings(engine: Engine, journal: KeptJournal, settings: Settings) -> Around:
    """What the engine knows, with the limits of the backend on which the job's runner is, and what keeps the whole
    daemon from recording anything. Blocks for no longer than it takes to count the jobs in one pool's line."""
    limits = obstacle_limits(settings)

    def around(record: Record, /, *, place: bool = True) -> Surroundings:
        found = engine.around(record, place=place)
        found = replace(found, unrecorded=journal.problem or found.unrecorded)
        return replace(found, obstacle_ns=limits) if record.backend == _CLUSTER else found

    return around


def obstacle_limits(settings: Settings) -> Mapping[WaitReason, int]:
    """For how long a runner on a cluster may be kept from starting, in nanoseconds, by what keeps it."""
    given = settings.kubernetes
    limits = Limits(given.image_pull_seconds, given.unschedulable_seconds)
    seconds = {
        WaitReason.IMAGE_PULL: limits.image_pull,
        WaitReason.UNSCHEDULABLE: limits.unschedulable,
        WaitReason.START_FAILING: limits.start,
    }
    return {reason: int(limit * SECOND) for reason, limit in seconds.items()}
