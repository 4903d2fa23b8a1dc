"""The way of a job through a scale set, as its listener sees it."""

from __future__ import annotations

import asyncio
import json

import pytest
from platform_clients import AGENTS, SETS, HandRunner

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


async def test_one_session_for_each_set(github, listener):
    one = await listener.make_set()
    session = await listener.open(one["id"])
    refused = await listener.ask("POST", f"{SETS}/{one['id']}/sessions", json={"ownerName": "second"})
    assert refused.status == 409
    assert "RunnerScaleSetSessionConflictException" in refused.type_name
    assert "already has an active session for owner test" in refused.json["message"]
    path = f"{SETS}/{one['id']}/sessions/{session['sessionId']}"
    assert (await listener.ask("DELETE", path)).status == 204
    await listener.open(one["id"])


async def test_a_refreshed_session_has_a_new_token(github, listener):
    one = await listener.make_set()
    session = await listener.open(one["id"])
    told = await listener.ask("PATCH", f"{SETS}/{one['id']}/sessions/{session['sessionId']}")
    assert told.status == 200
    assert told.json["sessionId"] == session["sessionId"]
    assert told.json["messageQueueAccessToken"] != session["messageQueueAccessToken"]
    assert told.json["statistics"]["totalAssignedJobs"] == 0


async def test_a_lost_session(github, listener):
    """A poll says 400 expired, a refresh 404; a poll that waits ends at once."""
    one = await listener.make_set()
    session = await listener.open(one["id"])
    waiting = asyncio.create_task(listener.poll(session))
    held = github.state.sets[one["id"]]
    await github.until(lambda: held.session is not None and held.session.polls == 1)
    github.lose_session(held)
    for answer in (await waiting, await listener.poll(session)):
        assert answer.status == 400
        assert "RunnerScaleSetSessionExpiredException" in answer.type_name
    told = await listener.ask("PATCH", f"{SETS}/{one['id']}/sessions/{session['sessionId']}")
    assert told.status == 404
    assert "RunnerAdminException" in told.type_name


async def test_an_empty_queue_url(github, listener):
    one = await listener.make_set()
    github.faults.empty_queue_url = True
    assert (await listener.open(one["id"]))["messageQueueUrl"] == ""


async def test_a_poll_with_nothing_to_say_is_held_and_then_empty(github, listener, options):
    options.poll_hold = 0.05
    session = await listener.open((await listener.make_set())["id"])
    answer = await listener.poll(session)
    assert (answer.status, answer.body) == (202, b"")


async def test_messages_come_again_until_they_are_deleted(github, listener, options):
    session = await listener.open((await listener.make_set())["id"])
    github.dispatch_workflow("acme/shop")
    first = await listener.poll(session)
    again = await listener.poll(session)
    assert first.json["messageId"] == again.json["messageId"]
    assert first.json["body"] == again.json["body"]
    github.dispatch_workflow("acme/shop")
    later = await listener.poll(session, last=first.json["messageId"])
    assert later.json["messageId"] > first.json["messageId"]
    options.redeliver_older = True
    assert (await listener.poll(session, last=later.json["messageId"])).json["messageId"] == first.json["messageId"]
    options.redeliver_older, options.poll_hold = False, 0.05
    assert (await listener.delete(session, first.json["messageId"])).status == 204
    assert (await listener.delete(session, first.json["messageId"])).status == 204
    assert (await listener.poll(session)).json["messageId"] == later.json["messageId"]
    await listener.delete(session, later.json["messageId"])
    assert (await listener.poll(session)).status == 202


async def test_messages_outlive_their_session_unless_forgotten(github, listener, options):
    one = await listener.make_set()
    session = await listener.open(one["id"])
    github.dispatch_workflow("acme/shop")
    message = (await listener.poll(session)).json["messageId"]
    github.lose_session(github.state.sets[one["id"]])
    session = await listener.open(one["id"])
    assert (await listener.poll(session)).json["messageId"] == message
    github.lose_session(github.state.sets[one["id"]])
    github.faults.forget_messages, options.poll_hold = True, 0.05
    session = await listener.open(one["id"])
    assert (await listener.poll(session)).status == 202
    assert session["statistics"]["totalAssignedJobs"] == 1  # a level: nothing is lost for good


