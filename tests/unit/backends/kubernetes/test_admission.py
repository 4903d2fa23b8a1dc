"""The admission rules, run by a CEL interpreter: what we make passes, and each way to weaken it is refused.

The interpreter is not the API server's (that is another implementation of the same language), and it does not
know the types of objects. That a rule names fields that exist is shown by its allowing ours and refusing the
same pod with just that field changed.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Callable
from typing import Any

import pytest
from cel_expr_python import cel

from orchestrator.backends.kubernetes import manifest
from orchestrator.backends.kubernetes.config import KubernetesConfig, KubernetesPool
from orchestrator.backends.kubernetes.render.admission import admission_documents
from orchestrator.backends.kubernetes.render.installation import Installation, namespace_document
from orchestrator.egress.network_policy import Allowed, Peer, namespace_policies, runner_workload
from orchestrator.model.runner import RunnerSpec

DAEMON = {"username": "system:serviceaccount:orchestrator:orchestrator", "groups": ["system:serviceaccounts"]}
OPERATOR = {"username": "ada", "groups": ["system:masters"]}
STRANGER = {"username": "eve", "groups": ["system:authenticated"]}
Json = dict[str, Any]

_ENVIRONMENT = cel.NewEnv(
    variables=dict.fromkeys(("object", "oldObject", "request", "variables", "namespaceObject"), cel.Type.DYN)
)


class Refusals:
    """The policies of one installation, as the API server would apply them to a request."""

    def __init__(self, documents: list[Json]) -> None:
        self._policies = [one for one in documents if one["kind"] == "ValidatingAdmissionPolicy"]
        self._bindings = {one["spec"]["policyName"]: one for one in documents if one["kind"].endswith("Binding")}

    def of(self, operation: str, resource: str, user: Json, new: Json | None, old: Json | None = None) -> list[str]:
        """Messages of all validations that are false or end in an error; both refuse (`failurePolicy: Fail`)."""
        metadata = (new or old or {})["metadata"]
        namespace = metadata.get("namespace", "")
        request = {"operation": operation, "userInfo": user, "name": metadata["name"], "namespace": namespace}
        data: Json = {"object": new, "oldObject": old, "request": request, "variables": {}}
        return [
            message
            for policy in self._policies
            if self._matches(policy, operation, resource, namespace)
            and all(_holds(one["expression"], data) for one in policy["spec"].get("matchConditions", ()))
            for message in _refusals(policy, data)
        ]

    def _matches(self, policy: Json, operation: str, resource: str, namespace: str) -> bool:
        rules = policy["spec"]["matchConstraints"]["resourceRules"]
        if not any(operation in one["operations"] and resource in one["resources"] for one in rules):
            return False
        binding = self._bindings[policy["metadata"]["name"]]["spec"]
        assert binding["validationActions"] == ["Deny", "Audit"]
        assert policy["spec"]["failurePolicy"] == "Fail"
        selector = binding.get("matchResources", {}).get("namespaceSelector")
        if selector is None:
            return True
        (expression,) = selector["matchExpressions"]
        assert (expression["key"], expression["operator"]) == ("kubernetes.io/metadata.name", "In")
        return namespace in expression["values"]


def _refusals(policy: Json, data: Json) -> list[str]:
    data = {**data, "variables": {}}
    for variable in policy["spec"].get("variables", ()):
        value = _ENVIRONMENT.compile(variable["expression"]).eval(data=data)
        assert value.type() != cel.Type.ERROR, variable
        data["variables"][variable["name"]] = value.plain_value()
    return [one["message"] for one in policy["spec"]["validations"] if not _holds(one["expression"], data)]


def _holds(expression: str, data: Json) -> bool:
    return _ENVIRONMENT.compile(expression).eval(data=data).value() is True


@pytest.fixture
def refusals(installation: Installation) -> Refusals:
    return Refusals(admission_documents(installation))


@pytest.fixture
def pods(
    plain_pool: KubernetesPool, full_pool: KubernetesPool, config: KubernetesConfig, spec: RunnerSpec
) -> dict[str, Json]:
    return {
        "plain": manifest.pod_document(spec, plain_pool, config),
        "full": _with_default_tolerations(manifest.pod_document(spec, full_pool, config)),
        "warm": manifest.warm_document("warm-full-7x2k9", full_pool, config),
    }


def _with_default_tolerations(pod: Json) -> Json:
    """As the API server's own plugins leave it, before rules look at it."""
    pod["spec"].setdefault("tolerations", []).append(
        {"key": "node.kubernetes.io/not-ready", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300}
    )
    return pod


