"""A mutating webhook between the daemon and the API server: whatever it makes of our pods, nothing else runs."""

from __future__ import annotations

import asyncio
import base64
import json
from dataclasses import replace

import msgspec
import pytest
from aiohttp import web

from orchestrator.errors import GiveUpError, TryAgainError
from orchestrator.model import events as e
from orchestrator.model.outcome import EndReason, Result
from orchestrator.testing.fault_proxy import ApiFault

pytestmark = pytest.mark.cluster

WEBHOOKS = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations"

EVIL = {"name": "other", "image": "registry.example/evil:1"}
SWAP_JOB = {"op": "replace", "path": "/spec/containers/0/image", "value": EVIL["image"]}
SWAP_AGENT = {"op": "replace", "path": "/spec/initContainers/0/image", "value": EVIL["image"]}
ADD_CONTAINER = {"op": "add", "path": "/spec/containers/-", "value": EVIL}
ADD_FIRST = {"op": "add", "path": "/spec/initContainers/0", "value": EVIL}
ADD_VARIABLE = {"op": "add", "path": "/spec/containers/0/env", "value": [{"name": "LD_PRELOAD", "value": "/job/x.so"}]}
SHARE_HOST = {"op": "add", "path": "/spec/hostNetwork", "value": True}
OTHER_POOL = {"op": "replace", "path": "/metadata/labels/orchestrator.dev~1pool", "value": "trusted"}
HARMLESS = [
    {"op": "add", "path": "/spec/tolerations/-", "value": {"key": "spot", "operator": "Exists"}},
    {"op": "add", "path": "/metadata/labels/team", "value": "a"},
    {"op": "add", "path": "/metadata/annotations/sidecar.example~1status", "value": "left out"},
    {"op": "add", "path": "/spec/nodeSelector", "value": {"disk": "fast"}},
]


