"""Makes pods, and looks at what the API server took: a pod that is not as it was sent never gets any work.

The agent of a pod may claim as soon as the pod exists, before the answer to its creation was read. Whoever hands out
work therefore asks `is_as_sent` first; who was never compared is not.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from orchestrator.backends.kubernetes.answers import ConflictError, NotFoundError
from orchestrator.backends.kubernetes.client import ApiClient
from orchestrator.backends.kubernetes.config import KubernetesPool
from orchestrator.backends.kubernetes.pod import Pod
from orchestrator.backends.kubernetes.pod_api import delete_pod, pod_path, readable
from orchestrator.backends.kubernetes.pod_changes import Unchanged, told
from orchestrator.errors import GiveUpError, OrchestratorError, TryAgainError
from orchestrator.model.runner import RunnerSpec

_log = logging.getLogger(__name__)

GRACE_SECONDS = 1
"""There is nothing in a pod without work that could end in good order."""
MOST_KEPT = 20_000
"""Pods that are known to be as sent. Each is asked about within seconds, or compared again."""


class PodChangedError(GiveUpError):
    """Between us and the API server's store somebody changed the pod. It was asked to go."""

    reason = "pod_changed"
    fix = (
        "look at the mutating webhooks of the cluster: one changes pods of this namespace; "
        "list them with: kubectl get mutatingwebhookconfigurations"
    )


class PodMaker:
    """Of all pools of one backend. Belongs to its event loop.

    `changed` says in words, by pool, what was changed of the last pod made, while that was changed. `made` is told the
    uid of each new pod, when it was asked for and when the API server had answered.
    """

    def __init__(
        self,
        client: ApiClient,
        made: Callable[[str, int, int], None] = lambda *_: None,
        now_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self.changed: dict[str, str] = {}
        self._client = client
        self._made = made
        self._now_ns = now_ns
        self._unchanged = Unchanged()
        self._as_sent: dict[str, None] = {}

    def is_as_sent(self, uid: str) -> bool:
        """Whether the pod of this uid was compared with what was sent, and is that."""
        return uid in self._as_sent

    async def make(self, pool: KubernetesPool, body: bytes) -> Pod:
        """Have a pod made from this JSON.

        Raises:
            PodChangedError: the API server took another pod.
            OrchestratorError: as `ApiClient.request`.
        """
        asked_ns = self._now_ns()
        answer = await self._client.request("POST", pod_path(pool.namespace), body=body)
        self._made(readable(answer).uid, asked_ns, self._now_ns())
        return await self._judged(pool, body, answer)

    async def make_for(self, spec: RunnerSpec, pool: KubernetesPool, body: bytes) -> Pod:
        """Have this runner's pod made, or find that it was.

        Raises:
            PodChangedError: the API server took another pod.
            TryAgainError: reason `quota_exhausted`, `api_conflict`, `runner_being_deleted`, or as `ApiClient.request`.
            GiveUpError: reason `runner_name_clash`, or as `ApiClient.request`.
        """
        try:
            return await self.make(pool, body)
        except ConflictError as error:
            if error.word != "AlreadyExists":
                raise TryAgainError(str(error), reason="api_conflict") from None
        return await self._existing(spec, pool, body)

    async def look(self, pool: KubernetesPool, pod: Pod, body: bytes) -> None:
        """Compare a pod that somebody made before with this JSON; `is_as_sent` knows it from then on.

        Raises:
            NotFoundError: it is no more.
            PodChangedError: it is another pod.
            OrchestratorError: as `ApiClient.request`.
        """
        answer = await self._client.request("GET", pod_path(pool.namespace, pod.name))
        if readable(answer).uid == pod.uid:
            await self._judged(pool, body, answer)

    async def _existing(self, spec: RunnerSpec, pool: KubernetesPool, body: bytes) -> Pod:
        """The pod that has the name already, if it is the one that was meant to be made.

        One that differs from what would be made now is made again, and only the new one tells whether pods are being
        changed: the daemon before an upgrade had another template."""
        name = spec.name
        try:
            answer = await self._client.request("GET", pod_path(pool.namespace, name))
        except NotFoundError:
            raise TryAgainError(f"{name} has just gone", reason="runner_being_deleted") from None
        pod = readable(answer)
        if pod.runner_digest != spec.digest:
            raise GiveUpError(f"{name} exists and was made for something else", reason="runner_name_clash")
        if pod.deletion:
            raise TryAgainError(f"{name} is being deleted", reason="runner_being_deleted")
        if found := self._unchanged.changes(body, answer):
            await self._end(pool.namespace, pod)
            text = f"{name} is not as it would be made now, so it is made again; other: {told(found)}"
            raise TryAgainError(text, reason="runner_being_deleted")
        self._vouch(pool, pod)
        return pod

    async def _judged(self, pool: KubernetesPool, body: bytes, answer: bytes) -> Pod:
        pod = readable(answer)
        found = self._unchanged.changes(body, answer)
        if not found:
            self._vouch(pool, pod)
            return pod
        what = f"the API server took another pod than was sent; changed: {told(found)}"
        self.changed[pool.name] = what
        _log.error("pod %s of pool %s is deleted: %s", pod.name, pool.name, what, extra={"fix": PodChangedError.fix})
        await self._end(pool.namespace, pod)
        raise PodChangedError(what)

    def _vouch(self, pool: KubernetesPool, pod: Pod) -> None:
        self.changed.pop(pool.name, None)
        if len(self._as_sent) >= MOST_KEPT:
            del self._as_sent[next(iter(self._as_sent))]
        self._as_sent[pod.uid] = None

    async def _end(self, namespace: str, pod: Pod) -> None:
        try:
            await delete_pod(self._client, namespace, pod.name, pod.uid, GRACE_SECONDS)
        except NotFoundError:
            return
        except OrchestratorError as error:
            # Whoever asked for the pod deletes it again: a job's teardown, or the next look at the warm ones.
            _log.warning("changed pod %s is deleted later: %s", pod.name, error)
