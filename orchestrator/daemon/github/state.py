"""What a GitHub source shows of itself, in the words that every source has. Pure."""

from __future__ import annotations

from orchestrator.intake.github.scale_sets.source import SourcePicture
from orchestrator.intake.github.scale_sets.status import SetPicture
from orchestrator.intake.github.webhooks.source import WebhookPicture
from orchestrator.model.source import (
    CallCounts,
    CallLimit,
    PlatformCounts,
    RunnerSetState,
    SourceKind,
    SourceState,
)


def source_state(picture: SourcePicture | WebhookPicture) -> SourceState:
    """The picture of either kind as the state of a source."""
    hooks = picture if isinstance(picture, WebhookPicture) else None
    sets = picture.rules if isinstance(picture, WebhookPicture) else picture.sets
    return SourceState(
        name=picture.name,
        kind=SourceKind.WEBHOOKS if hooks else SourceKind.SCALE_SETS,
        url=picture.url,
        sets=tuple(_set_state(one, announces=hooks is None) for one in sets),
        events=dict(picture.counts),
        calls={
            endpoint: CallCounts(dict(count.by_class), count.retries, count.seconds)
            for endpoint, count in picture.endpoints.items()
        },
        calls_per_job=picture.calls_per_job,
        limits={
            resource: CallLimit(limit.limit, limit.remaining, limit.resets_at)
            for resource, limit in picture.limits.items()
        },
        deliveries_waiting=hooks.waiting if hooks else 0,
        deliveries_again=hooks.again if hooks else 0,
        failure=picture.failure,
    )


def _set_state(one: SetPicture, *, announces: bool) -> RunnerSetState:
    counted = one.statistics
    return RunnerSetState(
        name=one.name,
        pool=one.pool,
        stage=one.stage,
        platform_id=one.set_id,
        announced=one.announced if announces else None,
        polled_at_ns=one.polled_at_ns,
        heard_at_ns=one.heard_at_ns,
        jobs=None
        if counted is None
        else PlatformCounts(
            available=counted.available,
            acquired=counted.acquired,
            assigned=counted.assigned,
            running=counted.running,
            registered_runners=counted.registered_runners,
            busy_runners=counted.busy_runners,
            idle_runners=counted.idle_runners,
        ),
        slots=dict(one.slots),
        short=one.short,
        withheld=one.withheld,
        queued=one.queued,
        waiting_for=one.waiting_for,
        failure=one.failure,
        labels_lacking=one.labels_lacking,
        waits=one.waits,
    )
