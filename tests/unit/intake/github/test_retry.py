"""The one rule for trying again, the gate of rate limits, and values that are kept."""

from __future__ import annotations

import asyncio

import pytest
from multidict import CIMultiDict

from orchestrator.errors import GiveUpError, TryAgainError
from orchestrator.intake.github import errors
from orchestrator.intake.github.answers import Answer
from orchestrator.intake.github.connection import Timing
from orchestrator.intake.github.kept import Held, Kept
from orchestrator.intake.github.rate_gate import LONGEST_STRIKE, RateGate
from orchestrator.intake.github.rest import protocol as rest_protocol
from orchestrator.intake.github.rest.objects import RateLimit
from orchestrator.intake.github.retry import Retries, may_repeat
from orchestrator.intake.github.scale_sets import protocol
from orchestrator.intake.github.scale_sets.protocol import Repeat
from orchestrator.intake.github.stats import CallStats
from orchestrator.intake.github.urls import parse_github_url

UNSENT = errors.UnavailableError("x")
UNSENT.unsent = True
URL = parse_github_url("https://github.com/acme")
RUN = rest_protocol.workflow_run(URL, "acme", "shop", 1)


@pytest.mark.parametrize(
    ("error", "freely", "unsent"),
    [
        (errors.UnavailableError("x"), True, False),
        (UNSENT, True, True),
        (errors.UnreadableAnswerError("x"), True, False),
        (errors.UnavailableError("x", retry_after_seconds=29), True, False),
        (errors.UnavailableError("x", retry_after_seconds=31), False, False),
        (errors.RateLimitedError("x", retry_after_seconds=30), True, True),
        (errors.RateLimitedError("x", retry_after_seconds=31), False, False),
        (errors.RateLimitedError("x"), True, True),
        (errors.UnauthorizedError("x"), False, False),
        (errors.SessionConflictError("x"), False, False),
        (errors.BusyError("x"), False, False),
        (errors.RefusedError("x"), False, False),
        (GiveUpError("x"), False, False),
        (ValueError("x"), False, False),
    ],
)
def test_what_is_tried_again(error, freely, unsent):
    assert may_repeat(error, Repeat.FREELY) is freely
    assert may_repeat(error, Repeat.UNSENT) is unsent
    assert may_repeat(error, Repeat.NEVER) is False


class Steps:
    def __init__(self) -> None:
        self.time = 1000.0
        self.waits: list[float] = []

    async def sleep(self, seconds: float) -> None:
        self.waits.append(seconds)
        self.time += seconds

    def timing(self, chance: float = 0.0) -> Timing:
        return Timing(lambda: self.time, lambda: self.time, self.sleep, lambda: chance)


async def fails(*failures):
    left = list(failures)

    async def once():
        if left:
            raise left.pop(0)
        return "done"

    return once


@pytest.mark.parametrize(("chance", "expected"), [(0.0, [0.5, 1, 2, 4]), (1.0, [1, 2, 4, 8])])
async def test_waits_grow_and_are_spread(chance, expected):
    steps, told = Steps(), []
    once = await fails(*[errors.UnavailableError("x")] * 4)
    assert await Retries(steps.timing(chance), told.append).run(Repeat.FREELY, once) == "done"
    assert steps.waits == told == expected


async def test_the_last_error_is_raised_as_it_is():
    steps, last = Steps(), errors.UnavailableError("last")
    once = await fails(*[errors.UnavailableError("x")] * 4, last)
    with pytest.raises(errors.UnavailableError) as caught:
        await Retries(steps.timing(), lambda _: None).run(Repeat.FREELY, once)
    assert caught.value is last


async def test_a_wait_that_was_asked_for_is_obeyed():
    steps = Steps()
    once = await fails(errors.RateLimitedError("x", retry_after_seconds=20))
    await Retries(steps.timing(1.0), lambda _: None).run(Repeat.UNSENT, once)
    assert steps.waits == [pytest.approx(22)]


def limited(**headers):
    return Answer(403, CIMultiDict({name.replace("_", "-"): value for name, value in headers.items()}), b"")