def test_every_expression_compiles(installation: Installation):
    expressions = [
        one["expression"]
        for policy in admission_documents(installation)
        for part in ("variables", "validations", "matchConditions")
        for one in policy["spec"].get(part, ())
    ]
    assert len(expressions) > 60
    for expression in expressions:
        _ENVIRONMENT.compile(expression)


def test_all_twelve_rules_are_there(installation: Installation):
    messages = [
        one["message"] for policy in admission_documents(installation) for one in policy["spec"].get("validations", ())
    ]
    assert {re.match(r"A\d+", message).group() for message in messages} == {f"A{number}" for number in range(1, 13)}  # type: ignore[union-attr]


def test_what_we_make_is_let_in(refusals: Refusals, pods: dict[str, Json]):
    for name, pod in pods.items():
        assert refusals.of("CREATE", "pods", DAEMON, pod) == [], name


def test_nobody_else_creates_pods(refusals: Refusals, pods: dict[str, Json]):
    for user in (STRANGER, OPERATOR):
        assert refusals.of("CREATE", "pods", user, pods["plain"]) == ["A1 author: only the daemon creates pods here"]


def test_other_namespaces_are_none_of_our_business(refusals: Refusals, pods: dict[str, Json]):
    pods["plain"]["metadata"]["namespace"] = "elsewhere"
    assert refusals.of("CREATE", "pods", STRANGER, pods["plain"]) == []


def job(pod: Json) -> Json:
    return pod["spec"]["containers"][0]


def agent(pod: Json) -> Json:
    return pod["spec"]["initContainers"][0]


def volume(pod: Json, name: str) -> Json:
    return next(one for one in pod["spec"]["volumes"] if one["name"] == name)


def token(pod: Json) -> Json:
    return volume(pod, "identity")["projected"]["sources"][0]["serviceAccountToken"]


Change = Callable[[Json], object]

