"""The Kubernetes backend on a real API server, with pods that a scripted kubelet moves."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import ipaddress
import os
import secrets
import ssl
import subprocess
import time
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from orchestrator.backends.kubernetes.access import Access
from orchestrator.backends.kubernetes.adoption import unfinished_runners
from orchestrator.backends.kubernetes.answers import ConflictError
from orchestrator.backends.kubernetes.backend import KubernetesBackend
from orchestrator.backends.kubernetes.client import ApiClient
from orchestrator.backends.kubernetes.config import KubernetesConfig, KubernetesPool
from orchestrator.daemon.clock import SystemClock
from orchestrator.errors import GiveUpError, OrchestratorError, TryAgainError
from orchestrator.lifecycle.actions import Performer
from orchestrator.lifecycle.engine import Engine
from orchestrator.lifecycle.observation import Deadlines
from orchestrator.lifecycle.ports import RunnerIdentity
from orchestrator.lifecycle.recovery import recover
from orchestrator.lifecycle.sweep import Sweep
from orchestrator.model.egress import EgressProof, EgressRule
from orchestrator.model.job import Caller, JobId, JobKey, JobOffer, JobSpec, PoolName
from orchestrator.model.phase import Phase
from orchestrator.model.pool import Pool, TrustTier
from orchestrator.model.record import fold
from orchestrator.model.runner import RunnerName, RunnerSpec, runner_name
from orchestrator.testing.checker import World as Witnessed
from orchestrator.testing.checker import broken_promises
from orchestrator.testing.fault_proxy import FaultProxy
from orchestrator.testing.journal import MemoryJournal
from orchestrator.testing.kubelet import Script, ScriptedKubelet
from orchestrator.testing.policy import FixedPolicy
from orchestrator.testing.source import MemorySource

PROOF = EgressProof(denied=("metadata", "direct"))
POOL = PoolName("default")


CONTROLLERS_SECONDS = 60.0
"""A controller answers in milliseconds, or when its informers have come back: they back off by up to a minute."""


async def until(condition, seconds: float = 40.0, every: float = 0.01):
    """The first true value of a condition (a coroutine function or a plain one)."""
    async with asyncio.timeout(seconds):
        while True:
            value = condition()
            if asyncio.iscoroutine(value):
                value = await value
            if value:
                return value
            await asyncio.sleep(every)


class World:
    """Namespaces of one test, an administrator's client, and whatever is started against them."""

    def __init__(self) -> None:
        self.installation = f"t{secrets.token_hex(4)}"
        self.namespaces = [f"runners-{self.installation}"]
        self.script = lambda _name: Script()
        self.scripts: dict[str, Script] = {}
        self.until = until
        self.pool = POOL
        self._stack = contextlib.AsyncExitStack()

    def config(self, **changes) -> KubernetesConfig:
        pools = {
            PoolName("default" if not number else f"other{number}"): KubernetesPool(
                PoolName("default" if not number else f"other{number}"),
                namespace,
                "registry.example/job:1",
                priority_class="",
                cpu="10m",
                memory="16Mi",
                grace_seconds=1,
            )
            for number, namespace in enumerate(self.namespaces)
        }
        made = KubernetesConfig(
            installation=self.installation,
            pools=pools,
            agent_image="registry.example/agent:1",
            runner_api_url="https://127.0.0.1:1",
            runner_api_ca="none",
            gateway_url="http://127.0.0.1:2",
            kubeconfig=os.environ["KUBECONFIG"],
            request_timeout=5.0,
        )
        return replace(made, **changes)

    async def open(self) -> None:
        self.admin = await ApiClient.open(self.config())
        self._stack.push_async_callback(self.admin.close)
        await self._make_namespaces()

    async def add_namespace(self) -> str:
        self.namespaces.append(f"runners-{self.installation}-{len(self.namespaces)}")
        await self._make_namespaces()
        return self.namespaces[-1]

    async def _make_namespaces(self) -> None:
        for name in self.namespaces:
            await self.ensure("/api/v1/namespaces", {"metadata": {"name": name}})
            await self.ensure(f"/api/v1/namespaces/{name}/serviceaccounts", {"metadata": {"name": "runner"}})

    async def ensure(self, path: str, document: dict) -> None:
        with contextlib.suppress(ConflictError):
            await self.admin.request("POST", path, body=msgspec.json.encode(document))

    async def call(self, method: str, path: str, document: dict | None = None, **more):
        body = msgspec.json.encode(document) if document is not None else None
        return msgspec.json.decode(await self.admin.request(method, path, body=body, **more))

    async def quota(self, pods: int) -> None:
        """A quota for the first namespace, in force: until the quota controller has counted, admission lets all in.
        That it refuses the one kind of which there may be none shows that admission knows the count."""
        where = f"/api/v1/namespaces/{self.namespaces[0]}"
        await self.ensure(
            f"{where}/resourcequotas",
            {"metadata": {"name": "pods"}, "spec": {"hard": {"pods": str(pods), "services": "0"}}},
        )
        service = msgspec.json.encode({"metadata": {"name": "none"}, "spec": {"ports": [{"port": 80}]}})

        async def in_force():
            try:
                await self.admin.request("POST", f"{where}/services", params={"dryRun": "All"}, body=service)
            except GiveUpError as error:
                assert "exceeded quota" in str(error)  # noqa: PT017 -- any other refusal is a defect of the test
                return True
            return False

        await self.until(in_force, CONTROLLERS_SECONDS, 0.05)

    def pods(self, namespace: str | None = None) -> str:
        return f"/api/v1/namespaces/{namespace or self.namespaces[0]}/pods"

    async def pod_names(self) -> list[str]:
        return [pod["metadata"]["name"] for pod in (await self.call("GET", self.pods()))["items"]]

    def spec(self, number: int = 1, pool: str = "default") -> RunnerSpec:
        job = JobId(f"cluster.{number}.1")
        return RunnerSpec(runner_name(job), job, PoolName(pool), (EgressRule("example.org"),), 60)

    async def backend(self, config: KubernetesConfig | None = None) -> KubernetesBackend:
        made = await KubernetesBackend.open(config or self.config())
        await made.start()
        self._stack.push_async_callback(made.close)
        return made

    async def kubelet(self, **more) -> ScriptedKubelet:
        client = await ApiClient.open(self.config())
        selector = f"orchestrator.dev/installation={self.installation}"
        made = ScriptedKubelet(
            client,
            self.namespaces,
            lambda name: self.scripts.get(name) or self.script(name),
            node=f"node-{self.installation}",
            selector=selector,
            **more,
        )
        await made.start()
        self._stack.push_async_callback(client.close)
        self._stack.push_async_callback(made.close)
        return made

    async def proxy(self, tmp_path: Path) -> tuple[FaultProxy, KubernetesConfig]:
        """A fault proxy in front of the API server, and the configuration that goes through it."""
        access = await Access.open(self.config())
        server, ca_file = _serving(tmp_path)
        made = FaultProxy(access.host, access.tls, server)
        await made.start()
        self._stack.push_async_callback(made.close)
        token = (await access.headers())["Authorization"].removeprefix("Bearer ")
        kubeconfig = tmp_path / "kubeconfig"
        kubeconfig.write_bytes(
            msgspec.json.encode(
                {
                    "apiVersion": "v1",
                    "kind": "Config",
                    "current-context": "proxy",
                    "contexts": [{"name": "proxy", "context": {"cluster": "proxy", "user": "proxy"}}],
                    "clusters": [
                        {"name": "proxy", "cluster": {"server": made.url, "certificate-authority": str(ca_file)}}
                    ],
                    "users": [{"name": "proxy", "user": {"token": token}}],
                }
            )
        )
        return made, self.config(kubeconfig=str(kubeconfig), request_timeout=4.0)

    def daemon(self, backend: KubernetesBackend, **more) -> Daemon:
        made = Daemon(backend, **more)
        self._stack.push_async_callback(made.stop)
        return made

    async def close(self) -> None:
        """End what was started and leave nothing in the cluster."""
        client = await ApiClient.open(self.config())
        try:
            await self._stack.aclose()
            for namespace in self.namespaces:
                await client.request("DELETE", self.pods(namespace), body=b'{"gracePeriodSeconds":0}')
                await client.request("DELETE", f"/api/v1/namespaces/{namespace}")
        except (GiveUpError, TryAgainError) as error:
            raise AssertionError(f"left over: {self.namespaces}") from error
        finally:
            await client.close()


