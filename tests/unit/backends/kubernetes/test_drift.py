"""Guards as rendered against guards as found: every weakening is named, what the server adds is not. Pure."""

from __future__ import annotations

import copy

import pytest

from orchestrator.backends.kubernetes import rights
from orchestrator.backends.kubernetes.drift import Absent, drift
from orchestrator.backends.kubernetes.guards import GUARDS, Severity, expected, path
from orchestrator.backends.kubernetes.render.quantity import value
from orchestrator.backends.kubernetes.rights import FORBIDDEN, Right, any_name, held, needed


@pytest.fixture
def documents(installation, full_pool):
    return expected(installation, full_pool)


def as_stored(documents):
    """What a current API server gives back for what was applied."""
    found = {}
    for one in copy.deepcopy(documents):
        one["metadata"] |= {"uid": "u", "resourceVersion": "1", "managedFields": []}
        match one["kind"]:
            case "ValidatingAdmissionPolicy":
                constraints = one["spec"]["matchConstraints"]
                constraints |= {"matchPolicy": "Equivalent", "namespaceSelector": {}, "objectSelector": {}}
                for rule in constraints["resourceRules"]:
                    rule["scope"] = "*"
                one["status"] = {"observedGeneration": 1}
            case "ValidatingAdmissionPolicyBinding":
                if "matchResources" in one["spec"]:
                    one["spec"]["matchResources"] |= {"matchPolicy": "Equivalent", "objectSelector": {}}
            case "Namespace":
                one["metadata"]["labels"]["kubernetes.io/metadata.name"] = one["metadata"]["name"]
                one["spec"] = {"finalizers": ["kubernetes"]}
            case "ResourceQuota":
                one["spec"]["hard"]["limits.cpu"] = "6"
                one["status"] = {"hard": {}}
            case "LimitRange":
                for amounts in ("default", "defaultRequest", "max"):
                    one["spec"]["limits"][0][amounts] |= {"cpu": "1500m", "memory": "4096Mi"}
            case "PriorityClass":
                one |= {"value": -100, "description": "any"}
            case _:
                pass
        found[(one["kind"], one["metadata"]["name"])] = one
    return found


def policies(documents):
    return [one for one in documents if one["kind"] == "NetworkPolicy"]


def compared(*said):
    return lambda *_: list(said)


def found_of(documents, found, network=None, check=None):
    return drift("full", documents, found, policies(documents) if network is None else network, check or compared())


def test_what_the_api_server_adds_is_no_drift(documents):
    assert found_of(documents, as_stored(documents)) == []


def test_every_guard_of_the_pool_is_looked_for_and_no_other_pools(documents, installation):
    assert {one["kind"] for one in documents} == set(GUARDS) - ({"NetworkPolicy"} if not policies(documents) else set())
    names = {one["metadata"]["name"] for one in documents}
    assert "orchestrator-blue-pool-full" in names
    assert "orchestrator-blue-pool-plain" not in names
    missing = found_of(documents, {}, Absent("cannot be read"))
    said = {one.guard for one in missing}
    assert said == {guard.name for guard in GUARDS.values()}
    assert all(
        one.severity is Severity.MISSING and one.fix and one.protects_from and one.pool == "full" for one in missing
    )
    assert {path(one) for one in documents} >= {
        "/api/v1/namespaces/ci-full",
        "/api/v1/namespaces/ci-full/serviceaccounts/runner",
        "/apis/node.k8s.io/v1/runtimeclasses/gvisor",
    }


def change(kind, suffix, edit):
    def do(found):
        (one,) = [doc for (k, name), doc in found.items() if k == kind and name.endswith(suffix)]
        edit(one)

    return do


ENFORCE = "pod-security.kubernetes.io/enforce"


