"""A real API server on loopback around the real engine and the real identity room; only the runners are in memory."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import aiohttp
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from orchestrator.daemon.operations.signing_keys import SigningKeys
from orchestrator.daemon.records.audit_notes import AuditNotes
from orchestrator.daemon.records.receipt import Receipts
from orchestrator.daemon.secrets.desk import SecretDesk
from orchestrator.daemon.secrets.inventory import Sources
from orchestrator.daemon.secrets.room import SecretsRoom
from orchestrator.daemon.secrets.scorecard import Books
from orchestrator.daemon.secrets.scores import ScoreKeeper
from orchestrator.daemon.trust import TrustHolder
from orchestrator.evidence.audit.keyed import KeyedHash
from orchestrator.evidence.receipts.making import Signer
from orchestrator.evidence.signing_key import generate_evidence_key
from orchestrator.identity.introspect import Introspection
from orchestrator.identity.issuer import AudienceConfig, Issuer, IssuerConfig
from orchestrator.identity.issuers import IssuerSet, issuer_url
from orchestrator.identity.keys import KeyStore
from orchestrator.identity.replay import ReplayStore
from orchestrator.identity.rotation import RotationSchedule
from orchestrator.identity.secrets.registry import Hook, Registered, Registry
from orchestrator.identity.secrets.state import StateStore
from orchestrator.identity.verify import CallerIssuerConfig, CallerVerifier
from orchestrator.lifecycle.actions import Performer
from orchestrator.lifecycle.engine import Engine
from orchestrator.lifecycle.ports import RunnerIdentity
from orchestrator.model.decision import Verdict
from orchestrator.model.egress import EgressProof
from orchestrator.model.job import JobId, PoolName
from orchestrator.model.pool import Pool, TrustTier
from orchestrator.model.source import SourceState
from orchestrator.policy.opa_server import OpaServerEngine
from orchestrator.server.app import ApiServer, build_app
from orchestrator.server.approvals.port import ApprovalDesk
from orchestrator.server.deps import ArtifactDesk, CheckPolicy, Limits, PoolState, ServerDeps, TrustReader
from orchestrator.server.notifications.port import NotificationDesk
from orchestrator.server.operating.port import OperatingDesk
from orchestrator.server.page.door import Door
from orchestrator.settings import Settings
from orchestrator.telemetry.scores.tally import DayTally
from orchestrator.telemetry.waterfall import trace_document
from orchestrator.testing.backend import MemoryBackend
from orchestrator.testing.journal import MemoryJournal
from orchestrator.testing.policy import FixedPolicy
from orchestrator.testing.source import MemorySource
from orchestrator.testing.sources import source_state

LOCAL = "http://127.0.0.1:8455"
FORGE = "https://forge.example"
AUDIENCE = "orchestrator"
PROOF = EgressProof(denied=("metadata",))


class RealClock:
    """The engine's clock on the event loop."""

    def now_ns(self) -> int:
        return time.time_ns()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    def call_later(self, seconds: float, callback: Any) -> Any:
        return asyncio.get_running_loop().call_later(seconds, callback).cancel


@dataclass
class MemoryLogs:
    """A log store in memory that wakes its readers."""

    texts: dict[str, bytes] = field(default_factory=dict)
    grown: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def read(self, job_id: JobId, offset: int, limit: int) -> bytes:
        return self.texts.get(job_id, b"")[offset : offset + limit]

    async def more(self, job_id: JobId, offset: int) -> None:
        async with self.grown:
            await self.grown.wait_for(lambda: len(self.texts.get(job_id, b"")) > offset)

    async def write(self, job_id: str, data: bytes) -> None:
        async with self.grown:
            self.texts[job_id] = self.texts.get(job_id, b"") + data
            self.grown.notify_all()


class AuditPapers:
    """What an audit log shows of itself."""

    def checkpoint(self) -> str:
        return "ci.test/audit\n3\ncm9vdA==\n\n— ci.test/audit c2lnbmF0dXJl\n"

    def vkey(self) -> str:
        return "ci.test/audit+01234567+a2V5"


