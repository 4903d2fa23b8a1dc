"""One pod that tries what its pool's network must deny: the proof by the cluster's data path, on demand.

It is a runner's pod as any other, but for one argument: its agent only proves the denial, and asks for no work. Only
for `orchestrator preflight --canary`, with an operator's rights.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets

import msgspec

from orchestrator.backends.kubernetes.client import ApiClient
from orchestrator.backends.kubernetes.config import KubernetesConfig, KubernetesPool
from orchestrator.backends.kubernetes.guards import Finding, Severity
from orchestrator.backends.kubernetes.manifest import LABEL_WARM, pod_hosts, warm_document
from orchestrator.backends.kubernetes.pod import Terminated
from orchestrator.backends.kubernetes.pod_api import delete_pod, get_pod, pod_path, readable
from orchestrator.errors import GiveUpError, OrchestratorError, TryAgainError

SECONDS = 90.0
"""How long the pod may take to start and try."""
_PROVEN, _UNPROVEN = 0, 78
"""What an agent that only proves ends with. An image that is too old to know the argument ends otherwise."""
_PROTECTS = "runners that reach the network past the gateway, whatever the policies say"


async def try_egress(
    client: ApiClient, pool: KubernetesPool, config: KubernetesConfig, seconds: float = SECONDS
) -> list[Finding]:
    """Nothing when the denial was proven; else what was seen instead. The pod is gone or going afterwards.

    Raises:
        TryAgainError: the API server cannot be asked.
    """
    document = warm_document(f"preflight-{secrets.token_hex(8)}", pool, config)
    del document["metadata"]["labels"][LABEL_WARM]
    document["spec"]["initContainers"][0]["args"] = ["--prove"]
    document["spec"]["activeDeadlineSeconds"] = int(seconds)
    try:
        pod = readable(await client.request("POST", pod_path(pool.namespace), body=msgspec.json.encode(document)))
    except (GiveUpError, TryAgainError) as error:
        what = f"no canary could be started, so nothing is proven: {error} [{error.reason}]"[:400]
        fix = "where the admission policy lets only the daemon make pods, rely on the proof of each runner's own agent"
        return [Finding("canary", pool.name, what, _PROTECTS, fix, Severity.WARNING)]
    try:
        ended = await _end(client, pool.namespace, pod.name, seconds)
    finally:
        with contextlib.suppress(OrchestratorError):
            await delete_pod(client, pool.namespace, pod.name, pod.uid, 0)
    return _judged(pool, ended)


async def service_addresses(client: ApiClient, config: KubernetesConfig) -> dict[str, tuple[str, ...]]:
    """What the daemon looks up by DNS inside of the cluster, read from Services by somebody who may be outside.

    Raises:
        GiveUpError: a Service is not there, or may not be read.
        TryAgainError: the API server cannot be asked.
    """
    found: dict[str, tuple[str, ...]] = {}
    for host in pod_hosts(config):
        name, _, rest = host.partition(".")
        if host in config.host_addresses or not rest:
            continue
        path = f"/api/v1/namespaces/{rest.partition('.')[0]}/services/{name}"
        spec = (msgspec.json.decode(await client.request("GET", path)) or {}).get("spec") or {}
        found[host] = tuple(spec.get("clusterIPs") or [spec.get("clusterIP") or ""])
    return found


async def _end(client: ApiClient, namespace: str, name: str, seconds: float) -> Terminated | None:
    """How the agent ended; None when it did not in time."""
    try:
        async with asyncio.timeout(seconds):
            while True:
                pod = await get_pod(client, namespace, name)
                if pod is None or pod.agent.terminated is not None or pod.phase == "Failed":
                    return pod.agent.terminated if pod is not None else None
                await asyncio.sleep(0.5)
    except TimeoutError:
        return None


def _judged(pool: KubernetesPool, ended: Terminated | None) -> list[Finding]:
    fix = "see that the cluster's network plugin enforces NetworkPolicies, and that those of the pool are as rendered"
    if ended is not None and ended.exit_code == _PROVEN:
        return []
    if ended is not None and ended.exit_code == _UNPROVEN:
        what = f"a pod of the pool could connect where it must not: {ended.message.strip() or 'the agent says so'}"
        return [Finding("canary", pool.name, what[:400], _PROTECTS, fix)]
    seen = f"it ended with {ended.exit_code}: {ended.message.strip()}" if ended is not None else "it did not get so far"
    what = f"the canary proved nothing: {seen}"[:400]
    return [
        Finding("canary", pool.name, what, _PROTECTS, "see why the pod did not run: kubectl describe", Severity.WARNING)
    ]
