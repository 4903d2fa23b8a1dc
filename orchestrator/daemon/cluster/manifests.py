"""From settings to the files of a whole installation. Pure: the same settings always give the same bytes."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import urlsplit

import yaml

from orchestrator.backends.kubernetes.render.backup import FROM_STDIN, restore_document
from orchestrator.backends.kubernetes.render.daemon import NAME as DAEMON_SERVICE
from orchestrator.backends.kubernetes.render.daemon import STATE_VOLUME
from orchestrator.backends.kubernetes.render.gate import Gate, gate_documents
from orchestrator.backends.kubernetes.render.gateway import CA_FILE, PROBE_PORT, TOKEN_FILE
from orchestrator.backends.kubernetes.render.groups import documents_by_file, kustomization
from orchestrator.backends.kubernetes.render.installation import BackupPlan, Installation
from orchestrator.daemon.cluster.monitoring import monitoring_documents
from orchestrator.daemon.cluster.network import network_policies, reach
from orchestrator.daemon.cluster.slice import KUBERNETES, kubernetes_config, require_image
from orchestrator.errors import ConfigurationError
from orchestrator.server.cluster.admission import REVIEW_PATH
from orchestrator.settings import Settings

HEADER = "# Rendered by `orchestrator manifests`. Change the settings and render again; edits here are lost.\n"
NEWEST = "newest"
"""Instead of a backup's name."""
KUSTOMIZATION = "kustomization"
GATE = "gate"
MONITORING = "monitoring"

_FILE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,254}")


def installation(settings: Settings, settings_yaml: str) -> Installation:
    """All that the documents are made from. `settings_yaml` is the text that `settings` were read from.

    Raises:
        ConfigurationError: no pool is of this backend, or the settings do not fit together.
    """
    given = settings.kubernetes
    config = kubernetes_config(settings)
    if not config.pools:
        raise ConfigurationError(
            "no pool has the backend kubernetes, so there is nothing to render",
            reason="no_cluster_pool",
            fix="give a pool `backend: kubernetes`",
        )
    runner_api = reach(given.runner_api.url, "kubernetes.runner_api.url", given.namespace)
    gateway = reach(given.gateway.url, "kubernetes.gateway.url", given.gateway.namespace)
    asked = gate(settings)
    return Installation(
        config=config,
        namespace=given.namespace,
        image=given.image,
        settings_yaml=settings_yaml,
        gateway_yaml=gateway_yaml(settings, gateway.port),
        api_port=settings.server.port,
        runner_api_port=given.runner_api.port,
        runner_api_url_port=runner_api.port,
        runner_api_service=runner_api.service,
        gateway_namespace=given.gateway.namespace,
        gateway_account=given.gateway.service_account,
        gateway_service=gateway.service,
        gateway_port=gateway.port,
        gateway_replicas=given.gateway.replicas,
        pod_security_version=given.pod_security_version,
        registries=given.image_registries,
        operators=given.operators,
        break_glass_group=given.break_glass_group,
        storage=given.storage,
        storage_class=given.storage_class or "",
        drain_seconds=int(settings.deadlines.drain_seconds),
        lease=given.lease,
        public_url=""
        if settings.server.public_url
        else f"http://{DAEMON_SERVICE}.{given.namespace}.svc:{settings.server.port}",
        policies=network_policies(settings, config),
        gate_service=asked.service if asked else "",
        gate_service_port=asked.service_port if asked else 0,
        gate_port=asked.listening if asked else 0,
        backup=_backup_plan(settings),
    )


def _backup_plan(settings: Settings) -> BackupPlan | None:
    given = settings.kubernetes.backup
    if not given.schedule:
        return None
    return BackupPlan(given.schedule, given.keep, given.logs, given.storage, given.storage_class or "")


def _demand_seen(settings: Settings) -> None:
    """The pods of backups and restores have the daemon's volume, and no other that a site may have added.

    Raises:
        ConfigurationError: reason `state_dir_unusable`.
    """
    folders = {"audit.folder": settings.audit.folder, "policy.decisions.folder": settings.policy.decisions.folder}
    for key, folder in folders.items():
        if folder is not None and not folder.is_relative_to(STATE_VOLUME):
            raise ConfigurationError(
                f"{key} lies outside {STATE_VOLUME}, where the pods that back up and restore do not see it: every "
                "backup would lack what is there",
                reason="state_dir_unusable",
                fix=f"put it below {STATE_VOLUME}; or leave kubernetes.backup.schedule empty, back up by exec, and "
                "restore by a pod of yours that has that volume",
            )


