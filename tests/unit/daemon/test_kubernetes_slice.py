"""From settings to what the backend is told."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator.backends.kubernetes.manifest import pod_document, pod_hosts
from orchestrator.daemon.cluster.slice import kubernetes_config
from orchestrator.errors import ConfigurationError
from orchestrator.lifecycle import provision
from orchestrator.model.job import JobId, PoolName
from orchestrator.model.runner import RunnerSpec, runner_name
from orchestrator.settings import Settings

DIGEST = "@sha256:" + "a" * 64


def settings(pool: dict[str, Any], **kubernetes: Any) -> Settings:
    pools = [{"name": "one", "backend": "kubernetes", **pool}, {"name": "local"}]
    return Settings.model_validate({"pools": pools, "kubernetes": {"agent_image": "agent:1", **kubernetes}})


def test_only_cluster_pools_with_all_they_have():
    given = settings({"trust_tier": "protected", "max_job_seconds": 60, "kubernetes": {"cpu": "2", "warm": 1}})
    (pool,) = kubernetes_config(given).pools.values()
    assert (pool.name, pool.namespace, pool.cpu, pool.warm) == ("one", "runners-one", "2", 1)
    assert (pool.protected, pool.max_job_seconds, pool.priority_class) == (True, 60, "orchestrator-runner")


def test_addresses_in_the_settings_rank_above_those_looked_up():
    looked_up = {"orchestrator-runner-api.orchestrator.svc": ("10.0.0.1",), "orchestrator-gateway.orchestrator.svc": ()}
    given = settings({}, host_addresses={"orchestrator-gateway.orchestrator.svc": ["10.0.0.9"]})
    config = kubernetes_config(given, host_addresses=looked_up)
    assert [config.host_addresses[host] for host in pod_hosts(config)] == [("10.0.0.9",), ("10.0.0.1",)]


@pytest.mark.parametrize("agent", [True, False])
def test_a_pool_that_demands_digests_is_refused_without(agent: bool):
    tagged, pinned = ("agent:1", f"job{DIGEST}") if agent else (f"agent{DIGEST}", "job:1")
    given = settings({"kubernetes": {"image": pinned, "require_digest": True}}, agent_image=tagged)
    with pytest.raises(ConfigurationError) as refused:
        kubernetes_config(given)
    assert refused.value.reason == "image_not_pinned"


def test_without_an_agents_image_nothing_is_taken_for_it():
    with pytest.raises(ConfigurationError) as refused:
        kubernetes_config(settings({}, agent_image=""))
    assert (refused.value.reason, "kubernetes.agent_image" in str(refused.value)) == ("image_missing", True)
    assert kubernetes_config(Settings.model_validate({"pools": [{"name": "local"}]})).pools == {}


def test_a_namespace_is_a_dns_label():
    with pytest.raises(ConfigurationError) as refused:
        kubernetes_config(settings({"name": "x" * 60}))
    assert refused.value.reason == "namespace_too_long"


def test_the_longest_job_of_a_pool_passes_its_admission_rule():
    """The engine's own margin is part of every runner's hard stop; the rule A9 must have room for it."""
    from orchestrator.backends.kubernetes.manifest import hard_stop_seconds

    config = kubernetes_config(settings({"max_job_seconds": 60}))
    pool = config.pools[PoolName("one")]
    longest = pool.max_job_seconds + provision._DEADLINE_MARGIN_SECONDS
    spec = RunnerSpec(runner_name(JobId("a.b.1")), JobId("a.b.1"), pool.name, (), longest)
    assert pod_document(spec, pool, config)["spec"]["activeDeadlineSeconds"] <= hard_stop_seconds(pool)