class Daemon:
    """An engine over a backend on the real cluster. The journal and the source outlive it."""

    def __init__(
        self,
        backend: KubernetesBackend,
        *,
        journal: MemoryJournal | None = None,
        deadlines: Deadlines | None = None,
        capacity: int = 50,
        pools: tuple[str, ...] = ("default",),
    ) -> None:
        self.clock = SystemClock()
        self.backend = backend
        self.journal = journal or MemoryJournal(self.clock)
        self.source = MemorySource()
        self.witnessed = Witnessed()
        self.pools = {
            PoolName(name): Pool(
                PoolName(name), "kubernetes", TrustTier.STANDARD, capacity, "image", "restricted", max_job_seconds=600
            )
            for name in pools
        }
        performer = Performer(FixedPolicy(), {"kubernetes": backend}, {"memory": self.source}, [], [])
        self.engine = Engine(
            journal=self.journal,
            performer=performer,
            pools=self.pools,
            clock=self.clock,
            deadlines=deadlines or Deadlines(),
        )
        backend.subscribe(self.engine.runner_changed)
        self.sweep = Sweep(self.engine, {"kubernetes": backend})

    async def recover(self) -> int:
        for name, uid in unfinished_runners(await self.journal.live()):
            self.backend.adopt(name, uid)
        return await recover(self.journal, self.engine, "again")

    async def offer(self, number: int, pool: str = "default", timeout: int = 0) -> JobId:
        spec = JobSpec(name=f"job {number}", pool=PoolName(pool), script="true", timeout_seconds=timeout)
        key = JobKey("memory", f"job-{number}")
        record, _ = await self.engine.offer(JobOffer(key=key, spec=spec, caller=Caller("i", "a"), fingerprint="f"))
        self.witnessed.accepted.append(record.id)
        return record.id

    async def agent(self, pod) -> int:
        """Claims as the agent in a pod does, with what its projected token would say."""
        for _ in range(100):
            try:
                identity = RunnerIdentity(self.backend.registry.name_of(pod), pod.uid)
                if not self.backend.is_as_sent(identity.name, pod.uid):
                    raise TryAgainError("not compared yet")
                record = await self.engine.claim(identity, PROOF)
            except TryAgainError:
                await asyncio.sleep(0.05)
                continue
            except OrchestratorError:
                return 77
            self.witnessed.handed_out.append((record.id, pod.uid))
            return 0
        return 69

    async def record(self, job: JobId):
        return fold(await self.journal.facts_of(job))

    async def finished(self, job: JobId, seconds: float = 60):
        async def done():
            record = await self.record(job)
            return record if record.phase is Phase.FINISHED else None

        return await until(done, seconds)

    async def at(self, job: JobId, phase: Phase, seconds: float = 60):
        async def there():
            record = await self.record(job)
            return record if record.phase is phase else None

        return await until(there, seconds)

    async def broken(self) -> list[str]:
        self.witnessed.remaining = [RunnerName(view.name) for view in await self.backend.list()]
        history = {job: await self.journal.facts_of(job) for job in self.witnessed.accepted}
        return broken_promises(self.witnessed, history)

    async def stop(self) -> None:
        await self.engine.close()


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Whoever asks for a node by its fixture needs one; `-m "not node"` leaves them out.

    Who kills the API server comes last: controllers are blind for up to a minute afterwards, some longer than others.
    """
    items.sort(key=lambda item: "restart" in getattr(item, "fixturenames", ()))
    for item in items:
        if {"node", "noded"} & set(getattr(item, "fixturenames", ())):
            item.add_marker("node")


@pytest.fixture
def restart():
    """Kills a process of the control plane, leaves it away for some seconds and starts it again."""
    tools = os.environ.get("CLUSTER", "")
    if not tools or not os.environ.get("CLUSTER_DIR"):
        pytest.skip("needs CLUSTER and CLUSTER_DIR, the folders of the cluster's programs and of its state")

    def restart(name: str, seconds: int) -> None:
        subprocess.run([str(Path(tools) / "restart"), name, str(seconds)], check=True, timeout=90, capture_output=True)

    return restart


@pytest.fixture
async def world():
    made = World()
    await made.open()
    yield made
    await made.close()


@pytest.fixture
def serving(tmp_path):
    """A TLS context for a server on 127.0.0.1, and the file of the authority that vouches for it."""
    return _serving(tmp_path)


def _serving(folder: Path) -> tuple[ssl.SSLContext, Path]:
    """A server context for 127.0.0.1 and the file of the authority that vouches for it."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "fault proxy")])
    now = dt.datetime.fromtimestamp(time.time(), dt.UTC)
    usage = x509.KeyUsage(True, False, False, False, False, True, True, False, False)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(minutes=5))
        .not_valid_after(now + dt.timedelta(hours=2))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False)
        .add_extension(x509.BasicConstraints(True, None), True)
        .add_extension(usage, True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False)
        .sign(key, hashes.SHA256())
    )
    ca_file, key_file = folder / "proxy-ca.pem", folder / "proxy-key.pem"
    ca_file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    key_file.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(ca_file, key_file)
    return context, ca_file