@dataclass
class Api:
    """The server, its parts, and a client."""

    url: str
    port: int
    client: aiohttp.ClientSession
    engine: Engine
    journal: MemoryJournal
    backend: MemoryBackend
    logs: MemoryLogs
    issuer: Issuer
    pool: Pool
    forge_key: ec.EllipticCurvePrivateKey
    draining: list[bool]
    readiness: dict[str, str]
    server: ApiServer
    tokens: int = 0

    @property
    def operator(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.issuer.mint_caller_token()[0]}"}

    def forge_token(self, subject: str = "repo:app", *, jti: str = "", **claims: Any) -> str:
        self.tokens += 1
        now = int(time.time())
        body = {
            "iss": FORGE,
            "aud": AUDIENCE,
            "sub": subject,
            "iat": now,
            "exp": now + 300,
            "repository": "app",
            "jti": jti or f"jti-{self.tokens}",
        } | claims
        return jwt.encode(body, self.forge_key, algorithm="ES256", headers={"kid": "forge"})

    def forge(self, subject: str = "repo:app", **claims: Any) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.forge_token(subject, **claims)}"}

    async def dispatch(self, key: str, *, headers: dict[str, str] | None = None, **body: Any) -> aiohttp.ClientResponse:
        headers = {**(headers or self.operator), "Idempotency-Key": key}
        return await self.client.post(
            f"{self.url}/v1/jobs", json={"name": "build", "script": "true"} | body, headers=headers
        )

    async def job(self, key: str, **options: Any) -> str:
        answer = await self.dispatch(key, **options)
        document = await answer.json()
        assert answer.status == 202, document
        return str(document["id"])

    async def until(self, job_id: str, phase: str) -> None:
        """Wait until the job is in a phase; the journal's feed wakes us."""
        moved = asyncio.Event()
        unsubscribe = self.journal.subscribe(lambda _facts: moved.set())
        try:
            async with asyncio.timeout(5):
                while True:
                    record = self.engine.record(JobId(job_id))
                    if (record.phase.value if record else "finished") == phase:
                        return
                    moved.clear()
                    try:
                        async with asyncio.timeout(0.05):
                            await moved.wait()
                    except TimeoutError:
                        pass
        except TimeoutError:
            record = self.engine.record(JobId(job_id))
            events = [type(fact.event).__name__ for fact in await self.journal.facts_of(JobId(job_id))]
            pytest.fail(f"not {phase}: {record.phase if record else None}, {events}")
        finally:
            unsubscribe()

    async def run(self, job_id: str) -> RunnerIdentity:
        """Bring a job to *running* as its agent would."""
        await self.until(job_id, "binding")
        record = self.engine.record(JobId(job_id))
        assert record is not None
        assert record.runner is not None
        identity = RunnerIdentity(record.runner, record.runner_uid)
        await self.engine.claim(identity, PROOF)
        return identity

    async def finish(self, job_id: str, code: int = 0) -> None:
        record = self.engine.record(JobId(job_id))
        assert record is not None
        assert record.runner is not None
        self.backend.exit(record.runner, code)
        await self.until(job_id, "finished")

    async def raw(self, data: bytes, *, read: int = 1 << 20, timeout: float = 5) -> bytes:
        """Bytes over a bare connection; what comes back until it closes."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            writer.write(data)
            await writer.drain()
            got = b""
            async with asyncio.timeout(timeout):
                while len(got) < read and (chunk := await reader.read(65536)):
                    got += chunk
            return got
        finally:
            writer.close()


@pytest.fixture
def limits() -> Limits:
    """Overridden by tests that need tight ones."""
    return Limits(heartbeat_seconds=0.2, body_timeout_seconds=0.4, write_timeout_seconds=1.0)


@pytest.fixture
def max_jobs() -> int:
    return 1000


@pytest.fixture
def verdict() -> Verdict:
    return Verdict.ALLOW


@pytest.fixture
def trust() -> TrustReader | None:
    """Overridden by tests of the trust map."""
    return None


@pytest.fixture
def check_policy() -> CheckPolicy | None:
    """Overridden by tests of questions to policy."""
    return None


@pytest.fixture
def artifacts() -> ArtifactDesk | None:
    """Overridden by tests of artifacts."""
    return None


@pytest.fixture
def approvals() -> ApprovalDesk | None:
    """Overridden by tests of approvals."""
    return None


@pytest.fixture
def page() -> Door | None:
    """Overridden by tests of the live page."""
    return None


@pytest.fixture
def notifications() -> NotificationDesk | None:
    """Overridden by tests of notifications."""
    return None


@pytest.fixture
def operating() -> OperatingDesk | None:
    """Overridden by tests of what operators ask of the daemon itself."""
    return None


@pytest.fixture
def webhooks() -> dict[str, Any]:
    """Overridden by tests of webhooks: receivers by their source."""
    return {}


@pytest.fixture
def sources() -> list[SourceState]:
    """What the daemon watches for jobs; overridden by tests that look at them."""
    return [source_state()]


def kept_books(folder: Path, issuers: IssuerSet, now_ns: Callable[[], int]) -> Books:
    """One secret that can be rotated and one that cannot; nothing has been counted yet."""
    folder.mkdir()
    file = folder / "fixed"
    file.write_text("the-value-of-the-fixed-one")
    file.chmod(0o400)
    bare = Registered("known", "team-a", max_age_seconds=86400, idle_seconds=86400, pools=("default",))
    known = replace(bare, rotate=Hook(("/bin/true",), 5))
    registry = Registry([known, replace(bare, name="fixed", file=file)])
    notes, tally = AuditNotes(None), DayTally.read(None, now_ns())
    room = SecretsRoom(registry, StateStore(folder / "secrets"), notes, KeyedHash(bytes(32)).of, now_ns)
    desk = SecretDesk(room, tally, notes, now_ns)

    async def unknown(_digest: str) -> None:
        return None

    trust = TrustHolder((), issuers, lambda _audience: False, {})
    found = Sources(Settings(state_dir=folder), issuers, trust, desk, tally, now_ns)
    keeper = ScoreKeeper(folder / "scores.json", tally, unknown)
    return Books(found, keeper, OpaServerEngine("http://127.0.0.1:9", timeout_seconds=1), None)


@pytest.fixture(scope="session")
def key_folder(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("keys") / "keys"
    KeyStore.open(folder, RotationSchedule(), time.time())
    return folder


@pytest.fixture
async def api(
    limits: Limits,
    max_jobs: int,
    verdict: Verdict,
    key_folder: Any,
    webhooks: dict[str, Any],
    trust: TrustReader | None,
    check_policy: CheckPolicy | None,
    artifacts: ArtifactDesk | None,
    approvals: ApprovalDesk | None,
    notifications: NotificationDesk | None,
    operating: OperatingDesk | None,
    sources: list[SourceState],
    page: Door | None,
    tmp_path: Any,
) -> AsyncIterator[Api]:
    clock = RealClock()
    journal, backend, logs = MemoryJournal(clock), MemoryBackend(clock), MemoryLogs()
    pool = Pool(PoolName("default"), "memory", TrustTier.STANDARD, 2, "memory", "none", max_job_seconds=600)
    receipts = Receipts(journal, lambda: engine, generate_evidence_key(), Signer(LOCAL, "0", 60), clock)
    performer = Performer(FixedPolicy(verdict), {"memory": backend}, {"dispatch": MemorySource()}, sealer=receipts)
    engine = Engine(journal=journal, performer=performer, pools={pool.name: pool}, clock=clock, max_jobs=max_jobs)
    backend.subscribe(engine.runner_changed)
    keys = KeyStore.open(key_folder, RotationSchedule(), time.time())
    issuer = Issuer(IssuerConfig(LOCAL, {"cloud": AudienceConfig()}), keys, time.time_ns)
    prod = Issuer(IssuerConfig(issuer_url(LOCAL, "prod"), {"cloud": AudienceConfig()}), keys, time.time_ns)
    forge_key = ec.generate_private_key(ec.SECP256R1())
    jwk = json.loads(jwt.algorithms.ECAlgorithm.to_jwk(forge_key.public_key())) | {
        "kid": "forge",
        "alg": "ES256",
        "use": "sig",
    }
    jwks = tmp_path / "jwks.json"
    jwks.write_text(json.dumps({"keys": [jwk]}))
    verifier = CallerVerifier(
        (CallerIssuerConfig(FORGE, AUDIENCE, {"repository": "app"}, {"repository": "repository"}, jwks_file=jwks),),
        local=issuer,
        replay=ReplayStore(None, time.time()),
        clock_ns=time.time_ns,
        monotonic=time.monotonic,
    )
    draining: list[bool] = []

    async def renewed() -> None:
        """Nobody reads a caller token from a file here."""

    readiness = {"recovered": "ok", "journal": "ok", "gateway": "ok"}
    issuers = IssuerSet(issuer, {"prod": prod})
    books = kept_books(tmp_path / "books", issuers, clock.now_ns)
    deps = ServerDeps(
        secrets=books.found.secrets,
        books=books,
        evidence_key=receipts.public_pem,
        keys=SigningKeys(issuers, AuditNotes(None), clock.now_ns, renewed),
        engine=engine,
        around=engine.around,
        reader=journal,
        logs=logs,
        authenticate=lambda token, key: verifier.verify(token, idempotency_key=key),
        documents=issuer,
        issuers={"prod": prod},
        introspect=Introspection(issuer, engine.bound_record).introspect,
        trace=trace_document,
        metrics=lambda _accept: (b"up 1\n", "text/plain; version=0.0.4; charset=utf-8"),
        pools=lambda: [PoolState(pool, 0, 0)],
        readiness=lambda: readiness,
        draining=lambda: bool(draining),
        local_issuer=LOCAL,
        sources=lambda: sources,
        webhooks=webhooks,
        trust=trust,
        audit=AuditPapers(),
        check_policy=check_policy,
        artifacts=artifacts,
        approvals=approvals,
        notifications=notifications,
        operating=operating,
        page=page,
        limits=limits,
    )
    server = ApiServer(build_app(deps), limits)
    host, port = await server.start("127.0.0.1", 0)
    client = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0))
    try:
        yield Api(
            f"http://{host}:{port}",
            port,
            client,
            engine,
            journal,
            backend,
            logs,
            issuer,
            pool,
            forge_key,
            draining,
            readiness,
            server,
        )
    finally:
        await client.close()
        await server.stop()
        await engine.close()
        await verifier.close()


def free_socket() -> socket.socket:
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.bind(("127.0.0.1", 0))
    listener.listen(16)
    return listener
