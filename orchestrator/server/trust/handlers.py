"""What the trust map says: of one job and audience, and of everybody.

An explanation shows other jobs' grants, so operators alone see all of it; whose job it is sees the answer.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from aiohttp import web

from orchestrator.errors import GiveUpError
from orchestrator.model import events
from orchestrator.model.events import Fact
from orchestrator.model.record import Record, fold
from orchestrator.server import schemas
from orchestrator.server.deps import CALLER, ServerDeps
from orchestrator.server.dispatch import Jobs, json_response
from orchestrator.server.entrance.body import read_query
from orchestrator.server.views import timestamp


class Trust:
    """The handlers of the trust map's operations."""

    def __init__(self, deps: ServerDeps, jobs: Jobs) -> None:
        self._deps = deps
        self._jobs = jobs

    async def explain_trust(self, request: web.Request) -> web.Response:
        query = read_query(request, schemas.TrustQuery)
        job_id, facts = await self._jobs.visible_facts(request)
        found = self._explained(record_of(facts), query.audience, query.role)
        if found["explanation"] is not None and not self._jobs.is_operator(request[CALLER]):
            found["explanation"] = {**found["explanation"], "candidates": [], "left_out": 0}
        told = {"job_id": job_id, "audience": query.audience, "role": query.role, **found}
        return json_response(told | {"recorded": list(_recorded(facts, query.audience))})

    async def trust_inventory(self, request: web.Request) -> web.Response:
        read_query(request, schemas.NoQuery)
        if not self._jobs.is_operator(request[CALLER]):
            raise GiveUpError(
                "Only operators may see the trust map.",
                reason="operators_only",
                fix="use a caller token of the daemon itself, as its command line does",
            )
        trust = self._deps.trust
        return json_response({"configured": trust is not None, **(trust.inventory() if trust else _NO_MAP)})

    def _explained(self, record: Record | None, audience: str, role: str) -> dict[str, Any]:
        trust = self._deps.trust
        if trust is None:
            return {"listed": None, "explanation": None, "note": "no trust map is configured: policy alone decides"}
        listed = trust.listed(audience)
        if record is None:
            return {"listed": listed, "explanation": None, "note": "retention has removed what was known of the job"}
        explanation = trust.explain(record, audience, role)
        note = "" if explanation is not None else "the job's pool is not configured any more"
        return {"listed": listed, "explanation": explanation, "note": note}


_NO_MAP: Mapping[str, Any] = {"trust_digest": "", "grants": [], "by_identity": {}, "by_target": {}}


def record_of(facts: Sequence[Fact]) -> Record | None:
    """The job as it stands; None when only one line of it is kept."""
    return None if isinstance(facts[0].event, events.JobCompacted) else fold(facts)


def _recorded(facts: Sequence[Fact], audience: str) -> Iterator[dict[str, Any]]:
    """What was decided and done about this audience so far, in order."""
    known: set[str] = set()
    for fact in facts:
        told: dict[str, Any]
        match fact.event:
            case events.ExchangeDecided(asked, decision) if asked == audience:
                told = {
                    "what": "decided",
                    "by": "policy",
                    "reason": decision.verdict.value,
                    "detail": decision.explain(),
                }
                told |= {"decision_id": decision.id}
            case events.TokenIssued() as issued if issued.audience == audience:
                known.add(issued.jti)
                told = {"what": "issued", "role": issued.role, "rule": issued.rule, "jti": issued.jti}
                told |= {"kind": issued.kind, "trust_digest": issued.trust_digest, "expires_at": issued.expires_at}
            case events.TokenRefused() as refused if refused.audience == audience:
                told = {"what": "refused", "reason": refused.reason, "role": refused.role, "rule": refused.rule}
                told |= {"detail": refused.detail, "jti": refused.jti}
            case events.CredentialRevoked(jti, kind) if jti in known:
                told = {"what": "revoked", "jti": jti, "kind": kind}
            case _:
                continue
        yield {"at": timestamp(fact.at_ns), **told}
