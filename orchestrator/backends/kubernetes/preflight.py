"""Looks at the guards of every pool on the API server: `orchestrator preflight`, and the daemon itself now and then.

Only reads, with the verbs that the rendered roles give, and questions about rights. Nothing is mended here.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from orchestrator.backends.kubernetes import rights
from orchestrator.backends.kubernetes.answers import NotFoundError
from orchestrator.backends.kubernetes.client import ApiClient
from orchestrator.backends.kubernetes.config import RUNNER_AUDIENCE, KubernetesPool
from orchestrator.backends.kubernetes.drift import Absent, NetworkCheck, drift
from orchestrator.backends.kubernetes.guards import Document, Finding, Severity, expected, path
from orchestrator.backends.kubernetes.render.installation import Installation
from orchestrator.backends.kubernetes.rights import Right
from orchestrator.errors import GiveUpError, TryAgainError

_AT_ONCE = 8
_ADMISSION = "/apis/admissionregistration.k8s.io/v1"
_ADMISSION_KINDS = ("ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding")
_POD_SECURITY_SINCE = (1, 25)
_USER_NAMESPACES_SINCE = (1, 30)
_VERSION = re.compile(r"v?(\d+)\.(\d+)")


@dataclass(frozen=True, slots=True)
class Report:
    """What one look found; `version` is the API server's. Pools without findings have all their guards."""

    version: str
    findings: tuple[Finding, ...]

    def missing(self, pool: str) -> tuple[Finding, ...]:
        """What keeps a protected pool from taking jobs."""
        return tuple(one for one in self.findings if one.pool in ("", pool) and one.severity is Severity.MISSING)


