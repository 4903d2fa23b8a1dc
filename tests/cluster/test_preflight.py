"""Guards on a real API server: what was applied is clean, and each that is removed or weakened is named."""

from __future__ import annotations

import asyncio
import contextlib
import os
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
import yaml
from typer.testing import CliRunner

from orchestrator.backends.kubernetes.answers import ConflictError, NotFoundError
from orchestrator.backends.kubernetes.canary import try_egress
from orchestrator.backends.kubernetes.client import ApiClient
from orchestrator.backends.kubernetes.guard_watch import GuardWatch
from orchestrator.backends.kubernetes.guards import Severity
from orchestrator.daemon.cluster.guards import cluster_preflight
from orchestrator.daemon.cluster.manifests import KUSTOMIZATION, documents, installation
from orchestrator.daemon.cluster.slice import kubernetes_config
from orchestrator.errors import TryAgainError
from orchestrator.model import events as e
from orchestrator.model.job import JobId, PoolName
from orchestrator.model.outcome import Result
from orchestrator.model.runner import RunnerSpec, runner_name
from orchestrator.settings import load_settings
from orchestrator.testing.kubelet import Script
from orchestrator.testing.pod_states import End

pytestmark = pytest.mark.cluster

PATHS = {
    "Namespace": "/api/v1/namespaces",
    "PriorityClass": "/apis/scheduling.k8s.io/v1/priorityclasses",
    "ClusterRole": "/apis/rbac.authorization.k8s.io/v1/clusterroles",
    "ClusterRoleBinding": "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings",
    "ServiceAccount": "/api/v1/namespaces/{}/serviceaccounts",
    "ResourceQuota": "/api/v1/namespaces/{}/resourcequotas",
    "LimitRange": "/api/v1/namespaces/{}/limitranges",
    "NetworkPolicy": "/apis/networking.k8s.io/v1/namespaces/{}/networkpolicies",
    "Role": "/apis/rbac.authorization.k8s.io/v1/namespaces/{}/roles",
    "RoleBinding": "/apis/rbac.authorization.k8s.io/v1/namespaces/{}/rolebindings",
    "ValidatingAdmissionPolicy": "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies",
    "ValidatingAdmissionPolicyBinding": "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicybindings",
}
OF_NEWER_SERVERS = {"server-version", "user-namespace", "admission-policy", "admission-binding"}
"""Guards that an old API server lacks for good; a test on a new one expects none of them."""
MERGE = "application/merge-patch+json"