@pytest.mark.parametrize(
    ("guard", "severity", "do"),
    [
        ("pod-security", "missing", change("Namespace", "", lambda d: d["metadata"]["labels"].pop(ENFORCE))),
        (
            "pod-security",
            "missing",
            change("Namespace", "", lambda d: d["metadata"]["labels"].update({f"{ENFORCE}-version": "latest"})),
        ),
        (
            "pod-security",
            "warning",
            change("Namespace", "", lambda d: d["metadata"]["labels"].pop("pod-security.kubernetes.io/warn")),
        ),
        ("pod-security", "missing", change("Namespace", "", lambda d: d["metadata"].update(deletionTimestamp="now"))),
        ("service-account", "missing", change("ServiceAccount", "", lambda d: d.pop("automountServiceAccountToken"))),
        ("resource-quota", "missing", change("ResourceQuota", "", lambda d: d["spec"]["hard"].pop("count/secrets"))),
        ("resource-quota", "missing", change("ResourceQuota", "", lambda d: d["spec"]["hard"].update(pods="5k"))),
        ("resource-quota", "missing", change("ResourceQuota", "", lambda d: d["spec"]["hard"].update(pods="many"))),
        ("resource-quota", "warning", change("ResourceQuota", "", lambda d: d["spec"]["hard"].update(pods="1"))),
        ("resource-quota", "missing", change("ResourceQuota", "", lambda d: d["spec"].update(scopes=["BestEffort"]))),
        ("limit-range", "missing", change("LimitRange", "", lambda d: d["spec"]["limits"][0]["max"].update(cpu="64"))),
        ("limit-range", "missing", change("LimitRange", "", lambda d: d["spec"].update(limits=[]))),
        ("priority-class", "missing", change("PriorityClass", "", lambda d: d.update(value=1))),
        ("priority-class", "missing", change("PriorityClass", "", lambda d: d.pop("preemptionPolicy"))),
        (
            "admission-policy",
            "missing",
            change("ValidatingAdmissionPolicy", "-pool-full", lambda d: d["spec"].update(failurePolicy="Ignore")),
        ),
        (
            "admission-policy",
            "missing",
            change("ValidatingAdmissionPolicy", "-pool-full", lambda d: d["spec"]["validations"].pop()),
        ),
        (
            "admission-policy",
            "missing",
            change(
                "ValidatingAdmissionPolicy",
                "-hands",
                lambda d: d["spec"].update(matchConditions=[{"expression": "false"}]),
            ),
        ),
        (
            "admission-policy",
            "missing",
            change(
                "ValidatingAdmissionPolicy",
                "-network",
                lambda d: d["spec"]["matchConstraints"].update(excludeResourceRules=[{}]),
            ),
        ),
        (
            "admission-binding",
            "missing",
            change(
                "ValidatingAdmissionPolicyBinding",
                "-pool-full",
                lambda d: d["spec"].update(validationActions=["Audit"]),
            ),
        ),
        (
            "admission-binding",
            "missing",
            change(
                "ValidatingAdmissionPolicyBinding",
                "-pool-full",
                lambda d: d["spec"]["matchResources"].update(objectSelector={"matchLabels": {"a": "b"}}),
            ),
        ),
    ],
)
def test_each_weakening_is_named(documents, guard, severity, do):
    found = as_stored(documents)
    do(found)
    (finding,) = found_of(documents, found)
    assert (finding.guard, finding.severity.value) == (guard, severity)


def test_network_policies_that_differ_in_words_are_compared_by_meaning(installation, full_pool, documents):
    rendered = {
        "kind": "NetworkPolicy",
        "metadata": {"name": "default-deny"},
        "spec": {"policyTypes": ["Ingress"], "podSelector": {}},
    }
    other = {
        "kind": "NetworkPolicy",
        "metadata": {"name": "else"},
        "spec": {"podSelector": {}, "policyTypes": ["Ingress"]},
    }
    wanted = [*documents, rendered]
    asked = []

    def check(one, two):
        asked.append((one, two))
        return [("wider", Severity.MISSING)]

    found = as_stored(documents)
    assert found_of(wanted, found, [*policies(documents), other], check) == []  # the same, but for its name and order
    assert asked == []
    (finding,) = found_of(wanted, found, [other, {"metadata": {}, "spec": {"podSelector": {}}}], check)
    assert (finding.guard, finding.what, len(asked)) == ("network-policy", "wider", 1)


@pytest.mark.parametrize(
    ("text", "number"),
    [("1", 1), ("1500m", 1.5), ("4Gi", 4 << 30), ("2k", 2000), ("1e3", 1000), ("5M", 5_000_000), (7, 7)],
)
def test_quantities_are_compared_by_value(text, number):
    assert float(value(text)) == number


@pytest.mark.parametrize("text", ["", "many", "1ki", "1mi", "-1", "1 Gi"])
def test_what_is_no_quantity_has_no_value(text):
    assert value(text) is None


def rule(verbs, resources, groups=("",), names=()):
    return {"verbs": list(verbs), "resources": list(resources), "apiGroups": list(groups), "resourceNames": list(names)}


def test_rendered_rights_are_what_is_needed_and_nothing_forbidden(installation, full_pool):
    wanted = needed(installation, full_pool)
    assert {Right("create", "pods"), Right("get", "namespaces", "", "ci-full")} <= set(wanted)
    assert Right("get", "namespaces", "", "runners-plain") not in wanted
    given = [rule([one.verb], [one.resource], [one.group], [one.name] if one.name else []) for one in wanted]
    assert all(held(given, one) for one in wanted)
    assert not [one for one in FORBIDDEN if any_name(given, one)]


@pytest.mark.parametrize(
    "more",
    [
        rule(["*"], ["*"], ["*"]),
        rule(["get"], ["secrets"], names=["one"]),
        rule(["create"], ["*/exec"]),
        rule(["impersonate"], ["users"]),
        rule(["create"], ["serviceaccounts/token"]),
        rule(["bind"], ["clusterroles"], ["rbac.authorization.k8s.io"]),
        rule(["patch"], ["namespaces"]),
        rule(["delete"], ["networkpolicies"], ["networking.k8s.io"]),
    ],
)
def test_each_way_out_of_the_pools_is_found(more):
    assert [one for one in FORBIDDEN if any_name([more], one)]


def test_findings_about_rights_say_what_and_how():
    less, more = rights.findings("p", [Right("create", "pods")], list(FORBIDDEN), "system:serviceaccount:o:d", "f.yaml")
    assert (less.severity, more.severity) == (Severity.WARNING, Severity.MISSING)
    assert "create pods" in less.what
    assert "cluster/pool-p.yaml" in less.fix
    assert f"and {len(FORBIDDEN) - 8} more" in more.what
    assert "system:serviceaccount:o:d" in more.fix
