"""Guards of cluster pools from the settings: what should be there, and how NetworkPolicies are compared."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from orchestrator.backends.kubernetes.backend import KubernetesBackend
from orchestrator.backends.kubernetes.client import ApiClient
from orchestrator.backends.kubernetes.config import KubernetesConfig, KubernetesPool
from orchestrator.backends.kubernetes.drift import Difference, NetworkCheck
from orchestrator.backends.kubernetes.guard_watch import GuardWatch, Looks
from orchestrator.backends.kubernetes.guards import Severity
from orchestrator.backends.kubernetes.manifest import LABEL_WARM, labels
from orchestrator.backends.kubernetes.preflight import Preflight, Report
from orchestrator.daemon.cluster.manifests import installation
from orchestrator.egress.policy_comparison import differences
from orchestrator.errors import ConfigurationError
from orchestrator.settings import Settings


def guard_watch(
    settings: Settings, backend: KubernetesBackend, config: KubernetesConfig, gateway: Callable[[], str]
) -> GuardWatch:
    """The daemon's own look at its guards, already asked by the backend before it makes a pod."""
    preflight: Looks
    try:
        preflight = cluster_preflight(settings, backend.client)
    except ConfigurationError as error:
        preflight = _Unrenderable(error)
    pools = {str(name): pool for name, pool in config.pools.items()}
    seconds = settings.kubernetes.preflight_seconds
    watch = GuardWatch(preflight, pools, seconds, backend.recheck, gateway=gateway)
    backend.guard = watch.lacks
    return watch


class _Unrenderable:
    """Settings that no guards can be rendered from: pools that need none run, protected ones do not."""

    def __init__(self, error: ConfigurationError) -> None:
        self._error = error

    async def look(self) -> Report:
        raise self._error


def cluster_preflight(settings: Settings, client: ApiClient, *, user: str = "", config_file: str = "FILE") -> Preflight:
    """Looks at the guards of all cluster pools. `user` as for `Preflight`.

    Raises:
        ConfigurationError: no pool is of this backend, or the settings do not fit together.
    """
    given = installation(settings, "")
    checks = {pool.namespace: network_check(pool, given.config) for pool in given.pools}
    return Preflight(client, given, checks, user=user, config_file=config_file)


def network_check(pool: KubernetesPool, config: KubernetesConfig) -> NetworkCheck:
    """Compares by what this pool's runners, and whatever else is in its namespace, can reach and be reached by."""
    runner = labels(pool, config)
    pods: list[Mapping[str, str]] = [runner, {**runner, LABEL_WARM: "true"}]

    def check(rendered: Sequence[dict[str, Any]], found: Sequence[dict[str, Any]]) -> Sequence[Difference]:
        try:
            seen = differences(pool.namespace, pods, rendered, found)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            return [(f"its NetworkPolicies cannot be compared: {error}"[:300], Severity.MISSING)]
        wider = [(f"lets through what must be denied: {one}", Severity.MISSING) for one in seen.wider]
        return [*wider, *((f"denies what runners need: {one}", Severity.WARNING) for one in seen.narrower)]

    return check