def test_a_limit_without_a_time_doubles_until_a_call_passes():
    steps, stats = Steps(), CallStats()
    gate = RateGate(steps.timing(), stats)
    waits = []
    for _ in range(6):
        error = errors.RateLimitedError("x")
        gate.refused(RUN, error)
        waits.append(error.retry_after_seconds)
        with pytest.raises(errors.RateLimitedError):
            gate.check(RUN)
        steps.time += error.retry_after_seconds
        gate.check(RUN)
    assert waits == [60, 120, 240, 480, LONGEST_STRIKE, LONGEST_STRIKE]
    gate.passed(RUN, Answer(200, CIMultiDict(), b""))
    error = errors.RateLimitedError("x")
    gate.refused(RUN, error)
    assert error.retry_after_seconds == 60


def test_limits_are_apart_by_token_and_resource():
    steps, stats = Steps(), CallStats()
    gate = RateGate(steps.timing(), stats)
    bucket = {"X_RateLimit_Limit": "9", "X_RateLimit_Remaining": "0", "X_RateLimit_Reset": str(int(steps.time) + 60)}
    register = rest_protocol.runner_registration(URL)
    token = rest_protocol.registration_token(URL)
    gate.passed(token, limited(**bucket, X_RateLimit_Resource="actions_runner_registration"))
    with pytest.raises(errors.RateLimitedError) as caught:
        gate.check(token)
    assert caught.value.retry_after_seconds == 60
    gate.check(RUN)
    gate.check(register)
    gate.check(protocol.get_scale_set("https://service", 5))
    assert stats.picture().limits["actions_runner_registration"].remaining == 0
    steps.time += 60
    gate.check(token)


def test_the_actions_service_is_never_held_back():
    gate = RateGate(Steps().timing(), CallStats())
    poll = protocol.poll("https://queue", 0, 1)
    gate.refused(poll, errors.RateLimitedError("x", retry_after_seconds=100))
    gate.check(poll)


async def test_a_kept_value_is_fetched_once_and_renewed_in_time():
    steps, fetched = Steps(), []

    async def fetch():
        await asyncio.sleep(0)
        fetched.append(steps.time)
        return Held(f"v{len(fetched)}", 600)

    kept = Kept(fetch, lambda: steps.time)
    assert await asyncio.gather(*(kept.get() for _ in range(5))) == ["v1"] * 5
    steps.time += 539
    assert await kept.get() == "v1"
    steps.time += 1
    assert await kept.get() == "v2"
    kept.drop("v1")
    assert await kept.get() == "v2", "another one was refused"
    kept.drop("v2")
    assert await kept.get() == "v3"


@pytest.mark.parametrize("life", [0, 10, 40])
async def test_a_value_that_ends_at_once_is_used_for_a_while(life):
    steps, fetched = Steps(), []

    async def fetch():
        fetched.append(1)
        return Held("v", life)

    kept = Kept(fetch, lambda: steps.time)
    for _ in range(5):
        await kept.get()
        steps.time += 5
    assert len(fetched) == 1, "our clock may be wrong; a refusal will tell"


async def test_a_renewal_that_fails_is_tried_again_after_a_pause():
    steps, failing, tries = Steps(), [False], []

    async def fetch():
        tries.append(steps.time)
        if failing[0]:
            raise TryAgainError("x")
        return Held("v", 600)

    kept = Kept(fetch, lambda: steps.time)
    await kept.get()
    failing[0] = True
    steps.time += 545
    assert [await kept.get() for _ in range(3)] == ["v"] * 3
    assert len(tries) == 2
    steps.time += 6
    assert await kept.get() == "v"
    assert len(tries) == 3
    steps.time += 60
    with pytest.raises(TryAgainError):
        await kept.get()


async def test_who_fetches_may_be_cancelled():
    started = asyncio.Event()
    release = asyncio.Event()

    async def fetch():
        started.set()
        await release.wait()
        return Held("v", 600)

    kept = Kept(fetch, lambda: 0.0)
    first = asyncio.ensure_future(kept.get())
    second = asyncio.ensure_future(kept.get())
    await started.wait()
    first.cancel()
    release.set()
    assert await second == "v"
    with pytest.raises(asyncio.CancelledError):
        await first


def test_kinds_of_limits_are_bounded_for_each_is_a_label_of_metrics():
    stats = CallStats()
    for number in range(1000):
        stats.limit(RateLimit(f"made-up-{number}", 10, 5, 0))
    stats.limit(RateLimit("made-up-0", 10, 4, 0))
    limits = stats.picture().limits
    assert (len(limits), limits["made-up-0"].remaining) == (64, 4)
