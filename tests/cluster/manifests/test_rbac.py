"""With exactly the daemon's token: all it needs works, and every way up or sideways is refused by the API server."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from orchestrator.backends.kubernetes.config import RUNNER_AUDIENCE

pytestmark = pytest.mark.cluster

Json = dict[str, Any]

POD: Json = {"metadata": {"name": "probe"}, "spec": {"containers": [{"name": "c", "image": "x"}]}}
VERBS = ("create", "get", "list", "watch", "update", "patch", "delete", "deletecollection")
SPECIAL = (
    *(("rbac.authorization.k8s.io", kind, verb) for kind in ("roles", "clusterroles") for verb in ("bind", "escalate")),
    *(("", kind, "impersonate") for kind in ("users", "groups", "serviceaccounts")),
    ("authentication.k8s.io", "userextras", "impersonate"),
    ("certificates.k8s.io", "signers", "approve"),
    ("policy", "podsecuritypolicies", "use"),
)
EVERYBODY = {
    ("authorization.k8s.io", "selfsubjectaccessreviews", "create"),
    ("authorization.k8s.io", "selfsubjectrulesreviews", "create"),
    ("authentication.k8s.io", "selfsubjectreviews", "create"),
}
"""What `system:authenticated` may do in every cluster."""


@pytest.fixture(scope="module")
def daemon(installed):
    return installed.acting("orchestrator")


def refused(answer: tuple[int, Json]) -> bool:
    """Whether it was authorization that said no: neither validation nor *not found* would be proof."""
    status, document = answer
    return status == 403 and document.get("reason") == "Forbidden" and "cannot" in document.get("message", "")


def test_the_token_is_the_daemons(installed, daemon):
    payload = daemon.token.split(".")[1]
    claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    assert claims["sub"] == f"system:serviceaccount:{installed.namespace}:orchestrator"


def test_all_it_needs_works(installed, daemon):
    space = installed.pools[1]
    pods = f"/api/v1/namespaces/{space}/pods"
    pod = {
        "metadata": {"name": "probe"},
        "spec": {
            "automountServiceAccountToken": False,
            "serviceAccountName": "runner",
            "containers": [{"name": "c", "image": "x"}],
        },
    }
    assert daemon.call("POST", pods, pod)[0] == 201
    assert daemon.call("GET", f"{pods}/probe")[0] == 200
    assert daemon.call("GET", pods)[0] == 200
    assert daemon.call("GET", f"{pods}?watch=true&timeoutSeconds=1")[0] == 200
    assert daemon.call("DELETE", f"{pods}/probe")[0] == 200
    review = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": {"token": daemon.token}}
    status, answer = daemon.call("POST", "/apis/authentication.k8s.io/v1/tokenreviews", review)
    assert (status, answer["status"]["authenticated"]) == (201, True)
    for guard in (
        f"/api/v1/namespaces/{space}",
        f"/api/v1/namespaces/{space}/resourcequotas",
        f"/api/v1/namespaces/{space}/resourcequotas/runners",
        f"/api/v1/namespaces/{space}/limitranges/runners",
        f"/api/v1/namespaces/{space}/serviceaccounts/runner",
        f"/apis/networking.k8s.io/v1/namespaces/{space}/networkpolicies",
        f"/apis/networking.k8s.io/v1/namespaces/{space}/networkpolicies/default-deny",
        f"/apis/node.k8s.io/v1/runtimeclasses/{installed.runtime_class}",
        "/apis/scheduling.k8s.io/v1/priorityclasses/orchestrator-runner",
        "/version",
    ):
        assert daemon.call("GET", guard)[0] == 200, guard


def test_it_holds_its_lease_and_no_other(installed, daemon):
    leases = f"/apis/coordination.k8s.io/v1/namespaces/{installed.namespace}/leases"
    mine = f"{leases}/orchestrator-{installed.name}"
    status, lease = daemon.call("GET", mine)
    assert status == 200
    lease["spec"] = {"holderIdentity": "one", "leaseDurationSeconds": 15}
    status, held = daemon.call("PUT", mine, lease)
    assert (status, held["spec"]["holderIdentity"]) == (200, "one")
    assert daemon.call("PUT", mine, lease)[0] == 409, "an update with an old version must lose"
    assert refused(daemon.call("POST", leases, {"metadata": {"name": "other"}}))
    assert refused(daemon.call("GET", f"{leases}/other"))
    assert refused(daemon.call("GET", leases))
    assert refused(daemon.call("DELETE", mine))
    assert refused(daemon.call("GET", "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases/kube-scheduler"))


def test_logs_only_of_pools_that_stream_them(installed, daemon):
    streaming, silent = installed.pools
    status, answer = daemon.call("GET", f"/api/v1/namespaces/{streaming}/pods/none/log")
    assert (status, answer["reason"]) == (404, "NotFound")
    assert refused(daemon.call("GET", f"/api/v1/namespaces/{silent}/pods/none/log"))


def escalations(own: str, pool: str) -> list[tuple[str, str, str, Any]]:
    """What it would be, method, path and body; mission by mission of an attacker who has the daemon's token."""
    ours, rbac = f"/api/v1/namespaces/{pool}", "/apis/rbac.authorization.k8s.io/v1"
    admission, certificates = "/apis/admissionregistration.k8s.io/v1", "/apis/certificates.k8s.io/v1"
    role = {"metadata": {"name": "x"}, "rules": [{"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}]}
    me = [{"kind": "ServiceAccount", "name": "orchestrator", "namespace": own}]
    top = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"}
    binding = {"metadata": {"name": "x"}, "roleRef": top, "subjects": me}
    token: Json = {"spec": {"audiences": []}}
    policy = {"metadata": {"name": "x"}, "spec": {"podSelector": {}, "egress": [{}]}}
    return [
        ("enter a runner", "POST", f"{ours}/pods/x/exec?command=sh&stdin=true", None),
        ("enter a runner by GET", "GET", f"{ours}/pods/x/exec?command=sh", None),
        ("attach to a runner", "POST", f"{ours}/pods/x/attach", None),
        ("forward a runner's port", "POST", f"{ours}/pods/x/portforward?ports=1", None),
        ("proxy to a runner", "GET", f"{ours}/pods/x/proxy/", None),
        ("add a container", "PATCH", f"{ours}/pods/x/ephemeralcontainers", {}),
        ("change a runner", "PATCH", f"{ours}/pods/x", {}),
        ("replace a runner", "PUT", f"{ours}/pods/x", POD),
        ("forge a runner's state", "PATCH", f"{ours}/pods/x/status", {}),
        ("place a runner", "POST", f"{ours}/pods/x/binding", {}),
        ("evict past the budget", "POST", f"{ours}/pods/x/eviction", {}),
        ("delete all runners at once", "DELETE", f"{ours}/pods", None),
        ("read a secret", "GET", f"{ours}/secrets/x", None),
        ("list secrets", "GET", f"{ours}/secrets", None),
        ("list all secrets", "GET", "/api/v1/secrets", None),
        ("write a secret", "POST", f"{ours}/secrets", {"metadata": {"name": "x"}}),
        ("own secrets", "GET", f"/api/v1/namespaces/{own}/secrets", None),
        ("mint a runner's token", "POST", f"{ours}/serviceaccounts/runner/token", token),
        ("mint its own token", "POST", f"/api/v1/namespaces/{own}/serviceaccounts/orchestrator/token", token),
        ("make an account", "POST", f"{ours}/serviceaccounts", {"metadata": {"name": "x"}}),
        ("change an account", "PATCH", f"{ours}/serviceaccounts/runner", {}),
        ("grant in a pool", "POST", f"{rbac}/namespaces/{pool}/rolebindings", binding),
        ("grant everywhere", "POST", f"{rbac}/clusterrolebindings", binding),
        ("widen a role", "POST", f"{rbac}/namespaces/{pool}/roles", role),
        ("widen a cluster role", "POST", f"{rbac}/clusterroles", role),
        ("read roles", "GET", f"{rbac}/clusterroles", None),
        ("nodes", "GET", "/api/v1/nodes", None),
        ("the kubelet through a node", "GET", "/api/v1/nodes/node/proxy/pods", None),
        ("run on a node", "POST", "/api/v1/nodes/node/proxy/run/x/y/z", None),
        ("pods elsewhere", "GET", "/api/v1/namespaces/kube-system/pods", None),
        ("pods everywhere", "GET", "/api/v1/pods", None),
        ("a pod beside itself", "POST", f"/api/v1/namespaces/{own}/pods", POD),
        ("a pod in the system", "POST", "/api/v1/namespaces/kube-system/pods", POD),
        ("delete a pool", "DELETE", f"/api/v1/namespaces/{pool}", None),
        ("weaken a pool's labels", "PATCH", f"/api/v1/namespaces/{pool}", {}),
        ("make a namespace", "POST", "/api/v1/namespaces", {"metadata": {"name": "x"}}),
        ("look at other namespaces", "GET", "/api/v1/namespaces", None),
        ("look at one other namespace", "GET", "/api/v1/namespaces/kube-system", None),
        ("raise its quota", "PATCH", f"{ours}/resourcequotas/runners", {}),
        ("drop the quota", "DELETE", f"{ours}/resourcequotas/runners", None),
        ("drop the limits", "DELETE", f"{ours}/limitranges/runners", None),
        ("open the network", "POST", f"/apis/networking.k8s.io/v1/namespaces/{pool}/networkpolicies", policy),
        ("drop the deny", "DELETE", f"/apis/networking.k8s.io/v1/namespaces/{pool}/networkpolicies/default-deny", None),
        ("settings", "GET", f"/api/v1/namespaces/{own}/configmaps/orchestrator-settings", None),
        ("change settings", "PATCH", f"/api/v1/namespaces/{own}/configmaps/orchestrator-settings", {}),
        ("its own deployment", "PATCH", f"/apis/apps/v1/namespaces/{own}/deployments/orchestrator", {}),
        ("a webhook", "POST", f"{admission}/mutatingwebhookconfigurations", {"metadata": {"name": "x"}}),
        ("a priority", "POST", "/apis/scheduling.k8s.io/v1/priorityclasses", {"metadata": {"name": "x"}, "value": 1}),
        ("a volume of the host", "POST", "/api/v1/persistentvolumes", {"metadata": {"name": "x"}}),
        ("a certificate", "POST", f"{certificates}/certificatesigningrequests", {"metadata": {"name": "x"}}),
        ("approve one", "PUT", f"{certificates}/certificatesigningrequests/x/approval", {}),
        ("ask what others may", "POST", "/apis/authorization.k8s.io/v1/subjectaccessreviews", {}),
        ("metrics of the API server", "GET", "/metrics", None),
    ]


@pytest.mark.parametrize("number", range(len(escalations("", ""))), ids=[one[0] for one in escalations("", "")])
def test_an_escalation_is_refused(installed, daemon, number: int):
    _, method, path, body = escalations(installed.namespace, installed.pools[0])[number]
    kind = {"Content-Type": "application/merge-patch+json"} if method == "PATCH" else {}
    answer = daemon.call(method, path, body, **kind)
    assert refused(answer), answer


@pytest.mark.parametrize(
    "headers",
    [
        {"Impersonate-User": "system:admin"},
        {"Impersonate-User": "system:serviceaccount:kube-system:namespace-controller"},
        {"Impersonate-User": "x", "Impersonate-Group": "system:masters"},
    ],
    ids=["a user", "an account", "a group"],
)
def test_it_cannot_act_as_somebody_else(daemon, headers: dict[str, str]):
    assert refused(daemon.call("GET", "/api/v1/nodes", **headers))


def resources(admin) -> set[tuple[str, str]]:
    """Group and name of everything the API server has, subresources too."""
    listed = admin.call("GET", "/apis")[1]["groups"]
    paths = [("", "/api/v1"), *((one["name"], f"/apis/{one['preferredVersion']['groupVersion']}") for one in listed)]
    return {(group, resource["name"]) for group, path in paths for resource in admin.call("GET", path)[1]["resources"]}


def may(installed, user: str, namespace: str, group: str, resource: str, verb: str) -> bool:
    name, _, sub = resource.partition("/")
    attributes = {"namespace": namespace, "group": group, "resource": name, "subresource": sub, "verb": verb}
    groups = ["system:serviceaccounts", f"system:serviceaccounts:{installed.namespace}", "system:authenticated"]
    body = {"spec": {"user": user, "groups": groups, "resourceAttributes": attributes}}
    status, answer = installed.admin.call("POST", "/apis/authorization.k8s.io/v1/subjectaccessreviews", body)
    assert status == 201, answer
    return bool(answer["status"]["allowed"])


@pytest.mark.timeout(300)
def test_of_everything_there_is_it_may_do_only_this(installed):
    """Every resource of this API server times every verb, asked of its own authorizer."""
    user = f"system:serviceaccount:{installed.namespace}:orchestrator"
    streaming, silent = installed.pools
    asked = [(group, resource, verb) for group, resource in sorted(resources(installed.admin)) for verb in VERBS]
    assert len(asked) > 500
    guards = {
        (group, resource, verb)
        for group, resource in (
            ("", "limitranges"),
            ("", "resourcequotas"),
            ("", "serviceaccounts"),
            ("networking.k8s.io", "networkpolicies"),
        )
        for verb in ("get", "list")
    }
    pods = {("", "pods", verb) for verb in ("create", "get", "list", "watch", "delete")} | guards
    review = {("authentication.k8s.io", "tokenreviews", "create")}
    expected = {
        streaming: pods | review | {("", "pods/log", "get")},
        silent: pods | review,
        installed.namespace: review,
        "kube-system": review,
    }
    for namespace, allowed in expected.items():
        found = {one for one in (*asked, *SPECIAL) if may(installed, user, namespace, *one)}
        assert found - EVERYBODY == allowed, namespace


def test_gateway_and_runners_may_do_nothing(installed):
    for account, namespace in (("orchestrator-gateway", installed.namespace), ("runner", installed.pools[0])):
        acting = installed.acting(account, namespace)
        for path in (
            f"/api/v1/namespaces/{namespace}/pods",
            f"/api/v1/namespaces/{namespace}/secrets",
            f"/api/v1/namespaces/{namespace}/configmaps",
            f"/api/v1/namespaces/{namespace}",
        ):
            assert refused(acting.call("GET", path)), (account, path)


def test_a_runners_token_is_no_key_to_the_api_server(installed):
    token = installed.token("runner", installed.pools[0], [RUNNER_AUDIENCE])
    status, _ = installed.admin.acting_with(token).call("GET", "/version")
    assert status == 401
