"""What the daemon may do in the cluster: not less than it needs, and none of what would make it a way in. Pure.

Source of the second list: the Kubernetes documentation, *Role Based Access Control Good Practices*, privilege
escalation risks.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from orchestrator.backends.kubernetes.config import KubernetesPool
from orchestrator.backends.kubernetes.guards import Document, Finding, Guard, Severity, mend
from orchestrator.backends.kubernetes.render.installation import Installation
from orchestrator.backends.kubernetes.render.pools import pool_documents
from orchestrator.backends.kubernetes.render.rbac import cluster_documents

_RBAC = "rbac.authorization.k8s.io"
_ADMISSION = "admissionregistration.k8s.io"


@dataclass(frozen=True, slots=True)
class Right:
    """One verb on one resource (`pods/log` is a subresource), by name if `name` is given."""

    verb: str
    resource: str
    group: str = ""
    name: str = ""

    def __str__(self) -> str:
        where = f"{self.resource}.{self.group}" if self.group else self.resource
        return f"{self.verb} {where}{f' {self.name}' if self.name else ''}"

    def attributes(self, namespace: str) -> Document:
        """authorization.k8s.io/v1 ResourceAttributes."""
        resource, _, sub = self.resource.partition("/")
        made = {"verb": self.verb, "group": self.group, "resource": resource, "namespace": namespace}
        return made | ({"subresource": sub} if sub else {}) | ({"name": self.name} if self.name else {})


def _all(verbs: str, resource: str, group: str = "") -> tuple[Right, ...]:
    return tuple(Right(verb, resource, group) for verb in verbs.split())


FORBIDDEN: tuple[Right, ...] = (
    *_all("get list watch create update patch delete", "secrets"),
    *_all("create", "serviceaccounts/token"),
    *_all("create update patch delete", "serviceaccounts"),
    *_all("create get", "pods/exec"),
    *_all("create get", "pods/attach"),
    *_all("create get", "pods/portforward"),
    *_all("create get", "pods/proxy"),
    *_all("update patch", "pods/ephemeralcontainers"),
    *_all("update patch deletecollection", "pods"),
    *_all("create", "pods/eviction"),
    *_all("create", "pods/binding"),
    *_all("get create", "nodes/proxy"),
    *_all("update patch", "nodes"),
    *_all("impersonate", "users"),
    *_all("impersonate", "groups"),
    *_all("impersonate", "serviceaccounts"),
    *_all("create update patch bind escalate", "roles", _RBAC),
    *_all("create update patch", "rolebindings", _RBAC),
    *_all("create update patch bind escalate", "clusterroles", _RBAC),
    *_all("create update patch", "clusterrolebindings", _RBAC),
    *_all("create update patch delete", "networkpolicies", "networking.k8s.io"),
    *_all("create update patch delete", "resourcequotas"),
    *_all("create update patch delete", "limitranges"),
    *_all("create update patch delete", "namespaces"),
    *_all("create", "persistentvolumes"),
    *_all("create update patch delete", "validatingadmissionpolicies", _ADMISSION),
    *_all("create update patch delete", "validatingadmissionpolicybindings", _ADMISSION),
    *_all("create update patch delete", "validatingwebhookconfigurations", _ADMISSION),
    *_all("create update patch delete", "mutatingwebhookconfigurations", _ADMISSION),
    *_all("create update patch approve", "certificatesigningrequests", "certificates.k8s.io"),
)
"""Each of these is a way from the daemon to more than pods of its pools."""


def needed(installation: Installation, pool: KubernetesPool) -> list[Right]:
    """What the rendered roles give for this pool: the daemon needs exactly that."""
    others = {one.namespace for one in installation.pools} - {pool.namespace}
    rules = [
        rule
        for one in (*pool_documents(installation, pool), *cluster_documents(installation, []))
        if one["kind"] in ("Role", "ClusterRole")
        for rule in one["rules"]
    ]
    return [
        Right(verb, resource, group, name)
        for rule in rules
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for name in rule.get("resourceNames", [""])
        for verb in rule["verbs"]
        if name not in others and group != _ADMISSION
    ]


def held(rules: Iterable[Mapping[str, Any]], right: Right) -> bool:
    """Whether any of these rules (the `resourceRules` of a SelfSubjectRulesReview) gives the right.

    A rule for some names only does not give a right that was asked for without a name; it counts as giving it all
    the same when the right is a forbidden one, so ask with `name` empty and see `any_name`.
    """
    return any(_gives(rule, right) and _names(rule, right) for rule in rules)


def any_name(rules: Iterable[Mapping[str, Any]], right: Right) -> bool:
    """Whether the right is given for anything at all, if only for one name."""
    return any(_gives(rule, right) for rule in rules)


def _gives(rule: Mapping[str, Any], right: Right) -> bool:
    _, slash, sub = right.resource.partition("/")
    resources = {right.resource, "*"} | ({f"*/{sub}"} if slash else set())
    return bool(
        {right.verb, "*"} & set(rule.get("verbs") or ())
        and {right.group, "*"} & set(rule.get("apiGroups") or ())
        and resources & set(rule.get("resources") or ())
    )


def _names(rule: Mapping[str, Any], right: Right) -> bool:
    names = rule.get("resourceNames") or ()
    return not names or right.name in names


_LESS = Guard("rights", "a daemon that cannot do its work or see its guards", "", "", False, "")
_MORE = Guard("excess-rights", "a daemon gone wrong that takes over the cluster", "", "", False, "")


def findings(
    pool: str, missing: Sequence[Right], excess: Sequence[Right], user: str, config_file: str
) -> list[Finding]:
    """What is said about the daemon's rights; excess ones are a missing guard."""
    made: list[Finding] = []
    if missing:
        what = f"the daemon may not: {_said(missing)}"
        made.append(
            Finding(_LESS.name, pool, what, _LESS.protects_from, mend(_LESS, pool, config_file), Severity.WARNING)
        )
    if excess:
        what = f"the daemon may, and must not: {_said(excess)}"
        fix = (
            f"find what gives {user} more than the rendered roles do, and remove it: "
            "kubectl get rolebindings,clusterrolebindings -A -o wide"
        )
        made.append(Finding(_MORE.name, pool, what, _MORE.protects_from, fix))
    return made


def unknown(pool: str, why: str, config_file: str) -> list[Finding]:
    """When nobody answers what the daemon may do, nobody can say that it is not too much."""
    what = f"what the daemon may do cannot be asked: {why}"
    return [Finding(_MORE.name, pool, what, _MORE.protects_from, mend(_LESS, pool, config_file))]


def _said(rights: Sequence[Right]) -> str:
    shown = ", ".join(str(one) for one in rights[:8])
    return shown if len(rights) <= 8 else f"{shown} and {len(rights) - 8} more"