def gate(settings: Settings, ca_pem: str = "") -> Gate | None:
    """How an API server asks before it starts a workload; None where no namespace is guarded."""
    given = settings.deployment
    if not given.namespaces:
        return None
    parts = urlsplit(given.webhook.url)
    labels = (parts.hostname or "").split(".")
    own = len(labels) >= 3 and labels[1:3] == [settings.kubernetes.namespace, "svc"]
    return Gate(
        installation=settings.kubernetes.installation,
        daemon_namespace=settings.kubernetes.namespace,
        namespaces=tuple(given.namespaces),
        url=given.webhook.url,
        path=REVIEW_PATH,
        service=labels[0] if own else "",
        service_port=parts.port or 443,
        listening=given.webhook.port,
        timeout_seconds=given.webhook.timeout_seconds,
        ca_pem=ca_pem,
    )


def gateway_yaml(settings: Settings, port: int) -> str:
    """The gateway's own file: what it needs of the settings, and nothing of callers, policy or pools."""
    egress = settings.egress
    values = {
        "daemon_url": settings.kubernetes.runner_api.url,
        "ca_file": CA_FILE,
        "token_file": TOKEN_FILE,
        "port": port,
        "probe_port": PROBE_PORT,
        "names": dict(sorted(egress.names.items())),
        "connect_timeout_seconds": egress.connect_timeout_seconds,
        "idle_timeout_seconds": egress.idle_timeout_seconds,
        "max_connections": egress.max_connections,
        "max_bytes_up": egress.max_bytes_up,
        "max_bytes_down": egress.max_bytes_down,
    }
    return yaml.safe_dump(values, sort_keys=False, width=4096)


def documents(settings: Settings, settings_yaml: str, gate_ca: str = "") -> dict[str, list[dict[str, Any]]]:
    """File name without ending to its documents; the last one is the kustomization of the others.

    `gate_ca` (PEM) vouches for us to the API server, where a namespace is guarded. A daemon without a pool in the
    cluster gets no more than the webhook that makes the cluster ask it.

    Raises:
        ConfigurationError: as `installation`; reason `image_missing` without the daemon's image.
    """
    asked = gate(settings, gate_ca)
    guarded = {GATE: gate_documents(asked)} if asked else {}
    if asked and not any(pool.backend == KUBERNETES for pool in settings.pools):
        return {**guarded, KUSTOMIZATION: [kustomization(list(guarded))]}
    rendered = installation(settings, settings_yaml)
    require_image("kubernetes.image", rendered.image)
    if rendered.backup is not None:
        _demand_seen(settings)
    files = documents_by_file(rendered) | guarded
    if watched := monitoring_documents(settings, rendered.labels()):
        files[MONITORING] = watched
    return {**files, KUSTOMIZATION: [kustomization(list(files))]}


def restore_job(settings: Settings, file: str) -> dict[str, Any]:
    """The Job that restores a backup: `newest` or a name on the volume of backups, or `-` for what is attached to it.

    Raises:
        ConfigurationError: as `documents`, and reason `backup_unreadable` where there is no such volume, or the name is
            no file's.
    """
    rendered = installation(settings, "")
    require_image("kubernetes.image", rendered.image)
    _demand_seen(settings)
    if file == FROM_STDIN:
        return restore_document(rendered, file)
    if rendered.backup is None:
        raise ConfigurationError(
            "kubernetes.backup.schedule is not set, so there is no volume of backups to restore from",
            reason="backup_unreadable",
            fix="give --restore - and attach the file, as docs/how-to/operate-on-kubernetes.md shows",
        )
    if not _FILE_NAME.fullmatch(file):
        raise ConfigurationError(
            "--restore: this is no name of a file on the volume of backups",
            reason="backup_unreadable",
            fix="give `newest`, or a name as the log of a backup has it: orchestrator-20260131T033000Z.backup",
        )
    return restore_document(rendered, "" if file == NEWEST else file)


def yaml_text(documents: list[dict[str, Any]]) -> str:
    """Documents as one YAML stream, keys in the order in which they were made."""
    parts = (yaml.dump(one, Dumper=_Dumper, sort_keys=False, width=4096) for one in documents)
    return HEADER + "---\n" + "---\n".join(parts)


class _Dumper(yaml.SafeDumper):
    """Texts of several lines as blocks, and no references between documents that share a part."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _text(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style="|" if "\n" in value else None)


_Dumper.add_representer(str, _text)
