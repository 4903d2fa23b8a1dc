"""What daemon and gateway have in common: pods under the same rules that runners are held to. Pure."""

from __future__ import annotations

import hashlib

from orchestrator.backends.kubernetes.render.installation import Document, Installation, component_labels, document

SERVICE_UID = 64002
"""User and group of daemon and gateway; no runner has it."""

SETTINGS_FOLDER = "/etc/orchestrator"
ANNOTATION_SETTINGS = "orchestrator.dev/settings-hash"
"""On pods, so that changed settings start them again."""


def settings_map(
    installation: Installation, name: str, namespace: str, component: str, file: str, text: str
) -> Document:
    """Settings as one file. They hold no secret: keys are in the daemon's state folder."""
    return document("v1", "ConfigMap", name, installation.labels(component), namespace, data={file: text})


def account(installation: Installation, name: str, namespace: str, component: str) -> Document:
    """A ServiceAccount whose token gets into a pod only where the pod asks for it."""
    labels = installation.labels(component)
    return document("v1", "ServiceAccount", name, labels, namespace, automountServiceAccountToken=False)


def container(installation: Installation, name: str, args: list[str], **rest: object) -> Document:
    """One container of ours: no root, no capability, nothing writable but volumes, the same limits as requests."""
    return {
        "name": name,
        "image": installation.image,
        "imagePullPolicy": installation.config.image_pull_policy,
        "args": args,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": SERVICE_UID,
            "runAsGroup": SERVICE_UID,
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "terminationMessagePolicy": "FallbackToLogsOnError",
        **rest,
    }


def resources(cpu: str, memory: str) -> Document:
    """Memory is a promise and a limit; processor time is only promised, so that a burst is not throttled."""
    return {
        "requests": {"cpu": cpu, "memory": memory, "ephemeral-storage": "64Mi"},
        "limits": {"memory": memory, "ephemeral-storage": "256Mi"},
    }


def probe(path: str, port: int, **rest: int) -> Document:
    return {"httpGet": {"path": path, "port": port}, "periodSeconds": 10, "timeoutSeconds": 5, **rest}


def projected_token(audience: str, seconds: int) -> Document:
    token = {"audience": audience, "expirationSeconds": seconds, "path": "token"}
    return {"name": "identity", "projected": {"sources": [{"serviceAccountToken": token}]}}


def pod_of_ours() -> Document:
    """What all our pods say of themselves.

    Without service links: for a Service named `orchestrator` they would set variables that look like settings.
    A volume's group is set when it is empty and not at each start, which would open every key in it to the group.
    """
    return {
        "enableServiceLinks": False,
        "securityContext": {
            "runAsNonRoot": True,
            "fsGroup": SERVICE_UID,
            "fsGroupChangePolicy": "OnRootMismatch",
            "seccompProfile": {"type": "RuntimeDefault"},
        },
    }


def deployment(
    installation: Installation,
    name: str,
    namespace: str,
    component: str,
    pod: Document,
    settings_text: str,
    **spec: object,
) -> Document:
    """A Deployment of one kind of pod, chosen by `component_labels`; new settings start its pods again."""
    selected = component_labels(installation.config.installation, component)
    settings = hashlib.sha256(settings_text.encode()).hexdigest()
    template = {
        "metadata": {"labels": installation.labels(component), "annotations": {ANNOTATION_SETTINGS: settings}},
        "spec": {**pod_of_ours(), **pod},
    }
    return document(
        "apps/v1",
        "Deployment",
        name,
        installation.labels(component),
        namespace,
        spec={**spec, "selector": {"matchLabels": selected}, "template": template},
    )


def service(
    installation: Installation, name: str, namespace: str, component: str, port_name: str, port: int, target: int
) -> Document:
    """One address for all ready pods of a component: `port` there is `target` at the pods."""
    return document(
        "v1",
        "Service",
        name,
        installation.labels(component),
        namespace,
        spec={
            "type": "ClusterIP",
            "selector": component_labels(installation.config.installation, component),
            "ports": [{"name": port_name, "port": port, "targetPort": target, "protocol": "TCP"}],
        },
    )


def disruption_budget(installation: Installation, name: str, namespace: str, component: str) -> Document:
    """One at a time may be moved away."""
    return document(
        "policy/v1",
        "PodDisruptionBudget",
        name,
        installation.labels(component),
        namespace,
        spec={
            "maxUnavailable": 1,
            "selector": {"matchLabels": component_labels(installation.config.installation, component)},
        },
    )
