"""Webhooks as the source of jobs: with every event, with none, with lies, out of order, over kills and outages."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import replace

import pytest
from github_plant import QUICK, Plant, succeeded
from webhook_plant import MARK, rule, webhook_plant

from orchestrator.errors import TryAgainError
from orchestrator.intake.github.names import registered_name
from orchestrator.intake.github.webhooks.job_table import Place
from orchestrator.intake.github.webhooks.receiver import Receipt
from orchestrator.model.decision import Verdict
from orchestrator.model.runner import RunnerName
from orchestrator.testing.github.faults import Fault
from orchestrator.testing.github.model import JobPlan
from orchestrator.testing.policy import FixedPolicy

FOREIGN = RunnerName(f"runner-{'0' * 24}")


async def test_jobs_get_runners_names_and_results(tmp_path):
    async with webhook_plant(tmp_path) as plant:
        run = plant.dispatch(3)
        await plant.github.until(lambda: run.done, 15)
        await plant.at_rest()
        records = await plant.assert_kept()
        assert [job.conclusion for job in run.jobs] == ["success"] * 3
        assert len(succeeded(records)) == len(records) == 3
        assert sorted(record.offer.spec.name for record in records) == ["job 0", "job 1", "job 2"]
        facts = records[0].offer.caller.facts
        assert (facts["repository"], facts["ref"], facts["ref_protected"]) == ("acme/shop", "refs/heads/main", "true")
        assert set(plant.receipts) == {Receipt.ACCEPTED}
        await plant.until(lambda: plant.inbox.waiting == 0)
        calls = sum(plant.source.status().calls.values())
        assert calls <= 6 * len(run.jobs) + 5, plant.source.status().calls


async def test_a_hook_that_goes_first_holds_up_nobody(tmp_path):
    """The first job's hook says nothing, and its job is named when its end is told; the second one's speaks."""
    ended = asyncio.Event()

    async def behave(self: Plant, name: RunnerName) -> int:
        runner = await self.take_job(name)
        if runner is None or not runner.busy:
            return 0
        if runner.job.plan.name == "job 0":
            await ended.wait()
        while runner.job.plan.name != "job 0" and not self._named(name):
            with contextlib.suppress(TryAgainError):
                await self.source.naming.reported(name, "acme/shop", runner.job.run.id)
            await asyncio.sleep(0.01)
        self.github.state.finish(runner, "succeeded")
        return 0

    async with webhook_plant(tmp_path, start=False) as plant:
        plant.timing = replace(QUICK, hook_patience=600.0)
        plant.behave = behave
        await plant.start()
        run = plant.dispatch(2)
        await plant.github.until(lambda: run.jobs[1].conclusion == "success", 8)
        await plant.until(lambda: bool(plant.source.naming._hooks))
        assert not run.jobs[0].conclusion
        ended.set()
        await plant.github.until(lambda: run.done, 8)
        await plant.at_rest()
        assert len(succeeded(await plant.assert_kept())) == 2
        await plant.until(lambda: plant.inbox.waiting == 0 and not plant.source.naming._hooks)


@pytest.mark.parametrize("lost", [{"queued"}, {"in_progress"}, {"completed"}, {"queued", "in_progress", "completed"}])
async def test_lost_webhooks_only_cost_time(tmp_path, lost):
    async with webhook_plant(tmp_path, start=False) as plant:
        plant.sends -= lost
        plant.queued_seconds = 0.05
        plant.places = (Place("acme", "shop"),)
        await plant.start()
        run = plant.dispatch(2)
        await plant.github.until(lambda: run.done, 15)
        await plant.at_rest()
        assert len(succeeded(await plant.assert_kept())) == 2


async def test_a_repository_that_was_heard_of_is_asked_for_more(tmp_path):
    async with webhook_plant(tmp_path, start=False) as plant:
        plant.sends = set()
        plant.queued_seconds = 0.05
        await plant.start()
        run = plant.dispatch(2)
        assert await plant.records() == [], "nobody knows of this repository yet"
        await plant.deliver("queued", run.jobs[0])
        await plant.github.until(lambda: run.done, 15)
        await plant.at_rest()
        assert len(succeeded(await plant.assert_kept())) == 2


async def test_the_same_delivered_many_times_runs_once(tmp_path):
    async with webhook_plant(tmp_path) as plant:
        run = plant.dispatch(1)
        for _ in range(5):
            await plant.deliver("queued", run.jobs[0])
        await plant.github.until(lambda: run.done, 15)
        await plant.at_rest()
        assert len(await plant.assert_kept()) == 1


async def test_events_in_the_wrong_order(tmp_path):
    async with webhook_plant(tmp_path) as plant:
        plant.sends = set()
        run = plant.dispatch(1)
        job = run.jobs[0]
        queued = plant.payload("queued", job)
        await plant.deliver("queued", job)
        await plant.github.until(lambda: run.done or job.runner_name, 15)
        await plant.deliver("completed", job, note="before it is")
        await plant.deliver("in_progress", job)
        await plant.github.until(lambda: run.done, 15)
        await plant.deliver("completed", job, note="now it is")
        await plant.deliver_payload(queued | {"note": "long after"})
        await plant.at_rest()
        await plant.until(lambda: plant.inbox.waiting == 0)
        assert len(succeeded(await plant.assert_kept())) == 1


async def test_payloads_that_lie_lead_nowhere(tmp_path):
    async with webhook_plant(tmp_path) as plant:
        plant.sends = set()
        plant.behave = _never
        run = plant.github.dispatch_workflow("acme/shop", [JobPlan(labels=("other",))])
        job = run.jobs[0]
        told = plant.payload("queued", job)["workflow_job"]
        lies = [
            told | {"labels": ["zt"]},  # the API says that it has others
            told | {"run_id": 77, "labels": ["zt"]},
            told | {"id": 987_654, "labels": ["zt"]},
            told | {"status": "in_progress", "runner_name": registered_name(FOREIGN, 1)},
        ]
        for lie in lies:
            assert await plant.deliver("queued", job, workflow_job=lie) is Receipt.ACCEPTED
        await plant.until(lambda: plant.inbox.waiting == 0)
        assert await plant.records() == []
        assert not plant.github.state.runners


async def _never(_plant: Plant, _name: RunnerName) -> int:
    raise AssertionError("no runner was wanted")


async def test_a_job_that_somebody_else_takes_gives_its_runner_back(tmp_path):
    async with webhook_plant(tmp_path) as plant:
        held = asyncio.Event()

        async def wait_first(plant: Plant, name: RunnerName) -> int:
            await held.wait()
            return await Plant.do_job(plant, name)

        plant.behave = wait_first
        run = plant.dispatch(1)
        await plant.until(lambda: len(plant.github.state.runners) == 1)
        other = plant.github.state.register(
            "acme", "somebody-elses", labels=["zt"], group_id=1, work_folder="_work", one=None
        )
        plant.github.state.come_online(other)
        assert run.jobs[0].runner_name == "somebody-elses"
        held.set()
        plant.github.state.finish(other, "succeeded")
        await plant.at_rest()
        [record] = await plant.assert_kept()
        assert record.outcome is not None
        assert record.outcome.result.value == "cancellation"
        assert plant.source.tally.taken_back == 1


async def test_each_rule_takes_its_labels(tmp_path):
    async with webhook_plant(tmp_path, start=False) as plant:
        plant.rules = (rule("small"), rule("large", "gpu"))
        await plant.start()
        plans = [
            JobPlan("a", labels=("self-hosted", "small")),
            JobPlan("b", labels=("GPU",)),
            JobPlan("c", labels=("small", "gpu")),
            JobPlan("d", labels=("ubuntu-latest",)),
        ]
        run = plant.github.dispatch_workflow("acme/shop", plans)
        await plant.github.until(lambda: [job.done for job in run.jobs] == [True, True, False, False], 15)
        await plant.at_rest()
        records = await plant.assert_kept()
        sets = {record.offer.spec.name: record.offer.spec.claimed["scale_set"] for record in records}
        assert sets == {"a": "default/small", "b": "default/large-gpu"}


async def test_what_came_in_before_a_kill_is_done_after_it(tmp_path):
    async with webhook_plant(tmp_path) as plant:
        plant.github.faults.add(Fault.BAD_GATEWAY, "/actions/jobs/", times=1000)
        run = plant.dispatch(2)
        await plant.until(lambda: len(plant.receipts) == 2)
        await plant.until(lambda: plant.source.status().error_reason == "github_unavailable")
        assert await plant.records() == []
        await plant.kill()
        plant.github.faults.clear()
        await plant.start()
        await plant.github.until(lambda: run.done, 15)
        await plant.at_rest()
        assert len(succeeded(await plant.assert_kept())) == 2


async def test_an_outage_of_github_is_waited_for(tmp_path):
    async with webhook_plant(tmp_path) as plant:
        plant.github.faults.add(Fault.UNAVAILABLE, "/repos/", times=30)
        run = plant.dispatch(2)
        await plant.github.until(lambda: run.done, 20)
        await plant.at_rest()
        assert len(succeeded(await plant.assert_kept())) == 2


async def test_a_job_that_policy_denies_gets_no_identity(tmp_path):
    async with webhook_plant(tmp_path, start=False) as plant:
        plant.policy = FixedPolicy(
            verdict_of=lambda record: Verdict.DENY if record.offer.spec.pipeline else Verdict.ALLOW
        )
        await plant.start()
        run = plant.dispatch(1)
        await plant.github.until(lambda: run.done, 15)
        await plant.at_rest()
        [record] = await plant.records()
        assert record.outcome is not None
        assert record.outcome.reason.value == "policy_denied"
        assert not record.live
        assert run.jobs[0].starts == 1


async def test_only_our_own_orphans_are_removed_and_only_at_the_second_look(tmp_path):
    async with webhook_plant(tmp_path) as plant:
        state = plant.github.state
        theirs = state.register(
            "acme", registered_name(FOREIGN, 1), labels=["zt"], group_id=1, work_folder="_work", one=None
        )
        ours = state.register(
            "acme", registered_name(FOREIGN, 2), labels=["zt", MARK], group_id=1, work_folder="_work", one=None
        )
        await plant.source.sweep()
        assert {theirs.id, ours.id} <= state.runners.keys()
        await plant.source.sweep()
        assert theirs.id in state.runners
        assert ours.id not in state.runners
        state.remove_runner(theirs)


async def test_draining_demands_no_more(tmp_path):
    async with webhook_plant(tmp_path) as plant:
        plant.source.set_draining(True)
        plant.dispatch(1)
        await plant.until(lambda: plant.inbox.waiting == 0 and len(plant.receipts) == 1)
        await plant.source.look_for_queued()
        assert await plant.records() == []


async def test_more_jobs_than_the_rule_may_have_runners_wait_for_their_turn(tmp_path):
    async with webhook_plant(tmp_path, start=False) as plant:
        plant.rules = (rule("zt", max_runners=1),)
        await plant.start()
        most = 0

        async def count(plant: Plant, name: RunnerName) -> int:
            nonlocal most
            most = max(most, len(plant.github.state.runners))
            return await Plant.do_job(plant, name)

        plant.behave = count
        run = plant.dispatch(3)
        await plant.github.until(lambda: run.done, 20)
        await plant.at_rest()
        assert len(succeeded(await plant.assert_kept())) == 3
        assert most == 1
