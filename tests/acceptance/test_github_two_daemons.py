"""Two daemons for one scale set, each with a state of its own: one listens, the other takes over; no job runs twice."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from github_site import GitHubSite
from installation import Installation
from witness import Witness

from orchestrator.testing.github.server import GitHubServer

pytestmark = [pytest.mark.sandbox, pytest.mark.slow, pytest.mark.timeout(240)]

FORGOTTEN_SECONDS = 130
"""By then GitHub lets the session of a listener go that does not poll any more."""


@pytest.fixture
def sites(
    github: GitHubServer, installed: Callable[..., Installation], witness: Witness
) -> tuple[GitHubSite, GitHubSite]:
    deadlines = {"naming_seconds": 12.0}
    return (
        GitHubSite(installed(), github, witness, deadlines=deadlines),
        GitHubSite(installed(), github, witness, deadlines=deadlines),
    )


async def conflicting(site: GitHubSite) -> None:
    """The daemon says that another one listens to its set."""
    while True:
        (source,) = (await site.here.call("GET", "/v1/sources")).body["sources"]
        if any(one["stage"] == "conflict" for one in source["sets"]):
            return


async def test_the_second_waits_and_takes_over(sites: tuple[GitHubSite, GitHubSite], github: GitHubServer) -> None:
    first, second = sites
    first.witness.open_gate()
    await first.here.start()
    await first.listening()
    await second.here.start()
    await conflicting(second)
    run = first.dispatch(jobs=2)
    await first.done(run)
    await first.at_rest()
    assert await second.lines() == []

    first.freeze("orchestrator.egress")
    left = first.dispatch()
    await first.records_until(lambda lines: lines[0]["phase"] in ("provisioning", "binding"))
    await first.kill()
    await github.clock.step(FORGOTTEN_SECONDS)
    await second.done(left, 120)
    await second.at_rest()
    assert [job.conclusion for job in (*run.jobs, *left.jobs)] == ["success"] * 3

    await first.here.start()  # it had promised a runner for the job that the other one did
    await conflicting(first)
    await first.at_rest()
    more = second.dispatch()
    await second.done(more)
    await second.at_rest()
    assert await first.here.stop() == 0
    assert await second.here.stop() == 0
    assert first.words() == [["started", "gate", "done"]] * 4
    assert (len(await first.named()), len(await second.named())) == (2, 2)
    for site in sites:
        assert await site.wrong() == []


async def test_an_orderly_end_hands_over_at_once(sites: tuple[GitHubSite, GitHubSite]) -> None:
    first, second = sites
    await first.here.start()
    await first.listening()
    await second.here.start()
    await conflicting(second)
    assert await first.here.stop() == 0
    first.witness.open_gate()
    run = second.dispatch()
    await second.done(run, 90)
    await second.at_rest()
    assert await second.here.stop() == 0
    assert run.jobs[0].conclusion == "success"
    for site in sites:
        assert await site.wrong() == []
    assert (len(await first.named()), len(await second.named())) == (0, 1)
