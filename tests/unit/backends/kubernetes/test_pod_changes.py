"""Whatever an admission webhook does to a pod is seen, and what every API server does is not taken for it."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import pytest

from orchestrator.backends.kubernetes.pod_changes import Unchanged, changes, told

GOLDEN = sorted((Path(__file__).parent / "golden").glob("*.json"))


def specs():
    for path in GOLDEN:
        document = json.loads(path.read_text(encoding="utf-8"))
        if document.get("kind") == "Pod":
            yield path.stem, document["spec"]


SPECS = dict(specs())


def served(spec: dict) -> dict:
    """As an API server answers: with its defaults, with amounts in its own spelling, and without empty values."""
    taken = copy.deepcopy(spec)
    taken |= {"schedulerName": "default-scheduler", "serviceAccount": spec["serviceAccountName"], "priority": 0}
    taken["tolerations"] = [
        *taken.get("tolerations", ()),
        {"key": "node.kubernetes.io/not-ready", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300},
    ]
    for container in (*taken["containers"], *taken["initContainers"]):
        container |= {"terminationMessagePath": "/dev/termination-log"}
        container["env"] = [one if one["value"] else {"name": one["name"]} for one in container.get("env", ())]
        if not container["env"]:
            del container["env"]
        for amounts in container["resources"].values():
            if amounts["memory"] == "1024Mi":
                amounts["memory"] = "1Gi"
    for volume in taken["volumes"]:
        if "projected" in volume:
            volume["projected"]["defaultMode"] = 420
    return taken


def test_there_are_documents_to_test_with():
    assert len(SPECS) >= 3


@pytest.mark.parametrize("name", SPECS)
def test_what_an_api_server_adds_is_no_change(name):
    assert changes(SPECS[name], served(SPECS[name])) == []
    older = served(SPECS[name])
    older.pop("hostUsers", None)
    assert changes(SPECS[name], older) == []


def swapped(spec):
    spec["containers"][0]["image"] = "registry.example/evil:1"
    return "spec.containers[0].image"


def joined(spec):
    spec["containers"].append({"name": "sidecar", "image": "registry.example/evil:1"})
    return "spec.containers"


def prepared(spec):
    spec["initContainers"].insert(0, {"name": "first", "image": "registry.example/evil:1"})
    return "spec.initContainers"


def mounted(spec):
    spec["volumes"].append({"name": "host", "hostPath": {"path": "/"}})
    return "spec.volumes"


def replaced(spec):
    spec["volumes"][0] = {"name": spec["volumes"][0]["name"], "hostPath": {"path": "/"}}
    return "spec.volumes[0].emptyDir"


def privileged(spec):
    spec["containers"][0]["securityContext"]["privileged"] = True
    return "spec.containers[0].securityContext.privileged"


def capable(spec):
    spec["containers"][0]["securityContext"]["capabilities"]["add"] = ["SYS_ADMIN"]
    return "spec.containers[0].securityContext.capabilities.add"


def rising(spec):
    del spec["containers"][0]["securityContext"]["allowPrivilegeEscalation"]
    return "spec.containers[0].securityContext.allowPrivilegeEscalation"


def on_the_host(spec):
    spec["hostNetwork"] = True
    return "spec.hostNetwork"


def equipped(spec):
    spec["containers"][0]["env"] = [{"name": "LD_PRELOAD", "value": "/job/evil.so"}]
    return "spec.containers[0].env"


def entered(spec):
    spec["containers"][0]["lifecycle"] = {"postStart": {"exec": {"command": ["true"]}}}
    return "spec.containers[0].lifecycle"


def started(spec):
    spec["initContainers"][0]["command"] = ["/bin/true"]
    return "spec.initContainers[0].command"


def other_account(spec):
    spec["serviceAccountName"] = "default"
    return "spec.serviceAccountName"


def with_a_token(spec):
    spec["automountServiceAccountToken"] = True
    return "spec.automountServiceAccountToken"


def for_another_audience(spec):
    spec["volumes"][-1]["projected"]["sources"][0]["serviceAccountToken"]["audience"] = "https://kubernetes.default"
    return "spec.volumes[4].projected.sources[0].serviceAccountToken.audience"


def larger(spec):
    spec["containers"][0]["resources"]["limits"]["memory"] = "64Gi"
    return "spec.containers[0].resources.limits.memory"


def resolving(spec):
    spec["dnsPolicy"] = "ClusterFirst"
    return "spec.dnsPolicy"


def with_a_device(spec):
    spec["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] = "1"
    return "spec.containers[0].resources.limits.nvidia.com/gpu"


def beside(spec):
    spec["initContainers"][0]["restartPolicy"] = "Always"
    return "spec.initContainers[0].restartPolicy"


def of_the_root_group(spec):
    spec["securityContext"]["fsGroup"] = 0
    return "spec.securityContext.fsGroup"


def seeing_all_of_proc(spec):
    spec["containers"][0]["securityContext"]["procMount"] = "Unmasked"
    return "spec.containers[0].securityContext.procMount"


def of_another_domain(spec):
    spec["securityContext"]["seLinuxOptions"] = {"level": "s0:c1,c2", "type": "spc_t"}
    return "spec.securityContext.seLinuxOptions"


def unconfined(spec):
    spec["containers"][0]["securityContext"]["appArmorProfile"] = {"type": "Unconfined"}
    return "spec.containers[0].securityContext.appArmorProfile"


def out_of_order(spec):
    spec["initContainers"], spec["containers"] = spec["containers"], spec["initContainers"]
    return "spec.containers[0].name"


def without_volumes(spec):
    spec["volumes"] = None
    return "spec.volumes"


def longer(spec):
    spec["activeDeadlineSeconds"] += 1
    return "spec.activeDeadlineSeconds"


@pytest.mark.parametrize(
    "meddle",
    [
        swapped, joined, prepared, mounted, replaced, privileged, capable, rising, on_the_host, equipped, entered,
        started, other_account, with_a_token, for_another_audience, larger, resolving, longer, with_a_device,
        beside, of_the_root_group, seeing_all_of_proc, of_another_domain, unconfined, out_of_order, without_volumes,
    ],
)  # fmt: skip
def test_every_change_is_named(meddle):
    sent = next(iter(SPECS.values()))
    taken = served(sent)
    path = meddle(taken)
    assert path in changes(sent, taken)


def test_what_other_api_servers_and_placements_add_is_no_change():
    """1.33 and newer: procMount, resizePolicy. OpenShift: a SELinux level. Where a pod may run is others' to narrow."""
    for sent in SPECS.values():
        taken = served(sent)
        taken["nodeSelector"] = {**taken.get("nodeSelector", {}), "topology.example/rack": "a"}
        taken["affinity"] = {"nodeAffinity": {}}
        taken["imagePullSecrets"] = [{"name": "registry"}]
        taken["nodeName"] = "node-1"
        taken["securityContext"]["seLinuxOptions"] = {"level": "s0:c1,c2"}
        taken["tolerations"] = list(reversed(taken["tolerations"]))
        for container in (*taken["containers"], *taken["initContainers"]):
            container["securityContext"]["procMount"] = "Default"
            container["resizePolicy"] = [{"resourceName": "cpu", "restartPolicy": "NotRequired"}]
        assert changes(sent, taken) == []


