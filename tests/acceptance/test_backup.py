"""A backup of a running daemon, and the way back from it on an empty machine."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import sys
from pathlib import Path

import aiohttp
import pytest
from installation import PROGRAM, Done, Installation
from witness import GATE, Witness

pytestmark = [pytest.mark.sandbox, pytest.mark.slow]

GATED = "visit started\nvisit gate\nvisit done\n"


async def command(here: Installation, *words: str) -> Done:
    return await here.command(words[0], "--config", str(here.config), *words[1:])


async def documents(here: Installation) -> list[str]:
    """What others know the daemon by."""
    async with aiohttp.ClientSession() as session:
        found = []
        for path in ("/jwks.json", "/v1/audit/key", "/v1/evidence/key"):
            async with session.get(here.url + path) as answer:
                assert answer.status == 200, path
                found.append(await answer.text())
        return found


async def test_what_is_restored_is_the_same_daemon_and_runs_nothing_twice(
    here: Installation, witness: Witness, tmp_path: Path
) -> None:
    here.configure(capacity=1)
    await here.start()
    done = await here.finished(await here.dispatch("done", "visit done"))
    receipt = (await here.call("GET", f"/v1/jobs/{done['id']}/receipt")).body
    running = await here.dispatch("running", GATED)
    await witness.told(running, GATE)
    queued = await here.dispatch("queued", "visit ran")
    await here.until(queued, lambda view: view["wait"])
    known = await documents(here)

    made = await command(here, "backup", str(tmp_path / "b"), "--json")
    assert made.code == 0, made.err
    told = json.loads(made.out)
    assert told["unfinished_jobs"] == 2
    assert (tmp_path / "b").stat().st_mode & 0o777 == 0o600
    witness.open_gate()
    await here.finished(running)
    await here.finished(queued)
    assert witness.words(queued) == ["ran"]
    await here.kill()

    over = await command(here, "restore", str(tmp_path / "b"))
    assert over.code == 1
    assert "not empty" in over.err
    assert "new folder" in over.err
    audit = tmp_path / "audit"
    shutil.copytree(here.state / "audit", audit)
    audit.chmod(0o755)  # as on a disk that came from elsewhere
    shutil.rmtree(here.state)
    checked = await command(here, "restore", "--check", str(tmp_path / "b"))
    assert checked.code == 0, checked.err
    assert not here.state.exists()
    restored = await command(here, "restore", "--newer-audit", str(audit), str(tmp_path / "b"), "--json")
    assert restored.code == 0, restored.err
    assert sorted(json.loads(restored.out)["cancelled_jobs"]) == sorted([running, queued])
    assert here.state.stat().st_mode & 0o777 == 0o700

    await here.start()
    assert await documents(here) == known
    assert (await here.call("GET", f"/v1/jobs/{done['id']}/receipt")).body == receipt
    for job_id in (running, queued):
        view = await here.finished(job_id)
        assert (view["result"], view["cancel"]["by"]) == ("cancellation", "restore")
        assert "may have run since" in view["cancel"]["reason"]
    assert witness.words(queued) == ["ran"], "it ran before, and not again"
    assert (await here.finished(await here.dispatch("after", "visit after")))["result"] == "success"
    verified = await here.command("audit", "verify", "--checkpoint", str(audit / "checkpoints"))
    assert verified.code == 0, verified.out
    shown = await here.command("audit", "show", "--json")
    assert "journal.replaced" in shown.out
    assert await here.stop() == 0


async def test_jobs_are_kept_where_nothing_can_have_run_since(
    here: Installation, witness: Witness, tmp_path: Path
) -> None:
    here.configure(capacity=1)
    await here.start()
    running = await here.dispatch("running", GATED)
    await witness.told(running, GATE)
    queued = await here.dispatch("queued", "visit ran")
    await here.until(queued, lambda view: view["wait"])
    await here.kill()
    assert (await command(here, "backup", str(tmp_path / "b"))).code == 0
    restored = await command(here, "restore", "--keep-jobs", "--aside", str(tmp_path / "b"), "--json")
    assert restored.code == 0, restored.err
    (away,) = map(Path, json.loads(restored.out)["moved_aside"])
    assert (away / "journal.db").exists()
    await here.start()
    assert (await here.finished(queued))["result"] == "success"
    assert (await here.finished(running))["reason"] == "runner_lost"
    assert await here.stop() == 0


async def test_a_backup_that_is_killed_leaves_none(here: Installation, tmp_path: Path) -> None:
    await here.start()
    await here.finished(await here.dispatch("job", "visit done"))
    assert await here.stop() == 0
    large = here.state / "logs" / "large"
    large.write_bytes(os.urandom(1 << 20) * 256)
    target = tmp_path / "b"
    scratch = tmp_path / ".b.partial"
    process = await asyncio.create_subprocess_exec(
        *PROGRAM, "backup", "--config", str(here.config), str(target),
        stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    async with asyncio.timeout(60):
        while not (scratch / "part").exists() or (scratch / "part").stat().st_size < 1 << 20:
            await asyncio.sleep(0.01)
    process.send_signal(signal.SIGSTOP)  # else it may be done before the next one looks
    second = await command(here, "backup", str(target))
    assert second.code == 1
    assert "another backup" in second.err
    process.kill()
    await process.wait()
    assert not target.exists()
    refused = await command(here, "restore", "--check", str(scratch / "part"))
    assert refused.code == 1
    assert "cut off" in refused.err
    large.unlink()
    assert (await command(here, "backup", str(target))).code == 0
    assert not scratch.exists()
    assert (await command(here, "restore", "--check", str(target))).code == 0


async def test_a_restore_that_is_killed_is_made_again_and_no_audit_record_is_lost(
    here: Installation, tmp_path: Path
) -> None:
    await here.start()
    await here.finished(await here.dispatch("before", "visit done"))
    assert (await command(here, "backup", str(tmp_path / "b"))).code == 0
    later = await here.finished(await here.dispatch("later", "visit done"))
    assert await here.stop() == 0
    had = json.loads((await here.command("audit", "verify", "--json")).out)["records"]
    process = await asyncio.create_subprocess_exec(
        *PROGRAM, "restore", "--config", str(here.config), "--aside", "-", stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    async with asyncio.timeout(60):
        while not (here.state / ".restoring").exists():  # and now it waits for what nobody sends
            await asyncio.sleep(0.01)
    process.kill()
    await process.communicate()
    refused = await command(here, "restore", str(tmp_path / "b"))
    assert refused.code == 1
    assert "restore again with --aside" in refused.err
    again = await command(here, "restore", "--aside", str(tmp_path / "b"), "--json")
    assert again.code == 0, again.err
    assert json.loads(again.out)["audit_records"] == had
    assert later["id"] in (await here.command("audit", "show", "--json")).out


async def test_a_disk_that_is_full_leaves_nothing(here: Installation, tmp_path: Path) -> None:
    await here.start()
    await here.finished(await here.dispatch("job", "visit done"))
    assert await here.stop() == 0
    (here.state / "logs" / "large").write_bytes(os.urandom(4 << 20))
    assert (await command(here, "backup", str(tmp_path / "good"))).code == 0
    target = tmp_path / "backups" / "b"
    target.parent.mkdir()
    full = await limited(here, "backup", str(target))
    assert full.code == 1
    assert "free space" in full.err
    assert list(target.parent.iterdir()) == []
    shutil.rmtree(here.state)
    full = await limited(here, "restore", str(tmp_path / "good"))
    assert full.code == 1
    assert "free space" in full.err
    assert list(here.state.iterdir()) == []
    assert (await command(here, "restore", str(tmp_path / "good"))).code == 0


async def limited(here: Installation, word: str, *words: str) -> Done:
    """The command where no file can become larger than 2 MiB, as on a disk that is full."""
    program = " ".join(PROGRAM[1:])
    process = await asyncio.create_subprocess_exec(
        "bash", "-c", f'ulimit -f 2048; exec "{sys.executable}" {program} "$@"', "-",
        word, "--config", str(here.config), *words,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, err = await process.communicate()
    assert process.returncode is not None
    return Done(process.returncode, out.decode(), err.decode())
