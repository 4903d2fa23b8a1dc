"""Installation tokens of GitHub for jobs, in the whole daemon: what a job gets, and that it outlives no job."""

from __future__ import annotations

import asyncio
import json
import signal
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from orchestrator.daemon.github.brokered import MAX_LIVE, UNACCOUNTED
from orchestrator.errors import TryAgainError
from orchestrator.identity.vault import Kept
from orchestrator.model.events import CredentialRevoked, TokenIssued, TokenRefused
from orchestrator.model.job import Caller, JobId
from orchestrator.testing.github.faults import Fault
from orchestrator.testing.github.server import GitHubServer
from orchestrator.testing.github.tokens import Kind

pytestmark = pytest.mark.sandbox

AUDIENCE = "github:acme"
MAKING = "POST /app/installations/{id}/access_tokens"
ENDING = "DELETE /installation/token"
MAP = """
trust_map: 1
environment: ""
targets:
  code: {kind: github, audience: github:acme}
grants:
  - name: own
    when: {repository_id: {equals: "%(own)s"}, caller_issuer: {equals: "%(issuer)s"}}
    target: code
    permissions: {contents: read}
  - name: named
    when: {caller: {equals: "%(caller)s"}, caller_issuer: {equals: "https://gitlab.example"}}
    target: code
    repository_id: "%(own)s"
    permissions: {actions: read}
  - name: foreign
    when: {repository_id: {equals: "%(other)s"}, caller_issuer: {equals: "https://forge.example"}}
    target: code
    permissions: {contents: read}
"""
HOLD = f"orchestrator-token --json --audience {AUDIENCE} && sleep 60"
ONCE = f"orchestrator-token --json --audience {AUDIENCE} > answer.json"


class Platform:
    """GitHub, with two repositories, and a daemon's settings for it."""

    def __init__(self, server: GitHubServer, folder: Path) -> None:
        self.server = server
        self.shop = server.add_repository("acme/shop").id
        self.other = server.add_repository("acme/other").id
        self.issuer = f"{server.url}/_services/token"
        self.gitlab = Caller("https://gitlab.example", "project:9", {"repository_id": "9"})
        key = folder / "app.pem"
        key.write_text(server.app.private_key)
        key.chmod(0o600)
        trust = folder / "trust.yaml"
        names = {"own": self.shop, "other": self.other, "issuer": self.issuer, "caller": self.gitlab.id}
        trust.write_text(MAP % names)
        app = {"url": server.config_url("acme"), "client_id": server.app.client_id, "private_key_file": str(key)}
        self.identity: dict[str, Any] = {
            "trust_maps": [str(trust)],
            "github_apps": {"acme": app | {"installation_id": server.app.installation_id}},
        }

    def caller(self, repository: int) -> Caller:
        facts = {"repository": "acme/shop", "repository_id": str(repository)}
        return Caller(self.issuer, f"repo:{repository}", facts)

    @property
    def living(self) -> dict[str, Any]:
        return self.server.tokens.living(Kind.INSTALLATION)

    async def answers(self, token: str, path: str = "/repos/acme/shop/branches/main") -> int:
        headers = {"Authorization": f"Bearer {token}"}
        async with aiohttp.ClientSession() as session, session.get(self.server.url + path, headers=headers) as answer:
            return answer.status


@pytest.fixture
async def platform(tmp_path):
    async with GitHubServer() as server:
        yield Platform(server, tmp_path)


@pytest.fixture
async def world(platform, open_world):
    async with open_world(identity=platform.identity) as made:
        yield made


async def facts(world, job_id: str, kind: type) -> list[Any]:
    return [one.event for one in await world.rooms.journal.facts_of(JobId(job_id)) if isinstance(one.event, kind)]


async def finished(world, key: str, script: str, caller: Caller) -> dict[str, Any]:
    job_id = await world.offer(key, script, caller)
    await world.finished(job_id)
    return json.loads(await world.get(f"/v1/jobs/{job_id}"))


