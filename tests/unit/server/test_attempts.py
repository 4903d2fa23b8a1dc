"""Sign-ins under way: whose they are, for how long, and that nobody can end those of others."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.identity.sign_in.provider import SignInError
from orchestrator.server.page.attempts import ATTEMPT_SECONDS, MAX_COOKIE, MAX_TAKEN, Attempts


def refused(attempts: Attempts, provider: str, state: str, shown: str) -> bool:
    try:
        attempts.take(provider, state, shown)
    except SignInError as error:
        return error.reason == "sign_in_unknown"
    return False


def test_it_is_for_the_browser_the_provider_and_the_state_it_was_begun_with_and_once():
    attempts = Attempts(lambda: 1e9)
    begun, shown = attempts.begin("corp")
    another, others = attempts.begin("corp")
    for provider, state, cookie in (
        ("other", begun.state, shown),
        ("corp", another.state, shown),
        ("corp", begun.state, others),
        ("corp", begun.state, shown.replace("1000000600", "1000000601")),
        ("corp", begun.state, shown + "x"),
    ):
        assert refused(attempts, provider, state, cookie), (provider, state, cookie)
        assert refused(Attempts(lambda: 1e9), "corp", begun.state, shown), "another process has another key"
    assert attempts.take("corp", begun.state, shown) == begun
    assert refused(attempts, "corp", begun.state, shown)
    assert attempts.take("corp", another.state, others) == another


def test_what_is_kept_elsewhere_tells_nothing_of_the_exchange():
    begun, shown = Attempts().begin("corp")
    secrets = {begun.state, begun.nonce, begun.verifier}
    assert len(secrets) == 3
    assert all(re.fullmatch(r"[A-Za-z0-9_-]{43}", one) for one in secrets)
    assert not any(one in shown for one in secrets)
    assert len(shown) <= MAX_COOKIE


def test_they_end_in_time():
    now = [0.0]
    attempts = Attempts(lambda: now[0])
    begun, shown = attempts.begin("corp")
    now[0] = ATTEMPT_SECONDS
    assert refused(attempts, "corp", begun.state, shown)


def test_nobody_makes_us_forget_that_of_another():
    attempts = Attempts()
    begun, shown = attempts.begin("corp")
    for _ in range(MAX_TAKEN + 100):
        flood, cookie = attempts.begin("corp")
        attempts.take("corp", flood.state, cookie)
    assert len(attempts._taken) == MAX_TAKEN
    assert attempts.take("corp", begun.state, shown) == begun


@given(st.text(max_size=200), st.text(max_size=200), st.text(max_size=200))
def test_nothing_that_we_have_not_marked_is_believed(provider, state, shown):
    with pytest.raises(SignInError):
        Attempts().take(provider, state, shown)
