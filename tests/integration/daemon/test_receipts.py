"""Receipts of a whole daemon: real sandboxes, gateway, exchange and journal, then the receipt without any of them."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from orchestrator.evidence.receipts.judging import judge
from orchestrator.evidence.receipts.signing import open_receipt
from orchestrator.evidence.signing_key import key_id
from orchestrator.model import events as e
from orchestrator.testing.receipts import lacking, wrong_receipts

pytestmark = pytest.mark.sandbox

AUDIENCE = "https://cache.example"
BUSY = f"""
orchestrator-token --audience {AUDIENCE} > /dev/null
orchestrator-token --audience {AUDIENCE} > /dev/null
orchestrator-token --audience https://nobody.example > /dev/null 2>&1 || true
curl --silent --max-time 5 https://forbidden.example/ || true
echo built > app.whl && orchestrator-artifact app.whl
"""


async def keys(world):
    public = load_pem_public_key((await world.get("/v1/evidence/key")).encode())
    return {key_id(public): public}


async def receipt_of(world, job_id):
    receipt, _ = open_receipt(await world.get(f"/v1/jobs/{job_id}/receipt"), await keys(world))
    return receipt


async def history(world, *jobs):
    return {job: await world.rooms.journal.facts_of(job) for job in jobs}


async def test_a_job_that_used_all_there_is(world):
    job_id = await world.offer("busy", BUSY)
    await world.finished(job_id)
    receipt = await receipt_of(world, job_id)
    facts = (await history(world, job_id))[job_id]
    assert receipt.outcome.result == "success"
    assert [token.audience for token in receipt.tokens] == [AUDIENCE, AUDIENCE]
    assert receipt.token_refusals == {"audience_unlisted": 1}
    assert receipt.egress.allowed == []
    assert sum(receipt.egress.refused.values()) == sum(
        fact.event.connections for fact in facts if isinstance(fact.event, e.EgressDecided)
    )
    assert receipt.egress.probes > 0
    assert len(receipt.artifacts) == 1
    assert receipt.log.bytes_kept == len(await world.log(job_id))
    assert [(one.what, one.how) for one in receipt.access] == [
        ("runner_api_listener", "closed"),
        ("egress_gateway", "closed"),
    ]
    assert receipt.runner.seen_by == "launcher"
    assert all(found.holds for found in judge(receipt)), judge(receipt)
    issued = [(job_id, fact.event.jti) for fact in facts if isinstance(fact.event, e.TokenIssued)]
    told = await history(world, job_id)
    assert wrong_receipts(told, await keys(world)) == []
    assert (len(issued), lacking(issued, told, await keys(world))) == (2, [])


async def test_jobs_that_end_in_every_way_have_one(world):
    failed = await world.offer("failed", "exit 3")
    cancelled = await world.offer("cancelled", "sleep 60")
    await world.until(lambda: (record := world.rooms.engine.record(cancelled)) and record.bound)
    await world.rooms.engine.cancel(cancelled, "tester")
    stopped = await world.offer("stopped", "sleep 60", timeout_seconds=1)
    jobs = (failed, cancelled, stopped)
    for job in jobs:
        await world.finished(job)
    assert [(await receipt_of(world, job)).outcome.reason for job in jobs] == [
        "exit_nonzero",
        "cancelled",
        "run_timeout",
    ]
    assert wrong_receipts(await history(world, *jobs), await keys(world)) == []


def command(state: Path, *words: str) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, "-m", "orchestrator", "--state-dir", str(state), *words],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=60, check=False,
    )  # fmt: skip
    return done.returncode, done.stdout


@pytest.mark.slow
def test_a_receipt_outlives_its_daemon_and_tells_of_the_one_before(program, tmp_path):
    """Killed in the middle of a job, started again, stopped; then the receipt is checked by what was kept of it."""
    daemon, state = program().start(), tmp_path / "state"
    code, text = command(state, "submit", "--name", "a", "--script", "sleep 600", "--no-follow", "--json")
    assert code == 0, text
    job = json.loads(text)["id"]
    daemon.until(lambda: json.loads(command(state, "show", job, "--json")[1])["bound_at"])
    daemon.signal(signal.SIGKILL)
    daemon.process.wait(10)
    (state / "daemon.json").unlink()
    daemon.start()
    text = command(state, "show", job, "--wait")[1]
    assert "runner_lost" in text, text
    kept, key = tmp_path / "receipt.json", tmp_path / "evidence.pub"
    for words, file in ((("receipt", job, "--json"), kept), (("receipt", "--public-key"), key)):
        code, text = command(state, *words)
        assert code == 0, text
        file.write_text(text)
    assert daemon.end() == 0
    code, text = command(tmp_path / "nowhere", "receipt", "--file", str(kept), "--key", str(key))
    assert code == 0, text
    told = " ".join(text.split())
    assert "1 restarts" in told
    assert "seen by daemon_start" in told