class Site:
    """One installation of one protected pool, applied as an operator does."""

    def __init__(self, world, folder: Path) -> None:
        self.world = world
        self.space = f"guarded-{world.installation}"
        self.home = f"home-{world.installation}"
        self.file = folder / "orchestrator.yaml"
        self.file.write_text(
            yaml.safe_dump(
                {
                    "kubernetes": {
                        "kubeconfig": os.environ["KUBECONFIG"],
                        "installation": world.installation,
                        "namespace": self.home,
                        "image_pull_policy": "IfNotPresent",
                        "image": "registry.example/orchestrator:1",
                        "agent_image": "registry.example/agent:1",
                        "runner_api": {"url": f"https://orchestrator-runner-api.{self.home}.svc:8456"},
                        "gateway": {"url": f"http://orchestrator-gateway.{self.home}.svc:3128", "namespace": self.home},
                    },
                    "pools": [
                        {
                            "name": "default",
                            "backend": "kubernetes",
                            "trust_tier": "protected",
                            "capacity": 3,
                            "kubernetes": {
                                "namespace": self.space,
                                "image": "registry.example/job:1",
                                "memory": "16Mi",
                            },
                        }
                    ],
                }
            )
        )
        self.settings = load_settings(self.file)
        files = documents(self.settings, "")
        self.documents = [one for name, group in files.items() if name != KUSTOMIZATION for one in group]
        self.kubeconfig = folder / "daemon.kubeconfig"

    def path(self, kind: str, name: str = "") -> str:
        where = PATHS[kind].format(self.space)
        return f"{where}/{name}" if name else where

    async def apply(self) -> None:
        for one in self.documents:
            if one["kind"] in PATHS and not one["kind"].startswith("Validating"):
                space = one["metadata"].get("namespace", "")
                await self.world.ensure(PATHS[one["kind"]].format(space), one)

    async def put_back(self, kind: str, name: str) -> None:
        """Apply the rendered document of the pool again."""
        (want,) = [
            one
            for one in self.documents
            if (one["kind"], one["metadata"]["name"]) == (kind, name)
            and one["metadata"].get("namespace", self.space) in (self.space, "")
        ]
        with contextlib.suppress(NotFoundError):
            await self.world.call("DELETE", self.path(kind, name))
        await self.world.until(lambda: self._posted(kind, want))

    async def _posted(self, kind, want):
        try:
            await self.world.call("POST", self.path(kind), want)
        except ConflictError:
            return False
        return True

    async def daemon_client(self) -> ApiClient:
        """With exactly the daemon's ServiceAccount."""
        path = f"/api/v1/namespaces/{self.home}/serviceaccounts/orchestrator/token"
        answer = await self.world.call("POST", path, {"spec": {"expirationSeconds": 3600}})
        config = yaml.safe_load(Path(os.environ["KUBECONFIG"]).read_text())
        config["users"] = [{"name": config["users"][0]["name"], "user": {"token": answer["status"]["token"]}}]
        self.kubeconfig.write_text(yaml.safe_dump(config))
        return await ApiClient.open(replace(kubernetes_config(self.settings), kubeconfig=str(self.kubeconfig)))

    async def look(self, client: ApiClient, **more):
        return await cluster_preflight(self.settings, client, **more).look()

    async def remove(self) -> None:
        for kind in ("ClusterRole", "ClusterRoleBinding"):
            await self.world.call("DELETE", PATHS[kind] + f"/orchestrator-{self.world.installation}")
        for space in (self.space, self.home):
            await self.world.call("DELETE", f"/api/v1/namespaces/{space}")


@pytest.fixture
async def site(world, tmp_path):
    made = Site(world, tmp_path)
    await made.apply()
    yield made
    await made.remove()


def new(report):
    """What is found beyond what an old API server never has."""
    return [one for one in report.findings if one.guard not in OF_NEWER_SERVERS]


async def test_what_was_applied_is_clean_but_for_what_an_old_server_lacks(site):
    async with await site.daemon_client() as client:
        report = await site.look(client)
    assert new(report) == []
    old = tuple(int(part.strip("v+")) for part in report.version.split(".")[:2]) < (1, 25)
    assert {one.guard for one in report.findings} == (OF_NEWER_SERVERS if old else set())
    for one in report.findings:
        assert one.protects_from
        assert one.fix
    admission = [one for one in report.findings if one.guard == "admission-policy"]
    assert all(
        "Kubernetes 1.30" in one.what and "kubectl apply -f cluster/admission.yaml" in one.fix for one in admission
    )


