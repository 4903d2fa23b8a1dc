"""The CEL rules on a pool's pods: A1, A3 to A9 when one is created, A10 for as long as it exists. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence

from orchestrator.backends.kubernetes.config import (
    RUNNER_AUDIENCE,
    SERVICE_ACCOUNT,
    KubernetesConfig,
    KubernetesPool,
)
from orchestrator.backends.kubernetes.manifest import hard_stop_seconds, labels

Rule = tuple[str, str]
"""Message and CEL expression."""

VARIABLES: tuple[tuple[str, str], ...] = (
    ("initContainers", "has(object.spec.initContainers) ? object.spec.initContainers : []"),
    ("containers", "variables.initContainers + object.spec.containers"),
    ("volumes", "has(object.spec.volumes) ? object.spec.volumes : []"),
    ("tolerations", "has(object.spec.tolerations) ? object.spec.tolerations : []"),
)

DEFAULT_TOLERATIONS = (
    *("node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"),
    "node.kubernetes.io/memory-pressure",
)
"""What the API server's own plugins add before these rules look."""

_NO_HOST = ("hostNetwork", "hostPID", "hostIPC")


def pod_rules(pool: KubernetesPool, config: KubernetesConfig, author: str, registries: Sequence[str]) -> list[Rule]:
    """What a new pod in this pool's namespace must be. `author` is the one user who may create any."""
    return [
        ("A1 author: only the daemon creates pods here", f"request.userInfo.username == {_text(author)}"),
        *_images(pool, registries),
        *_users(pool),
        *_tokens(config),
        *_files(),
        *_limits(),
        *_placement(pool, config),
        *_life(pool),
    ]


def unchanged_rules() -> list[Rule]:
    """A10. What we recognise a pod by, and what it runs, stay as they were created."""
    return [
        (
            "A10 immutability: labels and annotations of a runner never change",
            " && ".join(
                f"(has(object.metadata.{kind}) == has(oldObject.metadata.{kind}) && "
                f"(!has(object.metadata.{kind}) || object.metadata.{kind}.all(k, !k.startsWith('orchestrator.dev/') || "
                f"(k in oldObject.metadata.{kind} && object.metadata.{kind}[k] == oldObject.metadata.{kind}[k])) && "
                f"oldObject.metadata.{kind}.all(k, !k.startsWith('orchestrator.dev/') || k in object.metadata.{kind})))"
                for kind in ("labels", "annotations")
            ),
        ),
        (
            "A10 immutability: images and the deadline of a runner never change",
            (
                "object.spec.containers.map(c, c.image) == oldObject.spec.containers.map(c, c.image) && "
                "object.spec.initContainers.map(c, c.image) == oldObject.spec.initContainers.map(c, c.image) && "
                "object.spec.activeDeadlineSeconds == oldObject.spec.activeDeadlineSeconds"
            ),
        ),
    ]


def _images(pool: KubernetesPool, registries: Sequence[str]) -> Iterable[Rule]:
    if pool.require_digest:
        yield (
            "A3 images: every image is pinned by its digest",
            "variables.containers.all(c, c.image.matches('@sha256:[0-9a-f]{64}$'))",
        )
    if registries:
        prefixes = json.dumps([f"{one.rstrip('/')}/" for one in sorted(registries)])
        yield (
            "A3 images: every image is from a listed registry",
            f"variables.containers.all(c, {prefixes}.exists(r, c.image.startsWith(r)))",
        )


def _users(pool: KubernetesPool) -> Iterable[Rule]:
    """From 1.35 on the restricted profile itself lets pods of a user namespace run as root; this does not."""
    if not pool.host_users:
        yield (
            "A4 user: the pod has a user namespace of its own",
            "has(object.spec.hostUsers) && object.spec.hostUsers == false",
        )
    yield (
        "A4 user: no container runs as root or can become root",
        (
            "variables.containers.all(c, has(c.securityContext) && "
            "has(c.securityContext.runAsNonRoot) && c.securityContext.runAsNonRoot == true && "
            "has(c.securityContext.runAsUser) && c.securityContext.runAsUser > 0 && "
            "has(c.securityContext.allowPrivilegeEscalation) && c.securityContext.allowPrivilegeEscalation == false && "
            "(!has(c.securityContext.privileged) || c.securityContext.privileged == false))"
        ),
    )
    yield (
        "A4 user: job and agent run as different users",
        (
            "object.spec.containers.all(c, variables.initContainers.all(i, "
            "i.securityContext.runAsUser != c.securityContext.runAsUser))"
        ),
    )
    yield (
        "A4 user: nothing of the host is shared",
        " && ".join(f"(!has(object.spec.{name}) || object.spec.{name} == false)" for name in _NO_HOST),
    )


