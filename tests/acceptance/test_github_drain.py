"""SIGTERM with runners of GitHub's: a job that runs may end, a runner that waits for one holds nobody up."""

from __future__ import annotations

import signal
import time

import pytest
from github_site import ONLINE, GitHubSite

from orchestrator.model.outcome import EndReason
from orchestrator.testing.github.faults import Fault

pytestmark = [pytest.mark.sandbox, pytest.mark.timeout(120)]


async def test_an_idle_runner_does_not_hold_it_up(site: GitHubSite) -> None:
    """Its job is gone, another may come at any time; its registration is withdrawn, so that none can."""
    site.github.faults.add(Fault.DELAY, ONLINE, seconds=1)
    await site.here.start()
    await site.listening()
    run = site.dispatch()
    await site.called(ONLINE)
    site.github.state.cancel(run)
    await site.github.until(lambda: any(one.online for one in site.runners))
    begun = time.monotonic()
    assert await site.here.stop() == 0
    assert time.monotonic() - begun < 13, "not the 60 s of drain_seconds, nor the 15 s of a surplus"
    assert await site.here.left() == []
    assert await site.wrong() == []
    (record,) = await site.records()
    assert record.outcome is not None
    assert record.outcome.reason is EndReason.CANCELLED


@pytest.mark.slow
async def test_what_runs_ends_and_what_waits_stays(site: GitHubSite) -> None:
    await site.here.start()
    await site.listening()
    running = site.dispatch()
    await site.gated()
    site.here.signal(signal.SIGTERM)
    while (await site.here.call("GET", "/readyz")).status == 200:
        pass
    late = site.dispatch()
    site.witness.open_gate()
    assert await site.here.exit_code() == 0
    assert running.jobs[0].conclusion == "success", "it ended before the daemon did"
    assert not late.jobs[0].done
    assert await site.here.left() == []
    assert [one.name for one in site.runners] == []

    await site.here.start()
    await site.done(late)
    await site.at_rest()
    assert await site.here.stop() == 0
    assert await site.wrong() == []
    assert site.words() == [["started", "gate", "done"]] * 2


@pytest.mark.slow
async def test_a_runner_that_is_being_made_is_not_waited_for(site: GitHubSite) -> None:
    """It cannot prove its egress, so it never claims: the job is for the next daemon."""
    await site.here.start()
    await site.listening()
    site.freeze("orchestrator.egress")
    run = site.dispatch()
    await site.records_until(lambda lines: [line["phase"] for line in lines] in (["provisioning"], ["binding"]))
    site.here.signal(signal.SIGTERM)
    while (await site.here.call("GET", "/readyz")).status == 200:  # else the runner may be quicker
        pass
    site.stopped.pop().resume()
    begun = time.monotonic()
    assert await site.here.exit_code() == 0
    assert time.monotonic() - begun < 40
    site.witness.open_gate()
    if not run.done:
        await site.here.start()
        await site.done(run)
        await site.at_rest()
        assert await site.here.stop() == 0
    assert run.jobs[0].conclusion == "success"
    assert await site.wrong() == []
