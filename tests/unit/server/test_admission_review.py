"""What is read of an admission review: what would run, what reaches into the node, and nothing else."""

from __future__ import annotations

import copy
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.server.cluster.admission_review import (
    MAX_MEMBERS,
    MAX_MESSAGE,
    TEMPLATES,
    Answer,
    answer_review,
    read_review,
)
from orchestrator.server.cluster.pod_demands import MAX_IMAGES, MAX_PRIVILEGES, ReviewError

DIGEST = "sha256:" + "ab" * 32
OTHER = "sha256:" + "cd" * 32
PINNED = f"registry.example/shop:1@{DIGEST}"
SPEC = {"containers": [{"name": "app", "image": PINNED}], "serviceAccountName": "shop"}


def wrapped(kind: str, spec: dict) -> dict:
    inner: dict = {"spec": spec}
    for step in reversed(TEMPLATES[kind]):
        inner = {step: inner}
    owner = {"kind": "ReplicaSet", "name": "shop-5d8", "controller": True}
    return {"metadata": {"name": "shop", "ownerReferences": [owner], "creationTimestamp": None}, **inner}


def review(kind: str = "Pod", spec: dict | None = None, **request) -> dict:
    asked = {
        "uid": "u-1",
        "kind": {"group": "", "version": "v1", "kind": kind},
        "namespace": "shop-prod",
        "name": "shop",
        "operation": "CREATE",
        "userInfo": {"username": "ada", "groups": ["dev"]},
        "object": wrapped(kind, spec or SPEC),
        "oldObject": None,
        "dryRun": False,
    }
    return {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": asked | request}


def read(document: dict):
    return read_review(json.dumps(document).encode())


@pytest.mark.parametrize(
    "spec",
    [
        {"containers": [{}] * (2 * MAX_MEMBERS)},
        {"containers": [{"image": PINNED, "securityContext": {"capabilities": {"add": ["A"] * (2 * MAX_MEMBERS)}}}]},
        SPEC | {"volumes": [{}] * (2 * MAX_MEMBERS)},
    ],
)
def test_a_review_with_more_members_than_any_pod_has_is_not_read(spec):
    """Reading the 8 MiB that a review may have would hold up the loop for seconds."""
    with pytest.raises(ReviewError, match="members"):
        read(review(spec=spec))


@pytest.mark.parametrize("kind", sorted(TEMPLATES))
def test_each_kind_is_read_down_to_its_pods(kind):
    found = read(review(kind))
    assert [(one.container, one.reference, one.digest) for one in found.images] == [("app", PINNED, DIGEST)]
    assert (found.uid, found.namespace, found.kind, found.name) == ("u-1", "shop-prod", kind, "shop")
    assert (found.owner, found.requested_by, found.service_account) == ("ReplicaSet/shop-5d8", "ada", "shop")
    assert (found.operation, found.dry_run, found.changed, found.privileges) == ("create", False, True, ())


def test_every_way_in_which_an_image_gets_into_a_pod():
    spec = SPEC | {
        "initContainers": [{"name": "init", "image": "a@" + OTHER}],
        "ephemeralContainers": [{"name": "debug", "image": "busybox:1"}],
        "volumes": [{"name": "model", "image": {"reference": "models/m:2"}}, {"name": "tmp", "emptyDir": {}}],
    }
    found = {one.container: one.digest for one in read(review(spec=spec)).images}
    assert found == {"init": OTHER, "app": DIGEST, "debug": "", "volume model": ""}


@pytest.mark.parametrize(
    "reference",
    [
        "shop",
        "shop:1",
        "shop@sha256:ab",
        f"shop@{DIGEST} ",
        f"shop@{DIGEST.upper()}",
        f"shop@{DIGEST}0",
        f"{DIGEST}",
        "",
    ],
)
def test_only_a_whole_digest_at_the_end_pins(reference):
    found = read(review(spec={"containers": [{"name": "app", "image": reference}]}))
    assert found.images[0].digest == ""


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"hostNetwork": True}, "pod: hostNetwork"),
        ({"hostPID": True}, "pod: hostPID"),
        ({"hostIPC": True}, "pod: hostIPC"),
        ({"securityContext": {"windowsOptions": {"hostProcess": True}}}, "pod: hostProcess"),
        ({"volumes": [{"name": "root", "hostPath": {"path": "/"}}]}, "volume root: hostPath"),
    ],
)
def test_what_the_pod_shares_with_its_node(change, word):
    assert read(review(spec=SPEC | change)).privileges == (word,)


@pytest.mark.parametrize(
    ("context", "word"),
    [
        ({"privileged": True}, "privileged"),
        ({"capabilities": {"add": ["SYS_ADMIN"]}}, "capability SYS_ADMIN"),
        ({"capabilities": {"add": ["CAP_NET_RAW"]}}, "capability CAP_NET_RAW"),
        ({"capabilities": {"add": ["ALL"]}}, "capability ALL"),
        ({"procMount": "Unmasked"}, "procMount"),
        ({"windowsOptions": {"hostProcess": True}}, "hostProcess"),
        ({"seccompProfile": {"type": "Unconfined"}}, "seccomp Unconfined"),
        ({"appArmorProfile": {"type": "Unconfined"}}, "AppArmor Unconfined"),
        ({"seLinuxOptions": {"type": "spc_t"}}, "SELinux options"),
        ({"seLinuxOptions": {"user": "system_u"}}, "SELinux options"),
    ],
)
@pytest.mark.parametrize("group", ["containers", "initContainers", "ephemeralContainers"])
def test_what_a_container_may_do_to_its_node(group, context, word):
    spec = copy.deepcopy(SPEC)
    spec.setdefault(group, []).append({"name": "x", "image": PINNED, "securityContext": context})
    assert read(review(spec=spec)).privileges == (f"container x: {word}",)


