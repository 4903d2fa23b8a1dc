"""ValidatingAdmissionPolicies (Kubernetes 1.30 and newer): what the API server itself refuses, whoever asks. Pure.

The second look at what `manifest.py` makes, for the day the daemon is not what we think it is. Rules are
numbered A1 to A12 and say so in their messages. CEL sees one object and no other service: it cannot check
signatures, and it does not see what another policy allows.
"""

from __future__ import annotations

import json
from collections.abc import Iterable

from orchestrator.backends.kubernetes.config import KubernetesPool
from orchestrator.backends.kubernetes.manifest import LABEL_INSTALLATION
from orchestrator.backends.kubernetes.render.installation import Document, Installation, document
from orchestrator.backends.kubernetes.render.pod_rules import VARIABLES, Rule, pod_rules, unchanged_rules

_API = "admissionregistration.k8s.io/v1"
_NAMESPACE_NAME = "kubernetes.io/metadata.name"

_NAMESPACE_CONTROLLER = "system:serviceaccount:kube-system:namespace-controller"
"""Empties a namespace that is being deleted, and must be able to."""


def admission_names(installation: Installation) -> list[str]:
    """Names of all policies; each has one binding of the same name."""
    return [one["metadata"]["name"] for one in admission_documents(installation) if _is_policy(one)]


def admission_documents(installation: Installation) -> list[Document]:
    """Every policy, followed by its binding."""
    spaces = [pool.namespace for pool in installation.pools]
    made: list[Document] = []
    for pool in installation.pools:
        made += _create_policy(installation, pool)
    made += _keep_policy(installation, spaces)
    made += _hands_policy(installation, spaces)
    made += _network_policy(installation, spaces)
    made += _namespace_policy(installation, sorted({*spaces, installation.namespace, installation.gateway_namespace}))
    return made


def _create_policy(installation: Installation, pool: KubernetesPool) -> list[Document]:
    return _pair(
        installation,
        f"pool-{pool.name}",
        [_operations("", ["pods"], ["CREATE"])],
        pod_rules(pool, installation.config, installation.daemon_user, installation.registries),
        [pool.namespace],
        VARIABLES,
    )


def _keep_policy(installation: Installation, spaces: list[str]) -> list[Document]:
    return _pair(installation, "unchanged", [_operations("", ["pods"], ["UPDATE"])], unchanged_rules(), spaces)


def _hands_policy(installation: Installation, spaces: list[str]) -> list[Document]:
    group = installation.break_glass_group
    expression = f"{_text(group)} in request.userInfo.groups" if group else "false"
    rules = [
        _operations("", ["pods/exec", "pods/attach", "pods/portforward", "pods/proxy"], ["CONNECT"]),
        _operations("", ["pods/ephemeralcontainers", "pods/resize"], ["UPDATE"]),
    ]
    return _pair(
        installation, "hands", rules, [("A2 no hands in: nobody enters or reshapes a runner", expression)], spaces
    )


def _network_policy(installation: Installation, spaces: list[str]) -> list[Document]:
    """A1 and A11 for NetworkPolicies: policies add up, so one careless policy opens what all others close."""
    author = f"{_is_operator(installation)} || request.userInfo.username == {_text(_NAMESPACE_CONTROLLER)}"
    single = "(p.ipBlock.cidr.endsWith('/32') || p.ipBlock.cidr.endsWith('/128'))"
    named = (
        "has(p.namespaceSelector) && has(p.namespaceSelector.matchLabels) && "
        f"{_text(_NAMESPACE_NAME)} in p.namespaceSelector.matchLabels"
    )
    narrow = (
        "request.operation == 'DELETE' || !has(object.spec.egress) || object.spec.egress.all(r, "
        "has(r.to) && size(r.to) > 0 && has(r.ports) && size(r.ports) > 0 && r.to.all(p, "
        f"has(p.ipBlock) ? {single} : ({named})))"
    )
    closed = "request.operation == 'DELETE' || !has(object.spec.ingress) || size(object.spec.ingress) == 0"
    rules: list[Rule] = [
        ("A1 author: only operators write network policies of a pool", author),
        ("A11 network: egress of a pool goes to named namespaces or single addresses, on named ports", narrow),
        ("A11 network: nobody reaches a runner", closed),
    ]
    operations = [_operations("networking.k8s.io", ["networkpolicies"], ["CREATE", "UPDATE", "DELETE"])]
    return _pair(installation, "network", operations, rules, spaces)


def _namespace_policy(installation: Installation, spaces: list[str]) -> list[Document]:
    """A12. Bound by the namespace's name: its labels are what it protects."""
    expected = {
        "pod-security.kubernetes.io/enforce": "restricted",
        "pod-security.kubernetes.io/enforce-version": installation.pod_security_version,
        LABEL_INSTALLATION: installation.config.installation,
    }
    kept = " && ".join(
        f"{_text(key)} in object.metadata.labels && object.metadata.labels[{_text(key)}] == {_text(value)}"
        for key, value in expected.items()
    )
    rules: list[Rule] = [
        ("A12 namespace: only operators change the namespaces of the installation", _is_operator(installation)),
        (
            "A12 namespace: Pod Security labels stay as rendered",
            f"request.operation == 'DELETE' || (has(object.metadata.labels) && {kept})",
        ),
    ]
    policy, binding = _pair(
        installation, "namespaces", [_operations("", ["namespaces"], ["CREATE", "UPDATE", "DELETE"])], rules, []
    )
    condition = {"name": "our-namespaces", "expression": f"request.name in {_list(spaces)}"}
    policy["spec"]["matchConditions"] = [condition]
    return [policy, binding]


def _is_operator(installation: Installation) -> str:
    return f"request.userInfo.groups.exists(g, g in {_list(installation.operators)})"


def _pair(
    installation: Installation,
    suffix: str,
    operations: list[Document],
    rules: Iterable[Rule],
    namespaces: list[str],
    variables: Iterable[tuple[str, str]] = (),
) -> list[Document]:
    """A policy and its binding. `namespaces` are matched by a label that nobody can take away."""
    name, labels = f"{installation.cluster_name}-{suffix}", installation.labels()
    spec: Document = {
        "failurePolicy": "Fail",
        "matchConstraints": {"resourceRules": operations},
        "validations": [{"expression": cel, "message": says, "reason": "Forbidden"} for says, cel in rules],
    }
    defined = [{"name": key, "expression": cel} for key, cel in variables]
    if defined:
        spec["variables"] = defined
    binding: Document = {"policyName": name, "validationActions": ["Deny", "Audit"]}
    if namespaces:
        chosen = {"key": _NAMESPACE_NAME, "operator": "In", "values": sorted(namespaces)}
        binding["matchResources"] = {"namespaceSelector": {"matchExpressions": [chosen]}}
    return [
        document(_API, "ValidatingAdmissionPolicy", name, labels, spec=spec),
        document(_API, "ValidatingAdmissionPolicyBinding", name, labels, spec=binding),
    ]


def _operations(group: str, resources: list[str], operations: list[str]) -> Document:
    return {"apiGroups": [group], "apiVersions": ["v1"], "operations": operations, "resources": resources}


def _is_policy(one: Document) -> bool:
    return bool(one["kind"] == "ValidatingAdmissionPolicy")


def _text(value: str) -> str:
    """A CEL string literal: JSON's escapes are CEL's too."""
    return json.dumps(value)


def _list(values: Iterable[str]) -> str:
    return json.dumps(sorted(values))
