"""The `kubernetes` backend as a room of the daemon: pods, their credentials, their gateways, their logs."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from urllib.parse import urlsplit

from orchestrator.backends.kubernetes.access import Access
from orchestrator.backends.kubernetes.adoption import unfinished_runners
from orchestrator.backends.kubernetes.backend import KubernetesBackend
from orchestrator.backends.kubernetes.client import ApiClient
from orchestrator.backends.kubernetes.config import KubernetesConfig
from orchestrator.backends.kubernetes.credentials import AccountCredentials
from orchestrator.backends.kubernetes.guard_watch import GuardWatch
from orchestrator.backends.kubernetes.manifest import pod_hosts
from orchestrator.daemon.backend_room import Neighbours
from orchestrator.daemon.closing import push_closing
from orchestrator.daemon.cluster.closed_ports import closed_ports, closed_words
from orchestrator.daemon.cluster.egress import ClusterEgress
from orchestrator.daemon.cluster.guards import guard_watch
from orchestrator.daemon.cluster.pod_logs import PodLogs
from orchestrator.daemon.cluster.runners import ClusterRunners
from orchestrator.daemon.cluster.slice import KUBERNETES, kubernetes_config
from orchestrator.errors import ConfigurationError, OrchestratorError
from orchestrator.identity.job_credential import JobCredentials
from orchestrator.identity.serving_certificate import ServingCertificate
from orchestrator.lifecycle.ports import Attester, Revoker, RunnerCredentials, Withdrawn
from orchestrator.model.api import ApiCounts
from orchestrator.model.events import Fact
from orchestrator.model.record import Record
from orchestrator.model.runner import RunnerName
from orchestrator.private_file import replace_private_file
from orchestrator.server.app import bind_listener
from orchestrator.server.cluster.gateway_api import GatewayApi
from orchestrator.server.runner.cluster_api import ClusterApi
from orchestrator.server.runner.handlers import RunnerDeps
from orchestrator.settings import Settings
from orchestrator.settings.kubernetes import KubernetesSettings

_log = logging.getLogger(__name__)

CA_FILE = "runner-api-ca.pem"
"""In the state folder: the public half, for operators to give to gateways and API servers."""

_PATIENCE_SECONDS = 10.0
"""How long gateways wait for runners of before this daemon to be published again."""
_OUTAGE_SECONDS = 60.0
"""An API server that is away for less is no reason to be called unready."""
_CERTIFICATE_LOOK_SECONDS = 3600.0

_WITHDRAWN = (Withdrawn("runner_api", "withdrawn"), Withdrawn("egress_gateways", "withdrawn"))


class KubernetesRoom:
    """Pods of one cluster. They outlive the daemon: `close` leaves them alone, `adopt` takes them over."""

    outlives_daemon = True

    def __init__(
        self,
        settings: KubernetesSettings,
        backend: KubernetesBackend,
        runners: ClusterRunners,
        egress: ClusterEgress,
        certificate: ServingCertificate,
        logs: PodLogs,
        guards: GuardWatch,
        near: Neighbours,
    ) -> None:
        self.backend = backend
        self.credentials: RunnerCredentials = runners.credentials
        self.revokers: Sequence[Revoker] = (self,)
        self.attesters: Sequence[Attester] = (logs,)
        self._settings = settings
        self._rendered = near.settings
        self._closed: Mapping[str, Sequence[int]] = {}
        self._runners = runners
        self._egress = egress
        self._certificate = certificate
        self._logs = logs
        self._guards = guards
        self._engine = near.engine
        self._api: ClusterApi | None = None
        self._tasks: tuple[asyncio.Task[None], ...] = ()
        self._unpublished: set[RunnerName] = set()
        self._begin_at = float("inf")
        self._certificate_at = 0.0
        self._live_at = asyncio.get_running_loop().time()

    @classmethod
    async def open(cls, near: Neighbours, stack: AsyncExitStack) -> KubernetesRoom:
        """Keys, certificate, client and table; nothing is sent to the cluster yet."""
        settings = near.settings
        keys = settings.state_dir / "keys"
        host = urlsplit(settings.kubernetes.runner_api.url).hostname or ""
        certificate = ServingCertificate.open(keys, host, time.time)
        publish_ca(settings.state_dir, certificate.ca_pem)
        config = await _config(settings, certificate.ca_pem)
        egress = ClusterEgress(near.engine, near.masker.text, settings.kubernetes.gateway.fresh_seconds)
        push_closing(stack, "gateways' table", egress.stop)
        backend = await KubernetesBackend.open(config)
        # Each running job's log holds a connection, as long as it runs: they must not wait for each other, nor all
        # other requests for them.
        client = ApiClient(await Access.open(config), timeout=config.request_timeout, connections=0)
        push_closing(stack, "client of pods' logs", client.close)
        folder = settings.state_dir / "log-positions"
        logs = PodLogs(config, client, backend.registry, near.logs, near.engine, folder)
        credentials = JobCredentials.open(keys)
        runners = ClusterRunners(config, backend, near.engine, egress, credentials, near.masker, logs)
        guards = guard_watch(settings, backend, config, lambda: _unless_ok(egress.checks()["gateway"]))
        return cls(settings.kubernetes, backend, runners, egress, certificate, logs, guards, near)

    async def start(self) -> None:
        """Pods are being watched and guards are known when this returns, or the cluster does not answer now; see
        `checks`."""
        await self.backend.start()
        await self._guards.look()

    async def adopt(self, live: Sequence[Sequence[Fact]]) -> None:
        """Take over the pods of unfinished jobs, before anybody looks at these."""
        for name, uid in unfinished_runners(live):
            self.backend.adopt(name, uid)

    async def serve(self, deps: RunnerDeps, stack: AsyncExitStack) -> None:
        """Answer pods and gateways. Every unfinished job is known by now, so nobody is refused for our haste.

        Raises:
            ConfigurationError: the address to listen on cannot be had.
        """
        given = self._settings
        self._runners.otlp = deps.relay is not None
        for job_id in self._engine().live_ids():
            record = self._engine().record(job_id)
            if record is not None and record.backend == KUBERNETES and record.bound and record.runner is not None:
                self._unpublished.add(record.runner)
                self._logs.follow(record)
        self._begin_at = asyncio.get_running_loop().time() + _PATIENCE_SECONDS
        await self._publish_rest()
        account = AccountCredentials(self._runners.reviewer, given.gateway.namespace, given.gateway.service_account)

        async def gateway(token: str) -> str | None:
            pod = await account.verify(token)
            return pod.uid if pod is not None else None

        api = ClusterApi(deps, self._runners, GatewayApi(self._egress.hub, gateway).handle)
        listener = bind_listener(given.runner_api.host, given.runner_api.port)
        await api.serve(listener, self._certificate.context)
        push_closing(stack, "runner API of the cluster", api.stop)
        self._api = api
        loop = asyncio.get_running_loop()
        self._tasks = (
            loop.create_task(self.backend.warm.run(), name="warm runners"),
            loop.create_task(self._guards.run(), name="guards"),
        )
        _log.info("pods are served", extra={"port": listener.getsockname()[1], "url": given.runner_api.url})

    async def align(self, record: Record) -> None:
        """See the protocol."""
        await self._runners.align(record)

    async def revoke(self, record: Record) -> Sequence[Withdrawn] | None:
        """Nothing lets the job's runner in any more when this returns, and its last output is here."""
        if record.runner is None or record.backend != KUBERNETES:
            return None
        self._unpublished.discard(record.runner)
        if self._api is not None:
            await self._api.close(record.runner)
        if record.bound_uid:
            await asyncio.gather(self._egress.revoke(record), self._logs.settle(record))
            return _WITHDRAWN
        return _WITHDRAWN[:1]

    def checks(self) -> Mapping[str, str]:
        """Not ready only when no pool's pods can be seen for a while: one that is broken must not stop the others.

        A missing guard stops its pool (`lacking`), never readiness: pods and gateways reach us by a Service that
        leaves out who is not ready.
        """
        health = self.backend.health()
        bad = {namespace: why for namespace, why in health.items() if why != "ok"}
        now = asyncio.get_running_loop().time()
        if len(bad) < len(health) or not health:
            self._live_at = now
        if now - self._live_at < _OUTAGE_SECONDS:
            return {"cluster": "ok"}
        return {"cluster": "; ".join(f"{namespace}: {why}" for namespace, why in sorted(bad.items()))}

    def lacking(self) -> Mapping[str, Sequence[str]]:
        """See the protocol. That somebody changes a pool's pods, and what a reload could not open, is told with what
        else it lacks."""
        changed = {name: (f"admission: {what}",) for name, what in self.backend.maker.changed.items()}
        more = closed_words(self._closed)
        guards = self._guards.missing()
        return {name: (*guards[name], *changed.get(name, ()), *more.get(name, ())) for name in guards}

    def warm(self) -> Mapping[str, int]:
        """See the protocol."""
        return {str(pool): count for pool, count in self.backend.warm.assignments.ready().items()}

    def api_counts(self) -> Sequence[ApiCounts]:
        """See the protocol. The requests about the Lease are not among them."""
        return (self.backend.client.counts, self._logs.client.counts)

    async def prepare(self, settings: Settings) -> Callable[[], None]:
        """See the protocol. What of a pool can change while the daemon runs is in no manifest, but for the ports that
        gateways may go out on."""

        def put_in_force() -> None:
            self._closed = closed_ports(self._rendered, settings)

        return put_in_force

    async def upkeep(self) -> None:
        """Publish what could not be published, renew the certificate, forget what is over."""
        await self._publish_rest()
        self._logs.tidy()
        now = asyncio.get_running_loop().time()
        if now >= self._certificate_at:
            self._certificate_at = now + _CERTIFICATE_LOOK_SECONDS
            if await asyncio.to_thread(self._certificate.renew):
                _log.info("the runner API has a new certificate")
        for task in self._tasks:
            if task.done():
                task.result()

    async def close(self) -> None:
        """Stop watching and following; pods go on."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._logs.close()
        await self.backend.close()

    async def _publish_rest(self) -> None:
        """Runners that outlived an earlier daemon; gateways are told a table only with them, or after a while."""
        for name in list(self._unpublished):
            record = self._engine().record_of_runner(name)
            if record is None or not record.bound:
                self._unpublished.discard(name)
                continue
            try:
                if await self._runners.publish(record):
                    self._unpublished.discard(name)
            except OrchestratorError as error:
                _log.warning("runner %s has no egress yet: %s", name, error, extra={"reason": error.reason})
        now = asyncio.get_running_loop().time()
        if self._begin_at != float("inf") and (not self._unpublished or now >= self._begin_at):
            self._begin_at = float("inf")
            self._egress.hub.begin()


def _unless_ok(word: str) -> str:
    return "" if word == "ok" else word


def publish_ca(state_dir: Path, ca_pem: str) -> None:
    """A public value, which gateways and API servers need too. Whoever reads it meets it whole.

    Raises:
        ConfigurationError: reason `state_dir_unusable`.
    """
    path, wanted = state_dir / CA_FILE, ca_pem.encode("ascii")
    try:
        if not path.is_file() or path.read_bytes() != wanted:  # nothing to write is nothing that a full disk stops
            replace_private_file(path, wanted)
    except OSError as error:
        raise ConfigurationError(
            f"cannot write {path}: {error.strerror}", reason="state_dir_unusable", fix="check its disk and permissions"
        ) from error


async def _config(settings: Settings, ca_pem: str) -> KubernetesConfig:
    """With the addresses of the hosts that pods must reach and have no resolver for.

    Raises:
        ConfigurationError: reason `cluster_host_unknown`.
    """
    config = kubernetes_config(settings, runner_api_ca=ca_pem)
    if config.resolver:
        return config
    found: dict[str, tuple[str, ...]] = {}
    for host in pod_hosts(config):
        if host in config.host_addresses:
            continue
        try:
            answers = await asyncio.get_running_loop().getaddrinfo(host, None)
        except OSError as error:
            raise ConfigurationError(
                f"the address of {host} cannot be found: {error}",
                reason="cluster_host_unknown",
                fix="apply the rendered manifests, which make its Service, or set kubernetes.host_addresses",
            ) from None
        found[host] = tuple(sorted({str(answer[4][0]) for answer in answers}))
    return kubernetes_config(settings, runner_api_ca=ca_pem, host_addresses=found)
