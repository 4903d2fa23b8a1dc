"""The Kubernetes backend's slice of the settings, in its own words. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from orchestrator.backends.kubernetes.config import KubernetesConfig, KubernetesPool, Toleration
from orchestrator.backends.kubernetes.render.groups import DEFAULT_PRIORITY_CLASS
from orchestrator.errors import ConfigurationError
from orchestrator.model.job import PoolName
from orchestrator.model.pool import TrustTier
from orchestrator.settings import PoolSettings, Settings

KUBERNETES = "kubernetes"
MAX_NAMESPACE = 63


def kubernetes_config(
    settings: Settings, *, runner_api_ca: str = "", host_addresses: Mapping[str, tuple[str, ...]] | None = None
) -> KubernetesConfig:
    """What the backend is told. `host_addresses` are those looked up; what the settings say comes first.

    Raises:
        ConfigurationError: reason `image_missing` without the agent's; `image_not_pinned`, for a pool that demands
            digests and does not have them; `namespace_too_long`, for one whose name makes a namespace longer than a
            DNS label.
    """
    given = settings.kubernetes
    pools = {PoolName(one.name): _pool(one) for one in settings.pools if one.backend == KUBERNETES}
    if pools:
        require_image("kubernetes.agent_image", given.agent_image)
    for pool in pools.values():
        _check_digests(pool, given.agent_image)
    return KubernetesConfig(
        installation=given.installation,
        pools=pools,
        agent_image=given.agent_image,
        runner_api_url=given.runner_api.url,
        runner_api_ca=runner_api_ca,
        gateway_url=given.gateway.url,
        host_addresses={**(host_addresses or {}), **given.host_addresses},
        resolver=given.resolver,
        image_pull_policy=given.image_pull_policy,
        kubeconfig=given.kubeconfig,
        context=given.context,
        image_pull_seconds=given.image_pull_seconds,
        unschedulable_seconds=given.unschedulable_seconds,
    )


def _pool(given: PoolSettings) -> KubernetesPool:
    pod = given.kubernetes
    namespace = pod.namespace or f"runners-{given.name}"
    if len(namespace) > MAX_NAMESPACE:
        raise ConfigurationError(
            f"pool {given.name} would have the namespace {namespace}, longer than {MAX_NAMESPACE} characters",
            reason="namespace_too_long",
            fix="set kubernetes.namespace of the pool, or give it a shorter name",
        )
    return KubernetesPool(
        name=PoolName(given.name),
        namespace=namespace,
        image=pod.image,
        require_digest=pod.require_digest,
        cpu=pod.cpu,
        memory=pod.memory,
        ephemeral_storage=pod.ephemeral_storage,
        workspace=pod.workspace,
        tmp=pod.tmp,
        runtime_class=pod.runtime_class or "",
        host_users=pod.host_users,
        node_selector=dict(pod.node_selector),
        tolerations=tuple(Toleration(one.key, one.value, one.effect) for one in pod.tolerations),
        priority_class=pod.priority_class or DEFAULT_PRIORITY_CLASS,
        grace_seconds=pod.grace_seconds,
        max_job_seconds=given.max_job_seconds,
        capacity=given.capacity,
        protected=given.trust_tier is TrustTier.PROTECTED,
        warm=pod.warm,
        warm_idle_seconds=int(pod.warm_idle_seconds),
        stream_logs=pod.stream_logs,
    )


def require_image(setting: str, image: str) -> None:
    """Raises ConfigurationError, reason `image_missing`, for an image that is not named."""
    if not image:
        raise ConfigurationError(
            f"{setting} is not set, and there is no image that could be its default",
            reason="image_missing",
            fix="make images, push them where the cluster's nodes can pull them, and name them in the settings",
        )


def _check_digests(pool: KubernetesPool, agent_image: str) -> None:
    if not pool.require_digest:
        return
    for what, image in (("kubernetes.image of the pool", pool.image), ("kubernetes.agent_image", agent_image)):
        if "@sha256:" not in image:
            raise ConfigurationError(
                f"pool {pool.name} demands images by digest, and {what} has none",
                reason="image_not_pinned",
                fix="write the image as name@sha256:…, or take require_digest away",
            )
