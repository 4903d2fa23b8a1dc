"""A runner whose job is named while it runs: a real sandbox, the real gateway, the real agent programs."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from aiohttp import web

from orchestrator.daemon import rooms as rooms_module
from orchestrator.daemon.runner_requests import runner_deps
from orchestrator.errors import GiveUpError, TryAgainError
from orchestrator.lifecycle.ports import RunnerIdentity
from orchestrator.model.egress import EgressProtocol, EgressRule
from orchestrator.model.events import EgressDecided
from orchestrator.model.job import Caller, JobId, JobKey, JobOffer, JobSpec, PoolName
from orchestrator.model.outcome import EndReason
from orchestrator.model.platform import PlatformJob, PlatformResult
from orchestrator.model.record import Record, fold
from orchestrator.server.deps import HookReport
from orchestrator.telemetry.ids import trace_id, traceparent

pytestmark = pytest.mark.sandbox

FORGE, CACHE, PRIVATE = "forge.test", "cache.test", "private.test"
HOSTS = (FORGE, CACHE, PRIVATE)
AUDIENCE = "https://orchestrator.example"
JIT = "eyJqaXQiOiAic2VjcmV0LXNlY3JldC1zZWNyZXQifQ"
ISSUER = "https://token.forge.example"

POLICY = """package orchestrator

default decision := {"allow": false, "reasons": [
	{"code": "not_ours", "message": "only acme may, 100% sure"},
	{"code": "ask", "message": "ask the platform team"},
]}

decision := {
	"allow": true,
	"obligations": {"egress": [{"host": "cache.test", "port": input.pool.egress[0].port, "protocol": "http"}]},
} if input.caller.facts.repository == "acme/shop"

decision := {"allow": true} if input.job.source == "dispatch"
"""
POLICY_TEST = """package orchestrator_test

import data.orchestrator

test_allow if orchestrator.decision.allow == true with input as {"job": {"source": "dispatch"}}

test_deny if orchestrator.decision.allow == false with input as {"job": {"source": "forge"}}
"""

RUN = r"""#!/bin/bash
# What GitHub's runner does with its job, as far as the hooks and the network can tell.
reach() {
    exec 3<>/dev/tcp/127.0.0.1/3128
    printf 'GET http://%s:%s/ HTTP/1.1\r\nHost: %s:%s\r\n\r\n' "$1" "$PORT" "$1" "$PORT" >&3
    read -r _ status _ <&3
    exec 3>&-
    echo "$2 $1 $status"
}
echo "registered with ${#ACTIONS_RUNNER_INPUT_JITCONFIG} $ACTIONS_RUNNER_RETURN_VERSION_DEPRECATED_EXIT_CODE"
echo "the configuration: $ACTIONS_RUNNER_INPUT_JITCONFIG"
unset ACTIONS_RUNNER_INPUT_JITCONFIG
ls -A /job/.work | sed 's/^/left: /'
export GITHUB_RUN_ID=9001 GITHUB_RUN_ATTEMPT=1 GITHUB_REPOSITORY="$REPOSITORY" GITHUB_ENV=/job/env
export ACTIONS_ID_TOKEN_REQUEST_URL="http://forge.test:$PORT/token?api=1" ACTIONS_ID_TOKEN_REQUEST_TOKEN=ask-me
: >"$GITHUB_ENV"
reach forge.test before; reach cache.test before
orchestrator-token --audience https://cache.example >/dev/null 2>&1 && echo "an identity before its name"
bash -e "$ACTIONS_RUNNER_HOOK_JOB_STARTED"; echo "hook $?"
reach forge.test after; reach cache.test after; reach private.test after
orchestrator-token --audience https://cache.example >/dev/null 2>&1 && echo "an identity"
sed 's/^/env: /' "$GITHUB_ENV"
bash -e "$ACTIONS_RUNNER_HOOK_JOB_COMPLETED"; echo "hook $?"
"""

SCRIPT = f"""
cat >run.sh <<'PROGRAM'
{RUN}
PROGRAM
chmod +x run.sh
exec orchestrator-github-runner /job/run.sh
"""


@dataclass
class Forge:
    """The platform's side of the ports, with a real server for what runners reach."""

    port: int = 0
    rooms: Any = None
    tokens: list[tuple[str, str]] = field(default_factory=list)
    reports: list[tuple[RunnerIdentity, HookReport]] = field(default_factory=list)
    late: int = 0
    """Reports that are answered with *nobody knows yet* first."""
    files_fail: list[Exception] = field(default_factory=list)

    async def answer(self, request: web.Request) -> web.Response:
        if request.path == "/token":
            self.tokens.append((request.headers["Authorization"], request.query["audience"]))
            return web.json_response({"value": f"aa.b{len(self.tokens)}.cc"})
        return web.Response(text="here")

    async def files(self, _record: Record) -> dict[str, str]:
        if self.files_fail:
            raise self.files_fail.pop(0)
        return {"jitconfig": JIT}

    async def name(self, identity: RunnerIdentity, report: HookReport) -> Record | None:
        self.reports.append((identity, report))
        if self.late:
            self.late -= 1
            return None
        return await self.rooms.engine.name_job(identity.name, job_of(report))

    async def named_with_egress(self, identity: RunnerIdentity, report: HookReport) -> Record | None:
        return await self.rooms.egress_keeper.with_egress(self.name)(identity, report)

    def rule(self, host: str) -> EgressRule:
        return EgressRule(host, self.port, EgressProtocol.HTTP)

    async def offer(self, repository: str = "acme/shop", **spec: Any) -> JobId:
        given: dict[str, Any] = {
            "name": "a runner", "pool": PoolName("default"), "script": SCRIPT, "awaits_platform_job": True,
            "platform_egress": (self.rule(FORGE),),
            "environment": {"PORT": str(self.port), "REPOSITORY": repository},
        }  # fmt: skip
        offer = JobOffer(JobKey("forge", f"slot{len(self.reports)}"), JobSpec(**given | spec), Caller(ISSUER, "set"))
        return (await self.rooms.engine.offer(offer))[0].id

    async def completed(self, job_id: JobId, result: str = "succeeded") -> None:
        record = self.rooms.engine.record(job_id)
        await self.rooms.engine.complete_job(record.runner, PlatformResult(result, "message"))