def _tokens(config: KubernetesConfig) -> Iterable[Rule]:
    yield (
        "A5 tokens: no credential for the API server",
        "has(object.spec.automountServiceAccountToken) && object.spec.automountServiceAccountToken == false",
    )
    yield (
        "A5 tokens: projected tokens are for the runner API and short-lived, and nothing else is projected",
        (
            "variables.volumes.all(v, !has(v.projected) || v.projected.sources.all(s, has(s.serviceAccountToken) && "
            f"has(s.serviceAccountToken.audience) && s.serviceAccountToken.audience == {_text(RUNNER_AUDIENCE)} && "
            "has(s.serviceAccountToken.expirationSeconds) && "
            f"s.serviceAccountToken.expirationSeconds <= {config.token_seconds}))"
        ),
    )


def _files() -> Iterable[Rule]:
    yield (
        "A6 files: root file systems are read-only",
        (
            "variables.containers.all(c, has(c.securityContext.readOnlyRootFilesystem) && "
            "c.securityContext.readOnlyRootFilesystem == true)"
        ),
    )
    yield (
        "A6 files: volumes are in memory or projected",
        (
            "variables.volumes.all(v, has(v.projected) || (has(v.emptyDir) && has(v.emptyDir.medium) && "
            "v.emptyDir.medium == 'Memory'))"
        ),
    )
    yield (
        "A6 files: no environment from elsewhere",
        "variables.containers.all(c, !has(c.envFrom) && (!has(c.env) || c.env.all(e, !has(e.valueFrom))))",
    )


def _limits() -> Iterable[Rule]:
    yield (
        "A7 limits: every container has its limits",
        (
            "variables.containers.all(c, has(c.resources) && has(c.resources.limits) && "
            "['cpu', 'memory', 'ephemeral-storage'].all(n, n in c.resources.limits))"
        ),
    )
    yield (
        "A7 limits: every volume in memory has its limit",
        "variables.volumes.all(v, !has(v.emptyDir) || has(v.emptyDir.sizeLimit))",
    )


def _placement(pool: KubernetesPool, config: KubernetesConfig) -> Iterable[Rule]:
    for key, value in sorted(labels(pool, config).items()):
        yield (
            f"A8 placement: label {key} is the pool's",
            (
                f"has(object.metadata.labels) && {_text(key)} in object.metadata.labels && "
                f"object.metadata.labels[{_text(key)}] == {_text(value)}"
            ),
        )
    yield (
        "A8 placement: the account is the pool's",
        f"has(object.spec.serviceAccountName) && object.spec.serviceAccountName == {_text(SERVICE_ACCOUNT)}",
    )
    yield ("A8 placement: the sandbox is the pool's", _equal_or_absent("runtimeClassName", pool.runtime_class))
    if pool.priority_class:
        yield (
            "A8 placement: the priority is the pool's",
            (
                f"{_equal_or_absent('priorityClassName', pool.priority_class)} && "
                "has(object.spec.preemptionPolicy) && object.spec.preemptionPolicy == 'Never'"
            ),
        )
    yield ("A8 placement: the scheduler chooses the node", "!has(object.spec.nodeName)")
    for key, value in sorted(pool.node_selector.items()):
        yield (
            f"A8 placement: only nodes with label {key}",
            (
                f"has(object.spec.nodeSelector) && {_text(key)} in object.spec.nodeSelector && "
                f"object.spec.nodeSelector[{_text(key)}] == {_text(value)}"
            ),
        )
    tolerated = json.dumps(sorted({*DEFAULT_TOLERATIONS, *(one.key for one in pool.tolerations)}))
    yield (
        "A8 placement: no taint is tolerated but the pool's",
        f"variables.tolerations.all(t, has(t.key) && t.key in {tolerated})",
    )


def _life(pool: KubernetesPool) -> Iterable[Rule]:
    yield ("A9 life: one attempt", "object.spec.restartPolicy == 'Never'")
    yield (
        "A9 life: a hard stop not behind the pool's",
        f"has(object.spec.activeDeadlineSeconds) && object.spec.activeDeadlineSeconds <= {hard_stop_seconds(pool)}",
    )


def _equal_or_absent(field: str, value: str) -> str:
    if not value:
        return f"!has(object.spec.{field})"
    return f"has(object.spec.{field}) && object.spec.{field} == {_text(value)}"


def _text(value: str) -> str:
    """A CEL string literal: JSON's escapes are CEL's too."""
    return json.dumps(value)
