"""T14: whoever can write the audit log's files cannot change what it says unseen; and without it nothing happens."""

from __future__ import annotations

import asyncio
import hashlib
import json
import shutil
from pathlib import Path

import pytest
from installation import NotStartedError
from site_under_attack import CACHE

pytestmark = [pytest.mark.attack, pytest.mark.sandbox]


def anchored(folder: Path) -> dict:
    return {"audit": {"checkpoint_seconds": 1, "anchors": [{"file": str(folder / "elsewhere")}]}}


async def lived(site) -> Path:
    """A site that had a life: jobs admitted and denied, a token; stopped. Its audit log's folder."""
    await site.installation.start()
    await site.result(await site.play("clock.py"))
    denied = await site.dispatch_as(site.platform.token("acme/app-fork", fork="true"), "denied")
    await site.installation.finished(denied.body["id"])
    job_id = await site.play("spill.py", environment={"AUDIENCE": CACHE})
    await site.installation.finished(job_id)
    assert await site.installation.stop() == 0
    return site.installation.state / "audit"


async def verify(site, folder: Path, checkpoints: Path) -> tuple[int, dict]:
    done = await site.installation.command("audit", "verify", str(folder), "--checkpoint", str(checkpoints), "--json")
    return done.code, json.loads(done.out)


def lines(segment: Path) -> list[bytes]:
    return segment.read_bytes().splitlines(keepends=True)


def flip(segment: Path) -> None:
    """A verdict turned round: the record itself names the error."""
    found = lines(segment)
    place = next(number for number, line in enumerate(found) if b"job.refused" in line)
    found[place] = found[place].replace(b'"outcome":"deny"', b'"outcome":"allow"').replace(b"deny", b"fine")
    segment.write_bytes(b"".join(found))


def drop(segment: Path) -> None:
    found = lines(segment)
    segment.write_bytes(b"".join(line for line in found if b"job.refused" not in line))


def reorder(segment: Path) -> None:
    found = lines(segment)
    found[2], found[3] = found[3], found[2]
    segment.write_bytes(b"".join(found))


def cut(segment: Path) -> None:
    segment.write_bytes(b"".join(lines(segment)[:-2]))


def rewrite(segment: Path) -> None:
    """The refusal becomes another, and every hash from there on is made anew: only checkpoints know better."""
    made, prev = [], None
    for line in lines(segment):
        record = json.loads(line)
        if record["kind"] == "job.refused":
            record["outcome"] = "allow"
        if prev is not None:
            record["prev"] = prev
        del record["hash"]
        text = json.dumps(record, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        prev = hashlib.sha256(text.encode()).hexdigest()
        made.append(json.dumps(record | {"hash": prev}, sort_keys=True, separators=(",", ":"), ensure_ascii=False))
    segment.write_text("\n".join(made) + "\n", encoding="utf-8")


ATTACKS = {
    flip: ("change one record", "the record's own hash"),
    drop: ("take one record out", "the chain of hashes"),
    reorder: ("swap two records", "the chain of hashes"),
    cut: ("cut the end off", "signed checkpoints kept elsewhere"),
    rewrite: ("change one record and make all hashes anew", "the tree's root in signed checkpoints kept elsewhere"),
}


async def test_a_changed_log_names_what_was_changed(build, tmp_path, failed):
    site = build(**anchored(tmp_path))
    folder = await lived(site)
    elsewhere = tmp_path / "elsewhere"
    code, report = await verify(site, folder, elsewhere)
    assert (code, report["ok"]) == (0, True), report
    kinds = {json.loads(line)["kind"] for segment in sorted(folder.glob("*.jsonl")) for line in lines(segment)}
    assert {"job.admitted", "job.refused", "token.issued", "job.ended", "receipt.signed"} <= kinds, kinds
    for attack, (name, control) in ATTACKS.items():
        copy = tmp_path / attack.__name__
        shutil.copytree(folder, copy)
        attack(min(copy.glob("*.jsonl")))
        code, report = await verify(site, copy, elsewhere)
        assert code == 1, (name, report)
        finding = report["finding"]
        assert finding, report
        failed("T14", f"{name} of the audit log", stopped_by=control, seen_by="`orchestrator audit verify` names it")


async def test_a_daemon_does_not_go_on_over_a_log_that_was_cut(build, tmp_path, failed):
    site = build(**anchored(tmp_path))
    folder = await lived(site)
    cut(max(folder.glob("*.jsonl")))
    with pytest.raises(NotStartedError) as refused:
        await site.installation.start()
    assert refused.value.code == 1
    assert "[audit_tampered]" in refused.value.said
    failed(
        "T14",
        "cut the log while the daemon is down, and let it go on",
        stopped_by="its own last checkpoint, looked at before anything else",
        seen_by="the daemon does not start: `audit_tampered`",
    )


async def test_without_an_audit_log_nothing_happens(build, tmp_path, failed):
    """Somebody takes the audit log away from under a running daemon; its journal works."""
    log = tmp_path / "audit-disk"
    log.mkdir(mode=0o700)
    site = build(audit={"folder": str(log)})
    await site.installation.start()
    victim = await site.victim()
    away = tmp_path / "away"
    log.rename(away)
    log.write_text("not a folder")

    unseen = await site.dispatch_as(site.platform.token(), "unseen")
    assert unseen.status == 202, "it is kept, which lets nothing in"
    later = await site.dispatch_as(site.platform.token(), "later")
    assert (later.status, later.body["reason"]) == (503, "audit_unavailable")
    shown = await site.installation.call("GET", f"/v1/jobs/{unseen.body['id']}")
    assert (shown.status, shown.body["reason"]) == (503, "audit_unavailable"), "nor does anybody hear of what follows"
    assert site.witness.words(unseen.body["id"]) == []
    ready = await site.installation.call("GET", "/readyz")
    assert ready.status == 503, ready

    log.unlink()
    away.rename(log)
    async with asyncio.timeout(30):
        while (await site.installation.call("GET", "/readyz")).status != 200:
            await asyncio.sleep(0.1)
    view = await site.installation.finished(unseen.body["id"], 60)
    assert view["result"] == "success", "and it goes on by itself once the log is back"
    site.witness.open_gate()
    await site.installation.finished(victim.job_id)
    assert await site.installation.stop() == 0
    done = await site.installation.command("audit", "verify", str(log), "--json")
    assert done.code == 0, done
    failed(
        "T14",
        "take the audit log away from under the daemon, so that what follows is not written down",
        stopped_by="the audit stands before every effect: no admission, no token, no runner without it",
        seen_by="503 `audit_unavailable`, readiness; all goes on when it is back",
    )
