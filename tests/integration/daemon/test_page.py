"""The live page at a whole daemon: from the command line's link to a job's end, and what the audit log has of it."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from orchestrator.cli.main import app
from orchestrator.server.page.guard import PAGE_HEADER

OURS = {PAGE_HEADER: "s" * 43}

pytestmark = [pytest.mark.slow, pytest.mark.sandbox]


async def test_from_the_link_to_a_jobs_end(open_world, tmp_path: Path) -> None:
    async with open_world(page={"anonymous": "never"}) as world:
        token = tmp_path / "token"
        token.write_text(world.operator["Authorization"].removeprefix("Bearer "))
        command = ["--url", world.url, "--token-file", str(token), "page", "--json"]
        result = await asyncio.to_thread(CliRunner().invoke, app, command)
        assert result.exit_code == 0, result.output
        made = json.loads(result.stdout)
        base, _, code = made["url"].partition("/#code=")
        assert (base, made["expires_in"]) == (world.url, 120)

        assert (await world.client.get(f"{world.url}/v1/live")).status == 401
        answer = await world.client.post(f"{world.url}/v1/session/code", json={"code": code}, headers=OURS)
        cookie = {"Cookie": answer.headers["Set-Cookie"].partition(";")[0]} | OURS
        world.client.cookie_jar.clear()
        job_id = await world.offer("one", "echo hello; sleep 600")
        await world.until(lambda: (found := world.rooms.engine.record(job_id)) is not None and found.bound)
        async with world.client.get(f"{world.url}/v1/live?activity=true", headers=cookie) as live:
            ended = await world.client.delete(f"{world.url}/v1/jobs/{job_id}", headers=cookie)
            assert ended.status == 202
            told = b""
            async with asyncio.timeout(20):
                while b'"phase":"finished"' not in told or b'"kind":"receipt"' not in told:
                    told += await live.content.readany()
        assert b'"why":"The job was cancelled' in told
        overview = json.loads(await (await world.client.get(f"{world.url}/v1/overview", headers=cookie)).read())
        assert overview["finished_last_hour"]["cancellation"] == 1
        records = "".join(
            path.read_text("utf-8", "replace")
            for path in world.state.rglob("*")
            if "audit" in str(path) and path.is_file()
        )
        for kind in ("page.link_made", "page.signed_in"):
            assert kind in records, kind
        assert code not in records
