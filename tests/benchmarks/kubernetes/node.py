"""The scripted node: pods are bound, run and ended on a real API server. Prints `ready`, ends when killed.

    python node.py product NAMESPACE-POOL... [--claims POOL=WHERE] [--ca FILE] [--hold] [--no-tokens] [--seconds S]
    python node.py plain NAMESPACE --container NAME [--seconds S]

`product` plays pods with an agent. Like a kubelet it fetches the token that is projected into each pod. Then it does
for the pools in `--claims` what the agent in the pod would: claim the work, at an `https` URL over TLS, on a new
connection and with that token, else at a local socket. The node's own work is the same for all pools.
`plain` plays anybody's pods: bound, running and ready, over.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import socket
import ssl
import sys
from typing import Any

import aiohttp
import msgspec
import uvloop
from cluster import config

from orchestrator.backends.kubernetes.client import ApiClient
from orchestrator.backends.kubernetes.config import RUNNER_AUDIENCE, SERVICE_ACCOUNT
from orchestrator.backends.kubernetes.pod import Pod
from orchestrator.backends.kubernetes.watch import Change, PodWatch
from orchestrator.testing.kubelet import Script, ScriptedKubelet
from orchestrator.testing.pod_states import End, ended, running

NODE = "bench"
CLAIMS_AT_ONCE = 32
_PEERS = itertools.cycle(f"127.{n >> 16}.{n >> 8 & 255}.{n & 255}" for n in range(1 << 16, 2 << 16))
"""Where claims come from: each pod has an address of its own, and the runner API bounds what one address may do."""
PROOF = msgspec.json.encode({"proof": {"denied": ["metadata", "direct", "resolver"], "reached": []}})
_STRATEGIC = "application/strategic-merge-patch+json"


class Agents:
    """What happens inside the pods before their job starts. `claims` says where the pods of a pool claim."""

    def __init__(self, client: ApiClient, namespaces: dict[str, str], claims: dict[str, str], ca_file: str) -> None:
        self._client = client
        self._namespaces = namespaces
        self._claims = claims
        self._ca_file = ca_file
        self._turns = asyncio.Semaphore(CLAIMS_AT_ONCE)
        self.tokens = True
        self._session: aiohttp.ClientSession | None = None
        self._socket: asyncio.Task[asyncio.StreamWriter] | None = None
        self._asked: dict[str, asyncio.Future[str]] = {}

    async def claim(self, pod: Pod) -> int:
        token = await self._token(pod) if self.tokens else ""
        where = self._claims.get(pod.pool)
        if not where:
            return 0
        for _ in range(300):
            async with self._turns:
                ask = self._by_tls(where, token) if where.startswith("https") else self._by_socket(where, pod)
                word = await ask
            if word == "ok":
                return 0
            if word != "again":
                print(f"claim of {pod.name}: {word}", file=sys.stderr, flush=True)
                return 77
            await asyncio.sleep(0.1)
        return 69

    async def _by_tls(self, url: str, token: str) -> str:
        if self._session is None:
            trust = ssl.create_default_context(cafile=self._ca_file)
            connector = aiohttp.TCPConnector(force_close=True, ssl=trust, socket_factory=pods_socket)
            self._session = aiohttp.ClientSession(connector=connector)
        headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        try:
            async with self._session.post(f"{url}/runner/v1/claim", data=PROOF, headers=headers) as answer:
                text = await answer.text()
        except aiohttp.ClientError:
            return "again"
        if answer.status == 200:
            return "ok"
        return "again" if answer.status in (204, 429) or answer.status >= 500 else f"{answer.status} {text[:200]}"

    async def _by_socket(self, path: str, pod: Pod) -> str:
        """All pods by one connection."""
        loop = asyncio.get_running_loop()
        if self._socket is None:
            self._socket = loop.create_task(self._connect(path))
        writer = await asyncio.shield(self._socket)
        answer = self._asked[pod.name] = loop.create_future()
        writer.write(f"{pod.name} {pod.uid}\n".encode())
        return await answer

    async def _connect(self, path: str) -> asyncio.StreamWriter:
        reader, writer = await asyncio.open_unix_connection(path)
        self._answers = asyncio.get_running_loop().create_task(self._listen(reader))
        return writer

    async def _listen(self, reader: asyncio.StreamReader) -> None:
        while line := await reader.readline():
            name, _, word = line.decode().strip().partition(" ")
            self._asked.pop(name).set_result(word)

    async def _token(self, pod: Pod) -> str:
        namespace = self._namespaces[pod.pool]
        bound = {"kind": "Pod", "apiVersion": "v1", "name": pod.name, "uid": pod.uid}
        spec = {"audiences": [RUNNER_AUDIENCE], "expirationSeconds": 600, "boundObjectRef": bound}
        body = msgspec.json.encode({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec})
        path = f"/api/v1/namespaces/{namespace}/serviceaccounts/{SERVICE_ACCOUNT}/token"
        return str(msgspec.json.decode(await self._client.request("POST", path, body=body))["status"]["token"])


def pods_socket(info: Any) -> socket.socket:
    made = socket.socket(*info[:3])
    made.setblocking(False)
    made.bind((next(_PEERS), 0))
    return made


async def product(client: ApiClient, options: argparse.Namespace) -> None:
    script = Script(End.HOLD if options.hold else End.EXIT, run_seconds=options.seconds)
    pools = {name.rsplit("-", 1)[1]: name for name in options.namespaces}
    claims = dict(one.split("=", 1) for one in options.claims)
    agents = Agents(client, pools, claims, options.ca)
    agents.tokens = not options.no_tokens
    kubelet = ScriptedKubelet(client, options.namespaces, lambda _: script, agent=agents.claim, node=NODE)
    await kubelet.start()


class Plain:
    """Three writes for a pod: binding, running, over."""

    def __init__(self, client: ApiClient, namespace: str, container: str, seconds: float) -> None:
        self._client, self._pods = client, f"/api/v1/namespaces/{namespace}/pods"
        self._container, self._seconds = container, seconds
        self._known: set[str] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._watch = PodWatch(client, namespace, "", self._hear)

    async def start(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self._watch.run())
        await self._watch.synced.wait()

    def _hear(self, change: Change) -> None:
        pod = change.new
        if pod is not None and pod.uid not in self._known and not pod.deletion:
            self._known.add(pod.uid)
            task = asyncio.get_running_loop().create_task(self._play(pod))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _play(self, pod: Pod) -> None:
        target = {"apiVersion": "v1", "kind": "Node", "name": NODE}
        binding = {"apiVersion": "v1", "kind": "Binding", "metadata": {"name": pod.name}, "target": target}
        await self._client.request("POST", f"{self._pods}/{pod.name}/binding", body=msgspec.json.encode(binding))
        number = len(self._known)
        await self._status(pod, "Running", running(), ready=True, podIP=f"10.1.{number >> 8 & 255}.{number & 255}")
        await asyncio.sleep(self._seconds)
        await self._status(pod, "Succeeded", ended(0, "Completed"), ready=False)

    async def _status(self, pod: Pod, phase: str, state: dict[str, Any], *, ready: bool, **more: str) -> None:
        kept = {"name": self._container, "image": "scripted", "imageID": "", "restartCount": 0}
        status = {"phase": phase, "containerStatuses": [{**kept, "ready": ready, "state": state}], **more}
        body = msgspec.json.encode({"metadata": {"uid": pod.uid}, "status": status})
        await self._client.request("PATCH", f"{self._pods}/{pod.name}/status", body=body, content_type=_STRATEGIC)


async def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("kind", choices=("product", "plain"))
    parser.add_argument("namespaces", nargs="+")
    parser.add_argument("--claims", action="append", default=[])
    parser.add_argument("--ca", default="")
    parser.add_argument("--container", default="job")
    parser.add_argument("--hold", action="store_true")
    parser.add_argument("--no-tokens", action="store_true")
    parser.add_argument("--seconds", type=float, default=0.0)
    options = parser.parse_args()
    async with await ApiClient.open(config()) as client:
        if options.kind == "product":
            await product(client, options)
        else:
            await Plain(client, options.namespaces[0], options.container, options.seconds).start()
        print("ready", flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(main())
