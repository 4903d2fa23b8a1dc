"""What a cluster waits for before it starts a pod: a review over TLS, evidence verified, policy asked, all recorded.

The artifact is that of `bench_gate`. The floor is the decision alone, in process: what is beyond it is the review's way
over HTTPS, client and server, reading it, and the audit log, which is on disk before the answer goes out. One client on
one connection, as an API server has; then as many at once as a rollout makes. Ratios are of processor time, which other
work on the machine does not change; the bound is for the clock, a tenth of what an API server waits by default.
"""

from __future__ import annotations

import asyncio
import json
import ssl
import statistics
import time
from contextlib import AsyncExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import aiohttp
from bench_gate import DIGEST, ROUNDS, WallClock, on_disk, release, times

from orchestrator.daemon.clock import SystemClock
from orchestrator.daemon.promotion.deployment import DeploymentGate
from orchestrator.daemon.records.audit import open_audit
from orchestrator.daemon.records.audit_notes import AuditNotes
from orchestrator.evidence.signing_key import generate_evidence_key
from orchestrator.identity.serving_certificate import ADMISSION, ServingCertificate
from orchestrator.journal.sqlite import SqliteJournal
from orchestrator.model.decision import Stage
from orchestrator.policy.bundle import BundleHolder, default_bundle
from orchestrator.policy.decide import PolicyDecider
from orchestrator.policy.enquiry import Enquiry
from orchestrator.policy.lookups import Lookups
from orchestrator.server.app import bind_listener
from orchestrator.server.cluster.admission import REVIEW_PATH, AdmissionServer
from orchestrator.settings import Settings

AT_ONCE = 32
BOUND_MS = 1000.0
URL = "https://ci.example"


def review() -> dict[str, Any]:
    image = f"registry.example/shop@{DIGEST}"
    labels = {f"label-{number}": "value" for number in range(20)}
    pod = {"metadata": {"name": "shop", "labels": labels}, "spec": {"containers": [{"name": "app", "image": image}]}}
    request = {
        "uid": "u", "kind": {"group": "", "version": "v1", "kind": "Pod"}, "namespace": "shop", "name": "shop",
        "operation": "CREATE", "userInfo": {"username": "ada"}, "object": pod,
    }  # fmt: skip
    return {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request}


async def decider_of(folder: Path, settings: Settings) -> PolicyDecider:
    """Over the evidence of a release, as it lies on disk."""
    ours, theirs = generate_evidence_key(), generate_evidence_key()
    of_record, others = release(ours, theirs)
    _, lookup = await on_disk(folder, settings, ours, of_record, others)
    return PolicyDecider(BundleHolder(default_bundle()), Lookups(lookup), WallClock())


async def measure(folder: Path, stack: AsyncExitStack) -> dict[str, dict[str, Any]]:
    clock = SystemClock()
    settings = Settings.model_validate({"state_dir": str(folder)})
    decider = await decider_of(folder, settings)
    journal = await SqliteJournal.open(folder / "journal.db", clock)
    stack.push_async_callback(journal.close)
    _, audit = await open_audit(settings, URL, clock, journal, stack)
    namespaces = {"shop": "staging"}
    gate = DeploymentGate(cluster="c", namespaces=namespaces, enquire=decider.enquire, notes=AuditNotes(audit))
    server = AdmissionServer(gate)
    certificate = ServingCertificate.open(folder / "serving", "127.0.0.1", time.time, ADMISSION)
    listener = bind_listener("127.0.0.1", 0)
    url = f"https://127.0.0.1:{listener.getsockname()[1]}{REVIEW_PATH}"
    await server.serve(listener, certificate.context)
    stack.push_async_callback(server.stop)
    trusted = ssl.create_default_context(cadata=certificate.ca_pem)
    client = await stack.enter_async_context(aiohttp.ClientSession())
    body = json.dumps(review()).encode()
    headers = {"Content-Type": "application/json"}

    async def ask() -> None:
        async with client.post(url, data=body, headers=headers, ssl=trusted) as answer:
            assert answer.status == 200, await answer.text()
            assert (await answer.json())["response"]["auditAnnotations"]["decisions"]

    async def decide() -> None:
        await decider.enquire(Enquiry(Stage.DEPLOYMENT, "staging", DIGEST, workload={}))

    floor = statistics.median((await times(decide)).processor)
    one = await times(ask)
    rounds = ROUNDS // AT_ONCE
    began, began_processor = time.perf_counter(), time.process_time()
    for _ in range(rounds):
        await asyncio.gather(*(ask() for _ in range(AT_ONCE)))
    each = 1000 / (rounds * AT_ONCE)
    processor, wall = (time.process_time() - began_processor) * each, (time.perf_counter() - began) * each
    alone = figure(statistics.median(one.processor), floor, statistics.median(one.wall))
    return {
        "review": alone | {"wall_p99": round(one.wall[int(len(one.wall) * 0.99)], 2)},
        f"review_{AT_ONCE}_at_once": figure(processor, floor, wall),
    }


def figure(ours: float, floor: float, wall: float) -> dict[str, Any]:
    return {
        "ours": round(ours, 2),
        "floor": round(floor, 2),
        "ratio": round(ours / floor, 2),
        "wall_p50": round(wall, 2),
        "unit": f"ms of processor time, and on the clock; bound for p99 {BOUND_MS:g}",
    }


async def run() -> dict[str, dict[str, Any]]:
    with TemporaryDirectory() as folder:
        async with AsyncExitStack() as stack:
            return await measure(Path(folder), stack)


def main() -> None:
    figures = asyncio.run(run())
    for name, one in figures.items():
        print(f"{name}: {one}")
    target = Path("build/bench/admission.json")
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(json.dumps(figures, indent=2) + "\n")
    if figures["review"]["wall_p99"] > BOUND_MS:
        raise SystemExit("over the bound: review")


if __name__ == "__main__":
    main()
