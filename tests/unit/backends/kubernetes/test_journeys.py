"""How far a pod has come, from the API's whole seconds and the moments at which we heard."""

from __future__ import annotations

import json

import pytest

from orchestrator.backends.kubernetes import journeys as module
from orchestrator.backends.kubernetes.journeys import Journeys
from orchestrator.backends.kubernetes.pod import Pod, read_pod, seconds
from orchestrator.backends.kubernetes.registry import Place, Registry
from orchestrator.backends.kubernetes.view import Limits
from orchestrator.backends.kubernetes.watch import Change
from orchestrator.model.journey import Journey, RunnerPlace, RunnerStage, TimeSource
from orchestrator.model.runner import RunnerName

S = RunnerStage
NAME = RunnerName("runner-1")
SECOND = 1_000_000_000
T = seconds("2026-11-26T10:00:00Z") * SECOND
OBSERVED, API = TimeSource.OBSERVED, TimeSource.API


def at(second: int) -> str:
    return f"2026-11-26T10:00:{second:02}Z"


def condition(kind: str, second: int, status: str = "True") -> dict[str, str]:
    return {"type": kind, "status": status, "lastTransitionTime": at(second)}


def pod(
    *,
    scheduled: int | None = None,
    isolated: int | None = None,
    agent: dict[str, object] | None = None,
    job: dict[str, object] | None = None,
    warm: bool = False,
) -> Pod:
    conditions = [condition("PodScheduled", scheduled)] if scheduled is not None else []
    conditions += [condition("PodReadyToStartContainers", isolated)] if isolated is not None else []
    status: dict[str, object] = {"phase": "Pending", "conditions": conditions}
    if agent:
        status["initContainerStatuses"] = [{"name": "agent", "state": agent}]
    if job:
        status["containerStatuses"] = [{"name": "job", "state": job}]
    labels = {"orchestrator.dev/pool": "builds"} | ({"orchestrator.dev/warm": "true"} if warm else {})
    return read_pod(
        json.dumps(
            {
                "metadata": {"name": NAME, "uid": "u1", "creationTimestamp": at(1), "labels": labels},
                "spec": {"nodeName": "node-1"} if scheduled is not None else {},
                "status": status,
            }
        ).encode()
    )


def running(second: int) -> dict[str, object]:
    return {"running": {"startedAt": at(second)}}


def over(began: int, ended: int, code: int = 0) -> dict[str, object]:
    return {"terminated": {"exitCode": code, "startedAt": at(began), "finishedAt": at(ended)}}


def told(ways: Journeys) -> list[tuple[RunnerStage, float, TimeSource]]:
    journey = ways.of("u1")
    assert journey is not None
    return [(one.stage, (one.at_ns - T) / SECOND, one.source) for one in journey.stages]


def heard(*news: tuple[float, Pod]) -> Journeys:
    ways = Journeys()
    for second, one in news:
        ways.heard("runners", one, T + int(second * SECOND))
    return ways


def test_the_whole_way_of_a_pod_that_was_watched() -> None:
    ways = Journeys(lambda one: ("agent:1", f"image-of-{one.pool}"))
    ways.made("u1", T + 1_100_000_000, T + 1_200_000_000)
    for second, one in [
        (1.3, pod()),
        (1.4, pod(scheduled=1)),
        (2.5, pod(scheduled=1, isolated=2)),
        (4.5, pod(scheduled=1, isolated=2, agent=running(4))),
        (5.5, pod(scheduled=1, isolated=2, agent=over(4, 5))),
        (7.5, pod(scheduled=1, isolated=2, agent=over(4, 5), job=running(7))),
        (9.5, pod(scheduled=1, isolated=2, agent=over(4, 5), job=over(7, 9))),
    ]:
        ways.heard("runners", one, T + int(second * SECOND))
    assert told(ways) == [
        *((S.CREATE, 1.1, OBSERVED), (S.SCHEDULE, 1.2, OBSERVED), (S.SANDBOX, 1.4, OBSERVED)),
        *((S.PULL_AGENT, 2.5, OBSERVED), (S.START, 4.5, OBSERVED), (S.PULL_JOB, 5.5, OBSERVED)),
        *((S.RUN, 7.5, OBSERVED), (S.FLUSH, 9.5, OBSERVED)),
    ]
    journey = ways.of("u1")
    assert journey is not None
    assert journey.place == RunnerPlace("runners", NAME, "node-1", "agent:1", "image-of-builds")


