"""Backups of a cluster: what is rendered for them, and the Job that restores one. tests/cluster runs both."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from typer.testing import CliRunner

from orchestrator.cli.main import app
from orchestrator.daemon.cluster.manifests import installation
from orchestrator.settings import Settings

NIGHTLY = {"schedule": "30 3 * * *"}
CLUSTER = {"image": "registry.example/orchestrator:1", "agent_image": "registry.example/agent:1"}


def run(folder: Path, *words: str, code: int = 0, more: dict[str, Any] | None = None, **backup: Any) -> Any:
    config = folder / "orchestrator.yaml"
    settings = {"pools": [{"name": "one", "backend": "kubernetes"}], "kubernetes": {**CLUSTER, "backup": backup}}
    config.write_text(yaml.safe_dump(settings | (more or {})), encoding="utf-8")
    done = CliRunner().invoke(app, ["manifests", "--config", str(config), *words])
    assert done.exit_code == code, done.output
    return done.stderr if code else [one for one in yaml.safe_load_all(done.stdout) if one]


def of_kind(documents: list[dict[str, Any]], kind: str, name: str) -> dict[str, Any]:
    (found,) = [one for one in documents if (one["kind"], one["metadata"]["name"]) == (kind, name)]
    return found


def pod_of(document: dict[str, Any]) -> dict[str, Any]:
    spec = document["spec"]
    spec = spec["jobTemplate"]["spec"] if document["kind"] == "CronJob" else spec
    return dict(spec["template"]["spec"])


def test_none_are_made_unless_a_schedule_is_set(tmp_path: Path) -> None:
    assert "CronJob" not in {one["kind"] for one in run(tmp_path)}
    of_kind(run(tmp_path, **NIGHTLY), "CronJob", "orchestrator-backup")
    run(tmp_path, "--output", str(tmp_path / "cluster"), **NIGHTLY)
    assert (tmp_path / "cluster" / "backup.yaml").exists()
    run(tmp_path, "--output", str(tmp_path / "cluster"))
    assert not (tmp_path / "cluster" / "backup.yaml").exists()


def test_the_settings_are_in_it(tmp_path: Path) -> None:
    made = run(tmp_path, **NIGHTLY, keep=3, logs=False, storage="90Gi", storage_class="elsewhere")
    schedule = of_kind(made, "CronJob", "orchestrator-backup")
    assert schedule["spec"]["schedule"] == "30 3 * * *"
    args = pod_of(schedule)["containers"][0]["args"]
    assert args[3:] == ["--keep", "3", "/var/backups/orchestrator", "--no-logs"]
    claim = of_kind(made, "PersistentVolumeClaim", "orchestrator-backups")["spec"]
    assert claim["resources"]["requests"]["storage"] == "90Gi"
    assert claim["storageClassName"] == "elsewhere"
    assert "storageClassName" not in of_kind(run(tmp_path, **NIGHTLY), "PersistentVolumeClaim", claim_name())["spec"]


def claim_name() -> str:
    return "orchestrator-backups"


@pytest.mark.parametrize("words", [[], ["--restore", "newest"], ["--restore", "-"]])
def test_its_pods_are_held_to_the_daemons_rules_and_have_the_same_place_for_the_state(
    tmp_path: Path, words: list[str]
) -> None:
    everything = run(tmp_path, **NIGHTLY)
    daemon = pod_of(of_kind(everything, "Deployment", "orchestrator"))
    job = run(tmp_path, *words, **NIGHTLY)[0] if words else of_kind(everything, "CronJob", "orchestrator-backup")
    pod = pod_of(job)
    assert pod["automountServiceAccountToken"] is False
    assert pod["restartPolicy"] == "Never"
    for key in ("securityContext", "enableServiceLinks", "serviceAccountName"):
        assert pod[key] == daemon[key]
    (ours,), (theirs,) = pod["containers"], daemon["containers"]
    for key in ("image", "imagePullPolicy", "securityContext", "env"):
        assert ours[key] == theirs[key]
    assert "ports" not in ours
    assert all(mount in ours["volumeMounts"] for mount in theirs["volumeMounts"])
    assert all(volume in pod["volumes"] for volume in daemon["volumes"])
    services = [one["spec"]["selector"] for one in everything if one["kind"] == "Service"]
    policies = [one for one in everything if one["kind"] == "NetworkPolicy"]
    labels = job["spec"].get("jobTemplate", job)["spec"]["template"]["metadata"]["labels"]
    assert not [one for one in services if one.items() <= labels.items()]
    chosen = [
        one["spec"]
        for one in policies
        if one["metadata"]["namespace"] == "orchestrator"
        and one["spec"]["podSelector"].get("matchLabels", {}).items() <= labels.items()
    ]
    assert chosen == [{"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}], "no network at all"


def test_a_backup_is_bounded_and_runs_where_the_volume_is(tmp_path: Path) -> None:
    everything = run(tmp_path, **NIGHTLY)
    schedule = of_kind(everything, "CronJob", "orchestrator-backup")
    assert schedule["spec"]["concurrencyPolicy"] == "Forbid"
    assert schedule["spec"]["jobTemplate"]["spec"]["activeDeadlineSeconds"] == 1800
    (term,) = pod_of(schedule)["affinity"]["podAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
    assert term["topologyKey"] == "kubernetes.io/hostname"
    assert (
        term["labelSelector"]["matchLabels"]
        == of_kind(everything, "Deployment", "orchestrator")["spec"]["selector"]["matchLabels"]
    )


def test_a_restore_reads_one_backup_once(tmp_path: Path) -> None:
    for asked, source in (
        ("newest", "/var/backups/orchestrator"),
        ("monday.backup", "/var/backups/orchestrator/monday.backup"),
    ):
        (job,) = run(tmp_path, "--restore", asked, **NIGHTLY)
        assert (job["kind"], job["spec"]["backoffLimit"]) == ("Job", 0)
        (one,) = pod_of(job)["containers"]
        assert one["args"][-2:] == ["--aside", source]
        assert {"name": "backups", "mountPath": "/var/backups/orchestrator", "readOnly": True} in one["volumeMounts"]
        assert "stdin" not in one


def test_a_restore_of_what_is_attached_needs_no_volume_of_backups(tmp_path: Path) -> None:
    (job,) = run(tmp_path, "--restore", "-")
    (one,) = pod_of(job)["containers"]
    assert (one["args"][-1], one["stdin"], one["stdinOnce"]) == ("-", True, True)
    assert "backups" not in {volume["name"] for volume in pod_of(job)["volumes"]}


@pytest.mark.parametrize("version", ["1.29", "1.37"])
def test_schedule_claim_and_restore_are_valid_on(tmp_path: Path, version: str) -> None:
    made = [one for one in run(tmp_path, **NIGHTLY) if one["metadata"]["name"] in ("orchestrator-backup", claim_name())]
    assert len(made) == 2
    for one in [*made, *run(tmp_path, "--restore", "newest", **NIGHTLY), *run(tmp_path, "--restore", "-")]:
        kubernetes_validate.validate(one, version, strict=True)


@pytest.mark.parametrize(
    ("words", "backup", "code", "why"),
    [
        (["--restore", "newest"], {}, 1, "kubernetes.backup.schedule is not set"),
        (["--restore", "../etc/passwd"], NIGHTLY, 1, "no name of a file"),
        (["--restore", ""], NIGHTLY, 1, "no name of a file"),
        (["--restore", "newest", "--output", "cluster"], NIGHTLY, 2, "leave --output out"),
        ([], {"schedule": "every night"}, 1, "kubernetes.backup.schedule"),
        ([], {"schedule": "30 3 * *"}, 1, "kubernetes.backup.schedule"),
        ([], {**NIGHTLY, "keep": 0}, 1, "kubernetes.backup.keep"),
    ],
)
def test_what_cannot_be_is_refused(
    tmp_path: Path, words: list[str], backup: dict[str, Any], code: int, why: str
) -> None:
    assert why in run(tmp_path, *words, code=code, **backup)


@pytest.mark.parametrize("key", ["audit", "policy"])
def test_what_the_pods_would_not_see_is_refused(tmp_path: Path, key: str) -> None:
    """A backup without the audit log is found out on the day it is needed."""
    for folder, code in (("/mnt/elsewhere", 1), ("/var/lib/orchestrator/elsewhere", 0)):
        more: dict[str, Any] = {"audit": {"folder": folder}}
        if key == "policy":
            more = {"policy": {"decisions": {"folder": folder}}}
        said = run(tmp_path, code=code, more=more, **NIGHTLY)
        assert not code or "every backup would lack" in said.replace("\n", " ")
        run(tmp_path, "--restore", "-", code=code, more=more)
        run(tmp_path, more=more)


def test_a_running_daemon_looks_at_its_guards_whatever_is_backed_up() -> None:
    """What cannot be rendered would look like guards that are missing."""
    given = {"pools": [{"name": "one", "backend": "kubernetes"}], "audit": {"folder": "/mnt/elsewhere"}}
    settings = Settings.model_validate({**given, "kubernetes": {**CLUSTER, "backup": NIGHTLY}})
    assert installation(settings, "").backup is not None
