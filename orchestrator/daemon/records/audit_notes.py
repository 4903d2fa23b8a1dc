"""What the audit log is told that concerns no job: rules and keys, as they come into force. Nothing without a log."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from orchestrator.daemon.records.audit import Audit
from orchestrator.evidence.audit.facts import DAEMON
from orchestrator.evidence.audit.record import Json
from orchestrator.identity.issuers import IssuerSet
from orchestrator.identity.keys import KeyStore
from orchestrator.identity.rotation import KeyFacts, RotationPlan
from orchestrator.identity.trust.trust_map import TrustMap
from orchestrator.model.job import Caller
from orchestrator.policy.bundle import BundleHolder
from orchestrator.policy.decision_log.deny_watch import Jump
from orchestrator.policy.files import Bundle
from orchestrator.policy.opa_server import OpaServerEngine

BY_SIGNAL = "signal:SIGHUP"
"""Who asked for a reload: whoever may send signals to the daemon."""

CLUSTER = "cluster"
"""Who wants a workload to start where the API server does not say."""

_MOST_FILES = 64
_PATH = 120
"""Characters of a path: together below what a record can hold."""
_MOST_KEYS = 64
_MOST_SETTINGS = 32


class AuditNotes:
    """Each record is durable when its call returns; what it tells of comes into force after that.

    Raises:
        TryAgainError: each of them; reason `audit_unavailable`.
    """

    def __init__(self, audit: Audit | None) -> None:
        self._audit = audit

    async def _note(self, kind: str, data: Mapping[str, Json], actor: str) -> None:
        if self._audit is not None:
            await self._audit.note(kind, data, actor=actor)

    async def policy_in_force(self, engine: BundleHolder | OpaServerEngine, actor: str) -> None:
        """What answers from the start."""
        if isinstance(engine, BundleHolder):
            await self.policy_loaded(engine.bundle, actor)
        else:
            await self._note("policy.loaded", {"engine": "opa", "bundle_digest": ""}, actor)

    async def policy_loaded(self, bundle: Bundle, actor: str = BY_SIGNAL) -> None:
        """A bundle is about to be in force."""
        files = {path[:_PATH]: digest for path, digest in sorted(bundle.files.items())[:_MOST_FILES]}
        data: dict[str, Json] = {"engine": "regorus", "bundle_digest": bundle.digest, "files": files}
        data["file_count"] = len(bundle.files)
        await self._note("policy.loaded", data, actor)

    async def deny_jump(self, jump: Jump, *, rolled_back: bool) -> None:
        """The bundle in force denies far more than the one before, which is about to be in force again or not."""
        data: dict[str, Json] = {
            "denied_per_1000_before": round(1000 * jump.before),
            "questions_before": jump.before_count,
            "denied_per_1000_after": round(1000 * jump.after),
            "questions_after": jump.after_count,
            "rolled_back": rolled_back,
        }
        await self._note("policy.deny_jump", data, DAEMON)

    async def trust_loaded(self, trust: TrustMap, actor: str = BY_SIGNAL) -> None:
        """A trust map is about to be in force."""
        documents: list[Json] = [
            {
                "environment": one.environment,
                "digest": one.digest,
                "issuer": one.issuer,
                "protected": one.protected,
                "grants": len(one.grants),
            }
            for one in trust.documents
        ]
        await self._note("trust.loaded", {"trust_digest": trust.digest, "documents": documents}, actor)

    async def deployment_judged(self, data: Mapping[str, Json], requested_by: str) -> None:
        """A cluster is about to be told whether a workload may start. `requested_by` is who wants it there, in the
        cluster's words."""
        actor = self._audit.keyed("cluster_user", requested_by) if self._audit is not None and requested_by else ""
        await self._note("deployment.judged", data, actor or CLUSTER)

    async def signers_loaded(self, digest: str, names: Collection[str], actor: str = BY_SIGNAL) -> None:
        """Keys of signers of artifacts are about to be in force; `digest` is of the keys and what each may say."""
        await self._note("signers.loaded", {"digest": digest, "names": sorted(names)[:_MOST_KEYS]}, actor)

    async def evidence_uploaded(
        self, digest: str, attestation: str, predicate_type: str, signers: Sequence[str], caller: Caller
    ) -> None:
        """What somebody signed about an artifact is about to be kept; `signers` are those of ours who did."""
        data: dict[str, Json] = {"artifact": digest, "attestation": attestation, "signers": list(signers)[:_MOST_KEYS]}
        data["predicate_type"] = predicate_type[:_PATH]
        await self._note("evidence.uploaded", data, self.who(caller))

    async def settings_loaded(self, changed: Sequence[str], restart: Sequence[str], actor: str) -> None:
        """Changed settings are about to be in force, told by their names; `restart` differ too and wait for one."""
        data: dict[str, Json] = {
            "changed": [name[:_PATH] for name in changed[:_MOST_SETTINGS]],
            "changed_count": len(changed),
            "needs_restart": [name[:_PATH] for name in restart[:_MOST_SETTINGS]],
        }
        await self._note("settings.loaded", data, actor)

    async def drain_asked(self, limit_seconds: float | None, caller: Caller) -> None:
        """No job is about to be begun any more; those that run are cancelled after the limit, if there is one."""
        limit = None if limit_seconds is None else round(limit_seconds * 1000)
        await self._note("daemon.drained", {"limit_ms": limit}, self.who(caller))

    async def drain_taken_back(self, caller: Caller) -> None:
        """Jobs are about to be begun again."""
        await self._note("daemon.resumed", {}, self.who(caller))

    async def refused(self, what: str, reason: str, actor: str = BY_SIGNAL) -> None:
        """What was to be loaded anew, `policy` or `trust map`, is not; the one in force stays."""
        await self._note(f"{what.partition(' ')[0]}.refused", {"reason": reason}, actor)

    async def secret(self, kind: str, name: str, data: Mapping[str, Json], actor: str) -> None:
        """A step in a registered secret's life, `secret.…`: before it is taken, or after it was with what came of it.
        Values are told by their versions only."""
        await self._note(kind, {"secret": name, **data}, actor)

    async def pipeline_retired(self, pipeline: str, secrets: Sequence[str], actor: str) -> None:
        """This pipeline gets no registered secret any more, and these are retired with it."""
        await self._note("secret.pipeline_retired", {"pipeline": pipeline[:_PATH], "secrets": list(secrets)}, actor)

    async def approvers_loaded(self, digest: str, people: int, actor: str) -> None:
        """An approvers' file is about to be in force."""
        await self._note("approvers.loaded", {"digest": digest, "people": people}, actor)

    async def approval_taken(self, data: Mapping[str, Json], actor: str) -> None:
        """What people have signed is about to count: an approval, an exception, a revocation or a review."""
        await self._note("approval.taken", data, actor)

    async def keys_in_use(self, issuers: IssuerSet, actor: str) -> None:
        """The signing keys of every issuer, as they are from the start."""
        for name, issuer in issuers.items():
            keys = [
                {"kid": key.kid, "algorithm": key.algorithm, "state": key.state.value} for key in issuer.keys.states()
            ]
            await self._note("keys.loaded", {"issuer": name, "keys": keys[:_MOST_KEYS]}, actor)

    async def page_signed_in(self, way: str, role: str, caller: Caller) -> None:
        """Somebody is about to be signed in on the live page, `way` is a provider's name or `link`."""
        await self._note("page.signed_in", {"way": way, "role": role}, self.who(caller))

    async def page_link_made(self, caller: Caller) -> None:
        """A link is about to be given out that signs its reader in as an operator."""
        await self._note("page.link_made", {}, self.who(caller))

    def who(self, caller: Caller) -> str:
        """A caller as `actor` of a record; empty where there is no log to read it in."""
        return self._audit.keyed("caller", caller.id) if self._audit is not None else ""

    async def key_revoked(self, name: str, key: KeyFacts, actor: str) -> None:
        """A key of the issuer of this name is about to be withdrawn."""
        data: dict[str, Json] = {"issuer": name, "kid": key.kid, "algorithm": key.algorithm, "state": key.state.value}
        await self._note("keys.revoked", data, actor)

    async def key_rotation_asked(self, name: str, at_once: bool, actor: str) -> None:
        """Keys of the issuer of this name are about to be followed by others, for somebody asked for it."""
        await self._note("keys.rotation_asked", {"issuer": name, "at_once": at_once}, actor)

    async def keys_rotated(self, name: str, plan: RotationPlan, keys: KeyStore, actor: str) -> None:
        """Keys of the issuer of this name have changed: by plan, or because one was withdrawn or somebody asked."""
        data: dict[str, Json] = {
            "issuer": name,
            "created": [f"{algorithm} {state.value}" for algorithm, state in plan.create],
            "activated": plan.activate,
            "retired": plan.retire,
            "removed": plan.remove,
            "keys": [f"{key.kid} {key.state.value}" for key in keys.states()[:_MOST_KEYS]],
        }
        await self._note("keys.rotated", data, actor)
