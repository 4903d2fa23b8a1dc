"""A kubelet that runs nothing: it takes pods through their phases on a real API server, as a script says.

For tests and benchmarks where no node can run or thousands of pods are needed. It binds pods itself and reports
their states through the status subresource, with the words that real kubelets, schedulers and node controllers
use; the API server cannot tell the difference. It needs the rights of a cluster administrator.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import itertools
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from orchestrator.backends.kubernetes.answers import ConflictError
from orchestrator.backends.kubernetes.client import ApiClient
from orchestrator.backends.kubernetes.manifest import AGENT_CONTAINER, JOB_CONTAINER
from orchestrator.backends.kubernetes.pod import Pod
from orchestrator.backends.kubernetes.watch import Change, PodWatch
from orchestrator.errors import GiveUpError, TryAgainError
from orchestrator.testing.pod_states import (
    NEVER_START,
    PREEMPTED,
    UNSCHEDULABLE,
    End,
    agent_is,
    ended,
    final_status,
    initializing,
    job_is,
    now,
    running,
    waiting,
)

_JSON = "application/json"
_STRATEGIC = "application/strategic-merge-patch+json"
_HEARTBEAT_SECONDS = 10.0
_GIVE_UP_SECONDS = 60.0
_FIRST_ADDRESS = ipaddress.IPv4Address("10.0.0.1")


@dataclass(frozen=True, slots=True)
class Script:
    """One pod's life. `start_seconds` pass before the agent runs, `run_seconds` from the job's start to its end.

    `code` is the job's exit code, or the agent's for AGENT_FAILED. `at_agent` lets what never starts, or what
    ends the pod from outside, happen to the agent's container instead of the job's.
    """

    end: End = End.EXIT
    code: int = 0
    start_seconds: float = 0.0
    run_seconds: float = 0.0
    at_agent: bool = False


Agent = Callable[[Pod], Awaitable[int]]
"""Stands for the agent inside a pod: claims, and returns the init container's exit code."""