async def test_a_job_holds_a_token_of_its_repository_until_it_ends(world, platform):
    job_id = await world.offer("hold", HOLD, platform.caller(platform.shop))
    await platform.server.until(lambda: bool(platform.living))
    ((token, grant),) = platform.living.items()
    assert (grant.repositories, dict(grant.permissions)) == ({"acme/shop"}, {"contents": "read"})
    await world.until(lambda: world.rooms.broker._vault.of_job(job_id) != [])
    (issued,) = await facts(world, job_id, TokenIssued)
    assert (issued.kind, issued.rule, issued.target) == ("github_installation", "-/own", "code")
    assert issued.expires_at == issued.session_expires_at == issued.issued_at + 3900
    assert await platform.answers(token) == 200
    assert token not in repr(await world.rooms.journal.facts_of(job_id))

    async def shown() -> bool:
        return '"Bearer"' in await world.log(job_id)

    while not await shown():
        await asyncio.sleep(0.02)
    log = await world.log(job_id)
    assert token not in log
    assert '"urn:ietf:params:oauth:token-type:access_token"' in log

    await world.rooms.engine.cancel(job_id, "test")
    await world.finished(job_id)
    assert platform.living == {}
    assert await platform.answers(token) == 401
    assert await facts(world, job_id, CredentialRevoked) == [CredentialRevoked(issued.jti, "github_installation")]
    assert world.rooms.broker._vault.all() == []
    told = json.loads(await world.get(f"/v1/jobs/{job_id}/trust?audience={AUDIENCE}"))
    assert [one["what"] for one in told["recorded"]] == ["decided", "issued", "revoked"]


async def test_another_platforms_number_is_no_repository_of_githubs(world, platform):
    """A project of another forge may have the number of somebody's repository."""
    elsewhere = Caller("https://forge.example", "project:x", {"repository_id": str(platform.other)})
    job = await finished(world, "foreign", ONCE, elsewhere)
    assert (job["result"], job["tokens"]) == ("failure", [])
    assert job["token_refusals"][0]["reason"] == "github_repository_foreign"
    assert platform.server.counters[MAKING] == 0
    job = await finished(world, "named", ONCE, platform.gitlab)
    assert job["result"] == "success"
    assert job["tokens"][0]["rule"] == "-/named"
    assert platform.living == {}


async def test_what_no_grant_is_for_is_never_asked_of_github(world, platform):
    job = await finished(world, "none", ONCE, platform.caller(12345))
    assert job["token_refusals"][0]["reason"] == "trust_no_grant"
    assert platform.server.counters[MAKING] == 0


async def test_github_that_refuses_or_is_away_gives_nothing_and_the_record_says_what_is_certain(world, platform):
    platform.server.faults.add(Fault.FORBIDDEN, MAKING)
    job = await finished(world, "refused", ONCE, platform.caller(platform.shop))
    (issued,), (refused,) = job["tokens"], job["token_refusals"]
    assert (refused["reason"], refused["jti"]) == ("github_forbidden", issued["jti"])
    platform.server.faults.add(Fault.DONE_BUT_500, MAKING)
    job = await finished(world, "lost", ONCE, platform.caller(platform.shop))
    assert (job["token_refusals"][0]["reason"], job["token_refusals"][0]["jti"]) == ("github_unavailable", "")
    assert len(platform.living) == 1, "one that nobody has; the record has its latest end"
    assert job["tokens"][0]["expires_at"] >= next(iter(platform.living.values())).expires_at


async def test_a_job_is_not_over_while_its_token_lives(world, platform):
    platform.server.faults.add(Fault.UNAVAILABLE, ENDING, times=1000)
    job_id = await world.offer("stuck", HOLD, platform.caller(platform.shop))
    await platform.server.until(lambda: bool(platform.living))
    await world.rooms.engine.cancel(job_id, "test")
    await platform.server.until(lambda: platform.server.statuses[(ENDING, 503)] >= 2)
    assert world.rooms.engine.record(job_id).finished_at_ns == 0
    platform.server.faults.clear()
    await world.finished(job_id)
    assert platform.living == {}
    assert len(await facts(world, job_id, CredentialRevoked)) == 1


async def test_a_job_that_ends_while_its_token_is_made_gets_none_and_none_lives(world, platform):
    platform.server.faults.add(Fault.DELAY, MAKING, seconds=1.5)
    job_id = await world.offer("late", HOLD, platform.caller(platform.shop))
    await platform.server.until(lambda: platform.server.counters[MAKING] == 1)
    await world.rooms.engine.cancel(job_id, "test")
    await world.finished(job_id)
    assert platform.server.statuses[(MAKING, 201)] == 1
    assert platform.living == {}
    assert "Bearer" not in await world.log(job_id)


