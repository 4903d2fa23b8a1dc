"""The way of a job through a scale set, as its listener sees it."""

from __future__ import annotations

from platform_clients import HandRunner

from orchestrator.testing.github.model import JobPlan


async def test_a_job_goes_all_the_way(github, listener):
    one = await listener.make_set()
    session = await listener.open(one["id"])
    run = github.dispatch_workflow("acme/shop", [JobPlan("test")])
    (assigned,) = await listener.events(session)
    job = run.jobs[0]
    assert assigned["messageType"] == "JobAssigned"
    assert assigned["jobId"] == job.key
    assert assigned["runnerRequestId"] == 0
    assert assigned["runnerAssignTime"] == "0001-01-01T00:00:00Z"
    made = await listener.generate(one["id"], "zt-1")
    assert made.status == 200
    assert made.json["runner"]["runnerScaleSetId"] == one["id"]
    runner = HandRunner(listener, "zt-1")
    await runner.come()
    told = await runner.job()
    assert told.json["messageType"] == "RunnerJobRequest"
    assert told.json["variables"]["GITHUB_RUN_ID"] == str(run.id)
    (started,) = await listener.events(session)
    assert (started["messageType"], started["runnerName"], started["runnerId"]) == (
        "JobStarted",
        "zt-1",
        made.json["runner"]["id"],
    )
    assert (await runner.complete(log="hello")).status == 204
    (completed,) = await listener.events(session)
    assert (completed["messageType"], completed["result"]) == ("JobCompleted", "succeeded")
    assert completed["finishTime"] != "0001-01-01T00:00:00Z"
    assert run.done
    assert (job.conclusion, job.log) == ("success", "hello")
    assert await listener.agents("zt-1") == []
    assert github.counters["POST /_apis/runtime/runnerscalesets/{id}/generatejitconfig"] == 1
