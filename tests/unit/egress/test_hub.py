"""The daemon's side of its gateways: what `withdraw` promises, when polls are answered, which reports count."""

from __future__ import annotations

import asyncio

import pytest

from orchestrator.egress import hub as hub_module
from orchestrator.egress.batch import Batch, Misuse, RunnerVerdict
from orchestrator.egress.hub import TableHub
from orchestrator.errors import TryAgainError
from orchestrator.model.egress import EgressRule
from orchestrator.model.events import EgressDecided

DIGEST = "a" * 64
VERDICT = EgressDecided("a.test", 443, "tls", True, "tls://a.test:443")


@pytest.fixture(autouse=True)
def small_margin(monkeypatch):
    monkeypatch.setattr(hub_module, "MARGIN_SECONDS", 0.05)


class Hub(TableHub):
    """With what it was told."""

    def __init__(self, max_age: float = 15.0, settled=None) -> None:
        self.verdicts: list[tuple[str, EgressDecided]] = []
        self.misuses: list[Misuse] = []
        super().__init__(lambda name, v: self.verdicts.append((name, v)), self.misuses.append, settled, max_age)


def stepped(hub: Hub):
    """From now on the hub's clock stands; what is returned has it go on by some seconds."""
    now = [hub._clock()]
    hub._clock = lambda: now[0]

    def pass_time(seconds: float) -> None:
        now[0] += seconds

    return pass_time


def begun(max_age: float = 15.0, settled=None) -> Hub:
    hub = Hub(max_age, settled)
    hub.begin()
    return hub


async def done(task: asyncio.Task[object]) -> bool:
    for _ in range(10):
        await asyncio.sleep(0)
    return task.done()


async def test_nothing_is_told_before_the_beginning_and_after_the_end():
    hub = Hub()
    hub.publish("r", "10.0.0.1", DIGEST, [])
    with pytest.raises(TryAgainError) as caught:
        await hub.poll("pod", "g", "")
    assert caught.value.reason == "table_not_ready"
    hub.begin()
    update = await hub.poll("pod", "g", "")
    assert (update.full, update.size) == (True, 1)
    held = asyncio.create_task(hub.poll("pod", "g", update.version))
    assert not await done(held)
    hub.stop()
    with pytest.raises(TryAgainError):
        await held


async def test_a_poll_is_held_until_something_changes_or_a_while_has_passed():
    hub = begun(max_age=0.6)
    first = await hub.poll("pod", "g", "")
    same = await asyncio.wait_for(hub.poll("pod", "g", first.version), 5)
    assert (same.version, same.full, same.runners, same.gone) == (first.version, False, (), ())
    held = asyncio.create_task(hub.poll("pod", "g", same.version))
    assert not await done(held)
    hub.publish("r", "10.0.0.1", DIGEST, [])
    assert [entry.name for entry in (await held).runners] == ["r"]


async def test_replaced_waits_for_every_gateway():
    hub = begun()
    hub.publish("r", "10.0.0.1", DIGEST, [EgressRule("a.test")])
    await hub.replaced("r")  # nothing was there before
    versions = {name: (await hub.poll(name, "g", "")).version for name in ("pod-1", "pod-2")}
    polls = [asyncio.create_task(hub.poll(name, "g", version)) for name, version in versions.items()]
    assert not await done(polls[0])
    hub.publish("r", "10.0.0.1", DIGEST, [])
    waiting = asyncio.create_task(hub.replaced("r"))
    one, two = await asyncio.gather(*polls)
    assert [entry.rules for entry in (*one.runners, *two.runners)] == [(), ()]
    last = [asyncio.create_task(hub.poll("pod-1", "g", one.version))]
    assert not await done(waiting)  # the other one may still go by the old rules
    last.append(asyncio.create_task(hub.poll("pod-2", "g", two.version)))
    assert await done(waiting)
    await hub.replaced("r")
    for task in last:
        task.cancel()