async def test_upkeep_ends_what_is_due_what_nobody_has_and_what_is_left_of_a_job_that_is_over(world, platform):
    broker = world.rooms.broker
    job_id = await world.offer("due", HOLD, platform.caller(platform.shop))
    await world.until(lambda: len(broker._vault.all()) == 1)
    await broker.upkeep()
    assert len(platform.living) == 1, "it is the job's"
    broker.abandon(broker._vault.all()[0].jti)
    await broker.upkeep()
    assert (platform.living, broker._vault.all()) == ({}, [])
    await world.rooms.engine.cancel(job_id, "test")
    await world.finished(job_id)
    assert len(await facts(world, job_id, CredentialRevoked)) == 1


async def test_an_end_that_a_crash_repeats_is_on_the_record_once(world, platform):
    """Killed after GitHub had ended it, before its file was gone: it is ended again, and told once."""
    broker = world.rooms.broker
    job_id = await world.offer("twice", HOLD, platform.caller(platform.shop))
    await world.until(lambda: len(broker._vault.all()) == 1)
    (kept,) = broker._vault.all()
    broker.abandon(kept.jti)
    await asyncio.gather(broker.upkeep(), broker.upkeep())
    assert platform.server.counters[ENDING] == 1, "two at once are one"
    broker._vault.put(kept)
    broker.abandon(kept.jti)
    await broker.upkeep()
    assert platform.server.statuses[(ENDING, 401)] == 1
    await world.rooms.engine.cancel(job_id, "test")
    await world.finished(job_id)
    broker._vault.put(kept)
    await broker.upkeep()
    assert broker._vault.all() == []
    assert len(await facts(world, job_id, CredentialRevoked)) == 1


async def test_one_that_has_expired_by_itself_was_not_ended_by_us(world, platform):
    broker = world.rooms.broker
    old = Kept("jti-old", JobId("dispatch.gone.1"), "acme", 1, 2, "ghs_old")
    broker._vault.put(old)
    await broker.upkeep()
    assert broker._vault.all() == []
    assert platform.server.counters[ENDING] == 0


async def test_the_token_of_an_app_that_is_not_configured_any_more_is_waited_for(world, platform):
    broker = world.rooms.broker
    lost = Kept("jti-lost", JobId("dispatch.gone.1"), "former", 1, int(time.time()) + 600, "ghs_lost")
    broker._vault.put(lost)
    with pytest.raises(TryAgainError) as caught:
        await broker.upkeep()
    assert caught.value.reason == "credential_unrevoked"
    assert "ghs_lost" not in str(caught.value)
    assert broker._vault.all() == [lost]


async def test_a_token_that_cannot_be_kept_is_given_back(world, platform, monkeypatch):
    def full(kept):
        raise TryAgainError("no space", reason="keys_unavailable")

    monkeypatch.setattr(world.rooms.broker._vault, "put", full)
    job = await finished(world, "full", ONCE, platform.caller(platform.shop))
    assert job["result"] == "failure"
    (issued,), (refused,) = job["tokens"], job["token_refusals"]
    assert (refused["reason"], refused["jti"]) == ("keys_unavailable", issued["jti"])
    assert platform.living == {}


@pytest.mark.slow
async def test_a_token_that_is_good_for_more_is_ended_however_long_that_takes(world, platform, monkeypatch):
    broker = world.rooms.broker
    tokens = broker._apps["acme"].tokens
    make = tokens.make

    async def wide(repository_id, permissions):
        return replace(await make(repository_id, permissions), narrow=False)

    monkeypatch.setattr(tokens, "make", wide)
    job = await finished(world, "wide", ONCE, platform.caller(platform.shop))
    (issued,), (refused,) = job["tokens"], job["token_refusals"]
    assert (refused["reason"], refused["jti"]) == ("github_token_too_wide", issued["jti"])
    assert (platform.living, broker._vault.all()) == ({}, [])

    platform.server.faults.add(Fault.UNAVAILABLE, ENDING, times=1000)
    job_id = await world.offer("stays", ONCE, platform.caller(platform.shop))
    async with asyncio.timeout(30):
        while not (found := await facts(world, job_id, TokenRefused)):
            await asyncio.sleep(0.02)
    (refused,) = found
    assert (refused.reason, refused.jti) == ("github_token_too_wide", ""), "it may live, so the record keeps it"
    assert len(platform.living) == 1
    platform.server.faults.clear()
    await world.finished(job_id)
    assert (platform.living, broker._vault.all()) == ({}, [])
    (issued,), (revoked,) = await facts(world, job_id, TokenIssued), await facts(world, job_id, CredentialRevoked)
    assert issued.jti == revoked.jti


