"""The webhook of a guarded cluster among the rendered manifests: only where it is asked for, closed, and valid."""

from __future__ import annotations

import base64
import time
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from typer.testing import CliRunner

from orchestrator.cli.main import app
from orchestrator.identity.serving_certificate import ADMISSION, ServingCertificate
from orchestrator.server.cluster.admission import REVIEW_PATH

ROOT = Path(__file__).parents[3]
MINIMAL = yaml.safe_load((ROOT / "manifests/examples/minimal.yaml").read_text())
GUARDED = {"namespaces": {"shop-prod": "prod", "shop-staging": "staging"}}


def render(tmp_path: Path, settings: dict[str, Any], *arguments: str) -> tuple[int, list[dict[str, Any]], str]:
    path = tmp_path / "settings.yaml"
    path.write_text(yaml.safe_dump(settings))
    done = CliRunner().invoke(app, ["manifests", "--config", str(path), *arguments])
    return done.exit_code, [one for one in yaml.safe_load_all(done.stdout) if one], done.stderr


def of_kind(found: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    return [one for one in found if one["kind"] == kind]


def test_without_guarded_namespaces_there_is_no_webhook(tmp_path: Path):
    code, found, said = render(tmp_path, MINIMAL)
    assert (code, of_kind(found, "ValidatingWebhookConfiguration")) == (0, [])
    assert "admission" not in {port["name"] for one in of_kind(found, "Service") for port in one["spec"]["ports"]}
    assert "webhook" not in said


def test_the_webhook_is_closed_and_selects_only_what_is_guarded(tmp_path: Path):
    certificate = ServingCertificate.open(tmp_path / "keys", "x.test", time.time, ADMISSION)
    ca = tmp_path / "ca.pem"
    ca.write_text(certificate.ca_pem)
    code, found, said = render(tmp_path, MINIMAL | {"deployment": GUARDED}, "--gate-ca", str(ca))
    assert code == 0, said
    (configuration,) = of_kind(found, "ValidatingWebhookConfiguration")
    (webhook,) = configuration["webhooks"]
    assert (webhook["failurePolicy"], webhook["sideEffects"], webhook["timeoutSeconds"]) == ("Fail", "NoneOnDryRun", 10)
    (chosen,) = webhook["namespaceSelector"]["matchExpressions"]
    assert (chosen["key"], chosen["values"]) == ("kubernetes.io/metadata.name", ["shop-prod", "shop-staging"])
    client = webhook["clientConfig"]
    assert base64.b64decode(client["caBundle"]).decode() == certificate.ca_pem
    service = next(one for one in of_kind(found, "Service") if one["metadata"]["name"] == client["service"]["name"])
    assert client["service"]["namespace"] == service["metadata"]["namespace"]
    assert client["service"]["path"] == REVIEW_PATH
    assert client["service"]["port"] == service["spec"]["ports"][0]["port"]
    (daemon,) = [one for one in of_kind(found, "Deployment") if one["metadata"]["name"] == "orchestrator"]
    ports = {one["name"]: one["containerPort"] for one in daemon["spec"]["template"]["spec"]["containers"][0]["ports"]}
    assert ports["admission"] == service["spec"]["ports"][0]["targetPort"] == 8458
    let_in = {
        port["port"]
        for one in of_kind(found, "NetworkPolicy")
        if one["metadata"]["namespace"] == "orchestrator"
        for rule in one["spec"].get("ingress", [])
        for port in rule.get("ports", [])
    }
    assert 8458 in let_in
    for version in ("1.29", "1.34", "1.37"):
        kubernetes_validate.validate(configuration, version, strict=True)


def test_without_a_ca_it_is_said_that_nothing_will_start(tmp_path: Path):
    code, found, said = render(tmp_path, MINIMAL | {"deployment": GUARDED})
    (configuration,) = of_kind(found, "ValidatingWebhookConfiguration")
    assert code == 0
    assert "caBundle" not in configuration["webhooks"][0]["clientConfig"]
    assert "nothing will start" in said


def test_a_daemon_elsewhere_gets_the_webhook_alone(tmp_path: Path):
    settings = {"deployment": GUARDED | {"webhook": {"url": "https://192.0.2.7:8458", "timeout_seconds": 3}}}
    code, found, _ = render(tmp_path, settings)
    assert code == 0
    (configuration,) = found
    webhook = configuration["webhooks"][0]
    assert webhook["clientConfig"] == {"url": f"https://192.0.2.7:8458{REVIEW_PATH}"}
    assert webhook["timeoutSeconds"] == 3


@pytest.mark.parametrize("content", ["", "no certificate", "-----BEGIN CERTIFICATE-----\n-----BEGIN PRIVATE KEY-----"])
def test_a_file_that_is_no_ca_is_refused(tmp_path: Path, content: str):
    ca = tmp_path / "ca.pem"
    ca.write_text(content)
    code, found, said = render(tmp_path, MINIMAL | {"deployment": GUARDED}, "--gate-ca", str(ca))
    assert (code, found) == (1, [])
    assert "--gate-ca" in said


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"deployment": {"namespaces": {"kube-system": "prod"}}}, "kube-system is the cluster's own"),
        ({"deployment": {"namespaces": {"orchestrator": "prod"}}}, "the daemon's own namespace"),
        ({"deployment": {"namespaces": {"runners-default": "prod"}}}, "pool default's own namespace"),
        ({"deployment": {"namespaces": {"shop": ""}}}, "deployment.namespaces"),
        ({"deployment": {"webhook": {"url": "http://x"}}}, "https://"),
        ({"deployment": {"webhook": {"client_names": ["a"]}}}, "client_ca_file"),
        ({"deployment": {"webhook": {"timeout_seconds": 31}}}, "timeout_seconds"),
    ],
)
def test_settings_that_would_lock_the_cluster_or_guard_nothing(tmp_path: Path, settings: dict[str, Any], said: str):
    code, _, error = render(tmp_path, settings)
    assert code == 1
    assert said in error