def job_of(report: HookReport) -> PlatformJob:
    facts = {"repository": report.repository}
    key = f"forge/{report.repository}/{report.run_id}/{report.run_attempt}/1"
    return PlatformJob(key, "build", Caller(ISSUER, f"repo:{report.repository}", facts), proof="oidc")


@asynccontextmanager
async def serving(forge: Forge) -> AsyncIterator[None]:
    server = web.ServerRunner(web.Server(forge.answer))
    await server.setup()
    site = web.TCPSite(server, "127.0.0.1", 0)
    await site.start()
    forge.port = server.addresses[0][1]
    try:
        yield
    finally:
        await server.cleanup()


@pytest.fixture
async def forge() -> AsyncIterator[Forge]:
    made = Forge()
    async with serving(made):
        yield made


@pytest.fixture
async def world(forge, open_world, monkeypatch, tmp_path):
    def plugged(*rooms, **more):
        namer = forge.named_with_egress
        ports = {"work_files": forge.files, "namer": namer, "audience_of": lambda _record: AUDIENCE}
        return replace(runner_deps(*rooms, **more), **ports)

    monkeypatch.setattr(rooms_module, "runner_deps", plugged)
    pool = {
        "name": "default",
        "egress": [{"host": host, "port": forge.port, "protocol": "http"} for host in (CACHE, FORGE, PRIVATE)],
    }
    names = {"names": dict.fromkeys(HOSTS, "127.0.0.1")}
    bundle = tmp_path / "rules"
    bundle.mkdir()
    (bundle / "decision.rego").write_text(POLICY)
    (bundle / "decision_test.rego").write_text(POLICY_TEST)
    given = {"pools": [pool], "egress": names, "policy": {"bundle": str(bundle)}}
    async with open_world(deadlines={"refusal_seconds": 2}, **given) as made:
        forge.rooms = made.rooms
        yield made


async def outcome(world, job_id):
    facts = await world.rooms.journal.facts_of(job_id)
    return fold(facts).outcome, [fact.event for fact in facts]


def said(log: str) -> list[str]:
    return [line for line in log.splitlines() if not line.startswith(("ok", "::add-mask"))]


async def test_a_job_is_named_by_its_hook_and_then_reaches_what_policy_allows(world, forge):
    job_id = await forge.offer()
    await world.until(lambda: world.rooms.engine.record(job_id).platform.exit is not None)
    await forge.completed(job_id)
    await world.finished(job_id)
    log = await world.log(job_id)
    ended, _ = await outcome(world, job_id)
    assert ended.reason is EndReason.COMPLETED, log
    trace = fold(await world.rooms.journal.facts_of(job_id))
    assert said(log) == [
        f"registered with {len(JIT)} 1",
        "the configuration: ***",
        "before forge.test 200",
        "before cache.test 403",
        f"job {job_id}, trace {trace_id(job_id)}",
        "hook 0",
        "after forge.test 200",
        "after cache.test 200",
        "after private.test 403",
        "an identity",
        f"env: TRACEPARENT={traceparent(job_id)}",
        f"env: ORCHESTRATOR_JOB_ID={job_id}",
        f"job {job_id}: evidence is made when the runner is gone",
        "hook 0",
    ]
    assert trace.platform.key == "forge/acme/shop/9001/1/1"
    assert forge.tokens == [("Bearer ask-me", AUDIENCE)]
    ((_, report),) = forge.reports
    assert report == HookReport("9001", "1", "acme/shop", "aa.b1.cc")
    assert "aa.b1.cc" not in repr(report)