async def test_a_job_has_a_bounded_number_of_them(world, platform):
    many = f"for i in $(seq 17); do orchestrator-token --json --audience {AUDIENCE} > a.json || exit 7; done"
    job = await finished(world, "many", many, platform.caller(platform.shop))
    assert (job["exit_code"], len(job["tokens"])) == (7, MAX_LIVE)
    assert job["token_refusals"][0]["reason"] == "too_many_credentials"
    assert platform.living == {}


async def until_true(condition, seconds: float = 30) -> None:
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.02)


async def dispatch(program, script: str) -> str:
    """A job of the local caller, over HTTP."""
    about = json.loads((program.folder / "state" / "daemon.json").read_text())
    token = (program.folder / "state" / "caller-token").read_text()
    headers = {"Authorization": f"Bearer {token}", "Idempotency-Key": "one"}
    async with (
        aiohttp.ClientSession(headers=headers) as session,
        session.post(f"{about['url']}/v1/jobs", json={"name": "j", "script": script}) as answer,
    ):
        assert answer.status == 202, await answer.text()
        return str((await answer.json())["id"])


async def job_of(program, job_id: str) -> dict[str, Any]:
    about = json.loads((program.folder / "state" / "daemon.json").read_text())
    headers = {"Authorization": f"Bearer {(program.folder / 'state' / 'caller-token').read_text()}"}
    async with (
        aiohttp.ClientSession(headers=headers) as session,
        session.get(f"{about['url']}/v1/jobs/{job_id}") as answer,
    ):
        return dict(await answer.json())


LOCAL = """
trust_map: 1
environment: ""
targets: {code: {kind: github, audience: github:acme}}
grants:
  - name: local
    when: {caller: {equals: "%s"}, caller_issuer: {equals: "%s"}}
    target: code
    repository_id: "%s"
    permissions: {contents: read}
"""


@pytest.fixture
async def killed(platform, program, tmp_path):
    """A daemon as a process, whose own operator has a grant; it is killed, and another one started in its place."""
    url = "https://runners.example"
    caller = Caller(url, "operator").id
    Path(platform.identity["trust_maps"][0]).write_text(LOCAL % (caller, url, platform.shop))
    daemon = program(identity=platform.identity, server={"port": 0, "public_url": url})
    await asyncio.to_thread(daemon.start)
    return daemon


async def restart(daemon) -> None:
    daemon.signal(signal.SIGKILL)
    await asyncio.to_thread(daemon.process.wait)
    (daemon.folder / "state" / "daemon.json").unlink()
    await asyncio.to_thread(daemon.start)


async def finished_after(daemon, job_id: str) -> dict[str, Any]:
    async with asyncio.timeout(30):
        while (job := await job_of(daemon, job_id))["phase"] != "finished":
            await asyncio.sleep(0.05)
    return job


@pytest.mark.slow
async def test_a_token_that_a_job_has_is_ended_by_the_next_daemon(killed, platform):
    job_id = await dispatch(killed, HOLD)
    await until_true(lambda: bool(platform.living) and any((killed.folder / "state" / "brokered").glob("*.json")))
    await restart(killed)
    job = await finished_after(killed, job_id)
    assert platform.living == {}
    assert job["alarms"] == []
    assert list((killed.folder / "state" / "brokered").iterdir()) == []


@pytest.mark.slow
async def test_a_token_that_nobody_has_is_on_the_record_with_its_latest_end(killed, platform):
    """Killed after GitHub was asked, before its answer was kept: no job has it, and the record says it may exist."""
    platform.server.faults.add(Fault.HANG, MAKING)
    job_id = await dispatch(killed, HOLD)
    await until_true(lambda: platform.server.counters[MAKING] == 1)
    await restart(killed)
    job = await finished_after(killed, job_id)
    (issued,) = job["tokens"]
    assert issued["expires_at"] == issued["issued_at"] + 3900
    (alarm,) = job["alarms"]
    assert alarm["alarm"] == UNACCOUNTED
    assert issued["jti"] in alarm["detail"]
    assert str(issued["expires_at"]) in alarm["detail"]
