"""What follows from guards that are missing, unknown, or were seen too long ago."""

from __future__ import annotations

from dataclasses import replace

import pytest

from orchestrator.backends.kubernetes.guard_watch import VALID_PERIODS, GuardWatch
from orchestrator.backends.kubernetes.guards import Finding, Severity
from orchestrator.backends.kubernetes.preflight import Report
from orchestrator.errors import TryAgainError

GONE = Finding("network-policy", "full", "default-deny is gone", "the network", "apply it")
WEAK = replace(GONE, guard="user-namespace", severity=Severity.WARNING)


class Cluster:
    def __init__(self, *findings):
        self.answer = Report("v1.34.0", findings)

    async def look(self):
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def strong(full_pool):
    return replace(full_pool, protected=True)


def watch(cluster, clock, *pools, **more):
    told = []
    return GuardWatch(cluster, {pool.name: pool for pool in pools}, 10, told.append, monotonic=clock, **more), told


async def test_a_protected_pool_waits_from_the_start_until_its_guards_are_seen(strong, plain_pool, clock):
    cluster = Cluster(WEAK)
    guards, told = watch(cluster, clock, strong, plain_pool)
    assert "not been looked at" in guards.lacks(strong)
    assert guards.lacks(plain_pool) == ""
    await guards.look()
    assert (guards.lacks(strong), told) == ("", [strong.namespace])
    cluster.answer = Report("v1.34.0", (GONE,))
    await guards.look()
    assert guards.lacks(strong) == "pool full lacks network-policy: default-deny is gone"
    assert guards.missing() == {"full": ("network-policy: default-deny is gone",), "plain": ()}
    assert told == [strong.namespace] * 2


async def test_what_is_nobodys_pool_is_every_pools(strong, plain_pool, clock):
    guards, _ = watch(Cluster(replace(GONE, pool="")), clock, strong, plain_pool)
    await guards.look()
    assert guards.lacks(strong)
    assert guards.missing()["plain"]


async def test_an_outage_is_lived_through_for_a_while_and_not_for_ever(strong, clock):
    cluster = Cluster()
    guards, _ = watch(cluster, clock, strong)
    await guards.look()
    cluster.answer = TryAgainError("away", reason="api_unavailable")
    clock.now = 10 * VALID_PERIODS
    await guards.look()
    assert guards.lacks(strong) == ""
    clock.now += 1
    assert "api_unavailable" in guards.lacks(strong)
    cluster.answer = ZeroDivisionError()
    await guards.look()
    assert "ZeroDivisionError" in guards.lacks(strong)


async def test_a_gateway_without_a_fresh_table_is_shown_for_every_pool(plain_pool, clock):
    guards, _ = watch(Cluster(), clock, plain_pool, gateway=lambda: "none has asked lately")
    await guards.look()
    assert guards.missing() == {"plain": ("gateway: none has asked lately",)}
