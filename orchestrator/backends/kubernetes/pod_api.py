"""The requests about pods that more than one part of the backend makes."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from orchestrator.backends.kubernetes.answers import NotFoundError
from orchestrator.backends.kubernetes.client import ApiClient
from orchestrator.backends.kubernetes.pod import Pod, read_pod
from orchestrator.backends.kubernetes.watch import PodWatch
from orchestrator.errors import TryAgainError


def pod_path(namespace: str, pod: str = "") -> str:
    """Names are DNS labels or subdomains, so nothing needs quoting."""
    return f"/api/v1/namespaces/{namespace}/pods/{pod}" if pod else f"/api/v1/namespaces/{namespace}/pods"


def readable(answer: bytes) -> Pod:
    """The pod of an answer.

    Raises:
        TryAgainError: it is none.
    """
    try:
        return read_pod(answer)
    except msgspec.DecodeError as error:
        raise TryAgainError(f"the API server's pod cannot be read: {error}"[:300], reason="api_unavailable") from None


async def get_pod(client: ApiClient, namespace: str, pod: str) -> Pod | None:
    """The pod as the API server has it now; None when there is none."""
    try:
        return readable(await client.request("GET", pod_path(namespace, pod)))
    except NotFoundError:
        return None


async def listed_pods(client: ApiClient, namespace: str, selector: str) -> Sequence[Pod]:
    """By a watch of its own that never begins: one list, in pages."""
    once = PodWatch(client, namespace, selector, lambda _: None)
    await once.list_once()
    return list(once.pods.values())


async def is_going(client: ApiClient, namespace: str, pod: str, uid: str) -> bool:
    """Whether the pod of this uid is gone or on its way. A read, where one more deletion would be a write."""
    found = await get_pod(client, namespace, pod)
    return found is None or found.uid != uid or bool(found.deletion)


async def delete_pod(client: ApiClient, namespace: str, pod: str, uid: str, grace_seconds: int) -> None:
    """Ask for the end of exactly the pod of this uid.

    Raises:
        NotFoundError: there is no pod of this name.
        ConflictError: the name is another pod's now, or the server lost a race with another writer.
    """
    options = {
        "kind": "DeleteOptions",
        "apiVersion": "v1",
        "preconditions": {"uid": uid},
        "gracePeriodSeconds": grace_seconds,
        "propagationPolicy": "Background",
    }
    await client.request("DELETE", pod_path(namespace, pod), body=msgspec.json.encode(options))