async def test_fifty_in_one_message_and_the_rest_in_the_next(github, listener):
    session = await listener.open((await listener.make_set())["id"])
    github.dispatch_workflow("acme/shop", [JobPlan(str(number)) for number in range(70)])
    answer = await listener.poll(session, capacity=100)
    assert len(json.loads(answer.json["body"])) == 50
    assert answer.json["statistics"]["totalAssignedJobs"] == 70
    assert len(await listener.events(session, answer.json["messageId"], 100)) == 20


async def test_a_backlog_may_be_cut_off(github, listener, options):
    session = await listener.open((await listener.make_set())["id"])
    github.dispatch_workflow("acme/shop", [JobPlan(str(number)) for number in range(70)])
    github.faults.drop_backlog = True
    assert len(await listener.events(session, capacity=100)) == 50
    options.poll_hold = 0.05
    assert (await listener.poll(session, capacity=100)).status == 202


async def test_no_more_is_assigned_than_the_capacity(github, listener):
    session = await listener.open((await listener.make_set())["id"])
    github.dispatch_workflow("acme/shop", [JobPlan(str(number)) for number in range(5)])
    answer = await listener.poll(session, capacity=2)
    assert [one["messageType"] for one in json.loads(answer.json["body"])] == ["JobAssigned"] * 2
    assert answer.json["statistics"]["totalAssignedJobs"] == 2
    assert len(await listener.events(session, answer.json["messageId"], capacity=4)) == 2


@pytest.mark.parametrize("capacity", ["-1", "many", ""])
async def test_a_capacity_is_a_number(github, listener, capacity):
    session = await listener.open((await listener.make_set())["id"])
    assert (await listener.poll(session, **{"X-ScaleSetMaxCapacity": capacity})).status == 400


async def test_a_job_nobody_takes_is_canceled_and_assigned_again(github, listener):
    session = await listener.open((await listener.make_set())["id"])
    run = github.dispatch_workflow("acme/shop")
    assert [one["messageType"] for one in await listener.events(session)] == ["JobAssigned"]
    await github.clock.step(61)
    told = await listener.events(session)
    assert [one["messageType"] for one in told] == ["JobCompleted", "JobAssigned"]
    assert (told[0]["result"], told[0]["runnerId"], told[0]["runnerName"]) == ("canceled", 0, "")
    await github.clock.step(61)
    assert [one["messageType"] for one in await listener.events(session)] == ["JobCompleted"]
    await github.clock.step(31)
    assert [one["messageType"] for one in await listener.events(session)] == ["JobAssigned"]
    assert not run.done


async def test_a_job_cancelled_before_a_runner_had_it(github, listener):
    session = await listener.open((await listener.make_set())["id"])
    run = github.dispatch_workflow("acme/shop")
    await listener.events(session)
    github.state.cancel(run)
    (told,) = await listener.events(session)
    assert (told["messageType"], told["runnerId"], told["runnerName"]) == ("JobCompleted", 0, "")
    assert run.jobs[0].conclusion == "cancelled"


async def test_statistics_are_the_state(github, listener):
    one = await listener.make_set()
    session = await listener.open(one["id"])
    github.dispatch_workflow("acme/shop", [JobPlan("a"), JobPlan("b")])
    await listener.poll(session)
    for name in ("r-1", "r-2", "r-3"):
        await listener.generate(one["id"], name)
    await HandRunner(listener, "r-1").come()
    told = (await listener.ask("GET", f"{SETS}/{one['id']}")).json["statistics"]
    assert told == {
        "totalAvailableJobs": 0,
        "totalAcquiredJobs": 0,
        "totalAssignedJobs": 2,
        "totalRunningJobs": 1,
        "totalRegisteredRunners": 3,
        "totalBusyRunners": 1,
        "totalIdleRunners": 0,
    }
    github.faults.zero_statistics = True
    answer = await listener.poll(session)
    assert set(answer.json["statistics"].values()) == {0}
    assert json.loads(answer.json["body"])[0]["messageType"] == "JobAssigned"


