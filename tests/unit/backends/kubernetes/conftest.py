"""One plain pool and one with every field set, as these tests speak of them."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from orchestrator.backends.kubernetes.config import KubernetesConfig, KubernetesPool, Toleration
from orchestrator.backends.kubernetes.render.installation import Installation
from orchestrator.model.egress import EgressRule
from orchestrator.model.job import JobId, PoolName
from orchestrator.model.runner import RunnerSpec, runner_name

sys.path.insert(0, str(Path(__file__).parent))

DIGEST = "sha256:" + "ab" * 32


@pytest.fixture
def plain_pool() -> KubernetesPool:
    return KubernetesPool(name=PoolName("plain"), namespace="runners-plain", image=f"docker.io/library/debian@{DIGEST}")


@pytest.fixture
def full_pool() -> KubernetesPool:
    return KubernetesPool(
        name=PoolName("full"),
        namespace="ci-full",
        image=f"registry.example/ci/job@{DIGEST}",
        require_digest=True,
        cpu="1500m",
        memory="4Gi",
        ephemeral_storage="3Gi",
        workspace="2Gi",
        tmp="512Mi",
        runtime_class="gvisor",
        host_users=True,
        node_selector={"zone": "b", "pool": "runners"},
        tolerations=(Toleration("runners", "untrusted"), Toleration("gpu", effect="NoExecute")),
        priority_class="orchestrator-runner",
        grace_seconds=3,
        max_job_seconds=1800,
        warm=2,
        warm_idle_seconds=900,
    )


@pytest.fixture
def config(plain_pool: KubernetesPool, full_pool: KubernetesPool) -> KubernetesConfig:
    return KubernetesConfig(
        installation="blue",
        pools={plain_pool.name: plain_pool, full_pool.name: full_pool},
        agent_image=f"registry.example/agent@{DIGEST}",
        runner_api_url="https://orchestrator-runner-api.orchestrator.svc:8456",
        runner_api_ca="-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n",
        gateway_url="http://orchestrator-gateway.orchestrator.svc:3128",
        host_addresses={
            "orchestrator-runner-api.orchestrator.svc": ("10.96.0.20", "fd00::20"),
            "orchestrator-gateway.orchestrator.svc": ("10.96.0.3",),
        },
    )


@pytest.fixture
def spec() -> RunnerSpec:
    job = JobId("dispatch.3f2a.1")
    return RunnerSpec(runner_name(job), job, PoolName("plain"), (EgressRule("example.org"),), 1920)


@pytest.fixture
def installation(config: KubernetesConfig) -> Installation:
    return Installation(
        config=config,
        namespace="orchestrator",
        image=f"registry.example/orchestrator@{DIGEST}",
        settings_yaml="server:\n  port: 8455\n",
        gateway_yaml="port: 3128\n",
        api_port=8455,
        runner_api_port=8456,
        runner_api_url_port=8456,
        runner_api_service="orchestrator-runner-api",
        gateway_namespace="orchestrator",
        gateway_account="orchestrator-gateway",
        gateway_service="orchestrator-gateway",
        gateway_port=3128,
        registries=("registry.example", "docker.io/library"),
        operators=("system:masters",),
        break_glass_group="oncall",
    )