class Meddler:
    """An admission webhook: applies `patch` to each pod of one installation that is made."""

    def __init__(self) -> None:
        self.patch: list[dict] = []
        self.asked: list[str] = []

    async def review(self, request: web.Request) -> web.Response:
        asked = (await request.json())["request"]
        self.asked.append(asked["object"]["metadata"]["name"])
        answer = {"uid": asked["uid"], "allowed": True}
        if self.patch:
            patch = base64.b64encode(json.dumps(self.patch).encode()).decode()
            answer |= {"patchType": "JSONPatch", "patch": patch}
        return web.json_response({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": answer})


@pytest.fixture
async def meddler(world, serving):
    """In force for pods of the test's own installation and namespace when it is handed out, and gone afterwards."""
    made = Meddler()
    app = web.Application()
    app.router.add_post("/", made.review)
    runner = web.AppRunner(app)
    await runner.setup()
    tls, authority = serving
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls)
    await site.start()
    port = runner.addresses[0][1]
    name = f"meddler-{world.installation}"
    only = {"matchLabels": {"orchestrator.dev/installation": world.installation}}
    await world.call(
        "PATCH",
        f"/api/v1/namespaces/{world.namespaces[0]}",
        {"metadata": {"labels": only["matchLabels"]}},
        content_type="application/merge-patch+json",
    )
    hook = {
        "name": "meddler.orchestrator.test",
        "admissionReviewVersions": ["v1"],
        "sideEffects": "None",
        "failurePolicy": "Fail",
        "timeoutSeconds": 5,
        "namespaceSelector": only,
        "objectSelector": only,
        "rules": [{"operations": ["CREATE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"]}],
        "clientConfig": {
            "url": f"https://127.0.0.1:{port}/",
            "caBundle": base64.b64encode(authority.read_bytes()).decode(),
        },
    }
    try:
        await world.call("POST", WEBHOOKS, {"metadata": {"name": name}, "webhooks": [hook]})
        trial = {
            "metadata": {"name": "trial", "labels": only["matchLabels"]},
            "spec": {"serviceAccountName": "runner", "containers": [{"name": "one", "image": "one"}]},
        }

        async def in_force():
            body = msgspec.json.encode(trial)
            await world.admin.request("POST", world.pods(), params={"dryRun": "All"}, body=body)
            return made.asked

        await world.until(in_force)
        made.asked.clear()
        yield made
    finally:
        await world.admin.request("DELETE", f"{WEBHOOKS}/{name}")
        await runner.cleanup()


@pytest.mark.parametrize(
    ("patch", "field"),
    [
        (SWAP_JOB, "spec.containers[0].image"),
        (SWAP_AGENT, "spec.initContainers[0].image"),
        (ADD_CONTAINER, "spec.containers"),
        (ADD_FIRST, "spec.initContainers"),
        (ADD_VARIABLE, "spec.containers[0].env"),
        (SHARE_HOST, "spec.hostNetwork"),
        (OTHER_POOL, "metadata.labels[orchestrator.dev/pool]"),
    ],
    ids=["image", "agent's image", "container", "first container", "variable", "host's network", "label"],
)
async def test_a_pod_that_admission_changes_is_ended_and_the_job_says_so(world, meddler, patch, field):
    daemon = world.daemon(await world.backend())
    await world.kubelet(agent=daemon.agent)
    meddler.patch = [patch]
    job = await daemon.offer(1)
    record = await daemon.finished(job)
    assert (record.outcome.result, record.outcome.reason) == (Result.ERROR, EndReason.POD_CHANGED)
    assert f"changed: {field} [pod_changed]" in record.outcome.message
    assert "evil" not in record.outcome.message
    assert (record.bound_uid, daemon.witnessed.handed_out) == ("", [])
    alarms = [fact.event for fact in await daemon.journal.facts_of(job) if isinstance(fact.event, e.AlarmRaised)]
    assert [alarm.alarm for alarm in alarms] == ["pod_changed"]
    assert await world.pod_names() == []
    assert len(meddler.asked) == 1
    assert await daemon.broken() == []


async def test_what_admission_may_add_keeps_nobody_from_running(world, meddler):
    backend = await world.backend()
    daemon = world.daemon(backend)
    await world.kubelet(agent=daemon.agent)
    meddler.patch = HARMLESS
    jobs = [await daemon.offer(number) for number in range(3)]
    for job in jobs:
        assert (await daemon.finished(job)).outcome.reason is EndReason.COMPLETED
    assert len(meddler.asked) == 3
    assert backend.maker.changed == {}
    assert await daemon.broken() == []


async def test_the_fix_is_named_and_the_pool_tells_of_it_until_a_pod_comes_through(world, meddler):
    backend = await world.backend()
    meddler.patch = [SWAP_JOB]
    with pytest.raises(GiveUpError) as refused:
        await backend.create(world.spec(1))
    assert refused.value.reason == "pod_changed"
    assert "kubectl get mutatingwebhookconfigurations" in refused.value.fix
    assert "spec.containers[0].image" in backend.maker.changed[world.pool]
    meddler.patch = []
    view = await backend.create(world.spec(2))
    assert backend.is_as_sent(view.name, view.uid)
    assert backend.maker.changed == {}


async def test_a_changed_pod_whose_creation_was_not_answered_is_not_taken_for_ours(world, meddler, tmp_path):
    proxy, config = await world.proxy(tmp_path)
    backend = await world.backend(config)
    meddler.patch = [ADD_CONTAINER]
    proxy.add(ApiFault.STORED_BUT_500, "POST")
    spec = world.spec()
    reasons = []

    async def given_up():
        try:
            await backend.create(spec)
        except TryAgainError as error:
            reasons.append(error.reason)
            return False
        except GiveUpError as error:
            reasons.append(error.reason)
            return True
        raise AssertionError("a changed pod was taken")

    await world.until(given_up)
    assert reasons[:2] == ["api_unavailable", "runner_being_deleted"]
    assert reasons[-1] == "pod_changed"
    await world.until(lambda: _none(world))


async def test_a_changed_warm_runner_is_deleted_and_never_taken(world, meddler):
    config = world.config()
    pools = {name: replace(pool, warm=1, capacity=4) for name, pool in config.pools.items()}
    backend = await world.backend(replace(config, pools=pools))
    daemon = world.daemon(backend)
    await world.kubelet(agent=lambda _: asyncio.sleep(3600))
    meddler.patch = [SWAP_AGENT]
    tending = asyncio.create_task(backend.warm.run())
    try:
        await world.until(lambda: len(meddler.asked) >= 2)  # again after a while
        assert (await daemon.finished(await daemon.offer(1))).outcome.reason is EndReason.POD_CHANGED
        assert backend.warm.assignments.taken == 0
        meddler.patch = []
        assert await world.until(lambda: backend.warm.take(world.spec(2).name, pools[world.pool]))
    finally:
        tending.cancel()
        await asyncio.gather(tending, return_exceptions=True)


async def _none(world) -> bool:
    return await world.pod_names() == []