async def test_replaced_outwaits_a_gateway_that_hears_nothing():
    hub = begun(max_age=0.5)
    hub.publish("r", "10.0.0.1", DIGEST, [EgressRule("a.test")])
    await hub.poll("pod", "g", "")
    hub.publish("r", "10.0.0.1", DIGEST, [])
    started = asyncio.get_running_loop().time()
    await hub.replaced("r")
    assert 0.4 < asyncio.get_running_loop().time() - started < 5


async def test_replaced_outwaits_the_tables_of_the_daemon_before():
    hub = Hub(max_age=0.5)
    started = asyncio.get_running_loop().time()
    hub.publish("r", "10.0.0.1", DIGEST, [])  # it may have had other rules there
    hub.begin()
    await hub.replaced("r")
    assert 0.4 < asyncio.get_running_loop().time() - started < 5


async def test_withdraw_waits_for_every_gateway():
    hub = begun()
    hub.publish("r", "10.0.0.1", DIGEST, [])
    versions = {name: (await hub.poll(name, "g", "")).version for name in ("pod-1", "pod-2")}
    polls = [asyncio.create_task(hub.poll(name, "g", version)) for name, version in versions.items()]
    gone = asyncio.create_task(hub.withdraw("r"))
    one, two = await asyncio.gather(*polls)
    assert one.gone == two.gone == ("r",)
    assert not await done(gone)
    again = asyncio.create_task(hub.withdraw("r"))
    last = [asyncio.create_task(hub.poll("pod-1", "g", one.version))]
    assert not await done(gone)  # the other one may still serve it
    last.append(asyncio.create_task(hub.poll("pod-2", "g", two.version)))
    assert await done(gone)
    assert await done(again)
    for task in last:
        task.cancel()


async def test_withdraw_does_not_wait_for_a_gateway_that_holds_nothing():
    hub = begun()
    hub.publish("r", "10.0.0.1", DIGEST, [])
    await hub.poll("pod", "g", "")
    gone = asyncio.create_task(hub.withdraw("r"))
    assert not await done(gone)
    hub._gateways["pod", "g"].oldest = 1
    poll = asyncio.create_task(hub.poll("pod", "g", ""))  # it has forgotten its table
    await poll
    assert await done(gone)


async def test_withdraw_waits_out_a_gateway_that_went_silent():
    hub = begun(max_age=0.5)
    hub.publish("r", "10.0.0.1", DIGEST, [])
    await hub.poll("pod", "g", "")
    loop = asyncio.get_running_loop()
    started = loop.time()
    await asyncio.wait_for(hub.withdraw("r"), 5)
    assert 0.5 <= loop.time() - started < 3
    assert hub.gateways == 0


async def test_withdraw_does_not_wait_longer_for_a_gateway_that_asks_and_never_hears():
    """Its answers get lost, so it asks again and again with what it holds; that was too old long ago."""
    hub = begun(max_age=0.4)
    hub.publish("r", "10.0.0.1", DIGEST, [])
    held = (await hub.poll("pod", "g", "")).version
    began = asyncio.get_running_loop().time()
    gone = asyncio.create_task(hub.withdraw("r"))
    while not gone.done():
        assert asyncio.get_running_loop().time() - began < 3, "it waits for ever"
        await asyncio.sleep(0.05)
        await hub.poll("pod", "g", held)
    assert asyncio.get_running_loop().time() - began >= 0.4, "until then the gateway may have served the runner"


async def test_a_poll_given_up_by_the_gateway_does_not_speak_for_the_next():
    hub = begun()
    version = (await hub.poll("pod", "g", "")).version
    abandoned = asyncio.create_task(hub.poll("pod", "g", version))
    assert not await done(abandoned)
    current = asyncio.create_task(hub.poll("pod", "g", version))
    assert not await done(current)
    hub.publish("r", "10.0.0.1", DIGEST, [])
    with pytest.raises(TryAgainError) as caught:
        await abandoned
    assert caught.value.reason == "poll_superseded"
    assert (await current).size == 1