async def test_each_guard_that_is_removed_or_weakened_is_named(site):
    world, space = site.world, site.space
    open_all = {
        "metadata": {"name": "careless"},
        "spec": {
            "podSelector": {},
            "policyTypes": ["Egress"],
            "egress": [{"to": [{"ipBlock": {"cidr": "10.0.0.0/8"}}]}],
        },
    }
    let_in = {"metadata": {"name": "scrape"}, "spec": {"podSelector": {}, "ingress": [{"ports": [{"port": 9090}]}]}}

    async def delete(kind, name):
        await world.call("DELETE", site.path(kind, name))

    async def patch(kind, name, change):
        await world.call("PATCH", site.path(kind, name), change, content_type=MERGE)

    async def post(kind, document):
        await world.call("POST", site.path(kind), document)

    label = "pod-security.kubernetes.io/enforce"
    cases = [
        (
            "pod-security",
            "should be restricted",
            patch,
            ("Namespace", space, {"metadata": {"labels": {label: "baseline"}}}),
        ),
        ("pod-security", "is absent", patch, ("Namespace", space, {"metadata": {"labels": {label: None}}})),
        ("service-account", "does not exist", delete, ("ServiceAccount", "runner")),
        (
            "service-account",
            "is not false",
            patch,
            ("ServiceAccount", "runner", {"automountServiceAccountToken": None}),
        ),
        ("network-policy", "lets through what must be denied", delete, ("NetworkPolicy", "default-deny")),
        ("network-policy", "denies what runners need", delete, ("NetworkPolicy", "runner")),
        ("network-policy", " to 10.0.0.", post, ("NetworkPolicy", open_all)),
        ("network-policy", "port 9090", post, ("NetworkPolicy", let_in)),
        ("resource-quota", "does not exist", delete, ("ResourceQuota", "runners")),
        ("resource-quota", "hard.pods is 30", patch, ("ResourceQuota", "runners", {"spec": {"hard": {"pods": "30"}}})),
        (
            "resource-quota",
            "hard.count/secrets is absent",
            patch,
            ("ResourceQuota", "runners", {"spec": {"hard": {"count/secrets": None}}}),
        ),
        ("limit-range", "does not exist", delete, ("LimitRange", "runners")),
        ("limit-range", "not as rendered", patch, ("LimitRange", "runners", {"spec": {"limits": []}})),
    ]
    async with await site.daemon_client() as client:
        for guard, words, act, arguments in cases:
            await act(*arguments)
            report = await site.look(client)
            found = [one for one in new(report) if one.guard == guard]
            assert found, (guard, arguments, new(report))
            assert {one.guard for one in new(report)} == {guard}
            assert any(words in one.what for one in found), found
            assert any("kubectl apply -f cluster/pool-default.yaml" in one.fix for one in found)
            kind, name = arguments[0], arguments[1]
            if act is post:
                await delete(kind, name["metadata"]["name"])
            elif kind == "Namespace":
                await patch(kind, space, {"metadata": {"labels": {label: "restricted"}}})
            else:
                await site.put_back(kind, name)
            assert new(await site.look(client)) == [], (guard, arguments)


async def test_a_policy_written_otherwise_with_the_same_meaning_is_no_drift(site):
    """The runner's one policy as two, one for each destination."""
    world = site.world
    (runner,) = [
        one for one in site.documents if one["kind"] == "NetworkPolicy" and one["metadata"]["name"] == "runner"
    ]
    for number, rule in enumerate(runner["spec"]["egress"]):
        document = msgspec.json.decode(msgspec.json.encode(runner))
        document["metadata"]["name"] = f"part-{number}"
        document["spec"]["egress"] = [rule]
        await world.call("POST", site.path("NetworkPolicy"), document)
    await world.call("DELETE", site.path("NetworkPolicy", "runner"))
    async with await site.daemon_client() as client:
        assert new(await site.look(client)) == []


async def test_rights_beyond_or_below_the_rendered_ones_are_named(site):
    world = site.world
    role = f"orchestrator-{world.installation}"
    rule = {"apiGroups": [""], "resources": ["pods/exec", "secrets"], "verbs": ["create", "get"]}
    await world.call("POST", site.path("Role"), {"metadata": {"name": "more"}, "rules": [rule]})
    binding = {
        "metadata": {"name": "more"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "more"},
        "subjects": [{"kind": "ServiceAccount", "name": "orchestrator", "namespace": site.home}],
    }
    await world.call("POST", site.path("RoleBinding"), binding)
    user = installation(site.settings, "").daemon_user
    async with await site.daemon_client() as client:

        async def both(words):
            """The daemon asks about itself, an operator about the daemon; they must agree."""
            for who, more in ((client, {}), (world.admin, {"user": user})):
                if not any(words in one.what for one in (await site.look(who, **more)).findings):
                    return False
            return True

        await world.until(lambda: both("create pods/exec"))
        await world.until(lambda: both("get secrets"))
        await world.call("DELETE", site.path("RoleBinding", "more"))
        await world.until(lambda: _clean(site, client))
        await world.call("PATCH", site.path("Role", role), {"rules": []}, content_type=MERGE)
        await world.until(lambda: both("the daemon may not: create pods"))
        # What it may not read is not known to be there.
        lost = {one.guard for one in new(await site.look(client)) if one.severity is Severity.MISSING}
        assert lost == {"service-account", "network-policy", "resource-quota", "limit-range"}