WEAKER: list[tuple[str, str, Change]] = [
    ("A3", "job image by tag", lambda pod: job(pod).update(image="registry.example/ci/job:1")),
    ("A3", "agent image by tag", lambda pod: agent(pod).update(image="registry.example/agent:1")),
    ("A3", "digest not at the end", lambda pod: job(pod).update(image=job(pod)["image"] + "0")),
    ("A3", "registry not listed", lambda pod: job(pod).update(image="evil.example/x@sha256:" + "a" * 64)),
    (
        "A3",
        "registry with a longer name",
        lambda pod: job(pod).update(image="registry.example.evil/x@sha256:" + "a" * 64),
    ),
    ("A4", "host users", lambda pod: pod["spec"].update(hostUsers=True)),
    ("A4", "host users unset", lambda pod: pod["spec"].pop("hostUsers")),
    ("A4", "runAsNonRoot unset", lambda pod: job(pod)["securityContext"].pop("runAsNonRoot")),
    ("A4", "runAsNonRoot false", lambda pod: job(pod)["securityContext"].update(runAsNonRoot=False)),
    ("A4", "root", lambda pod: agent(pod)["securityContext"].update(runAsUser=0)),
    ("A4", "user unset", lambda pod: job(pod)["securityContext"].pop("runAsUser")),
    ("A4", "same user", lambda pod: job(pod)["securityContext"].update(runAsUser=64000)),
    ("A4", "escalation", lambda pod: job(pod)["securityContext"].update(allowPrivilegeEscalation=True)),
    ("A4", "escalation unset", lambda pod: job(pod)["securityContext"].pop("allowPrivilegeEscalation")),
    ("A4", "privileged", lambda pod: job(pod)["securityContext"].update(privileged=True)),
    ("A4", "no security context", lambda pod: job(pod).pop("securityContext")),
    ("A4", "host network", lambda pod: pod["spec"].update(hostNetwork=True)),
    ("A4", "host processes", lambda pod: pod["spec"].update(hostPID=True)),
    ("A4", "host ipc", lambda pod: pod["spec"].update(hostIPC=True)),
    ("A5", "automount", lambda pod: pod["spec"].update(automountServiceAccountToken=True)),
    ("A5", "automount unset", lambda pod: pod["spec"].pop("automountServiceAccountToken")),
    ("A5", "audience of the API server", lambda pod: token(pod).update(audience="kubernetes.default.svc")),
    ("A5", "audience unset", lambda pod: token(pod).pop("audience")),
    ("A5", "long-lived", lambda pod: token(pod).update(expirationSeconds=3600)),
    ("A5", "projected secret", lambda pod: volume(pod, "identity")["projected"]["sources"].append({"secret": {}})),
    ("A6", "writable root", lambda pod: job(pod)["securityContext"].update(readOnlyRootFilesystem=False)),
    ("A6", "writable root unset", lambda pod: agent(pod)["securityContext"].pop("readOnlyRootFilesystem")),
    ("A6", "host path", lambda pod: pod["spec"]["volumes"].append({"name": "x", "hostPath": {"path": "/"}})),
    ("A6", "secret volume", lambda pod: pod["spec"]["volumes"].append({"name": "x", "secret": {"secretName": "s"}})),
    ("A6", "disk volume", lambda pod: volume(pod, "workspace")["emptyDir"].pop("medium")),
    (
        "A6",
        "environment from a secret",
        lambda pod: job(pod).update(env=[{"name": "X", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}]),
    ),
    ("A6", "all environment from", lambda pod: job(pod).update(envFrom=[{"secretRef": {"name": "s"}}])),
    ("A7", "no memory limit", lambda pod: job(pod)["resources"]["limits"].pop("memory")),
    ("A7", "no storage limit", lambda pod: agent(pod)["resources"]["limits"].pop("ephemeral-storage")),
    ("A7", "no limits", lambda pod: job(pod).pop("resources")),
    ("A7", "no size", lambda pod: volume(pod, "tmp")["emptyDir"].pop("sizeLimit")),
    ("A8", "other account", lambda pod: pod["spec"].update(serviceAccountName="default")),
    ("A8", "no sandbox", lambda pod: pod["spec"].pop("runtimeClassName")),
    ("A8", "other sandbox", lambda pod: pod["spec"].update(runtimeClassName="runc")),
    ("A8", "other priority", lambda pod: pod["spec"].update(priorityClassName="system-node-critical")),
    ("A8", "preempts", lambda pod: pod["spec"].update(preemptionPolicy="PreemptLowerPriority")),
    ("A8", "other nodes", lambda pod: pod["spec"]["nodeSelector"].update(pool="control")),
    ("A8", "any node", lambda pod: pod["spec"].pop("nodeSelector")),
    ("A8", "node by name", lambda pod: pod["spec"].update(nodeName="control-1")),
    ("A8", "other taint", lambda pod: pod["spec"]["tolerations"].append({"key": "control", "operator": "Exists"})),
    ("A8", "every taint", lambda pod: pod["spec"]["tolerations"].append({"operator": "Exists"})),
    ("A8", "other pool", lambda pod: pod["metadata"]["labels"].update({manifest.LABEL_POOL: "plain"})),
    ("A8", "no pool", lambda pod: pod["metadata"]["labels"].pop(manifest.LABEL_POOL)),
    ("A8", "no labels", lambda pod: pod["metadata"].pop("labels")),
    ("A9", "restarts", lambda pod: pod["spec"].update(restartPolicy="OnFailure")),
    ("A9", "no deadline", lambda pod: pod["spec"].pop("activeDeadlineSeconds")),
    ("A9", "late deadline", lambda pod: pod["spec"].update(activeDeadlineSeconds=100_000)),
]


@pytest.mark.parametrize(("rule", "what", "change"), WEAKER, ids=[f"{rule} {what}" for rule, what, _ in WEAKER])
def test_a_weaker_pod_is_refused_by_its_rule(
    rule: str, what: str, change: Change, installation: Installation, spec: RunnerSpec
):
    pool = _strict(installation.config)
    pod = manifest.pod_document(spec, pool, installation.config)
    refusals = Refusals(admission_documents(installation))
    assert refusals.of("CREATE", "pods", DAEMON, pod) == []
    change(pod)
    messages = refusals.of("CREATE", "pods", DAEMON, pod)
    assert [message for message in messages if message.startswith(f"{rule} ")], (what, messages)