class ScriptedKubelet:
    """Plays `script(pod name)` for every pod of `namespaces`. `start`, then `close`.

    `agent` None has every agent end with 0 at once. The node is cordoned, so that a scheduler puts nothing on it.
    """

    def __init__(
        self,
        client: ApiClient,
        namespaces: Sequence[str],
        script: Callable[[str], Script],
        *,
        agent: Agent | None = None,
        node: str = "scripted",
        selector: str = "",
    ) -> None:
        self.node = node
        self.played = 0
        self._client = client
        self._script = script
        self._agent = agent
        self._addresses = itertools.count()
        self._known: set[str] = set()
        self._going: set[str] = set()
        self._ends: dict[str, asyncio.Future[int]] = {}
        self._watches = [PodWatch(client, name, selector, self._hears(name)) for name in namespaces]
        self._news: asyncio.Queue[tuple[str, Pod, bool]] = asyncio.Queue()
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Register the node and begin; returns when all namespaces are being watched."""
        await self._register()
        self._task = asyncio.get_running_loop().create_task(self._run())
        for watch in self._watches:
            await watch.synced.wait()

    async def close(self) -> None:
        """Stop, and take the node away. Pods stay as they are."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        with contextlib.suppress(GiveUpError, TryAgainError):
            await self._client.request("DELETE", f"/api/v1/nodes/{self.node}")

    def end(self, pod: str, code: int = 0) -> None:
        """The job of a pod on HOLD ends."""
        future = self._ends.setdefault(pod, asyncio.get_running_loop().create_future())
        if not future.done():
            future.set_result(code)

    # The loop.

    def _hears(self, namespace: str) -> Callable[[Change], None]:
        def changed(change: Change) -> None:
            pod = change.new
            if pod is None:
                if change.old is not None:
                    self._known.discard(change.old.uid)
                    self._going.discard(change.old.uid)
                    self._ends.pop(change.old.name, None)
            elif pod.deletion:
                # Without a time of grace the API server removes it itself.
                if pod.node == self.node and pod.grace and pod.uid not in self._going:
                    self._going.add(pod.uid)
                    self._news.put_nowait((namespace, pod, True))
            elif pod.uid not in self._known and pod.phase == "Pending" and pod.node in ("", self.node):
                self._known.add(pod.uid)
                self._news.put_nowait((namespace, pod, False))

        return changed

    async def _run(self) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(self._beat())
            for watch in self._watches:
                group.create_task(watch.run())
            while True:
                namespace, pod, going = await self._news.get()
                group.create_task(self._kept(self._remove if going else self._play, namespace, pod))

    async def _kept(self, act: Callable[[str, Pod], Awaitable[None]], namespace: str, pod: Pod) -> None:
        """A pod that is gone, or is another by now, ends it."""
        with contextlib.suppress(GiveUpError, TryAgainError):
            await act(namespace, pod)
        self.played += 1

    async def _send(self, method: str, path: str, document: dict[str, Any], content_type: str = _JSON) -> None:
        """Through outages of the API server, as a kubelet goes on."""
        deadline = asyncio.get_running_loop().time() + _GIVE_UP_SECONDS
        body = msgspec.json.encode(document)
        while True:
            try:
                await self._client.request(method, path, body=body, content_type=content_type)
            except TryAgainError:
                if asyncio.get_running_loop().time() > deadline:
                    raise
                await asyncio.sleep(0.2)
            else:
                return

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(_HEARTBEAT_SECONDS)
            with contextlib.suppress(GiveUpError, TryAgainError):
                await self._ready()

    # One pod.

    async def _play(self, namespace: str, pod: Pod) -> None:
        script = self._script(pod.name)
        await asyncio.sleep(script.start_seconds)
        if script.end is End.UNSCHEDULABLE:
            await self._status(namespace, pod, {"phase": "Pending", "conditions": [UNSCHEDULABLE]})
            return
        if not pod.node:
            await self._bind(namespace, pod)
        if script.end is End.NOT_TAKEN_IN:
            refusal = {"phase": "Failed", "reason": "OutOfcpu", "message": "Pod Node didn't have enough resource: cpu"}
            await self._status(namespace, pod, refusal)
            return
        if script.at_agent and script.end is not End.AGENT_FAILED:
            await self._finish(namespace, pod, script, script.code, AGENT_CONTAINER)
            return
        code = script.code if script.end is End.AGENT_FAILED else 0
        address = self._next_address()
        if self._agent is not None and script.end is not End.AGENT_FAILED:
            begun = {"phase": "Pending", "podIP": address, **agent_is(running()), **job_is(initializing())}
            await self._status(namespace, pod, begun)
            code = await self._agent(pod)
        if code:
            agent = agent_is(ended(code, "Error", "the agent's last words"))
            await self._status(namespace, pod, {"phase": "Failed", **agent, **job_is(initializing())})
            return
        done = agent_is(ended(0, "Completed"))
        if script.end in NEVER_START:
            await self._status(namespace, pod, {"phase": "Pending", **done, **job_is(waiting(script.end))})
            return
        await self._status(namespace, pod, {"phase": "Running", "podIP": address, **done, **job_is(running())})
        code = await self._hold(pod) if script.end is End.HOLD else script.code
        await asyncio.sleep(script.run_seconds)
        await self._finish(namespace, pod, script, code, JOB_CONTAINER)

    def _next_address(self) -> str:
        """No two pods have the same one; nothing answers there."""
        return str(_FIRST_ADDRESS + next(self._addresses))

    async def _hold(self, pod: Pod) -> int:
        return await self._ends.setdefault(pod.name, asyncio.get_running_loop().create_future())

    async def _finish(self, namespace: str, pod: Pod, script: Script, code: int, container: str) -> None:
        def there(state: dict[str, Any]) -> dict[str, Any]:
            return job_is(state) if container == JOB_CONTAINER else agent_is(state)

        match script.end:
            case End.PREEMPTED:
                await self._status(namespace, pod, {"conditions": [PREEMPTED]})
                await self._delete(namespace, pod)
            case End.DELETED:
                await self._delete(namespace, pod)
            case _:
                await self._status(namespace, pod, final_status(script.end, code, there))

    async def _remove(self, namespace: str, pod: Pod) -> None:
        """What was asked to go: its processes end, then the object; not on a lost node."""
        if pod.reason == "NodeLost":
            return
        if pod.phase not in ("Succeeded", "Failed"):
            await self._status(namespace, pod, {"phase": "Failed", **job_is(ended(143, "Error"))})
        await self._delete(namespace, pod, grace=0)

    async def _bind(self, namespace: str, pod: Pod) -> None:
        target = {"apiVersion": "v1", "kind": "Node", "name": self.node}
        meta = {"name": pod.name, "uid": pod.uid}
        body = {"apiVersion": "v1", "kind": "Binding", "metadata": meta, "target": target}
        # Bound already, by a try whose answer was lost.
        with contextlib.suppress(ConflictError):
            await self._send("POST", f"{_pod(namespace, pod)}/binding", body)

    async def _status(self, namespace: str, pod: Pod, status: dict[str, Any]) -> None:
        body = {"metadata": {"uid": pod.uid}, "status": status}
        await self._send("PATCH", f"{_pod(namespace, pod)}/status", body, _STRATEGIC)

    async def _delete(self, namespace: str, pod: Pod, grace: int | None = None) -> None:
        options: dict[str, Any] = {"preconditions": {"uid": pod.uid}}
        if grace is not None:
            options["gracePeriodSeconds"] = grace
        await self._send("DELETE", _pod(namespace, pod), options)

    # The node.

    async def _register(self) -> None:
        node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": self.node}, "spec": {"unschedulable": True}}
        with contextlib.suppress(ConflictError):
            await self._client.request("POST", "/api/v1/nodes", body=msgspec.json.encode(node))
        await self._ready()

    async def _ready(self) -> None:
        ready = {"type": "Ready", "status": "True", "reason": "KubeletReady", "lastHeartbeatTime": now()}
        body = msgspec.json.encode({"status": {"conditions": [ready]}})
        path = f"/api/v1/nodes/{self.node}/status"
        await self._client.request("PATCH", path, body=body, content_type=_STRATEGIC)


def _pod(namespace: str, pod: Pod) -> str:
    return f"/api/v1/namespaces/{namespace}/pods/{pod.name}"
