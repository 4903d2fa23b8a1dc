"""The state folder of every version so far is opened by this one, and nothing of it is lost."""

from __future__ import annotations

import contextlib
import json
import sqlite3
import tarfile
import time
from datetime import datetime
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from installation import Installation, NotStartedError
from make_state import ENDED, MONTH, STATES, configure

from orchestrator.evidence.signing_key import key_id
from orchestrator.testing.receipts import wrong_receipts

pytestmark = [pytest.mark.sandbox, pytest.mark.slow]

VERSIONS = sorted(path.stem for path in STATES.glob("*.json"))


def put(version: str, here: Installation) -> dict[str, Any]:
    """The state of that version as this installation's; what its daemon told."""
    with tarfile.open(STATES / f"{version}.tar.gz") as archive:
        for member in archive.getmembers():
            path = here.folder / member.name
            if member.isdir():
                path.mkdir(mode=0o700)
            else:
                content = archive.extractfile(member)
                assert content is not None
                path.touch(mode=0o600)
                path.write_bytes(content.read())
    configure(here)
    told: dict[str, Any] = json.loads((STATES / f"{version}.json").read_text(encoding="utf-8"))
    return told


def age_seconds(view: dict[str, Any]) -> float:
    return time.time() - datetime.fromisoformat(view["offered_at"]).timestamp()


@pytest.mark.parametrize("version", VERSIONS)
async def test_nothing_is_lost_by_an_upgrade(version: str, here: Installation) -> None:
    told = put(version, here)
    jobs = {name: view["id"] for name, view in told["jobs"].items()}
    await here.start()

    for name in ENDED:
        view = await here.job(jobs[name])
        kept = {key: told["jobs"][name][key] for key in ("phase", "result", "reason", "message", "trace_id", "name")}
        assert {key: view[key] for key in kept} == kept
        assert (await here.call("GET", f"/v1/jobs/{jobs[name]}/receipt")).body == told["receipts"][name]
        assert (await here.command("logs", jobs[name])).out == told["logs"][name]
        assert (await here.command("trace", jobs[name])).code == 0
    assert (await here.finished(jobs["running"]))["reason"] == "runner_lost"
    for name in ("waiting", "next"):
        view = await here.finished(jobs[name])
        # After a month in the repository they have waited as long as settings allow, and are told so.
        in_time = age_seconds(view) < MONTH
        assert view["reason"] == ("completed" if in_time else "capacity_timeout")
        if in_time:
            assert (await here.command("logs", jobs[name])).out == "begun by the next daemon\n"

    again = await here.call("POST", "/v1/jobs", here.body("red", "another script"), Idempotency_Key="red")
    assert again.body.get("reason") == "idempotency_key_reused", "keys of before are known"
    kids = {key["kid"] for issuer in (await here.call("GET", "/v1/keys")).body["issuers"] for key in issuer["keys"]}
    assert {key["kid"] for issuer in told["keys"]["issuers"] for key in issuer["keys"]} <= kids
    fresh = await here.dispatch("fresh", "exit 0")
    assert (await here.finished(fresh))["result"] == "success"
    assert await here.stop() == 0

    log = json.loads((await here.command("audit", "verify", "--json")).out)
    assert (log["ok"], log["key"]) == (True, told["audit"]["key"])
    assert log["records"] > told["audit"]["records"], "the chain goes on"
    history = await here.history()
    private = load_pem_private_key((here.state / "keys" / "evidence" / "evidence.pem").read_bytes(), None)
    public = private.public_key()
    assert wrong_receipts(history, {key_id(public): public}) == []
    assert {view["id"] for view in told["jobs"].values()} <= set(history)


@pytest.mark.parametrize("version", VERSIONS)
async def test_what_was_built_before_verifies_after(version: str, here: Installation) -> None:
    told = put(version, here)
    await here.start()
    digest = told["logs"]["built"].split()[0]
    done = await here.command("verify", digest, "--type", "signature", "--type", "provenance")
    assert (done.code, told["jobs"]["built"]["result"]) == (0, "success"), done
    assert await here.stop() == 0


async def test_a_journal_of_a_later_version_is_not_touched(here: Installation) -> None:
    put(VERSIONS[-1], here)
    journal = here.state / "journal.db"
    with contextlib.closing(sqlite3.connect(journal, isolation_level=None)) as connection:
        connection.execute("UPDATE meta SET value = value + 1 WHERE key = 'version'")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    before = journal.read_bytes()
    with pytest.raises(NotStartedError, match="journal_newer") as refused:
        await here.start()
    assert refused.value.code == 1
    assert journal.read_bytes() == before