def _strict(config: KubernetesConfig) -> KubernetesPool:
    """A pool for which every rule has something to say."""
    return next(pool for name, pool in config.pools.items() if name == "strict")


@pytest.fixture
def config(config: KubernetesConfig, full_pool: KubernetesPool) -> KubernetesConfig:
    from dataclasses import replace

    strict = replace(full_pool, name="strict", namespace="ci-strict", host_users=False)  # type: ignore[arg-type]
    return replace(config, pools={**config.pools, "strict": strict})  # type: ignore[dict-item]


@pytest.mark.parametrize("resource", ["pods/exec", "pods/attach", "pods/portforward", "pods/proxy"])
def test_nobody_gets_into_a_runner_but_who_breaks_the_glass(refusals: Refusals, pods: dict[str, Json], resource: str):
    oncall = {"username": "bob", "groups": ["oncall"]}
    assert refusals.of("CONNECT", resource, oncall, pods["plain"]) == []
    for user in (OPERATOR, DAEMON, STRANGER):
        assert [one[:2] for one in refusals.of("CONNECT", resource, user, pods["plain"])] == ["A2"]


@pytest.mark.parametrize("resource", ["pods/ephemeralcontainers", "pods/resize"])
def test_nobody_reshapes_a_runner(refusals: Refusals, pods: dict[str, Json], resource: str):
    assert [one[:2] for one in refusals.of("UPDATE", resource, OPERATOR, pods["plain"], pods["plain"])] == ["A2"]


def test_without_a_group_for_it_the_glass_cannot_be_broken(installation: Installation, pods: dict[str, Json]):
    from dataclasses import replace

    closed = Refusals(admission_documents(replace(installation, break_glass_group="")))
    for groups in (["oncall"], [""], ["system:masters"]):
        assert closed.of("CONNECT", "pods/exec", {"username": "x", "groups": groups}, pods["plain"])


KEPT: list[tuple[str, Change]] = [
    ("label changed", lambda pod: pod["metadata"]["labels"].update({manifest.LABEL_POOL: "full"})),
    ("label gone", lambda pod: pod["metadata"]["labels"].pop(manifest.LABEL_INSTALLATION)),
    ("label added", lambda pod: pod["metadata"]["labels"].update({manifest.LABEL_WARM: "true"})),
    ("all labels gone", lambda pod: pod["metadata"].pop("labels")),
    ("hash changed", lambda pod: pod["metadata"]["annotations"].update({manifest.ANNOTATION_RUNNER_DIGEST: "0"})),
    ("hash gone", lambda pod: pod["metadata"]["annotations"].pop(manifest.ANNOTATION_RUNNER_DIGEST)),
    ("image", lambda pod: job(pod).update(image="other")),
    ("agent image", lambda pod: agent(pod).update(image="other")),
    ("deadline", lambda pod: pod["spec"].update(activeDeadlineSeconds=1)),
]


@pytest.mark.parametrize(("what", "change"), KEPT, ids=[what for what, _ in KEPT])
def test_what_a_runner_is_known_by_never_changes(refusals: Refusals, pods: dict[str, Json], what: str, change: Change):
    old = pods["plain"]
    new = copy.deepcopy(old)
    new["metadata"]["labels"]["team"] = "red"
    new["metadata"]["annotations"]["note"] = "other people's annotations may come"
    assert refusals.of("UPDATE", "pods", OPERATOR, new, old) == []
    change(new)
    assert [one[:3] for one in refusals.of("UPDATE", "pods", OPERATOR, new, old)] == ["A10"], what


def rendered_policies() -> list[Json]:
    destination = Allowed((Peer("orchestrator", {"app": "gateway"}), Peer(cidr="10.0.0.1/32")), (("TCP", 3128),))
    return namespace_policies("runners-plain", (runner_workload("runners-plain", {"a": "b"}, (destination,)),), {})


