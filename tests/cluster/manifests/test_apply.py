"""What is rendered is what a real API server keeps, and the pods we make are let in under it."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from orchestrator.backends.kubernetes.config import KubernetesConfig
from orchestrator.backends.kubernetes.manifest import pod_document, warm_document
from orchestrator.daemon.cluster.slice import kubernetes_config
from orchestrator.model.job import JobId, PoolName
from orchestrator.model.runner import RunnerSpec, runner_name
from orchestrator.settings import load_settings

pytestmark = pytest.mark.cluster

Json = dict[str, Any]

NEWER_THAN_1_20 = {"ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding", "PodDisruptionBudget"}
DROPPED_BY_1_20 = {"spec.hostUsers"}


@pytest.fixture
def config(installed) -> KubernetesConfig:
    ca = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"
    addresses = {
        f"orchestrator-runner-api.{installed.name}.svc": ("10.96.0.20", "fd00::20"),
        f"orchestrator-gateway.{installed.name}.svc": ("10.96.0.21",),
    }
    return kubernetes_config(load_settings(installed.settings), runner_api_ca=ca, host_addresses=addresses)


def missing(sent: Any, kept: Any, path: str = "") -> set[str]:
    """Paths of what was sent and is not there as it was sent. More than that may be there: defaults."""
    if isinstance(sent, dict) and isinstance(kept, dict):
        return {
            one
            for key, value in sent.items()
            for one in (missing(value, kept[key], f"{path}.{key}") if key in kept else {f"{path}.{key}"})
        }
    if isinstance(sent, list) and isinstance(kept, list) and len(kept) >= len(sent):
        return {one for number, value in enumerate(sent) for one in missing(value, kept[number], f"{path}.{number}")}
    return set() if sent == kept else {path}


def spec(job: str, deadline: int = 1800) -> RunnerSpec:
    return RunnerSpec(runner_name(JobId(job)), JobId(job), PoolName("one"), (), deadline)


def test_only_what_an_old_server_does_not_know_was_left_out(installed):
    assert {one.split()[0] for one in installed.left_out} <= NEWER_THAN_1_20
    if installed.left_out:
        print(f"NOT APPLIED, unknown to this API server: {', '.join(installed.left_out)}")


def test_applying_again_changes_nothing(installed, kubectl):
    difference = kubectl("diff", "-k", str(installed.folder))
    assert difference.returncode == 0, difference.stdout + difference.stderr


def test_a_pod_is_let_in_and_kept_as_it_was_sent(installed, config):
    """By the daemon's own token, in the namespace with its quota, limits and priority class."""
    daemon = installed.acting("orchestrator")
    pool = config.pools[PoolName("one")]
    where = f"/api/v1/namespaces/{pool.namespace}/pods"
    for document in (pod_document(spec("a.b.1"), pool, config), warm_document("warm-one-1", pool, config)):
        _until_counted(daemon, pool.namespace)
        status, kept = daemon.call("POST", where, document)
        try:
            assert status == 201, kept
            assert {one.removeprefix(".") for one in missing(document, kept)} <= DROPPED_BY_1_20
            assert kept["status"]["qosClass"] == "Guaranteed"
            assert "default-token" not in json.dumps(kept)
            status, again = daemon.call("POST", where, document)
            assert (status, again["reason"]) == (409, "AlreadyExists")
        finally:
            status, _ = daemon.call("DELETE", f"{where}/{document['metadata']['name']}")
        assert status == 200


def test_the_quota_is_the_capacity(installed, config):
    daemon = installed.acting("orchestrator")
    pool = config.pools[PoolName("one")]
    where = f"/api/v1/namespaces/{pool.namespace}/pods"
    _until_counted(daemon, pool.namespace)
    names = []
    try:
        for number in range(pool.capacity):
            document = pod_document(spec(f"a.q{number}.1"), pool, config)
            status, answer = daemon.call("POST", where, document)
            assert status == 201, answer
            names.append(document["metadata"]["name"])
        status, answer = daemon.call("POST", where, pod_document(spec("a.over.1"), pool, config))
        assert (status, answer["reason"]) == (403, "Forbidden")
        assert "exceeded quota: runners" in answer["message"]
    finally:
        for name in names:
            daemon.call("DELETE", f"{where}/{name}")


def _until_counted(daemon: Any, namespace: str) -> None:
    """Until the quota controller has counted earlier pods as gone; a refused second create counts until then too."""
    end = time.monotonic() + 30
    while time.monotonic() < end:
        _, answer = daemon.call("GET", f"/api/v1/namespaces/{namespace}/resourcequotas/runners")
        if answer.get("status", {}).get("used", {}).get("pods") == "0":
            return
        time.sleep(0.1)
    raise AssertionError(f"the quota still counts pods: {answer}")


@pytest.mark.parametrize(
    ("what", "path", "body"),
    [
        ("a secret", "secrets", {"metadata": {"name": "x"}}),
        ("a service", "services", {"metadata": {"name": "x"}, "spec": {"ports": [{"port": 80}]}}),
        (
            "a claim",
            "persistentvolumeclaims",
            {
                "metadata": {"name": "x"},
                "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
            },
        ),
    ],
)
def test_not_even_an_administrator_puts_it_into_a_pool(installed, what: str, path: str, body: Json):
    status, answer = installed.admin.call("POST", f"/api/v1/namespaces/{installed.pools[0]}/{path}", body)
    assert status == 403, f"{what}: {answer}"
    assert "exceeded quota: runners" in answer["message"]


def test_no_container_may_be_larger_than_the_pool(installed, config):
    pool = config.pools[PoolName("one")]
    document = pod_document(spec("a.large.1"), pool, config)
    amounts = document["spec"]["containers"][0]["resources"]
    amounts["limits"]["memory"] = amounts["requests"]["memory"] = "64Gi"
    status, answer = installed.acting("orchestrator").call(
        "POST", f"/api/v1/namespaces/{pool.namespace}/pods", document
    )
    assert (status, answer["reason"]) == (403, "Forbidden")
    assert "maximum memory usage per Container is 2Gi" in answer["message"]
