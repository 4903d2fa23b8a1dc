"""The pod document: exactly what it was, valid on every version we name, and silent about the job."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.backends.kubernetes import manifest
from orchestrator.backends.kubernetes.config import (
    AGENT_UID,
    JOB_UID,
    RUNNER_AUDIENCE,
    KubernetesConfig,
    KubernetesPool,
)
from orchestrator.model.egress import EgressRule
from orchestrator.model.job import JobId, JobKey, PoolName
from orchestrator.model.runner import RunnerSpec, runner_name

GOLDEN = Path(__file__).parent / "golden"
VERSIONS = [f"1.{minor}" for minor in range(29, 38)]


def golden(name: str, document: dict[str, Any]) -> None:
    """A changed document is a decision: look at the difference, then delete the file and run this test twice."""
    path = GOLDEN / f"{name}.json"
    text = json.dumps(document, indent=2, sort_keys=True) + "\n"
    if not path.exists():
        path.write_text(text, encoding="utf-8")
        pytest.fail(f"{path.name} was missing and has been written; read it and run again")
    assert path.read_text(encoding="utf-8") == text


@pytest.fixture
def documents(
    plain_pool: KubernetesPool, full_pool: KubernetesPool, config: KubernetesConfig, spec: RunnerSpec
) -> dict[str, dict[str, Any]]:
    bare = replace(config, host_addresses={}, resolver="fd00::53", image_pull_policy="IfNotPresent")
    return {
        "plain": manifest.pod_document(spec, plain_pool, config),
        "full": manifest.pod_document(replace(spec, pool=full_pool.name), full_pool, config),
        "warm": manifest.warm_document("warm-full-7x2k9", full_pool, config),
        "resolver": manifest.pod_document(spec, plain_pool, bare),
    }


@pytest.mark.parametrize("name", ["plain", "full", "warm", "resolver"])
def test_documents_are_as_reviewed(name: str, documents: dict[str, dict[str, Any]]):
    golden(name, documents[name])


@pytest.mark.parametrize("version", VERSIONS)
def test_documents_are_valid_on(version: str, documents: dict[str, dict[str, Any]]):
    for document in documents.values():
        assert str(kubernetes_validate.validate(document, version, strict=True)) == version


def test_the_schemas_do_refuse_an_unknown_field(documents: dict[str, dict[str, Any]]):
    documents["plain"]["spec"]["hostNetwrok"] = False
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(documents["plain"], "1.37", strict=True)


def test_job_and_agent_share_no_user_and_no_writable_volume(documents: dict[str, dict[str, Any]]):
    for document in documents.values():
        (agent,), (job,) = document["spec"]["initContainers"], document["spec"]["containers"]
        assert (agent["securityContext"]["runAsUser"], job["securityContext"]["runAsUser"]) == (AGENT_UID, JOB_UID)
        writable = [
            {mount["name"] for mount in one["volumeMounts"] if not mount.get("readOnly")} for one in (agent, job)
        ]
        assert writable[0].isdisjoint(writable[1])


def test_the_only_credential_is_good_for_the_runner_api_alone(documents: dict[str, dict[str, Any]]):
    for document in documents.values():
        volumes = document["spec"]["volumes"]
        assert {kind for volume in volumes for kind in volume if kind != "name"} == {"emptyDir", "projected"}
        tokens = [one for volume in volumes for one in volume.get("projected", {}).get("sources", ())]
        expected = {"audience": RUNNER_AUDIENCE, "expirationSeconds": 600, "path": "token"}
        assert tokens == [{"serviceAccountToken": expected}]


def test_an_address_in_the_url_needs_no_alias(plain_pool: KubernetesPool, config: KubernetesConfig, spec: RunnerSpec):
    given_addresses = replace(config, runner_api_url="https://[fd00::1]:8456", gateway_url="http://10.0.0.1:3128")
    assert manifest.pod_hosts(given_addresses) == []
    assert "hostAliases" not in manifest.pod_document(spec, plain_pool, given_addresses)["spec"]


def test_addresses_come_in_one_order(plain_pool: KubernetesPool, config: KubernetesConfig, spec: RunnerSpec):
    turned = replace(config, host_addresses=dict(reversed(list(config.host_addresses.items()))))
    document = manifest.pod_document(spec, plain_pool, config)
    assert manifest.pod_document(spec, plain_pool, turned) == document
    assert [one["ip"] for one in document["spec"]["hostAliases"]] == ["10.96.0.3", "10.96.0.20", "fd00::20"]


def test_the_digest_knows_what_the_document_does_not_say_and_nothing_of_the_template(
    plain_pool: KubernetesPool, config: KubernetesConfig, spec: RunnerSpec
):
    def digest(spec: RunnerSpec, pool: KubernetesPool, config: KubernetesConfig) -> str:
        return str(
            manifest.pod_document(spec, pool, config)["metadata"]["annotations"]["orchestrator.dev/runner-digest"]
        )

    made = digest(spec, plain_pool, config)
    assert digest(replace(spec, egress=()), plain_pool, config) != made
    assert (
        digest(spec, replace(plain_pool, memory="8Gi"), replace(config, agent_image="next", host_addresses={})) == made
    )


def test_template_hash_changes_with_the_template_and_not_with_the_name(
    full_pool: KubernetesPool, config: KubernetesConfig
):
    one = manifest.template_hash(full_pool, config)
    assert manifest.template_hash(replace(full_pool, warm=9, capacity=90), config) == one
    for changed in (
        manifest.template_hash(replace(full_pool, image="other"), config),
        manifest.template_hash(full_pool, replace(config, agent_image="other")),
        manifest.template_hash(full_pool, replace(config, host_addresses={})),
    ):
        assert changed != one


def test_a_warm_pod_outlives_its_longest_wait_and_then_the_longest_job(
    full_pool: KubernetesPool, config: KubernetesConfig
):
    document = manifest.warm_document("warm-full-1", full_pool, config)
    assert document["spec"]["activeDeadlineSeconds"] > full_pool.warm_idle_seconds + full_pool.max_job_seconds


distinct = st.text("abcdefghij0123456789", min_size=12, max_size=40).map(lambda text: f"zq{text}")
"""Words that no document holds by chance: none of ours has `zq`."""


@given(distinct, st.lists(distinct, max_size=3), st.integers(1, 10**6))
def test_nothing_of_the_job_is_in_the_document(platform_id: str, hosts: list[str], deadline: int):
    pool = KubernetesPool(name=PoolName("plain"), namespace="runners-plain", image="debian")
    config = KubernetesConfig("blue", {pool.name: pool}, "agent", "https://10.0.0.1:1", "pem", "http://10.0.0.2:2")
    job_id: JobId = JobKey("zqsource", platform_id).id
    egress = tuple(EgressRule(f"{host}.example") for host in hosts)
    document = manifest.pod_document(RunnerSpec(runner_name(job_id), job_id, pool.name, egress, deadline), pool, config)
    text = json.dumps(document)
    assert "zq" not in text
    # What is left of the job are its runner's name, its deadline and hashes: the rest is the pool's alone.
    other = manifest.pod_document(
        RunnerSpec(runner_name(JobId("a.b.1")), JobId("a.b.1"), pool.name, (), 5), pool, config
    )
    for each in (document, other):
        each["metadata"].pop("annotations")
        each["metadata"].pop("name")
        each["spec"].pop("activeDeadlineSeconds")
    assert document == other


def test_bodies_are_the_documents_of_each_runner_whatever_was_made_before(
    plain_pool: KubernetesPool, full_pool: KubernetesPool, config: KubernetesConfig
):
    bodies = manifest.PodBodies(config)
    specs = [
        RunnerSpec(runner_name(job_id), job_id, pool.name, (), deadline)
        for number in range(2)
        for pool in (plain_pool, full_pool)
        for deadline in range(1, manifest.PodBodies.MOST_KEPT)
        if (job_id := JobId(f"a.{number}-{deadline}.1"))
    ]
    pools = {pool.name: pool for pool in (plain_pool, full_pool)}
    for spec in specs:
        body = bodies.body(spec, pools[spec.pool])
        assert json.loads(body) == manifest.pod_document(spec, pools[spec.pool], config)
