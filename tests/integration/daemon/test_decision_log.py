"""Policy over time, in the whole daemon: decisions are kept and tried again, a bundle that denies all is noticed."""

from __future__ import annotations

import asyncio
import json
import re
import signal
from pathlib import Path

import pytest
from typer.testing import CliRunner

from orchestrator.cli.main import app
from orchestrator.daemon.operations.reload import Reload
from orchestrator.policy.decision_log.bundles import BundleArchive
from orchestrator.policy.decision_log.reading import SegmentReader
from orchestrator.policy.decision_log.segments import segments_of

from .conftest import AUDIENCE, POLICY, write_bundle

pytestmark = pytest.mark.sandbox

DENIES = POLICY.replace(
    'input.job.source == "dispatch"', '{ input.job.source == "dispatch"; not input.caller.subject }'
)
"""Fine by its own tests, which know no caller, and denies every real job."""


def kept(state: Path):
    return [entry for one in segments_of(state / "decisions") for entry in SegmentReader(one).entries()]


def cli(*words: str):
    done = CliRunner().invoke(app, ["policy", *words], catch_exceptions=False)
    return done.exit_code, done.stdout, done.stderr


async def test_every_decision_of_a_job_is_kept_with_its_document(open_world, bundle, tmp_path):
    async with open_world() as world:
        script = f'curl -sS -X POST "$ORCHESTRATOR_TOKEN_URL" -d audience={AUDIENCE} >/dev/null || true'
        job_id = await world.offer("one", script)
        await world.finished(job_id)
        view = json.loads(await world.get(f"/v1/jobs/{job_id}"))
        metrics = await world.get("/metrics")
        digest, state = world.rooms.policy_engine.digest, world.state
    entries = kept(state)
    assert [entry.decision_id for entry in entries] == [decision["id"] for decision in view["decisions"]]
    assert [entry.custom.input_digest for entry in entries] == [one["input_digest"] for one in view["decisions"]]
    assert {entry.bundle_digest for entry in entries} == {digest}
    assert "orchestrator_policy_log_healthy 1.0" in metrics
    [load] = BundleArchive(state / "decisions" / "bundles").loads()
    assert (load.digest, load.by, load.folder) == (digest, "daemon", str(bundle.folder))
    code, out, _ = cli("replay", str(state / "decisions"), "--bundle", str(bundle.folder), "--json", "--exit-status")
    assert (code, json.loads(out)["decisions"]["unchanged"]) == (0, len(entries))
    bundle.write(DENIES)
    code, out, _ = cli("replay", str(state / "decisions"), "--bundle", str(bundle.folder), "--json", "--exit-status")
    assert (code, json.loads(out)["changes"]["newly_denied"]) == (1, len(entries))
    assert json.loads(out)["by"]["rule"][0]["jobs"] == [job_id]
    code, out, _ = cli("replay", str(state / "decisions"), "--bundle", str(bundle.folder), "--bundle-against", digest)
    assert (code, "newly denied" in out) == (0, True)


async def test_a_candidate_is_asked_and_never_obeyed(open_world, tmp_path):
    candidate = write_bundle(tmp_path / "candidate", DENIES)
    given = {"bundle": str(write_bundle(tmp_path / "policy")), "candidate": str(candidate)}
    async with open_world(policy=given) as world:
        rooms = world.rooms
        reload = Reload(rooms.policy_engine, rooms.trust, rooms.decisions, rooms.notes, rooms.metrics, None)
        await world.finished(await world.offer("one", "true"))
        await world.until(lambda: rooms.decisions.log.written > 0)
        metrics = await world.get("/metrics")
        assert re.search(
            r'^orchestrator_policy_candidate_answers\{outcome="newly_denied"\} [1-9]', metrics, re.MULTILINE
        )
        assert "orchestrator_policy_candidate_loaded 1.0" in metrics
        (candidate / "decision.rego").write_text("package orchestrator\n\nallow if {")
        assert (await reload.reload())["policy candidate"].word == "refused"
        assert rooms.decisions.candidate.digest, "the last good one is still asked"
        write_bundle(candidate)
        assert (await reload.reload())["policy candidate"].word == "loaded"
        record = await world.offer("two", "true")
        await world.finished(record)
        state = world.state
    assert {entry.custom.verdict.value for entry in kept(state)} == {"allow"}
    code, out, _ = cli("decisions", str(state / "decisions"), "--differing", "--json")
    told = json.loads(out)["decisions"]
    assert code == 0
    assert {one["candidate"]["change"] for one in told} == {"newly_denied"}
    assert {one["job_id"].split(".")[1] for one in told} == {"one"} or len({one["job_id"] for one in told}) == 1


