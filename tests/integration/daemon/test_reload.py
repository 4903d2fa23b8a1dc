"""Settings that change on disk while jobs run, in a whole daemon with real sandboxes."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from orchestrator.daemon.operations.drain import Drain, Drainage
from orchestrator.daemon.operations.live_settings import LiveSettings
from orchestrator.daemon.operations.operators import OperatingDesk
from orchestrator.daemon.operations.reload import Reload
from orchestrator.errors import ConfigurationError, GiveUpError, TryAgainError
from orchestrator.identity.webhook_keys import new_shared_key
from orchestrator.model.egress import EgressRule
from orchestrator.model.events import JobEnded
from orchestrator.model.outcome import EndReason
from orchestrator.model.phase import Phase
from orchestrator.server.operating.shapes import DrainView, ReloadView
from orchestrator.settings import Settings
from orchestrator.testing.hook_receiver import HookReceiver

from .conftest import POLICY, write_bundle

pytestmark = [pytest.mark.sandbox, pytest.mark.slow]

POOL = {"name": "default", "capacity": 1, "egress": [{"host": "cache.example"}]}


class Disk:
    """What the settings on disk are by now; unreadable while `broken`."""

    def __init__(self, world: Any) -> None:
        self.settings: Settings = world.rooms.settings
        self.broken = False

    def read(self) -> Settings:
        if self.broken:
            raise ConfigurationError("1 setting(s) do not fit", fix="see docs/reference/settings.md")
        return self.settings

    def write(self, *pools: dict[str, Any], **more: Any) -> None:
        kept = {name: getattr(self.settings, name) for name in Settings.model_fields}
        self.settings = Settings(**kept | {"pools": pools} | more)


@pytest.fixture
async def site(open_world):
    async with open_world(pools=[POOL]) as world:
        yield world


@pytest.fixture
def disk(site) -> Disk:
    return Disk(site)


@pytest.fixture
def live(site, disk) -> LiveSettings:
    return LiveSettings(site.rooms, disk.read)


@pytest.fixture
def desk(site, live) -> OperatingDesk:
    rooms = site.rooms
    reload = Reload(rooms.policy_engine, rooms.trust, rooms.decisions, rooms.notes, rooms.metrics, live)
    return OperatingDesk(reload, Drainage(rooms, Drain()), rooms.notes)


def phase(site, job_id) -> Phase | None:
    record = site.rooms.engine.record(job_id)
    return record.phase if record else None


async def running(site, key: str, script: str = "sleep 60", pool: str = "default"):
    job_id = await site.offer(key, script, pool=pool)
    await site.until(lambda: phase(site, job_id) is Phase.RUNNING)
    return job_id


async def end(site, job_id) -> JobEnded:
    await site.finished(job_id)
    (ended,) = [fact.event for fact in await site.rooms.journal.facts_of(job_id) if isinstance(fact.event, JobEnded)]
    return ended


async def test_pools_grow_come_and_go_under_running_jobs(site, disk, live):
    first = await running(site, "first")
    waiting = await site.offer("waiting", "ulimit -n", pool="default")
    await site.until(lambda: site.rooms.engine.record(waiting).wait is not None)

    disk.write(POOL | {"capacity": 2, "sandbox": {"max_open_files": 1000}}, {"name": "new", "max_job_seconds": 50})
    loaded = await live.load("tester")
    assert loaded.changed == ("pools.default.capacity", "pools.default.sandbox.max_open_files", "pools.new")
    assert (await end(site, waiting)).outcome.reason is EndReason.COMPLETED
    assert (await site.log(waiting)).split() == ["1000"], "its sandbox was made as the pool is by now"
    assert phase(site, first) is Phase.RUNNING
    second = await running(site, "second", pool="new")

    disk.write({"name": "new"})
    loaded = await live.load("tester")
    assert loaded.changed[-1] == "pools.default"
    assert phase(site, first) is Phase.RUNNING, "it goes on as it began"
    late = await site.offer("late", "true", pool="default")
    assert (await end(site, late)).outcome.reason is EndReason.UNKNOWN_POOL
    for job_id in (first, second):
        await site.rooms.engine.cancel(job_id, "tester")
        assert (await end(site, job_id)).outcome.reason is EndReason.CANCELLED
    assert 'orchestrator_pool_capacity_runners{pool="new"} 4.0' in await site.get("/metrics")


async def test_who_waits_in_a_pool_that_goes_is_told(site, disk, live):
    first = await running(site, "first")
    waiting = await site.offer("waiting", "true")
    await site.until(lambda: site.rooms.engine.record(waiting).wait is not None)
    disk.write({"name": "other"})
    assert (await live.load("tester")).ending == {"default": 1}
    ended = (await end(site, waiting)).outcome
    assert (ended.reason, "not configured any more" in ended.message) == (EndReason.UNKNOWN_POOL, True)
    assert phase(site, first) is Phase.RUNNING


async def test_a_narrower_pool_is_narrow_for_whom_it_is_not_too_late(site, disk, live):
    first = await running(site, "first")
    waiting = await site.offer("waiting", "sleep 60")
    await site.until(lambda: site.rooms.engine.record(waiting).wait is not None)
    disk.write({"name": "default", "capacity": 2})
    await live.load("tester")
    await site.until(lambda: phase(site, waiting) is Phase.RUNNING)
    assert site.rooms.engine.record(first).obligations.egress == (EgressRule("cache.example", 443),)
    assert site.rooms.engine.record(waiting).obligations.egress == ()


@pytest.mark.parametrize("fault", ["file", "sandbox", "audit"])
async def test_all_or_nothing(site, disk, live, desk, fault, monkeypatch, tmp_path):
    disk.write(POOL | {"capacity": 9}, deadlines={"drain_seconds": 1})
    disk.broken = fault == "file"
    if fault == "sandbox":
        disk.write(POOL | {"capacity": 9, "sandbox": {"toolchain": [str(tmp_path / "none")]}})
    if fault == "audit":
        monkeypatch.setattr(site.rooms.audit, "note", refusing)
    before = live.current
    with pytest.raises(Exception, match=r"do not fit|none|no audit"):
        await live.load("tester")
    assert live.current is before
    assert site.rooms.engine.slots("default").capacity == 1
    assert site.rooms.pools["default"].capacity == 1
    job_id = await site.offer("job", "true")
    assert (await end(site, job_id)).outcome.reason is EndReason.COMPLETED


async def refusing(*_given: object, **_more: object) -> None:
    raise ConfigurationError("no audit today")


async def test_the_answer_names_all_and_what_is_refused(site, disk, desk, live, tmp_path):
    disk.write(POOL | {"capacity": 3, "trust_tier": "protected"})
    write_bundle(tmp_path / "policy", "package orchestrator\n\nallow if {")
    answer = await desk._reload.reload("tester")
    assert (answer["settings"].word, answer["policy"].word) == ("loaded", "refused")
    assert answer["settings"].settings.restart == ("pools.default.trust_tier",)
    assert answer["policy"].detail
    assert site.rooms.engine.slots("default").capacity == 3, "one that is refused keeps the others from nothing"
    write_bundle(tmp_path / "policy", POLICY)
    assert (await desk._reload.reload("tester"))["policy"].word == "unchanged"


async def test_whoever_waits_for_a_reload_does_not_hold_up_the_stop(site):
    """One is held in the middle, another waits for its turn, and a third comes too late."""
    rooms, begun, held = site.rooms, asyncio.Event(), asyncio.Event()
    actors: list[str] = []

    async def hold(actor: str) -> bool:
        actors.append(actor)
        begun.set()
        await held.wait()
        return False

    reload = Reload(
        rooms.policy_engine, rooms.trust, rooms.decisions, rooms.notes, rooms.metrics, None, {"signers": hold}
    )
    running = asyncio.ensure_future(reload.run_for_ever())
    asked = [asyncio.ensure_future(reload.ask(name)) for name in ("first", "second")]
    await begun.wait()
    running.cancel()
    for one in (*asked, reload.ask("third")):
        with pytest.raises(GiveUpError) as refused:
            await one
        assert refused.value.reason == "daemon_stopping"
    assert actors == ["first"]


async def test_reloads_that_are_asked_for_at_once_come_one_after_the_other(site):
    rooms, inside = site.rooms, []

    async def alone(actor: str) -> bool:
        inside.append(actor)
        await asyncio.sleep(0)
        assert inside[-1] == actor
        return False

    reload = Reload(
        rooms.policy_engine, rooms.trust, rooms.decisions, rooms.notes, rooms.metrics, None, {"signers": alone}
    )
    running = asyncio.ensure_future(reload.run_for_ever())
    names = [f"operator-{number}" for number in range(5)]
    gone = asyncio.ensure_future(reload.ask("gone"))
    await asyncio.sleep(0)
    gone.cancel()
    outcomes = await asyncio.gather(*map(reload.ask, names))
    assert [one["signers"].word for one in outcomes] == ["unchanged"] * 5
    assert inside == ["gone", *names]
    running.cancel()


async def test_drained_and_resumed(site, desk, caplog):
    caplog.set_level("INFO", "orchestrator")
    first = await running(site, "first")
    state = DrainView.model_validate(await desk.drain(site.local, None))
    assert (state.draining, state.stopping, state.left["running"], state.limit_at) == (True, False, 1, None)
    waiting = await site.offer("waiting", "true")
    await site.rooms.engine.cancel(first, "tester")
    await site.finished(first)
    assert (await desk.drain(site.local, 5))["limit_at"] is not None
    now = DrainView.model_validate(desk.draining())
    assert (now.jobs_left, now.not_begun) == (0, {"queued": 1, "waiting": 0})
    assert not DrainView.model_validate(await desk.resume(site.local)).draining
    said = {record.message: record.by for record in caplog.records if hasattr(record, "by")}
    assert said == dict.fromkeys(("draining on request", "jobs are begun again"), site.local.id)
    assert (await end(site, waiting)).outcome.reason is EndReason.COMPLETED


def test_the_shapes_are_the_documented_ones():
    part = {"what": "settings", "outcome": "loaded", "changed": ["pools.a"], "needs_restart": [], "jobs_ending": {}}
    more = {"ports_closed": {"a": [8443]}, "reason": "", "detail": "", "fix": ""}
    ReloadView.model_validate({"outcome": "loaded", "parts": [part | more]})


def told(hooks: HookReceiver, key: Path, name: str = "ops") -> dict[str, Any]:
    return {"name": name, "url": hooks.url, "key_files": [key], "events": ["job.queued"], "allow_private": True}


async def test_others_are_told_without_a_restart_or_all_stays_as_it_was(site, disk, live, tmp_path):
    """From none to one, then to another, then to none; what does not fit refuses the pools beside it too."""
    key = tmp_path / "key"
    key.write_text(new_shared_key())
    async with HookReceiver() as ops, HookReceiver() as dev:
        disk.write(POOL, notifications={"endpoints": [told(ops, key)]})
        assert (await live.load("tester")).changed == ("notifications.endpoints.ops",)
        await site.offer("first", "true")
        await ops.wait_for(1)
        listed = site.rooms.notifications.listed()
        assert [one["name"] for one in listed] == ["ops"]
        assert 'orchestrator_notification_delivered_total{endpoint="ops"}' in await site.get("/metrics")

        bad = told(dev, tmp_path / "no such key", "dev")
        disk.write(POOL | {"capacity": 3}, notifications={"endpoints": [bad]})
        with pytest.raises(ConfigurationError, match="dev: the webhook key"):
            await live.load("tester")
        assert 'orchestrator_pool_capacity_runners{pool="default"} 1.0' in await site.get("/metrics")
        await site.offer("second", "true")
        await ops.wait_for(2)

        disk.write(POOL, notifications={"endpoints": [told(dev, key, "dev")]})
        await live.load("tester")
        await site.offer("third", "true")
        await dev.wait_for(1)
        disk.write(POOL, notifications={})
        await live.load("tester")
        assert site.rooms.notifications.listed() == []
        assert [len(hooks.taken) for hooks in (ops, dev)] == [2, 1]


async def test_a_first_endpoint_that_was_refused_in_the_end_leaves_nothing_in_force(
    site, disk, live, tmp_path, monkeypatch
):
    key = tmp_path / "key"
    key.write_text(new_shared_key())

    async def untold(*_given: object) -> None:
        raise TryAgainError("the audit log cannot store records", reason="audit_unavailable")

    async with HookReceiver() as ops:
        disk.write(POOL, notifications={"endpoints": [told(ops, key)]})
        with monkeypatch.context() as patched:
            patched.setattr(site.rooms.notes, "settings_loaded", untold)
            with pytest.raises(TryAgainError):
                await live.load("tester")
        assert site.rooms.notifications.listed() == []
        await site.offer("untold", "true")
        await live.load("tester")
        job_id = await site.offer("told", "true")
        await ops.wait_for(1)
        assert [hook.json["data"]["job"]["id"] for hook in ops.taken] == [job_id]