async def test_a_runner_of_an_earlier_daemon_may_be_in_tables_nobody_here_gave_out():
    hub = Hub(max_age=0.5)
    hub.publish("old", "10.0.0.1", DIGEST, [])
    hub.begin()
    hub.publish("new", "10.0.0.2", DIGEST, [])
    started = asyncio.get_running_loop().time()
    await asyncio.wait_for(hub.withdraw("new"), 0.4)
    await asyncio.wait_for(hub.withdraw("old"), 5)
    assert asyncio.get_running_loop().time() - started >= 0.4
    await asyncio.wait_for(hub.withdraw("never seen"), 0.4)


async def test_an_unknown_runner_too_while_the_daemon_is_young():
    hub = begun(max_age=0.5)
    withdrawing = asyncio.create_task(hub.withdraw("of an earlier daemon"))
    assert not await done(withdrawing)
    await asyncio.wait_for(withdrawing, 5)


async def test_delivered_says_when_all_have_heard():
    hub = begun(max_age=5)
    hub.publish("r", "10.0.0.1", DIGEST, [])
    assert not await hub.delivered("r", 0.05)  # there is no gateway
    assert not await hub.delivered("unknown", 0.05)
    version = (await hub.poll("pod", "g", "")).version
    assert await hub.delivered("r", 0.05)
    hub.publish("s", "10.0.0.2", DIGEST, [])
    assert not await hub.delivered("s", 0.05)
    version = (await hub.poll("pod", "g", version)).version
    waiting = asyncio.create_task(hub.delivered("s", 5))
    assert not await done(waiting)
    poll = asyncio.create_task(hub.poll("pod", "g", version))
    assert await waiting
    poll.cancel()


async def test_gateways_are_bounded_and_forgotten(monkeypatch):
    monkeypatch.setattr(hub_module, "MAX_GATEWAYS", 2)
    hub = begun()
    pass_time = stepped(hub)
    for name in ("1", "2"):
        await hub.poll("pod", name, "")
    with pytest.raises(TryAgainError) as caught:
        await hub.poll("pod", "3", "")
    assert caught.value.reason == "too_many_gateways"
    pass_time(151)
    await asyncio.wait_for(hub.poll("pod", "3", ""), 20)


def batch(number: int, *runners: str, gateway: str = "g", **more) -> Batch:
    return Batch(gateway, number, tuple(RunnerVerdict(name, VERDICT) for name in runners), **more)


async def test_a_batch_counts_once():
    hub = begun()
    hub.publish("r", "10.0.0.1", DIGEST, [])
    for number in (1, 1, 2, 1, 2):
        await hub.take("pod", batch(number, "r"))
    await hub.take("pod", batch(1, "r", gateway="another process"))
    await hub.take("another pod", batch(1, "r"))
    assert hub.verdicts == [("r", VERDICT)] * 4


async def test_reports_about_runners_that_are_not_here_are_dropped():
    hub = begun(max_age=0.1)
    pass_time = stepped(hub)
    hub.publish("r", "10.0.0.1", DIGEST, [])
    misuses = (Misuse("unknown", "r", "10.0.0.1"), Misuse("r", "", "10.0.0.9"))
    await hub.take("pod", batch(1, "r", "unknown", alarms=misuses, lost=7))
    assert hub.verdicts == [("r", VERDICT)]
    assert hub.misuses == [misuses[1]]
    assert (hub.unknown_verdicts, hub.lost_verdicts) == (1, 7)
    await hub.withdraw("r")
    await hub.take("pod", batch(2, "r"))  # a little late
    assert len(hub.verdicts) == 2
    pass_time(60)
    await hub.withdraw("r")
    await hub.take("pod", batch(3, "r"))
    assert len(hub.verdicts) == 2


async def test_a_batch_is_acknowledged_when_it_is_durable():
    asked = []

    async def settled(name):
        asked.append(name)
        if len(asked) == 1:
            raise TryAgainError("the journal is full", reason="journal_unavailable")

    hub = begun(settled=settled)
    hub.publish("r", "10.0.0.1", DIGEST, [])
    with pytest.raises(TryAgainError):
        await hub.take("pod", batch(1, "r"))
    await hub.take("pod", batch(1, "r"))
    assert asked == ["r", "r"]
    assert hub.verdicts == [("r", VERDICT)]