def test_what_is_harmless_is_no_privilege():
    container = {
        "name": "app",
        "image": PINNED,
        "ports": [{"containerPort": 80}],
        "securityContext": {
            "privileged": False,
            "procMount": "Default",
            "capabilities": {"add": ["NET_BIND_SERVICE"], "drop": ["ALL"]},
            "runAsUser": 1000,
        },
    }
    spec = {
        "containers": [container],
        "hostNetwork": False,
        "volumes": [{"name": "v", "hostPath": None, "secret": {"secretName": "s"}}],
        "securityContext": {"runAsNonRoot": True},
    }
    assert read(review(spec=spec)).privileges == ()
    container["ports"] = [{"containerPort": 80, "hostPort": 80}]
    assert read(review(spec=spec)).privileges == ("container app: hostPort",)


def test_many_privileges_are_cut_but_never_to_none():
    many = [{"name": f"c{n}", "image": PINNED, "securityContext": {"privileged": True}} for n in range(MAX_IMAGES)]
    assert len(read(review(spec={"containers": many})).privileges) == MAX_PRIVILEGES


def test_an_update_is_compared_with_what_was_there():
    scaled = wrapped("Deployment", SPEC)
    scaled["spec"]["replicas"] = 9
    same = review("Deployment", operation="UPDATE", object=scaled, oldObject=wrapped("Deployment", SPEC))
    assert read(same).changed is False
    for changed in (
        SPEC | {"containers": [{"name": "app", "image": f"x@{OTHER}"}]},
        SPEC | {"containers": [{"name": "app", "image": PINNED, "securityContext": {"privileged": True}}]},
        SPEC | {"ephemeralContainers": [{"name": "debug", "image": "busybox"}]},
    ):
        document = review("Deployment", changed, operation="UPDATE", oldObject=wrapped("Deployment", SPEC))
        assert read(document).changed is True
    assert read(review(operation="UPDATE")).changed is True, "without the old object nothing is known to be the same"


@pytest.mark.parametrize(
    "document",
    [
        {},
        {"apiVersion": "admission.k8s.io/v1beta1", "kind": "AdmissionReview", "request": review()["request"]},
        review() | {"kind": "Review"},
        review(kind="Pod") | {"request": None},
        review(object=None),
        review(object={"metadata": {}}),
        review(object={"spec": []}),
        review(object={"spec": {"containers": [{"name": "a", "image": 1}]}}),
        review(object={"spec": {"hostNetwork": "yes", "containers": []}}),
        review("Deployment", object={"spec": {}}),
        review("Deployment", object={"spec": {"template": None}}),
        review(operation="DELETE"),
        review(operation="CONNECT"),
        review(kind="Pod") | {"request": review()["request"] | {"kind": {"kind": "Secret"}}},
        review(spec={"containers": [{"name": "a", "image": "x" * 600}]}),
        review(spec={"containers": [{"name": f"a{n}", "image": f"i{n}"} for n in range(MAX_IMAGES + 1)]}),
    ],
)
def test_what_cannot_be_judged_is_refused(document):
    with pytest.raises(ReviewError):
        read(document)


@pytest.mark.parametrize("body", [b"", b"null", b"[" * 100_000, b"\xff\xfe", b'{"apiVersion":1}'])
def test_what_is_no_review_is_refused(body):
    with pytest.raises(ReviewError):
        read_review(body)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(["containers", "image", "name", "volumes", "securityContext", "hostPID", "x"]), inner
            )
        ),
        max_leaves=12,
    )
)
def test_no_specification_gets_through_by_an_exception(spec):
    document = review(object={"metadata": {"name": "a"}, "spec": spec})
    try:
        found = read(document)
    except ReviewError:
        return
    assert all(not one.digest for one in found.images)


def test_names_that_are_made_up_later():
    made = {"metadata": {"generateName": "shop-5d8-"}, "spec": SPEC}
    assert read(review(name="", object=made)).name == "shop-5d8-*"


def test_an_answer():
    document = json.loads(answer_review("u-1", Answer(allowed=True, notes={"environment": "prod"})))
    assert document == {
        "apiVersion": "admission.k8s.io/v1",
        "kind": "AdmissionReview",
        "response": {"uid": "u-1", "allowed": True, "auditAnnotations": {"environment": "prod"}},
    }
    refused = json.loads(answer_review("u-2", Answer(allowed=False, message="x" * 9000, warnings=["w" * 900] * 30)))
    response = refused["response"]
    assert (response["allowed"], response["status"]["code"]) == (False, 403)
    assert len(response["status"]["message"]) == MAX_MESSAGE + 1
    assert (len(response["warnings"]), len(response["warnings"][0])) == (10, 250)
