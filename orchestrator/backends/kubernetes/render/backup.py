"""Backups on a schedule onto a volume of their own, and the way back from one. Pure.

The pods have the daemon's state, and so its keys: they are its own image under the same rules, without a token for the
API server, and without any network, since the namespace denies all that nothing allows.
"""

from __future__ import annotations

from typing import Final

from orchestrator.backends.kubernetes.render.daemon import (
    SETTINGS_NAME,
    STATE_VOLUME,
    environment,
    settings_volume,
    state_volume,
)
from orchestrator.backends.kubernetes.render.installation import (
    DAEMON,
    DAEMON_ACCOUNT,
    BackupPlan,
    Document,
    Installation,
    component_labels,
    document,
)
from orchestrator.backends.kubernetes.render.workloads import SETTINGS_FOLDER, container, pod_of_ours, resources

BACKUP: Final = "backup"
RESTORE: Final = "restore"
BACKUP_NAME: Final = "orchestrator-backup"
RESTORE_NAME: Final = "orchestrator-restore"
BACKUPS_CLAIM: Final = "orchestrator-backups"
BACKUPS_FOLDER: Final = "/var/backups/orchestrator"
FROM_STDIN: Final = "-"

_LONGEST_SECONDS: Final = 1800
"""A backup that takes longer is ended: while it runs, its node has the daemon's volume."""
_LATEST_SECONDS: Final = 3600
"""So much later than planned it may still begin."""


def backup_documents(installation: Installation) -> list[Document]:
    """The volume and the schedule; nothing without a plan."""
    plan = installation.backup
    return [_claim(installation, plan), _schedule(installation, plan)] if plan else []


def restore_document(installation: Installation, file: str) -> Document:
    """A Job that puts a backup into the daemon's volume: the file of that name on the volume of backups, the newest
    there where none is named, or what is attached to it, for `-`."""
    source = FROM_STDIN if file == FROM_STDIN else f"{BACKUPS_FOLDER}/{file}".rstrip("/")
    words = ["restore", "--config", f"{SETTINGS_FOLDER}/{SETTINGS_NAME}", "--aside", source]
    attached: Document = {"stdin": True, "stdinOnce": True} if file == FROM_STDIN else {}
    pod = _pod(installation, RESTORE, words, backups="" if attached else "read", **attached)
    return document(
        "batch/v1",
        "Job",
        RESTORE_NAME,
        installation.labels(RESTORE),
        installation.namespace,
        spec={"backoffLimit": 0, "template": {"metadata": {"labels": installation.labels(RESTORE)}, "spec": pod}},
    )


def _claim(installation: Installation, plan: BackupPlan) -> Document:
    spec: Document = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": plan.storage}}}
    if plan.storage_class:
        spec["storageClassName"] = plan.storage_class
    labels = installation.labels(BACKUP)
    return document("v1", "PersistentVolumeClaim", BACKUPS_CLAIM, labels, installation.namespace, spec=spec)


def _schedule(installation: Installation, plan: BackupPlan) -> Document:
    words = ["backup", "--config", f"{SETTINGS_FOLDER}/{SETTINGS_NAME}", "--keep", str(plan.keep), BACKUPS_FOLDER]
    pod = _pod(installation, BACKUP, words if plan.logs else [*words, "--no-logs"], backups="write")
    pod["affinity"] = _beside_the_daemon(installation)
    job = {
        "backoffLimit": 2,
        "activeDeadlineSeconds": _LONGEST_SECONDS,
        "template": {"metadata": {"labels": installation.labels(BACKUP)}, "spec": pod},
    }
    return document(
        "batch/v1",
        "CronJob",
        BACKUP_NAME,
        installation.labels(BACKUP),
        installation.namespace,
        spec={
            "schedule": plan.schedule,
            "concurrencyPolicy": "Forbid",
            "startingDeadlineSeconds": _LATEST_SECONDS,
            "successfulJobsHistoryLimit": 1,
            "failedJobsHistoryLimit": 3,
            "jobTemplate": {"metadata": {"labels": installation.labels(BACKUP)}, "spec": job},
        },
    )


def _beside_the_daemon(installation: Installation) -> Document:
    """One node has a volume of the kind ReadWriteOnce."""
    daemon = {"matchLabels": component_labels(installation.config.installation, DAEMON)}
    term = {"topologyKey": "kubernetes.io/hostname", "labelSelector": daemon}
    return {"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term]}}


def _pod(installation: Installation, name: str, args: list[str], *, backups: str, **rest: object) -> Document:
    """The daemon's account is for the secrets of its registry, where a site has given it some; its token stays away."""
    mounts: list[Document] = [
        {"name": "settings", "mountPath": SETTINGS_FOLDER, "readOnly": True},
        {"name": "state", "mountPath": STATE_VOLUME},
        {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108 -- in the container
    ]
    volumes: list[Document] = [
        settings_volume(),
        state_volume(),
        {"name": "tmp", "emptyDir": {"medium": "Memory", "sizeLimit": "64Mi"}},
    ]
    if backups:
        mounts.append({"name": "backups", "mountPath": BACKUPS_FOLDER, "readOnly": backups == "read"})
        volumes.append({"name": "backups", "persistentVolumeClaim": {"claimName": BACKUPS_CLAIM}})
    return {
        **pod_of_ours(),
        "serviceAccountName": DAEMON_ACCOUNT,
        "automountServiceAccountToken": False,
        "restartPolicy": "Never",
        "containers": [
            container(
                installation,
                name,
                args,
                env=environment(installation),
                resources=resources("250m", "512Mi"),
                volumeMounts=mounts,
                **rest,
            )
        ],
        "volumes": volumes,
    }
