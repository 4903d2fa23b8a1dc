"""T1, T2, T7, T21: what one job has is nothing another can get, use or leave behind."""

from __future__ import annotations

import asyncio

import pytest
from site_under_attack import CACHE

pytestmark = [pytest.mark.attack, pytest.mark.sandbox]


async def test_a_neighbours_credentials_cannot_be_found(site, failed):
    victim = await site.victim()
    loot = await site.result(await site.play("thief.py"))
    assert loot["found"] == []
    assert {line.split(":")[0] for line in loot["refused"]} == {
        "memory of the agent",
        "environment of the agent",
        "trace of the agent",
        "vm_readv of the agent",
    }
    assert loot["files"] > 0, "it did look"
    site.witness.open_gate()
    await site.installation.finished(victim.job_id)
    failed(
        "T1",
        "read another job's token from its environment, files, shared memory and sockets",
        stopped_by="own process, mount, IPC and network namespaces for each runner",
        seen_by="the job finds none of the victim's five copies",
    )
    failed(
        "T1",
        "read the agent's memory and environment, trace it",
        stopped_by="the agent cannot be dumped, and tracing is refused by the system call filter",
        seen_by="each call ends in an error",
    )


async def test_a_stolen_runner_token_is_worth_nothing_elsewhere(site, failed):
    victim = await site.victim()
    assert (await site.introspect(victim.id_token))["active"] is True
    loot = {"LOOT": victim.runner_token, "LOOT_ID": victim.id_token, "AUDIENCE": CACHE}
    thief = await site.play("replay.py", environment=loot)
    doors = await site.result(thief)
    assert {name: door["status"] for name, door in doors.items()} == {
        "exchange of the runner's token": 401,
        "exchange of the ID token": 401,
        "claim with the stolen token": 401,
        "claim with its own": 409,
        "artifact in the victim's name": 401,
    }
    assert not [name for name, door in doors.items() if "access_token" in door["body"]]
    thiefs = await site.installation.job(thief)
    assert [alarm["alarm"] for alarm in thiefs["alarms"]], "a second claim is an alarm"
    assert (await site.installation.job(victim.job_id))["artifacts"] == []
    failed(
        "T2",
        "present a stolen runner token, and a stolen ID token, from another runner",
        stopped_by="each runner has a listener of its own, which takes that runner's token only",
        seen_by="401 `runner_unknown` in the daemon's log",
    )
    failed(
        "T21",
        "claim a second time, for the work and what was made for it at the claim",
        stopped_by="the binding: once in a job's life",
        seen_by="409 `already_bound` and an alarm on the job",
    )
    site.witness.open_gate()
    await site.installation.finished(victim.job_id)
    assert (await site.introspect(victim.id_token)) == {"active": False}
    failed(
        "T2",
        "use a stolen ID token after its job's end, before it expires",
        stopped_by="introspection, which asks the job's record",
        seen_by='`{"active": false}` from the moment the end is recorded',
    )


async def test_nothing_waits_for_the_next_job(site, failed):
    planted = await site.result(await site.play("planter.py", pool="forks"))
    assert planted["written"], "it could write somewhere"
    found = await site.result(await site.play("finder.py", pool="release"))
    assert found == {"found": [], "here": []}
    failed(
        "T7",
        "an untrusted job leaves files and a process for a protected one",
        stopped_by="single-use runners: folders in memory that end with the job, and no cache that jobs share",
        seen_by="the later job finds neither",
    )
    left = await asyncio.to_thread(site.installation.present)
    assert [line for line in left if "planted" in line] == []
    failed(
        "T12",
        "a process that detaches itself to outlive its job",
        stopped_by="the process namespace, which ends as a whole",
        seen_by="no process of the runner's user is left",
    )