async def test_a_denied_job_gets_the_reasons_and_nothing_else(world, forge):
    job_id = await forge.offer("mallory/shop")
    await world.finished(job_id)
    log = await world.log(job_id)
    ended, events = await outcome(world, job_id)
    assert ended.reason is EndReason.POLICY_DENIED
    assert said(log)[2:-1] == [
        "before forge.test 200",
        "before cache.test 403",
        "::error title=denied by policy::only acme may, 100%25 sure [not_ours]",
        "::error title=denied by policy::ask the platform team [ask]",
        "hook 1",
        "after forge.test 200",
        "after cache.test 403",
        "after private.test 403",
        f"job {job_id}: evidence is made when the runner is gone",
    ]
    reached = {event.host for event in events if isinstance(event, EgressDecided) and event.allowed}
    assert reached == {FORGE}


async def test_a_hook_asks_until_somebody_knows_the_job(world, forge):
    forge.late = 2
    job_id = await forge.offer()
    await world.until(lambda: bool(world.rooms.engine.record(job_id).named_at_ns))
    await forge.completed(job_id)
    await world.finished(job_id)
    assert (await outcome(world, job_id))[0].reason is EndReason.COMPLETED
    # A token that counted once would be refused the next time.
    assert [report.token for _, report in forge.reports] == ["aa.b1.cc", "aa.b2.cc", "aa.b3.cc"]


WAITING = """
while ! (exec 3<>/dev/tcp/127.0.0.1/3128
    printf 'GET http://cache.test:%s/ HTTP/1.1\\r\\nHost: cache.test\\r\\n\\r\\n' "$PORT" >&3
    read -r _ status _ <&3; [ "$status" = 200 ]); do
    sleep 0.05
done
echo reached
"""


async def test_a_job_named_by_message_reaches_its_hosts_without_any_hook(world, forge):
    job_id = await forge.offer(script=f"exec bash -c '{WAITING.replace(chr(39), chr(34))}'")
    await world.until(lambda: world.rooms.engine.record(job_id).bound)
    record = world.rooms.engine.record(job_id)
    await forge.rooms.engine.name_job(record.runner, job_of(HookReport("1", "1", "acme/shop")))
    await world.until(lambda: bool(world.rooms.engine.record(job_id).platform.exit), seconds=8)  # no look was due
    await forge.completed(job_id)
    await world.finished(job_id)
    assert "reached" in await world.log(job_id)


async def test_a_gateway_that_died_gives_nobody_more(world, forge):
    """A name that comes when the gateway is gone: the job has its identity, and no egress at all."""
    job_id = await forge.offer(script="sleep 30")
    await world.until(lambda: world.rooms.engine.record(job_id).bound)
    record = world.rooms.engine.record(job_id)
    room = world.rooms.backends["sandbox"]
    gateway = room._egress.gateway
    gateway._kill()
    await gateway._gone()
    named = await forge.named_with_egress(
        RunnerIdentity(record.runner, record.bound_uid), HookReport("1", "1", "acme/shop")
    )
    assert named.live
    await room.upkeep()
    await world.rooms.egress_keeper.aligned(job_id)
    assert not await gateway.change(record.runner, named.obligations.egress)
    await world.rooms.engine.cancel(job_id, "test")
    await world.finished(job_id)


async def test_what_the_platform_gives_is_asked_for_until_it_comes(world, forge):
    forge.files_fail = [TryAgainError("not now", reason="forge_away"), TryAgainError("nor now", reason="forge_away")]
    job_id = await forge.offer(script='cat "$ORCHESTRATOR_FILES/jitconfig" | wc -c')
    await world.until(lambda: bool(world.rooms.engine.record(job_id).platform.exit))
    await world.rooms.engine.cancel(job_id, "test")  # nobody will ever name it
    await world.finished(job_id)
    assert str(len(JIT)) in await world.log(job_id)


async def test_without_what_the_platform_gives_the_job_ends_at_once(world, forge):
    forge.files_fail = [GiveUpError("the scale set is gone", reason="forge_set_gone")]
    job_id = await forge.offer()
    await world.finished(job_id)
    ended, _ = await outcome(world, job_id)
    assert ended.reason is EndReason.WORK_UNAVAILABLE
    assert "the scale set is gone" in ended.message
    assert "410 work_unavailable" in await world.log(job_id)
    assert forge.reports == []