async def _clean(site, client):
    return new(await site.look(client)) == []


async def test_the_command_names_what_is_missing_and_ends_with_1(site):
    from orchestrator.cli.main import app

    run = CliRunner()
    await site.world.call("DELETE", site.path("NetworkPolicy", "default-deny"))
    arguments = ["preflight", "--config", str(site.file)]
    text = await asyncio.to_thread(run.invoke, app, arguments)
    assert text.exit_code == 1
    assert "missing network-policy" in text.stdout
    assert f"orchestrator manifests --config {site.file} --output cluster" in text.stdout
    answer = await asyncio.to_thread(run.invoke, app, [*arguments, "--json"])
    said = msgspec.json.decode(answer.stdout)
    assert {one["guard"] for one in said["findings"]} == {"network-policy", *OF_NEWER_SERVERS}


async def test_a_protected_pool_takes_no_job_while_a_guard_is_missing(world, site):
    """With what an old server lacks left out, so that the pool can be whole here."""
    pool = replace(kubernetes_config(site.settings).pools[PoolName("default")], namespace=site.space)
    world.namespaces.append(site.space)
    backend = await world.backend(
        replace(world.config(), pools={pool.name: replace(pool, cpu="10m", priority_class="")})
    )
    client = await site.daemon_client()

    class Known:
        async def look(self):
            report = await site.look(client)
            return replace(report, findings=tuple(new(report)))

    guards = GuardWatch(Known(), {pool.name: pool}, 300, backend.recheck)
    backend.guard = guards.lacks
    daemon = world.daemon(backend)
    world.script = lambda _: Script()
    await world.kubelet(agent=daemon.agent)
    spec = RunnerSpec(runner_name(JobId("a.b.1")), JobId("a.b.1"), pool.name, (), 60)
    with pytest.raises(TryAgainError, match="not been looked at") as refused:
        await backend.create(spec)
    assert refused.value.reason == "guard_missing"
    await world.call("DELETE", site.path("NetworkPolicy", "default-deny"))
    await guards.look()
    job = await daemon.offer(1)

    async def waits():
        record = await daemon.record(job)
        return record.wait if record.wait and record.wait.reason is e.WaitReason.GUARD_MISSING else None

    assert "network-policy" in (await world.until(waits)).detail
    assert guards.missing()["default"]
    assert (await world.call("GET", world.pods(site.space)))["items"] == []
    await site.put_back("NetworkPolicy", "default-deny")
    await guards.look()
    assert not [one for one in guards.missing()["default"] if "network-policy" in one]
    assert (await daemon.finished(job)).outcome.result is Result.SUCCESS
    await client.close()


@pytest.mark.parametrize(("code", "severity"), [(0, None), (78, Severity.MISSING), (2, Severity.WARNING)])
async def test_the_canarys_end_says_whether_egress_is_denied_and_it_is_gone(world, code, severity):
    """The agent itself is played here; that it tells the truth is the node's tests' matter."""
    world.script = lambda _: Script(End.AGENT_FAILED, code)
    await world.kubelet()
    config = world.config()
    found = await try_egress(world.admin, config.pools[world.pool], config, 20)
    assert [one.severity for one in found] == ([severity] if severity else [])
    assert await world.pod_names() == []