def test_a_toleration_that_was_sent_stays():
    sent = next(spec for spec in SPECS.values() if spec.get("tolerations"))
    taken = served(sent)
    taken["tolerations"] = taken["tolerations"][1:]
    assert changes(sent, taken) == ["spec.tolerations"]


def pod(spec: dict, **metadata) -> dict:
    labels = {"orchestrator.dev/pool": "plain"}
    return {"metadata": {"name": "one", "labels": labels, "annotations": {"orchestrator.dev/runner-digest": "d"}}
            | metadata, "spec": spec}  # fmt: skip


def text(document: dict) -> bytes:
    return json.dumps(document).encode()


def test_a_pair_that_was_found_equal_is_known_and_another_is_not():
    known = Unchanged()
    sent = next(iter(SPECS.values()))
    good, bad = served(sent), served(sent)
    swapped(bad)
    for name in ("one", "other"):
        assert known.changes(text(pod(sent, name=name)), text(pod(good, name=name))) == []
        assert known.changes(text(pod(sent)), text(pod(bad))) == ["spec.containers[0].image"]
    assert len(known._seen) == 1
    for number in range(3 * Unchanged.MOST_KEPT):
        spec = {"activeDeadlineSeconds": number}
        assert known.changes(text(pod(spec)), text(pod(spec))) == []
        assert len(known._seen) <= Unchanged.MOST_KEPT


@pytest.mark.parametrize(
    ("metadata", "changed"),
    [
        ({"labels": {"orchestrator.dev/pool": "plain", "team": "a"}}, []),
        ({"annotations": {"orchestrator.dev/runner-digest": "d", "sidecar.example/status": "x"}}, []),
        ({"labels": {"orchestrator.dev/pool": "other"}}, ["metadata.labels[orchestrator.dev/pool]"]),
        ({"labels": None}, ["metadata.labels[orchestrator.dev/pool]"]),
        ({"annotations": {}}, ["metadata.annotations[orchestrator.dev/runner-digest]"]),
        (
            {
                "annotations": {
                    "orchestrator.dev/runner-digest": "d",
                    "container.apparmor.security.beta.kubernetes.io/job": "unconfined",
                }
            },
            ["metadata.annotations[container.apparmor.security.beta.kubernetes.io/job]"],
        ),
        (
            {"annotations": {"orchestrator.dev/runner-digest": "d", "io.kubernetes.cri-o.Devices": "/dev/fuse"}},
            ["metadata.annotations[io.kubernetes.cri-o.Devices]"],
        ),
    ],
)
def test_what_is_written_on_a_pod_may_grow_unless_a_runtime_reads_it(metadata, changed):
    sent = next(iter(SPECS.values()))
    assert Unchanged().changes(text(pod(sent)), text(pod(served(sent), **metadata))) == changed


def test_what_is_told_names_fields_and_is_bounded():
    assert told(["spec.a", "spec.b"]) == "spec.a, spec.b"
    words = told([f"spec.{'x' * 1000}{number}" for number in range(99)])
    assert words.endswith(" and 94 more")
    assert len(words) < 700
