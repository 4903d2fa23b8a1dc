"""What is rendered for a cluster: exactly these rights, guards that hold, and pods of ours under the same rules."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.backends.kubernetes.config import KubernetesPool
from orchestrator.backends.kubernetes.manifest import pod_document
from orchestrator.backends.kubernetes.render.groups import documents_by_file
from orchestrator.backends.kubernetes.render.installation import Installation
from orchestrator.backends.kubernetes.render.quantity import times
from orchestrator.errors import ConfigurationError
from orchestrator.model.job import PoolName
from orchestrator.model.runner import RunnerSpec

Json = dict[str, Any]


def everything(installation: Installation) -> list[Json]:
    return [one for group in documents_by_file(installation).values() for one in group]


def of_kind(installation: Installation, *kinds: str) -> list[Json]:
    return [one for one in everything(installation) if one["kind"] in kinds]


def test_the_daemon_has_these_rights_and_no_other(installation: Installation):
    """Spelled out on purpose: a right more is a decision, and this test is where it shows."""
    granted = {
        (one["metadata"].get("namespace", ""), group, resource, tuple(rule.get("resourceNames", ())), verb)
        for one in of_kind(installation, "Role", "ClusterRole")
        for rule in one["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }
    policies = tuple(
        f"orchestrator-blue-{suffix}"
        for suffix in ("pool-full", "pool-plain", "unchanged", "hands", "network", "namespaces")
    )
    admission = "admissionregistration.k8s.io"
    expected = {
        ("", "authentication.k8s.io", "tokenreviews", (), "create"),
        ("", "", "namespaces", ("ci-full", "runners-plain"), "get"),
        ("", admission, "validatingadmissionpolicies", policies, "get"),
        ("", admission, "validatingadmissionpolicybindings", policies, "get"),
        ("", "scheduling.k8s.io", "priorityclasses", ("orchestrator-runner",), "get"),
        ("", "node.k8s.io", "runtimeclasses", ("gvisor",), "get"),
        *(
            ("orchestrator", "coordination.k8s.io", "leases", ("orchestrator-blue",), verb)
            for verb in ("get", "update")
        ),
    }
    for namespace in ("ci-full", "runners-plain"):
        expected |= {(namespace, "", "pods", (), verb) for verb in ("create", "get", "list", "watch", "delete")}
        expected |= {(namespace, "", "pods/log", (), "get")}
        expected |= {
            (namespace, group, resource, (), verb)
            for group, resource in (
                ("", "limitranges"),
                ("", "resourcequotas"),
                ("", "serviceaccounts"),
                ("networking.k8s.io", "networkpolicies"),
            )
            for verb in ("get", "list")
        }
    assert granted == expected


def test_rights_are_bound_to_the_daemon_alone(installation: Installation):
    subjects = [one["subjects"] for one in of_kind(installation, "RoleBinding", "ClusterRoleBinding")]
    daemon = {"kind": "ServiceAccount", "name": "orchestrator", "namespace": "orchestrator"}
    assert subjects == [[daemon]] * 4


def test_a_pool_that_streams_no_logs_gives_no_right_to_them(installation: Installation, plain_pool: KubernetesPool):
    pools = {plain_pool.name: replace(plain_pool, stream_logs=False)}
    silent = replace(installation, config=replace(installation.config, pools=pools))
    assert "pods/log" not in str(of_kind(silent, "Role"))
    assert "pods/log" in str(of_kind(installation, "Role"))


def test_accounts_mount_no_token_by_themselves(installation: Installation):
    accounts = of_kind(installation, "ServiceAccount")
    assert {one["metadata"]["name"] for one in accounts} == {"runner", "orchestrator", "orchestrator-gateway"}
    assert all(one["automountServiceAccountToken"] is False for one in accounts)


def test_namespaces_are_restricted_at_a_fixed_version(installation: Installation):
    for one in of_kind(installation, "Namespace"):
        labels = one["metadata"]["labels"]
        assert labels["pod-security.kubernetes.io/enforce"] == "restricted"
        assert labels["pod-security.kubernetes.io/enforce-version"] == "v1.34"


def test_quota_is_the_capacity_of_what_is_really_asked_for(
    installation: Installation, full_pool: KubernetesPool, spec: RunnerSpec
):
    (quota,) = (one for one in of_kind(installation, "ResourceQuota") if one["metadata"]["namespace"] == "ci-full")
    hard = quota["spec"]["hard"]
    assert hard["pods"] == "4"
    assert (hard["requests.cpu"], hard["limits.memory"], hard["requests.ephemeral-storage"]) == (
        "6000m",
        "16Gi",
        "12Gi",
    )
    assert {key for key, value in hard.items() if value == "0"} >= {
        "count/secrets",
        "count/services",
        "count/jobs.batch",
    }
    pod = pod_document(spec, full_pool, installation.config)
    (limits,) = (one for one in of_kind(installation, "LimitRange") if one["metadata"]["namespace"] == "ci-full")
    for container in pod["spec"]["containers"] + pod["spec"]["initContainers"]:
        assert container["resources"]["limits"] == limits["spec"]["limits"][0]["max"]


def test_priority_class_says_what_pods_say(installation: Installation):
    (one,) = of_kind(installation, "PriorityClass")
    assert (one["preemptionPolicy"], one["globalDefault"]) == ("Never", False)
    assert one["value"] < 0


def test_our_own_pods_are_held_to_the_restricted_profile_and_more(installation: Installation):
    deployments = of_kind(installation, "Deployment")
    assert {one["metadata"]["name"] for one in deployments} == {"orchestrator", "orchestrator-gateway"}
    for deployment in deployments:
        pod = deployment["spec"]["template"]["spec"]
        kinds = {kind for volume in pod["volumes"] for kind in volume if kind != "name"}
        assert kinds <= {"configMap", "emptyDir", "projected", "persistentVolumeClaim"}
        assert not {"hostNetwork", "hostPID", "hostIPC"} & pod.keys()
        for container in pod["containers"]:
            security = container["securityContext"]
            assert security["runAsNonRoot"] is True
            assert security["runAsUser"] > 0
            assert security["allowPrivilegeEscalation"] is False
            assert security["readOnlyRootFilesystem"] is True
            assert security["capabilities"] == {"drop": ["ALL"]}
            assert security["seccompProfile"] == {"type": "RuntimeDefault"}
            assert {"livenessProbe", "readinessProbe", "resources"} <= container.keys()


def test_the_state_is_in_a_folder_of_its_own_that_no_start_opens_to_a_group(installation: Installation):
    """The root of a volume with a group is root's, and by default all files in it are given to the group each time."""
    pod = next(one for one in of_kind(installation, "Deployment"))["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    state = next(one["value"] for one in container["env"] if one["name"] == "ORCHESTRATOR_STATE_DIR")
    mount = next(one["mountPath"] for one in container["volumeMounts"] if one["name"] == "state")
    assert state.startswith(f"{mount}/")
    assert pod["securityContext"]["fsGroup"] == container["securityContext"]["runAsGroup"]
    assert pod["securityContext"]["fsGroupChangePolicy"] == "OnRootMismatch"


def test_one_daemon_at_a_time_and_gateways_without_rights(installation: Installation):
    daemon, gateway = of_kind(installation, "Deployment")
    assert (daemon["spec"]["replicas"], daemon["spec"]["strategy"]) == (1, {"type": "Recreate"})
    assert gateway["spec"]["replicas"] == 2
    assert gateway["spec"]["template"]["spec"]["automountServiceAccountToken"] is False
    assert gateway["metadata"]["name"] not in str(of_kind(installation, "RoleBinding", "ClusterRoleBinding"))


def test_selectors_choose_the_pods_they_are_for(installation: Installation):
    templates = {
        one["metadata"]["name"]: one["spec"]["template"]["metadata"]["labels"]
        for one in of_kind(installation, "Deployment")
    }
    chosen: dict[str, set[str]] = {}
    for one in of_kind(installation, "Service", "PodDisruptionBudget", "Deployment"):
        selector = one["spec"]["selector"]
        wanted = selector.get("matchLabels", selector)
        matching = {name for name, labels in templates.items() if wanted.items() <= labels.items()}
        chosen[f"{one['kind']} {one['metadata']['namespace']}/{one['metadata']['name']}"] = matching
    daemon, gateway = {"orchestrator"}, {"orchestrator-gateway"}
    assert chosen == {
        "Service orchestrator/orchestrator": daemon,
        "Service orchestrator/orchestrator-runner-api": daemon,
        "Service orchestrator/orchestrator-gateway": gateway,
        "PodDisruptionBudget orchestrator/orchestrator": daemon,
        "PodDisruptionBudget orchestrator/orchestrator-gateway": gateway,
        "PodDisruptionBudget runners-plain/runners": set(),
        "PodDisruptionBudget ci-full/runners": set(),
        "Deployment orchestrator/orchestrator": daemon,
        "Deployment orchestrator/orchestrator-gateway": gateway,
    }


def test_a_drain_finds_no_runner_to_evict(installation: Installation, plain_pool: KubernetesPool, spec: RunnerSpec):
    labels = pod_document(spec, plain_pool, installation.config)["metadata"]["labels"]
    budgets = [one for one in of_kind(installation, "PodDisruptionBudget") if one["metadata"]["name"] == "runners"]
    assert len(budgets) == 2
    for one in budgets:
        assert one["spec"]["selector"]["matchLabels"].items() <= labels.items()
        assert one["spec"]["minAvailable"] == plain_pool.capacity


def test_changed_settings_start_the_pods_again(installation: Installation):
    before, after = (
        [one["spec"]["template"]["metadata"]["annotations"] for one in of_kind(each, "Deployment")]
        for each in (installation, replace(installation, settings_yaml="server: {}\n", gateway_yaml="port: 1\n"))
    )
    assert all(old != new for old, new in zip(before, after, strict=True))


def test_two_installations_share_no_name(installation: Installation):
    green = replace(
        installation,
        namespace="green",
        gateway_namespace="green",
        config=replace(
            installation.config,
            installation="green",
            pools={name: replace(pool, namespace=f"green-{name}") for name, pool in installation.config.pools.items()},
        ),
    )
    names = [
        {(one["kind"], one["metadata"].get("namespace"), one["metadata"]["name"]) for one in everything(each)}
        for each in (installation, green)
    ]
    shared = {one for one in names[0] & names[1] if one[0] != "PriorityClass"}
    assert shared == set()


@pytest.mark.parametrize("namespace", ["orchestrator", "ci-full"])
def test_a_namespace_has_one_owner(installation: Installation, plain_pool: KubernetesPool, namespace: str):
    pools = {**installation.config.pools, PoolName("plain"): replace(plain_pool, namespace=namespace)}
    with pytest.raises(ConfigurationError) as refused:
        everything(replace(installation, config=replace(installation.config, pools=pools)))
    assert refused.value.reason == "namespace_shared"


def test_gateways_may_live_apart(installation: Installation):
    apart = replace(installation, gateway_namespace="gateways")
    namespaces = {one["metadata"]["name"] for one in of_kind(apart, "Namespace")}
    assert namespaces == {"orchestrator", "gateways", "runners-plain", "ci-full"}
    assert [one["metadata"]["namespace"] for one in of_kind(apart, "ConfigMap")] == ["orchestrator", "gateways"]


@pytest.mark.parametrize(
    ("quantity", "factor", "total"),
    [("500m", 3, "1500m"), ("1.5Gi", 2, "3Gi"), ("2", 50, "100"), ("0.1", 3, "0.3"), ("1Ti", 10, "10Ti")],
)
def test_quantities(quantity: str, factor: int, total: str):
    assert times(quantity, factor) == total


@given(st.integers(1, 10**9), st.integers(1, 10**5))
def test_quantities_of_any_size(number: int, factor: int):
    assert times(f"{number}Mi", factor) == f"{number * factor}Mi"


@pytest.mark.parametrize("text", ["", "Gi", "1 Gi", "-1", "1e3", "1Gib"])
def test_no_quantity(text: str):
    with pytest.raises(ValueError, match="no quantity"):
        times(text, 2)
