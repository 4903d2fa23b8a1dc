"""The schedule of keys, as a pure plan and over a simulated year."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.errors import ConfigurationError
from orchestrator.identity.rotation import (
    KeyFacts,
    KeyState,
    RotationPlan,
    RotationSchedule,
    plan_asked,
    plan_rotation,
)

SCHEDULE = RotationSchedule(rotation_seconds=1000, publish_ahead_seconds=100, retire_seconds=300)


def plan(keys: list[KeyFacts], now: float) -> RotationPlan:
    return plan_rotation(keys, SCHEDULE, ["RS256"], now)


def key(kid: str, state: KeyState, since: float) -> KeyFacts:
    return KeyFacts(kid, "RS256", state, since)


def test_an_empty_set_gets_a_key_that_signs_at_once():
    assert plan([], 0) == RotationPlan(create=(("RS256", KeyState.ACTIVE),))


def test_the_next_key_is_published_ahead_and_not_earlier():
    active = key("a", KeyState.ACTIVE, 0)
    assert not plan([active], 899)
    assert plan([active], 900) == RotationPlan(create=(("RS256", KeyState.NEXT),))


def test_the_next_key_takes_over_when_both_times_have_passed():
    keys = [key("a", KeyState.ACTIVE, 0), key("n", KeyState.NEXT, 950)]
    assert not plan(keys, 1049)
    assert plan(keys, 1050) == RotationPlan(activate=("n",), retire=("a",))


def test_a_retiring_key_stays_published_for_its_whole_time():
    keys = [key("r", KeyState.RETIRING, 0), key("a", KeyState.ACTIVE, 0)]
    assert not plan(keys, 299)
    assert plan(keys, 300) == RotationPlan(remove=("r",))


def test_without_an_active_key_the_next_one_signs_at_once():
    assert plan([key("n", KeyState.NEXT, 5)], 6) == RotationPlan(activate=("n",))


def test_of_two_active_keys_the_newer_one_stays():
    keys = [key("old", KeyState.ACTIVE, 1), key("new", KeyState.ACTIVE, 2)]
    assert plan(keys, 3) == RotationPlan(retire=("old",))


def test_a_clock_that_ran_backwards_changes_nothing():
    keys = [key("a", KeyState.ACTIVE, 1_000_000), key("r", KeyState.RETIRING, 1_000_000)]
    assert not plan(keys, 0)


def test_algorithms_rotate_apart():
    found = plan_rotation([key("a", KeyState.ACTIVE, 0)], SCHEDULE, ["RS256", "ES256"], 1)
    assert found == RotationPlan(create=(("ES256", KeyState.ACTIVE),))


@pytest.mark.parametrize("field", ["rotation_seconds", "publish_ahead_seconds", "retire_seconds"])
def test_times_must_be_positive(field):
    with pytest.raises(ConfigurationError):
        RotationSchedule(**{field: 0})


def asked(keys: list[KeyFacts], now: float, *, at_once: bool = False) -> RotationPlan:
    return plan_asked(keys, SCHEDULE, ["RS256"], now, at_once=at_once)


def test_what_is_asked_for_is_published_first_and_signs_when_it_is_known():
    active = key("a", KeyState.ACTIVE, 0)
    assert asked([active], 10) == RotationPlan(create=(("RS256", KeyState.NEXT),))
    waits = replace(key("n", KeyState.NEXT, 10), asked=True)
    assert not asked([active, waits], 11)
    assert not plan([active, waits], 109)
    assert plan([active, waits], 110) == RotationPlan(activate=("n",), retire=("a",))


def test_a_key_that_was_published_by_plan_is_asked_for_too():
    active, following = key("a", KeyState.ACTIVE, 0), key("n", KeyState.NEXT, 900)
    assert asked([active, following], 950) == RotationPlan(ask=("n",))
    assert asked([active, following], 1000) == RotationPlan(activate=("n",), retire=("a",))


@pytest.mark.parametrize("waits", [False, True])
def test_at_once_the_follower_signs_and_the_old_key_stays_published(waits):
    active, following = key("a", KeyState.ACTIVE, 0), key("n", KeyState.NEXT, 9)
    expected = {"activate": ("n",)} if waits else {"create": (("RS256", KeyState.ACTIVE),)}
    found = asked([active, following] if waits else [active], 10, at_once=True)
    assert found == RotationPlan(**expected, retire=("a",))


def test_without_a_key_that_signs_there_is_one_soon_all_the_same():
    assert asked([], 5) == RotationPlan(create=(("RS256", KeyState.NEXT),))


@given(
    steps=st.lists(
        st.tuples(st.floats(min_value=0.1, max_value=400), st.sampled_from([False, False, False, True])),
        min_size=1,
        max_size=200,
    )
)
def test_however_the_clock_steps_verifiers_keep_up(steps):
    """One key signs at any time; none signs before it was published long enough; none leaves too early. Whenever
    somebody asks for a rotation, too."""
    keys: dict[str, KeyFacts] = {}
    published_at: dict[str, float] = {}
    stopped_signing_at: dict[str, float] = {}
    now, made = 0.0, 0
    for step, asks in [(0.0, False), *steps]:
        now += step
        found = (asked if asks else plan)(list(keys.values()), now)
        for kid in found.remove:
            assert now - stopped_signing_at[kid] >= SCHEDULE.retire_seconds
            del keys[kid]
        for kid in found.retire:
            keys[kid] = key(kid, KeyState.RETIRING, now)
            stopped_signing_at[kid] = now
        for kid in found.activate:
            assert now - published_at[kid] >= SCHEDULE.publish_ahead_seconds
            keys[kid] = key(kid, KeyState.ACTIVE, now)
        for _, state in found.create:
            assert state is KeyState.NEXT or made == 0
            made += 1
            kid = f"k{made}"
            keys[kid], published_at[kid] = replace(key(kid, state, now), asked=asks), now
        for kid in found.ask:
            keys[kid] = replace(keys[kid], asked=True)
        assert sum(k.state is KeyState.NEXT for k in keys.values()) <= 1
        assert [k.state for k in keys.values()].count(KeyState.ACTIVE) == 1
        # Removal is judged in the same plan as a take-over, so applying it again changes nothing more.
        assert asks or not plan(list(keys.values()), now)
        assert not asks or not asked(list(keys.values()), now) or found.activate
