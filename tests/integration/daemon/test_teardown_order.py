"""Revokes first, deletes second, verifies gone third; and nothing of a job's access is remembered afterwards."""

from __future__ import annotations

import pytest

from orchestrator.backends.sandbox.backend import SandboxBackend
from orchestrator.telemetry.relay import JobSpanRelay

pytestmark = pytest.mark.sandbox

SPANS = 'curl --silent --fail --output /dev/null --request POST --header "Content-Type: application/x-protobuf" \
    "$OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"\n'


def relay_of(world) -> JobSpanRelay:
    return world.rooms.runner_api._deps.relay.__self__


@pytest.mark.parametrize("ending", ["by itself", "cancelled"])
async def test_all_access_is_gone_before_the_runner_is_deleted(world, monkeypatch, ending):
    seen = []
    relay, gateway = relay_of(world), world.rooms.backends["sandbox"]._egress.gateway
    delete = SandboxBackend.delete

    def access(name, job_id):
        return [name in world.rooms.runner_api._origins, name in gateway._open, job_id in relay._spent]

    async def deleting(backend, name):
        seen.append(access(name, job_id))
        await delete(backend, name)

    monkeypatch.setattr(SandboxBackend, "delete", deleting)
    job_id = await world.offer("job", SPANS + ("sleep 60" if ending == "cancelled" else "sleep 0.5"))
    await world.until(lambda: job_id in relay._spent)
    name = world.rooms.engine.record(job_id).runner
    assert access(name, job_id) == [True, True, True], "it could fail"
    if ending == "cancelled":
        await world.rooms.engine.cancel(job_id, "test")
    await world.finished(job_id)
    assert seen[0] == [False, False, False]
    assert [type(fact.event).__name__ for fact in await world.rooms.journal.facts_of(job_id)][-1] == "JobFinished"
    assert relay._spent == {}