async def test_a_message_of_statistics_only(github, listener):
    one = await listener.make_set()
    session = await listener.open(one["id"])
    github.state.assignment.tell_statistics(github.state.sets[one["id"]])
    assert (await listener.poll(session)).json["body"] == ""


async def test_started_and_completed_may_come_together_or_late_or_again(github, listener):
    one = await listener.make_set()
    session = await listener.open(one["id"])
    run = github.dispatch_workflow("acme/shop")
    await listener.events(session)
    github.state.assignment.hold_started = 25
    await listener.generate(one["id"], "r-1")
    runner = HandRunner(listener, "r-1")
    await runner.come()
    await runner.complete()
    assert [told["messageType"] for told in await listener.events(session)] == ["JobCompleted"]
    await github.clock.step(26)
    assert [told["messageType"] for told in await listener.events(session)] == ["JobStarted"]
    github.state.assignment.tell_again(github.state.sets[one["id"]], run.jobs[0], "JobCompleted")
    assert [told["result"] for told in await listener.events(session)] == ["succeeded"]


async def test_the_platform_chooses_the_runner(github, listener):
    one = await listener.make_set()
    session = await listener.open(one["id"])
    github.state.assignment.pick = lambda idle, job: idle[-1]
    for name in ("r-1", "r-2"):
        await listener.generate(one["id"], name)
        await HandRunner(listener, name).come()
    run = github.dispatch_workflow("acme/shop")
    await listener.poll(session)
    assert run.jobs[0].runner_name == "r-2"


async def test_a_name_is_registered_once(github, listener):
    one = await listener.make_set()
    made = await listener.generate(one["id"], "r-1")
    refused = await listener.generate(one["id"], "r-1")
    assert refused.status == 409
    assert "AgentExistsException" in refused.type_name
    (found,) = await listener.agents("r-1")
    assert found["id"] == made.json["runner"]["id"]
    assert found["runnerScaleSetId"] == one["id"]


async def test_agents_are_found_and_removed(github, listener):
    one = await listener.make_set()
    made = (await listener.generate(one["id"], "r-1")).json["runner"]
    path = f"{AGENTS}/{made['id']}"
    assert (await listener.ask("GET", path)).json["name"] == "r-1"
    assert len((await listener.ask("GET", AGENTS)).json["value"]) == 1
    assert (await listener.ask("DELETE", path)).status == 204
    assert (await listener.ask("DELETE", path)).status == 204
    gone = await listener.ask("GET", path)
    assert gone.status == 404
    assert "AgentNotFoundException" in gone.type_name


async def test_a_busy_agent_stays(github, listener):
    one = await listener.make_set()
    session = await listener.open(one["id"])
    github.dispatch_workflow("acme/shop")
    await listener.poll(session)
    made = (await listener.generate(one["id"], "r-1")).json["runner"]
    await HandRunner(listener, "r-1").come()
    refused = await listener.ask("DELETE", f"{AGENTS}/{made['id']}")
    assert refused.status == 400
    assert "JobStillRunningException" in refused.type_name


async def test_ghes_announces_and_jobs_are_acquired(ghes_options, github, listener):
    one = await listener.make_set()
    session = await listener.open(one["id"])
    assert (await listener.ask("GET", f"{SETS}/{one['id']}/acquirablejobs")).status == 204
    github.dispatch_workflow("acme/shop", [JobPlan("a"), JobPlan("b")])
    told = await listener.events(session)
    assert [one["messageType"] for one in told] == ["JobAvailable"] * 2
    wanted = told[0]["runnerRequestId"]
    assert wanted > 0
    listed = (await listener.ask("GET", f"{SETS}/{one['id']}/acquirablejobs")).json
    assert listed["count"] == 2
    assert listed["value"][0]["runnerRequestId"] == wanted
    path, token = f"{SETS}/{one['id']}/acquirejobs", session["messageQueueAccessToken"]
    won = await listener.ask("POST", path, token=token, json=[wanted, 999_999])
    assert won.json == {"count": 1, "value": [wanted]}
    assert (await listener.ask("POST", path, token=token, json=[wanted])).json == {"count": 0, "value": []}
    (assigned,) = await listener.events(session)
    assert (assigned["messageType"], assigned["runnerRequestId"]) == ("JobAssigned", wanted)


