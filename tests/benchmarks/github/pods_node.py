"""The node of `pods.py`: a scripted kubelet, and in each pod an agent and a runner as GitHub's. Prints `ready`.

    python pods_node.py NAMESPACE POOL=RUNNER-API --ca FILE

The agent claims with the pod's own token, over TLS and a connection of its own, and gets the registration with the
work. The runner opens its session at GitHub's test server with that registration, waits for its job, asks for the job's
own token where it may, reports by the hook's endpoint, tells GitHub the end, and ends the pod.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import ssl
import sys
import time
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import uvloop

sys.path.append(str(Path(__file__).parents[1] / "kubernetes"))
from cluster import config
from node import NODE, PROOF, Agents, pods_socket

from orchestrator.backends.kubernetes.client import ApiClient
from orchestrator.backends.kubernetes.pod import Pod
from orchestrator.testing.kubelet import Script, ScriptedKubelet
from orchestrator.testing.pod_states import End

AGAIN_SECONDS = 0.2
PATIENCE = 600
CLAIM_REFUSED = 77


class FailedError(Exception):
    """An answer that this pod cannot go on with."""


class Pods(Agents):
    """`kubelet` is set once it is made: it is told of each runner's end."""

    kubelet: ScriptedKubelet

    def __init__(self, client: ApiClient, namespaces: dict[str, str], claims: dict[str, str], ca_file: str) -> None:
        super().__init__(client, namespaces, claims, ca_file)
        trust = ssl.create_default_context(cafile=ca_file)
        connector = aiohttp.TCPConnector(force_close=True, ssl=trust, socket_factory=pods_socket, limit=0)
        self._pods = aiohttp.ClientSession(connector=connector)
        self._github = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0))
        self._runners: set[asyncio.Task[None]] = set()

    async def claim(self, pod: Pod) -> int:
        token = await self._token(pod)
        try:
            async with self._turns:
                work = await self._ask(f"{self._claims[pod.pool]}/runner/v1/claim", token, PROOF)
        except FailedError as error:
            print(f"claim of {pod.name}: {error}", file=sys.stderr, flush=True)
            return CLAIM_REFUSED
        runner = asyncio.get_running_loop().create_task(self._run(pod.name, work, token))
        self._runners.add(runner)
        runner.add_done_callback(self._runners.discard)
        return 0

    async def _run(self, pod: str, work: dict[str, Any], token: str) -> None:
        code = 1
        try:
            await self._do_job(work, token)
            code = 0
        except (FailedError, aiohttp.ClientError, KeyError) as error:
            print(f"runner in {pod}: {type(error).__name__} {error}", file=sys.stderr, flush=True)
        self.kubelet.end(pod, code)

    async def _do_job(self, work: dict[str, Any], token: str) -> None:
        files = msgspec.json.decode(base64.b64decode(work["files"]["jitconfig"]))
        told = {name: msgspec.json.decode(base64.b64decode(text)) for name, text in files.items()}
        broker = told[".runner"]["ServerUrlV2"]
        headers = {"Authorization": f"Bearer {told['.credentials']['data']['clientId']}"}
        session = (await self._broker("POST", f"{broker}session", headers))["sessionId"]
        job = None
        while not job:
            job = await self._broker("GET", f"{broker}message?sessionId={session}&status=Online", headers)
        variables = job["variables"]
        report = {
            "run_id": variables["GITHUB_RUN_ID"],
            "run_attempt": variables["GITHUB_RUN_ATTEMPT"],
            "repository": variables["GITHUB_REPOSITORY"],
        }
        if "ACTIONS_ID_TOKEN_REQUEST_URL" in variables:
            url = f"{variables['ACTIONS_ID_TOKEN_REQUEST_URL']}&audience={work['audience']}"
            bearer = {"Authorization": f"Bearer {variables['ACTIONS_ID_TOKEN_REQUEST_TOKEN']}"}
            report["token"] = (await self._broker("GET", url, bearer))["value"]
        await self._ask(work["job_url"], token, msgspec.json.encode(report))
        log = f"began={time.time():.6f}\n"
        done = {"result": "succeeded", "log": log, "steps": []}
        await self._broker("POST", f"{broker}complete", headers, msgspec.json.encode(done))

    async def _ask(self, url: str, token: str, body: bytes) -> dict[str, Any]:
        """At the runner API, as often as it has no answer yet."""
        headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        for _ in range(PATIENCE):
            try:
                async with self._pods.post(url, data=body, headers=headers) as answer:
                    text = await answer.read()
            except aiohttp.ClientError:
                await asyncio.sleep(AGAIN_SECONDS)
                continue
            if answer.status == 200:
                return dict(msgspec.json.decode(text))
            if answer.status not in (204, 429) and answer.status < 500:
                raise FailedError(f"{answer.status} {text[:200]!r}")
            await asyncio.sleep(AGAIN_SECONDS)
        raise FailedError(f"{url} had no answer in the end")

    async def _broker(self, method: str, url: str, headers: dict[str, str], body: bytes = b"") -> dict[str, Any]:
        """At GitHub; empty when there is nothing yet."""
        async with self._github.request(method, url, headers=headers, data=body or None) as answer:
            text = await answer.read()
        if answer.status >= 300:
            raise FailedError(f"{method} {url}: {answer.status} {text[:200]!r}")
        return dict(msgspec.json.decode(text)) if text else {}


async def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("namespace")
    parser.add_argument("claims", help="POOL=URL")
    parser.add_argument("--ca", required=True)
    options = parser.parse_args()
    pool, url = options.claims.split("=", 1)
    async with await ApiClient.open(config()) as client:
        agents = Pods(client, {pool: options.namespace}, {pool: url}, options.ca)
        agents.kubelet = ScriptedKubelet(
            client, [options.namespace], lambda _: Script(End.HOLD), agent=agents.claim, node=NODE
        )
        await agents.kubelet.start()
        print("ready", flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(main())
