"""Who a pod is to us: between its token, the job's record, the gateways' table and the runner API."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from urllib.parse import quote, urlsplit

from orchestrator.backends.kubernetes.backend import KubernetesBackend
from orchestrator.backends.kubernetes.config import KubernetesConfig
from orchestrator.backends.kubernetes.credentials import PodCredentials, TokenReviewer
from orchestrator.backends.kubernetes.manifest import TOKEN_FILE
from orchestrator.backends.kubernetes.pod_api import get_pod
from orchestrator.backends.kubernetes.pod_token import PodIdentity
from orchestrator.daemon.cluster.egress import ClusterEgress
from orchestrator.daemon.cluster.pod_logs import PodLogs
from orchestrator.daemon.cluster.slice import KUBERNETES
from orchestrator.daemon.verdicts import EngineOf
from orchestrator.egress.proxy_credential import USER, credential_digest
from orchestrator.errors import GiveUpError, OrchestratorError, TryAgainError
from orchestrator.identity.job_credential import JobCredentials
from orchestrator.journal.redact import Masker
from orchestrator.lifecycle.ports import RunnerIdentity
from orchestrator.model.phase import Phase
from orchestrator.model.record import Record
from orchestrator.model.runner import RunnerName, RunnerState
from orchestrator.server.runner.cluster_api import Pod, job_bearer
from orchestrator.server.runner.work import RunnerEndpoints

_log = logging.getLogger(__name__)

DELIVERY_SECONDS = 3.0
"""How long a job waits until every gateway has heard of it. One that has not refuses it a little longer."""
_NO_ADDRESS_RETRY_SECONDS = 0.5
_GUARD_RETRY_SECONDS = 5.0
_COMPARED_RETRY_SECONDS = 0.2


class ClusterRunners:
    """`server.runner.cluster_api.Runners`, and the credentials' `PodDirectory`."""

    def __init__(
        self,
        config: KubernetesConfig,
        backend: KubernetesBackend,
        engine: EngineOf,
        egress: ClusterEgress,
        job_credentials: JobCredentials,
        masker: Masker,
        logs: PodLogs,
    ) -> None:
        self.otlp = False
        """Whether jobs' spans are relayed."""
        self.reviewer = TokenReviewer(backend.client)
        namespaces = {pool.namespace for pool in config.pools.values()}
        self.credentials = PodCredentials(self.reviewer, namespaces, self)
        self._config = config
        self._backend = backend
        self._engine = engine
        self._egress = egress
        self._job_credentials = job_credentials
        self._masker = masker
        self._logs = logs

    # What is known of a pod.

    def runner_of(self, pod: PodIdentity) -> RunnerName | None:
        """See `PodDirectory`. An ended job's runner is nobody's any more."""
        name = self._backend.warm.assignments.runner_of(pod.name, pod.uid)
        record = self._engine().record_of_runner(name) if name is not None else None
        if name is None or record is None or record.backend != KUBERNETES or record.outcome is not None:
            return None
        pool = self._config.pools.get(record.offer.spec.pool)
        if pool is None or pool.namespace != pod.namespace:
            return None
        if record.phase is Phase.RUNNING:
            return name if self._engine().bound_record(RunnerIdentity(name, pod.uid)) is not None else None
        return name if record.phase in (Phase.PROVISIONING, Phase.BINDING) else None

    def waiting(self, pod: PodIdentity) -> bool:
        """See `PodDirectory`."""
        return self._backend.warm.assignments.waiting(pod.name, pod.uid)

    # server.cluster_api.Runners

    async def pod(self, credential: str) -> Pod | None:
        """See the protocol."""
        found = await self.credentials.pod(credential)
        return Pod(found.namespace, found.name, found.uid) if found is not None else None

    async def assigned(self, pod: Pod) -> RunnerIdentity | None:
        """See the protocol."""
        return await self._backend.warm.assignments.assigned(pod.namespace, pod.name, pod.uid)

    async def verify(self, credential: str) -> RunnerIdentity | None:
        """See the protocol."""
        return await self.credentials.verify(credential)

    def sender(self, name: RunnerName, job_credential: str) -> RunnerIdentity | None:
        """See the protocol."""
        record = self._engine().record_of_runner(name)
        if record is None or record.backend != KUBERNETES or not record.bound_uid:
            return None
        if not self._job_credentials.matches(record.bound_uid, job_credential):
            return None
        identity = RunnerIdentity(name, record.bound_uid)
        return identity if self._engine().bound_record(identity) is not None else None

    async def ready_to_bind(self, identity: RunnerIdentity) -> None:
        """See the protocol. The pod is as sent and alive, its pool has its guards, gateways can know its address."""
        record = self._engine().record_of_runner(identity.name)
        pool = self._config.pools.get(record.offer.spec.pool) if record is not None else None
        if pool is not None and (missing := self._backend.guard(pool)):
            raise TryAgainError(missing, reason="temporarily_unavailable", retry_after_seconds=_GUARD_RETRY_SECONDS)
        if not self._backend.is_as_sent(identity.name, identity.uid):
            raise TryAgainError(
                "The pod was not compared with what was sent yet.",
                reason="temporarily_unavailable",
                retry_after_seconds=_COMPARED_RETRY_SECONDS,
            )
        view = await self._backend.inspect(identity.name)
        if view.uid != identity.uid or view.state is not RunnerState.ALIVE:
            raise GiveUpError("This pod is not the job's, or it has ended.", reason="runner_unknown")
        if not await self._addresses(identity.name):
            raise TryAgainError(
                "The pod has no address yet.",
                reason="temporarily_unavailable",
                retry_after_seconds=_NO_ADDRESS_RETRY_SECONDS,
            )

    async def bound(self, record: Record) -> RunnerEndpoints:
        """See the protocol. The work must go out now, so nothing here fails: at worst the job has no egress."""
        assert record.runner is not None, "a bound job has a runner"
        credential = self._job_credentials.credential(record.bound_uid)
        bearer = job_bearer(record.runner, credential)
        self._masker.register(record.id, credential)
        try:
            if await self.publish(record) and self._egress.hub.gateways:
                await self._egress.hub.delivered(record.runner, DELIVERY_SECONDS)
        except OrchestratorError as error:
            _log.error("job %s has no egress: %s", record.id, error, extra={"reason": error.reason})
        if self._is_bound(record):  # it may have ended while gateways were waited for, and its log been closed
            self._logs.follow(record)
        gateway = urlsplit(self._config.gateway_url)
        return RunnerEndpoints(
            api_url=self._config.runner_api_url,
            proxy_url=f"{gateway.scheme}://{USER}:{credential}@{gateway.netloc}",
            token_file=TOKEN_FILE,
            otlp=self.otlp,
            otlp_headers=f"authorization={quote(bearer, safe='')}",
        )

    async def align(self, record: Record) -> None:
        """Have gateways go by the rules of a running job's record, those that never heard of it too.

        Raises:
            OrchestratorError: they cannot; the runner has no egress.
        """
        if not await self._egress.align(record):
            await self.publish(record)

    async def publish(self, record: Record) -> bool:
        """Have the gateways let a running job through; False when its pod has no address.

        Raises:
            OrchestratorError: it cannot be.
        """
        assert record.runner is not None, "a running job has a runner"
        addresses = await self._addresses(record.runner)
        if not addresses or not self._is_bound(record):
            return False
        digest = credential_digest(self._job_credentials.credential(record.bound_uid))
        self._egress.hub.publish(record.runner, addresses[0], digest, record.obligations.egress, addresses[1:])
        return True

    def _is_bound(self, record: Record) -> bool:
        """Whether the job still runs in the runner that it was bound to."""
        assert record.runner is not None, "a bound job has a runner"
        return self._engine().bound_record(RunnerIdentity(record.runner, record.bound_uid)) is not None

    async def _addresses(self, name: RunnerName) -> Sequence[str]:
        """The pod's, from the watch, or from the API server while the watch has none."""
        found = self._backend.registry.find(name)
        if found is not None and found[1].addresses:
            return found[1].addresses
        place = self._backend.registry.place(name)
        pod = await get_pod(self._backend.client, place.namespace, place.pod) if place is not None else None
        return pod.addresses if pod is not None and place is not None and pod.uid == place.uid else ()