class Preflight:
    """One look at everything, as often as wanted. `user` empty asks for our own rights; else those of that user,
    for which the right to create SubjectAccessReviews is needed: an operator's."""

    def __init__(
        self,
        client: ApiClient,
        installation: Installation,
        checks: Mapping[str, NetworkCheck],
        *,
        user: str = "",
        config_file: str = "FILE",
    ) -> None:
        """`checks` compare the NetworkPolicies of each namespace."""
        self._client = client
        self._installation = installation
        self._checks = checks
        self._user = user
        self._file = config_file
        self._turns = asyncio.Semaphore(_AT_ONCE)

    async def look(self) -> Report:
        """All findings, in the order of pools.

        Raises:
            TryAgainError: the API server cannot be asked now; nothing is known.
        """
        version = str((await self._get("/version")).get("gitVersion", ""))
        served = await self._served()
        shared: dict[str, Document | Absent] = {}
        findings = await self._reviews_work()
        for pool in self._installation.pools:
            findings += _version_findings(version, pool)
            findings += await self._pool(pool, served, shared)
            try:
                findings += await self._rights(pool)
            except GiveUpError as error:
                findings += rights.unknown(pool.name, f"{error} [{error.reason}]"[:300], self._file)
        return Report(version, tuple(findings))

    async def _pool(
        self, pool: KubernetesPool, served: set[str], shared: dict[str, Document | Absent]
    ) -> list[Finding]:
        documents = expected(self._installation, pool)
        wanted = {path(one): one for one in documents if one["kind"] != "NetworkPolicy"}
        asked = [where for where in wanted if where not in shared]

        async def one(where: str) -> Document | Absent:
            if wanted[where]["kind"] in _ADMISSION_KINDS and wanted[where]["kind"] not in served:
                return Absent("is not known to this API server: it is part of Kubernetes 1.30 and newer")
            return await self._read(where)

        shared |= dict(zip(asked, await asyncio.gather(*(one(where) for where in asked)), strict=True))
        found = {(one["kind"], one["metadata"]["name"]): shared[where] for where, one in wanted.items()}
        where = f"/apis/networking.k8s.io/v1/namespaces/{pool.namespace}/networkpolicies"
        listed = await self._read(where)
        policies: Sequence[Document] | Absent = listed if isinstance(listed, Absent) else listed.get("items") or []
        check = self._checks[pool.namespace]
        # Comparing by meaning can take a while where somebody wrote many policies.
        return await asyncio.to_thread(drift, pool.name, documents, found, policies, check, self._file)

    async def _read(self, where: str) -> Document | Absent:
        try:
            return await self._get(where)
        except NotFoundError:
            return Absent("does not exist")
        except GiveUpError as error:
            return Absent(f"cannot be read: {error} [{error.reason}]"[:300])

    async def _served(self) -> set[str]:
        """Kinds of the admission API that this server has."""
        listed = await self._read(_ADMISSION)
        return set() if isinstance(listed, Absent) else {str(one.get("kind")) for one in listed.get("resources") or ()}

    # Rights.

    async def _rights(self, pool: KubernetesPool) -> list[Finding]:
        needed = rights.needed(self._installation, pool)
        if self._user:
            answers = await self._reviewed(pool.namespace, [*needed, *rights.FORBIDDEN])
            missing = [one for one in needed if not answers[one]]
            excess = [one for one in rights.FORBIDDEN if answers[one]]
        else:
            rules, whole = await self._own_rules(pool.namespace)
            missing = [one for one in needed if not rights.held(rules, one)]
            excess = [one for one in rights.FORBIDDEN if rights.any_name(rules, one)]
            if not whole:
                # Another authorizer has a say that it does not list, so each right is asked for.
                answers = await self._reviewed(pool.namespace, [*missing, *rights.FORBIDDEN])
                missing = [one for one in missing if not answers[one]]
                excess = [one for one in rights.FORBIDDEN if one in excess or answers[one]]
        user = self._installation.daemon_user
        return rights.findings(pool.name, missing, excess, user, self._file)

    async def _own_rules(self, namespace: str) -> tuple[list[Mapping[str, Any]], bool]:
        """All our rules in a namespace, the cluster's included, by one request; and whether that is all."""
        status = (await self._ask("SelfSubjectRulesReview", {"namespace": namespace})).get("status") or {}
        return list(status.get("resourceRules") or ()), not status.get("incomplete")

    async def _reviewed(self, namespace: str, wanted: Sequence[Right]) -> dict[Right, bool]:
        """Each right by a question of its own."""

        async def one(right: Right) -> bool:
            spec: Document = {"resourceAttributes": right.attributes(namespace)}
            kind = "SelfSubjectAccessReview"
            if self._user:
                kind, spec = "SubjectAccessReview", spec | {"user": self._user, "groups": _groups(self._user)}
            return bool(((await self._ask(kind, spec)).get("status") or {}).get("allowed"))

        return dict(zip(wanted, await asyncio.gather(*(one(right) for right in wanted)), strict=True))

    async def _reviews_work(self) -> list[Finding]:
        """A token that is none must be called none: then TokenReview for our audience works."""
        spec = {"token": "not-a-token", "audiences": [RUNNER_AUDIENCE]}
        try:
            status = (await self._ask("TokenReview", spec)).get("status") or {}
        except GiveUpError as error:
            what = f"TokenReview does not work: {error} [{error.reason}]"[:300]
        else:
            if not status.get("authenticated"):
                return []
            what = "TokenReview takes anything for a token"
        fix = f"orchestrator manifests --config {self._file} --output cluster && kubectl apply -f cluster/cluster.yaml"
        return [Finding("token-review", "", what, "pods that claim other pods' work", fix)]

    async def _ask(self, kind: str, spec: Document) -> Document:
        group = "authentication" if kind == "TokenReview" else "authorization"
        where = f"/apis/{group}.k8s.io/v1/{kind.lower()}s"
        body = msgspec.json.encode({"apiVersion": f"{group}.k8s.io/v1", "kind": kind, "spec": spec})
        async with self._turns:
            return _document(await self._client.request("POST", where, body=body))

    async def _get(self, where: str) -> Document:
        async with self._turns:
            return _document(await self._client.request("GET", where))


def _groups(user: str) -> list[str]:
    """Those of a ServiceAccount's user name."""
    namespace = user.split(":")[2]
    return ["system:serviceaccounts", f"system:serviceaccounts:{namespace}", "system:authenticated"]


def _document(answer: bytes) -> Document:
    try:
        document = msgspec.json.decode(answer)
    except msgspec.DecodeError:
        document = None
    if not isinstance(document, dict):
        raise TryAgainError("the API server's answer is no JSON object", reason="api_unavailable")
    return document


def _version_findings(version: str, pool: KubernetesPool) -> list[Finding]:
    """What a server is too old for, and drops or ignores without a word."""
    match = _VERSION.match(version)
    number = (int(match[1]), int(match[2])) if match else (0, 0)
    made: list[Finding] = []
    if number < _POD_SECURITY_SINCE:
        what = f"Kubernetes {version or 'of unknown version'} does not enforce Pod Security labels (1.25 and newer do)"
        made.append(Finding("server-version", pool.name, what, "pods with the node's rights", "upgrade the cluster"))
    if number < _USER_NAMESPACES_SINCE and not pool.host_users:
        what = f"Kubernetes {version or 'of unknown version'} ignores hostUsers: false (1.30 and newer need not)"
        fix = "upgrade the cluster, or set kubernetes.host_users of the pool to true"
        made.append(
            Finding("user-namespace", pool.name, what, "a broken-out root that is the node's", fix, Severity.WARNING)
        )
    return made
