"""What a receiver is told by a real daemon, whatever happens to it on the way."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from installation import Installation
from standardwebhooks import Webhook
from witness import GATE, Witness

from orchestrator.testing.hook_receiver import HookFault, HookReceiver

pytestmark = [pytest.mark.sandbox, pytest.mark.slow]

MARKER = "POISON-7d3e"
GATED = "visit started\nvisit gate\nvisit done\n"


@pytest.fixture
async def hooks() -> AsyncIterator[HookReceiver]:
    async with HookReceiver() as hooks:
        yield hooks


def endpoint(hooks: HookReceiver, key: Path, name: str = "ops", **more: Any) -> dict[str, Any]:
    given = {"name": name, "url": hooks.url, "key_files": [str(key)], "allow_private": True}
    return given | {"events": ["*"]} | more


async def new_key(here: Installation, path: Path, kind: str) -> dict[str, Any]:
    made = await here.command("notifications", "new-key", str(path), "--kind", kind, "--json")
    assert made.code == 0, made.err
    assert path.stat().st_mode & 0o777 == 0o600
    told: dict[str, Any] = json.loads(made.out)
    return told


def kinds(hooks: HookReceiver) -> set[str]:
    return {hook.json["type"] for hook in hooks.taken}


async def stands(here: Installation, state: str) -> None:
    """Wait until the one endpoint is in this state: an answer of the receiver's is on record a little later."""
    async with asyncio.timeout(30):
        while [one["state"] for one in (await here.call("GET", "/v1/notifications")).body["endpoints"]] != [state]:
            await asyncio.sleep(0.02)


async def test_a_jobs_life_arrives_signed_and_without_anything_secret(
    here: Installation, hooks: HookReceiver, tmp_path: Path
) -> None:
    shared, private = tmp_path / "shared.key", tmp_path / "private.key"
    await new_key(here, shared, "shared")
    public = (await new_key(here, private, "ed25519"))["public_key"]
    both = endpoint(hooks, shared, sentences=True)
    both["key_files"].append(str(private))
    here.configure(notifications={"endpoints": [both]})
    await here.start()
    await here.finished(await here.dispatch("told", f"echo {MARKER}\nexit 3", environment={"TOKEN": MARKER}))
    told = {"job.queued", "job.admitted", "job.started", "job.ended", "runner.created", "receipt.signed"}
    # Several are on their way at once, so the last one may be the first to arrive.
    await hooks.wait_until(lambda hooks: told | {"job.finished"} <= kinds(hooks))
    await hooks.wait_until(lambda hooks: numbers_of(hooks) == set(range(1, max(numbers_of(hooks)) + 1)))
    for hook in hooks.taken:
        assert Webhook(shared.read_text().strip()).verify(hook.body, dict(hook.headers)) == hook.json
        _, _, signature = hook.headers["webhook-signature"].split(" ")[1].partition(",")
        signed = f"{hook.id}.{hook.headers['webhook-timestamp']}.".encode() + hook.body
        key = Ed25519PublicKey.from_public_bytes(base64.b64decode(public.partition("_")[2]))
        key.verify(base64.b64decode(signature), signed)
        assert MARKER not in hook.body.decode()
    [ended] = [hook.json["data"] for hook in hooks.taken if hook.json["type"] == "job.ended"]
    assert (ended["result"], ended["exit_code"], ended["job"]["name"]) == ("failure", 3, "told")
    numbers = sorted(hook.json["sequence"] for hook in hooks.taken)
    assert numbers == list(range(1, len(numbers) + 1))
    assert await here.stop() == 0


@pytest.mark.parametrize("fault", [HookFault.HANG, HookFault.UNAVAILABLE, HookFault.LOST])
async def test_a_killed_daemon_loses_nothing_and_repeats_itself_by_the_same_id(
    here: Installation, witness: Witness, hooks: HookReceiver, tmp_path: Path, fault: HookFault
) -> None:
    key = tmp_path / "ops.key"
    await new_key(here, key, "shared")
    here.configure(notifications={"endpoints": [endpoint(hooks, key)]})
    hooks.always = fault
    await here.start()
    job_id = await here.dispatch("told", GATED)
    await witness.told(job_id, GATE)
    await hooks.wait_until(lambda hooks: len(hooks.seen) >= 1)
    first = hooks.seen[0]
    await here.kill()
    witness.open_gate()
    taken_before = len(hooks.taken)
    hooks.always = None
    await here.start()
    assert (await here.finished(job_id))["reason"] == "runner_lost"
    assert (await here.command("notifications", "retry", "ops")).code == 0  # not to wait for the schedule
    await hooks.wait_until(lambda hooks: "job.finished" in kinds(hooks))
    await hooks.wait_until(lambda hooks: first.id in {hook.id for hook in hooks.taken[taken_before:]})
    await hooks.wait_until(lambda hooks: numbers_of(hooks) == set(range(1, max(numbers_of(hooks)) + 1)))
    by_id: dict[str, set[bytes]] = {}
    for hook in hooks.seen:
        by_id.setdefault(hook.id, set()).add(hook.body)
    assert all(len(bodies) == 1 for bodies in by_id.values()), "what comes again is the same"
    assert await here.stop() == 0


def numbers_of(hooks: HookReceiver) -> set[int]:
    return {hook.json["sequence"] for hook in hooks.taken}


async def test_operators_see_try_and_enable_endpoints(here: Installation, hooks: HookReceiver, tmp_path: Path) -> None:
    key = tmp_path / "ops.key"
    await new_key(here, key, "ed25519")
    gone = endpoint(hooks, key, "cd", format="cdevents", events=["job.ended"])
    here.configure(notifications={"endpoints": [gone]})
    await here.start()
    hooks.always = HookFault.GONE
    await here.finished(await here.dispatch("one", "true"))
    await stands(here, "disabled")
    listed = await here.command("notifications", "--exit-status")
    assert listed.code == 1, listed.out
    assert "disabled" in listed.out
    assert "orchestrator notifications retry cd" in listed.out
    tried = await here.command("notifications", "test", "cd")
    assert tried.code == 1
    assert "endpoint_gone" in tried.err
    hooks.always = None
    assert (await here.command("notifications", "retry", "cd")).code == 0
    tested = await here.command("notifications", "test", "cd", "--json")
    assert json.loads(tested.out)["status"] == 204
    await here.finished(await here.dispatch("two", "true"))
    await hooks.wait_for(2)
    await stands(here, "active")
    assert hooks.taken[-1].headers["ce-type"] == "dev.cdevents.pipelinerun.finished.0.3.0"
    assert hooks.taken[-1].json["subject"]["content"]["outcome"] == "success"
    assert (await here.command("notifications", "--exit-status")).code == 0
    [shown] = json.loads((await here.command("notifications", "--json")).out)["endpoints"]
    assert (shown["state"], shown["dropped"]) == ("active", 1)
    assert (await here.command("notifications", "test", "nobody")).code == 1
    assert await here.stop() == 0


async def test_a_hanging_receiver_keeps_neither_jobs_nor_the_daemons_end_waiting(
    here: Installation, hooks: HookReceiver, tmp_path: Path
) -> None:
    key = tmp_path / "ops.key"
    await new_key(here, key, "shared")
    here.configure(notifications={"endpoints": [endpoint(hooks, key)]})
    hooks.always = HookFault.HANG
    await here.start()
    for name in ("one", "two", "three"):
        await here.finished(await here.dispatch(name, "true"))
    assert await here.stop(seconds=45) == 0
    assert (here.state / "notifications.db").stat().st_size > 0