async def test_sets_are_found_changed_and_deleted(github, listener):
    one = await listener.make_set("zt small")
    found = (await listener.ask("GET", f"{SETS}?runnerGroupId=1&name=zt%20small")).json
    assert (found["count"], found["value"][0]["id"]) == (1, one["id"])
    assert found["value"][0]["RunnerSetting"] == {"disableUpdate": True}
    assert (await listener.ask("POST", SETS, json={"name": "zt small"})).status == 400
    changed = await listener.ask("PATCH", f"{SETS}/{one['id']}", json={"name": "other"})
    assert changed.json["name"] == "other"
    assert (await listener.ask("DELETE", f"{SETS}/{one['id']}")).status == 204
    gone = await listener.ask("GET", f"{SETS}/{one['id']}")
    assert gone.status == 404
    assert "RunnerScaleSetNotFoundException" in gone.type_name


async def test_groups_are_found_by_name(listener):
    found = (await listener.ask("GET", "_apis/runtime/runnergroups/?groupName=Default")).json
    assert found == {"count": 1, "value": [{"id": 1, "name": "Default", "size": 0, "isDefaultGroup": True}]}
    assert (await listener.ask("GET", "_apis/runtime/runnergroups/?groupName=none")).json["count"] == 0


async def test_labels_and_scopes_decide(github, listener):
    github.add_repository("other/shop")
    one = await listener.make_set("both", ("linux", "big"))
    session = await listener.open(one["id"])
    fits = github.dispatch_workflow("acme/shop", [JobPlan("fits", labels=("LINUX",))])
    github.dispatch_workflow("acme/shop", [JobPlan("too much", labels=("linux", "gpu"))])
    github.dispatch_workflow("other/shop", [JobPlan("elsewhere", labels=("linux",))])
    assert [told["jobId"] for told in await listener.events(session)] == [fits.jobs[0].key]


async def test_a_job_of_a_deleted_set_finds_another(github, listener):
    first = await listener.make_set("first", ("zt",))
    session = await listener.open(first["id"])
    run = github.dispatch_workflow("acme/shop")
    await listener.poll(session)
    await listener.ask("DELETE", f"{SETS}/{first['id']}")
    second = await listener.make_set("second", ("zt",))
    assert [one["jobId"] for one in await listener.events(await listener.open(second["id"]))] == [run.jobs[0].key]


async def at_work(github, listener):
    """A session, and a runner with a job."""
    one = await listener.make_set()
    session = await listener.open(one["id"])
    run = github.dispatch_workflow("acme/shop")
    await listener.events(session)
    await listener.generate(one["id"], "r-1")
    runner = HandRunner(listener, "r-1")
    await runner.come()
    assert [told["messageType"] for told in await listener.events(session)] == ["JobStarted"]
    return session, run, runner


async def test_a_runner_at_work_is_told_and_reports_the_cancellation(github, listener):
    session, run, runner = await at_work(github, listener)
    github.state.cancel(run)
    assert (await runner.job()).json["messageType"] == "JobCancellation"
    assert not run.done
    await runner.complete("canceled")
    (told,) = await listener.events(session)
    assert (told["messageType"], told["result"], told["runnerName"]) == ("JobCompleted", "canceled", "r-1")


async def test_the_service_ends_a_cancelled_job_whose_runner_says_nothing(github, listener, options):
    options.session_idle = None
    session, run, runner = await at_work(github, listener)
    github.state.cancel(run)
    path = f"{AGENTS}/{runner.registered.id}"
    assert (await listener.ask("DELETE", path)).status == 400
    await github.clock.step(301)
    assert [told["messageType"] for told in await listener.events(session)] == ["JobCompleted"]
    assert (await listener.ask("DELETE", path)).status == 204


async def test_a_job_may_be_told_as_completed_while_its_runner_works(github, listener):
    session, run, runner = await at_work(github, listener)
    github.state.end(run.jobs[0], "succeeded")
    assert [told["result"] for told in await listener.events(session)] == ["succeeded"]
    assert runner.registered.id in github.state.runners
    await runner.complete("failed")
    assert run.jobs[0].result == "succeeded"
    assert github.state.runners == {}
