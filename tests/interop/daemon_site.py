"""A daemon whose jobs run in real sandboxes and reach programs of others by the egress gateway."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import aiohttp
import yaml
from installation import Installation
from interop import toolchain
from platform_tokens import Platform

from orchestrator.model.job import JobId


class Site:
    """`audiences` are settings by name, `trust_maps` are documents. `tools` are more folders that jobs see.
    `configure` says where they may go."""

    def __init__(
        self,
        folder: Path,
        *,
        audiences: dict[str, Any],
        trust_maps: list[dict[str, Any]],
        public_url: str = "",
        tools: list[str] | None = None,
    ) -> None:
        self.here = Installation(folder)
        self.url = self.here.url
        self.issuer = public_url or self.here.url
        self._tools = tools or []
        self.platform = Platform(folder, self.issuer)
        maps = folder / "trust"
        maps.mkdir()
        for number, document in enumerate(trust_maps):
            (maps / f"{number}.yaml").write_text(yaml.safe_dump(document))
        self._server: dict[str, Any] = {"port": self.here.port} | ({"public_url": public_url} if public_url else {})
        self._identity = {"audiences": audiences, "trust_maps": [str(maps)]}

    def configure(self, *hosts: tuple[str, str, int, str]) -> None:
        """`hosts` are where jobs may go: name, address, port and protocol of each."""
        self.here.configure(
            server=self._server,
            callers=[self.platform.settings],
            policy={"bundle": str(Path(__file__).with_name("policy"))},
            identity=self._identity,
            egress={"names": {host: address for host, address, _, _ in hosts}},
            pools=[self._pool(hosts)],
        )

    def _pool(self, hosts: tuple[tuple[str, str, int, str], ...]) -> dict[str, Any]:
        return {
            "name": "default",
            "capacity": 4,
            "trust_tier": "protected",
            "egress": [{"host": host, "port": port, "protocol": protocol} for host, _, port, protocol in hosts],
            "sandbox": {"host_uid_base": self.here.uid_base, "toolchain": toolchain() + self._tools},
        }

    async def submit(self, name: str, script: str, *, claims: dict[str, str] | None = None, **more: Any) -> JobId:
        """Dispatch as the platform, with one of its tokens."""
        body = {"name": name, "script": script, **more}
        headers = {"Authorization": f"Bearer {self.platform.token(**(claims or {}))}", "Idempotency-Key": name}
        async with (
            aiohttp.ClientSession() as session,
            session.post(f"{self.url}/v1/jobs", json=body, headers=headers) as answer,
        ):
            told = await answer.json()
            assert answer.status in (200, 202), told
            return JobId(told["id"])

    async def run(self, name: str, script: str, *, result: str = "success", **more: Any) -> str:
        """Run a job to its end; its log."""
        job_id = await self.submit(name, script, **more)
        view = await self.here.finished(job_id, 60)
        log = (await self.here.command("logs", job_id)).out
        assert view["result"] == result, f"{view}\n{log}"
        return log

    async def tokens(self, job_id: JobId) -> list[dict[str, Any]]:
        return list((await self.here.job(job_id))["tokens"])


def marked(log: str, mark: str) -> Any:
    """The JSON that a job printed behind `mark`."""
    (line,) = [line for line in log.splitlines() if line.startswith(f"{mark} ")]
    return json.loads(line.removeprefix(f"{mark} "))
