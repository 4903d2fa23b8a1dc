"""What policy allows is decided at each exchange: a rule that goes while a job runs gives it no further token."""

from __future__ import annotations

import pytest

from orchestrator.daemon.operations.reload import Reload
from orchestrator.model.decision import Verdict
from orchestrator.model.events import ExchangeDecided, JobAdmitted, TokenIssued, TokenRefused
from tests.integration.daemon.conftest import AUDIENCE, POLICY

pytestmark = pytest.mark.sandbox

UNTIL_REFUSED = f"""
ask() {{ orchestrator-token --audience {AUDIENCE} >/dev/null 2>refused; }}
ask && echo first
while ask; do sleep 0.3; done
cat refused
"""
WITHDRAWN = POLICY.replace(
    'if input.job.source == "dispatch"', 'if {\n\tinput.job.source == "dispatch"\n\tnot input.stage == "exchange"\n}'
)


async def test_a_rule_that_is_withdrawn_while_a_job_runs_ends_its_tokens(world, bundle):
    rooms = world.rooms
    reload = Reload(rooms.policy_engine, rooms.trust, rooms.decisions, rooms.notes, rooms.metrics, None)
    before = rooms.policy_engine.digest
    heard = []
    unsubscribe = rooms.journal.subscribe(lambda facts: heard.extend(fact.event for fact in facts))
    job_id = await world.offer("asks", UNTIL_REFUSED)
    await world.until(lambda: any(isinstance(event, TokenIssued) for event in heard))
    bundle.write(WITHDRAWN)
    assert (await reload.reload())["policy"].word == "loaded"
    await world.finished(job_id)
    unsubscribe()
    [admitted] = [event.decision for event in heard if isinstance(event, JobAdmitted)]
    decided = [event.decision for event in heard if isinstance(event, ExchangeDecided)]
    [refused] = [event for event in heard if isinstance(event, TokenRefused)]
    assert (admitted.bundle_digest, decided[0].bundle_digest) == (before, before)
    assert (decided[-1].bundle_digest, decided[-1].verdict) == (rooms.policy_engine.digest, Verdict.DENY)
    assert rooms.policy_engine.digest != before
    assert refused.reason == "policy_deny"
    log = await world.log(job_id)
    assert log.startswith("first\n")
    assert "policy_deny" in log