async def test_a_candidate_that_is_no_bundle_keeps_nothing_from_starting(open_world, tmp_path):
    given = {"bundle": str(write_bundle(tmp_path / "policy")), "candidate": str(tmp_path / "none")}
    async with open_world(policy=given) as world:
        assert "orchestrator_policy_candidate_loaded 0.0" in await world.get("/metrics")


@pytest.mark.parametrize("rollback", [pytest.param(False, marks=pytest.mark.slow), True])
async def test_a_bundle_that_denies_far_more_is_noticed_and_may_be_taken_back(open_world, bundle, tmp_path, rollback):
    given = {
        "bundle": str(write_bundle(tmp_path / "policy")),
        "deny_watch": {"least": 5, "rollback": rollback},
    }
    async with open_world(policy=given) as world, asyncio.TaskGroup() as group:
        rooms = world.rooms
        reload = Reload(rooms.policy_engine, rooms.trust, rooms.decisions, rooms.notes, rooms.metrics, None)
        loop = group.create_task(reload.run_for_ever())
        first = rooms.policy_engine.digest
        for number in range(5):
            await world.offer(f"before-{number}", "true")
        await world.until(lambda: not list(rooms.engine.live_ids()))
        bundle.write(DENIES)
        assert (await reload.reload())["policy"].word == "loaded"
        second = rooms.policy_engine.digest
        for number in range(5):
            await world.offer(f"after-{number}", "true")
        await world.until(lambda: rooms.decisions.jumps == 1 and not list(rooms.engine.live_ids()))
        if rollback:
            await world.until(lambda: rooms.policy_engine.digest == first)
            assert (await reload.reload())["policy"].word == "refused", "its folder still holds what was taken back"
            bundle.write(POLICY + "\n# corrected\n")
            assert (await reload.reload())["policy"].word == "loaded"
            assert "orchestrator_policy_deny_jump 0.0" in await world.get("/metrics")
        else:
            assert rooms.policy_engine.digest == second
            assert "orchestrator_policy_deny_jump 1.0" in await world.get("/metrics")
            assert "orchestrator_policy_deny_jumps_total 1.0" in await world.get("/metrics")
        await world.until(lambda: "policy.deny_jump" in audit(world.state))
        loop.cancel()
        state = world.state
    told = [json.loads(line) for line in audit(state).splitlines()]
    [jump] = [one["data"] for one in told if one["kind"] == "policy.deny_jump"]
    assert jump == {
        "denied_per_1000_before": 0, "questions_before": jump["questions_before"], "denied_per_1000_after": 1000,
        "questions_after": 5, "rolled_back": rollback,
    }  # fmt: skip
    assert jump["questions_before"] >= 5
    loads = BundleArchive(state / "decisions" / "bundles").loads()
    assert [(load.digest, load.by) for load in loads][:2] == [(first, "daemon"), (second, "signal:SIGHUP")]
    assert [(load.digest, load.by, load.before) for load in loads][2:3] == (
        [(first, "daemon", second)] if rollback else []
    )


def audit(state: Path) -> str:
    return "".join(path.read_text() for path in sorted((state / "audit").glob("*.jsonl")))


@pytest.mark.slow
def test_a_killed_daemon_loses_no_more_than_a_moment_and_says_so(program, tmp_path):
    daemon = program().start()
    state = tmp_path / "state"
    words = ["--state-dir", str(state), "submit", "--name", "one", "--script", "true"]
    assert CliRunner().invoke(app, words).exit_code == 0
    daemon.until(lambda: len(kept(state)) > 0)
    daemon.signal(signal.SIGKILL)
    daemon.process.wait(30)
    before = len(kept(state))
    again = program().start()
    assert again.said("may be missing: its daemon was killed")["files"] == 1
    again.said("ready")
    assert again.end() == 0
    code, out, errors = cli("decisions", str(state / "decisions"), "--json")
    assert code == 0, "a kill is no damage"
    assert len(json.loads(out)["decisions"]) == before
    assert "its daemon was killed" in errors