@pytest.mark.parametrize(
    ("heard_at", "counts", "source"),
    [
        (4.0, 4.0, OBSERVED),
        (4.999, 4.999, OBSERVED),
        (5.0, 4.999999999, API),
        (8.9, 4.999999999, API),
        (9.0, 4.0, API),
        (3600.0, 4.0, API),
        (3.9, 4.0, API),
    ],
)
def test_our_moment_counts_within_the_second_that_the_api_says(
    heard_at: float, counts: float, source: TimeSource
) -> None:
    ways = heard((heard_at, pod(scheduled=1, agent=running(4))))
    assert [one for one in told(ways) if one[0] is S.START] == [(S.START, counts, source)]


def test_what_was_heard_first_stays() -> None:
    ways = heard((4.2, pod(scheduled=1, agent=running(4))), (4.9, pod(scheduled=1, agent=running(4))))
    assert (S.START, 4.2, OBSERVED) in told(ways)


def test_a_new_daemon_has_the_apis_times() -> None:
    ways = heard((600, pod(scheduled=1, agent=over(4, 5), job=running(7))))
    assert told(ways) == [
        *((S.SCHEDULE, 1.0, API), (S.PULL_AGENT, 1.0, API), (S.START, 4.0, API), (S.PULL_JOB, 5.0, API)),
        (S.RUN, 7.0, API),
    ]


def test_isolation_that_is_told_with_the_container_is_no_border() -> None:
    """Kubelets before 1.36 say so only when the images are there: the pull would have taken no time."""
    ways = heard((1.5, pod(scheduled=1)), (4.5, pod(scheduled=1, isolated=4, agent=running(4))))
    assert [stage for stage, *_ in told(ways)] == [S.SCHEDULE, S.PULL_AGENT, S.START]


def test_no_stage_begins_before_the_one_that_it_follows() -> None:
    ways = Journeys()
    ways.made("u1", T + 3 * SECOND, T + 4 * SECOND)  # our clock is ahead of the cluster's
    ways.heard("runners", pod(scheduled=1), T + 4 * SECOND)
    assert [second for _, second, _ in told(ways)] == [3.0, 4.0, 4.0]


def test_an_agent_that_failed_hands_nothing_over() -> None:
    ways = heard((5.5, pod(scheduled=1, agent=over(4, 5, 78))))
    assert [stage for stage, *_ in told(ways)] == [S.SCHEDULE, S.PULL_AGENT, S.START]


def test_a_container_that_never_ran_has_no_run() -> None:
    """A machine that was lost: the container's state says no beginning."""
    ways = heard((5.5, pod(scheduled=1, agent=over(4, 5), job={"terminated": {"exitCode": 137, "finishedAt": at(5)}})))
    assert [stage for stage, *_ in told(ways)] == [S.SCHEDULE, S.PULL_AGENT, S.START, S.PULL_JOB, S.FLUSH]


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_REMEMBERED", 2)
    ways = Journeys()
    for number in range(3):
        ways.made(f"u{number}", T, T)
    assert [ways.of(f"u{number}") is None for number in range(3)] == [True, False, False]


def test_the_registry_knows_the_way_under_the_runners_name_to_the_end_and_after() -> None:
    registry = Registry(Limits())
    assert registry.journey(NAME) is None
    registry.made(NAME, Place("runners", NAME, "u1"))
    registry.journeys.made("u1", T, T + 1)

    def stages() -> list[RunnerStage]:
        journey: Journey | None = registry.journey(NAME)
        return [one.stage for one in journey.stages] if journey else []

    assert stages() == [S.CREATE, S.SCHEDULE]
    registry.apply("runners", Change(None, pod(scheduled=1)), T + 2 * SECOND)
    assert stages() == [S.CREATE, S.SCHEDULE, S.PULL_AGENT]
    registry.apply("runners", Change(pod(scheduled=1), None), T + 3 * SECOND)
    assert stages() == [S.CREATE, S.SCHEDULE, S.PULL_AGENT]


def test_a_warm_pod_says_that_it_is_one() -> None:
    registry = Registry(Limits())
    registry.apply("runners", Change(None, pod(scheduled=1, warm=True)), T + SECOND)
    registry.adopt(RunnerName("runner-of-a-job"), "u1")
    journey = registry.journey(RunnerName("runner-of-a-job"))
    assert journey is not None
    assert (journey.uid, journey.place.warm, journey.place.name) == ("u1", True, NAME)