def test_our_network_policies_are_let_in_from_operators_only(refusals: Refusals):
    for policy in rendered_policies():
        assert refusals.of("CREATE", "networkpolicies", OPERATOR, policy) == []
        assert refusals.of("DELETE", "networkpolicies", OPERATOR, None, policy) == []
        for operation, new, old in (("CREATE", policy, None), ("UPDATE", policy, policy), ("DELETE", None, policy)):
            for user in (STRANGER, DAEMON):
                assert [one[:3] for one in refusals.of(operation, "networkpolicies", user, new, old)] == ["A1 "]
        cleaner = {"username": "system:serviceaccount:kube-system:namespace-controller", "groups": []}
        assert refusals.of("DELETE", "networkpolicies", cleaner, None, policy) == []


OPENERS: list[tuple[str, Json]] = [
    ("everywhere", {"egress": [{}]}),
    ("everybody on a port", {"egress": [{"ports": [{"port": 443}]}]}),
    ("an empty list of peers", {"egress": [{"to": [], "ports": [{"port": 443}]}]}),
    ("every port", {"egress": [{"to": [{"ipBlock": {"cidr": "10.0.0.1/32"}}]}]}),
    ("the internet", {"egress": [{"to": [{"ipBlock": {"cidr": "0.0.0.0/0"}}], "ports": [{"port": 443}]}]}),
    ("a network", {"egress": [{"to": [{"ipBlock": {"cidr": "fd00::/8"}}], "ports": [{"port": 443}]}]}),
    ("every namespace", {"egress": [{"to": [{"namespaceSelector": {}}], "ports": [{"port": 443}]}]}),
    (
        "namespaces by a label that anybody sets",
        {"egress": [{"to": [{"namespaceSelector": {"matchLabels": {"a": "b"}}}], "ports": [{"port": 443}]}]},
    ),
    ("other runners", {"egress": [{"to": [{"podSelector": {}}], "ports": [{"port": 443}]}]}),
    ("ingress", {"ingress": [{}]}),
    ("ingress from somebody", {"ingress": [{"from": [{"podSelector": {"matchLabels": {"a": "b"}}}]}]}),
]


@pytest.mark.parametrize(("what", "spec"), OPENERS, ids=[what for what, _ in OPENERS])
def test_a_policy_that_opens_a_pool_is_refused_even_from_an_operator(refusals: Refusals, what: str, spec: Json):
    policy = {"metadata": {"name": "x", "namespace": "runners-plain"}, "spec": {"podSelector": {}, **spec}}
    assert {one[:3] for one in refusals.of("CREATE", "networkpolicies", OPERATOR, policy)} == {"A11"}, what
    assert {one[:3] for one in refusals.of("UPDATE", "networkpolicies", OPERATOR, policy, policy)} == {"A11"}, what


def test_the_guard_of_namespaces(refusals: Refusals, installation: Installation):
    good = namespace_document(installation, "runners-plain", installation.labels(pool="plain"))
    assert refusals.of("UPDATE", "namespaces", OPERATOR, good, good) == []
    assert refusals.of("DELETE", "namespaces", OPERATOR, None, good) == []
    assert [one[:3] for one in refusals.of("UPDATE", "namespaces", DAEMON, good, good)] == ["A12"]
    assert [one[:3] for one in refusals.of("DELETE", "namespaces", STRANGER, None, good)] == ["A12"]
    for key, value in (
        ("pod-security.kubernetes.io/enforce", "privileged"),
        ("pod-security.kubernetes.io/enforce-version", "v1.20"),
        (manifest.LABEL_INSTALLATION, "green"),
    ):
        for weaker in ({**good["metadata"]["labels"], key: value}, _without(good["metadata"]["labels"], key)):
            changed = {**good, "metadata": {**good["metadata"], "labels": weaker}}
            assert [one[:3] for one in refusals.of("UPDATE", "namespaces", OPERATOR, changed, good)] == ["A12"]
    bare = {**good, "metadata": {"name": "runners-plain"}}
    assert [one[:3] for one in refusals.of("UPDATE", "namespaces", OPERATOR, bare, good)] == ["A12"]
    elsewhere = {**bare, "metadata": {"name": "elsewhere"}}
    assert refusals.of("UPDATE", "namespaces", STRANGER, elsewhere, elsewhere) == []


def _without(labels: dict[str, str], key: str) -> dict[str, str]:
    return {name: value for name, value in labels.items() if name != key}
