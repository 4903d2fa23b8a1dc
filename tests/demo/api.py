"""The demo's own small client of the dispatch API: dispatch a job, show its way and its log as they happen."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path

import aiohttp
from rich.console import Console
from rich.text import Text

JOB_SECONDS = 120
COLOURS = {"build": "cyan", "curious": "magenta", "deploy-staging": "green", "deploy-prod": "yellow"}


class Api:
    def __init__(self, url: str, token_file: Path, session: aiohttp.ClientSession, console: Console) -> None:
        self.url, self.token_file, self.session, self.console = url, token_file, session, console

    def _headers(self, _method: str = "GET", _path: str = "") -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token_file.read_text(encoding='utf-8')}"}

    async def call(self, method: str, path: str, body: dict | None = None) -> dict:
        headers = self._headers(method, path)
        if body is not None:
            headers["Idempotency-Key"] = f"demo-{body['name']}"
        async with self.session.request(method, self.url + path, json=body, headers=headers) as answer:
            document = await answer.json()
        if answer.status >= 400:
            raise SystemExit(f"{method} {path}: {answer.status} {json.dumps(document)}")
        return document

    async def text(self, path: str) -> str:
        """An answer as it is."""
        async with self.session.get(self.url + path, headers=self._headers()) as answer:
            if answer.status != 200:
                raise SystemExit(f"GET {path}: {answer.status} {await answer.text()}")
            return await answer.text()

    async def run(self, body: dict) -> dict:
        """Dispatch a job and follow it to its end: a line for each phase, and each line of its log."""
        job = await self.call("POST", "/v1/jobs", {"pipeline": "demo", "timeout_seconds": JOB_SECONDS, **body})
        self._say(body["name"], job["phase"], "bold")
        phase, shown, begun = job["phase"], b"", time.monotonic()
        while job["phase"] != "finished":
            if time.monotonic() - begun > JOB_SECONDS + 60:
                raise SystemExit(f"job {job['id']} has no end; see orchestrator show {job['id']}")
            await asyncio.sleep(0.05)
            job = await self.call("GET", f"/v1/jobs/{job['id']}")
            shown = await self._log_lines(job, shown)
            if job["phase"] not in (phase, "finished"):
                phase = job["phase"]
                self._say(body["name"], phase, "bold")
        shown = await self._log_lines(job, shown)
        self._say(body["name"], f"{job['result']}: {job['message']}", "bold")
        return job

    async def _log_lines(self, job: dict, shown: bytes) -> bytes:
        """Print the whole lines that are new; returns all that was shown."""
        path = f"{self.url}/v1/jobs/{job['id']}/log?offset={len(shown)}"
        async with self.session.get(path, headers=self._headers()) as answer:
            if answer.status != 200:
                return shown
            new = await answer.read()
        lines = new.split(b"\n")
        whole = lines if job["phase"] == "finished" else lines[:-1]
        for line in whole:
            if line:
                self._say(job["name"], line.decode("utf-8", "replace"))
        return shown + (new if job["phase"] == "finished" else new[: len(new) - len(lines[-1])])

    def _say(self, name: str, text: str, style: str = "") -> None:
        self.console.print(Text.assemble((f"{name:<14} │ ", COLOURS.get(name, "")), (text, style)))
