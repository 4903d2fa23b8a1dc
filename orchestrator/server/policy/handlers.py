"""Would this deployment be allowed: policy's answer for whoever asks, before there is a job."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from aiohttp import web

from orchestrator.errors import GiveUpError
from orchestrator.model.decision import Decision, Reason
from orchestrator.server import schemas
from orchestrator.server.deps import CALLER, PolicyQuestion, ServerDeps
from orchestrator.server.dispatch import json_response
from orchestrator.server.entrance.body import read_model, read_query
from orchestrator.server.policy.shapes import CheckRequest


class PolicyCheck:
    """The handler."""

    def __init__(self, deps: ServerDeps) -> None:
        self._deps = deps

    async def check_policy(self, request: web.Request) -> web.Response:
        read_query(request, schemas.NoQuery)
        limits = self._deps.limits
        asked = await read_model(
            request, CheckRequest, limit_bytes=limits.max_body_bytes, timeout_seconds=limits.body_timeout_seconds
        )
        question = PolicyQuestion(
            environment=asked.environment,
            artifact_digest=asked.artifact_digest,
            ticket=asked.ticket,
            pool=asked.pool,
            secrets=tuple(asked.secrets),
        )
        check = self._deps.check_policy
        if check is None:
            raise GiveUpError("This daemon answers no such questions.", reason="not_found")
        decision = await check(request[CALLER], question)
        return json_response(check_view(decision, asked.environment, asked.artifact_digest))


def check_view(decision: Decision, environment: str, artifact_digest: str) -> dict[str, Any]:
    """An answer as the API shows it; see `policy_shapes.CheckView`."""
    return {
        "allowed": decision.allowed,
        "verdict": decision.verdict.value,
        "environment": environment,
        "artifact_digest": artifact_digest,
        "reasons": _reasons(decision.reasons),
        "observed": _reasons(decision.observed),
        "waivers": [{"exception": one.exception, "codes": list(one.codes)} for one in decision.waivers],
        "decision_id": decision.id,
        "input_digest": decision.input_digest,
        "bundle_digest": decision.bundle_digest,
        "engine": decision.engine,
    }


def _reasons(reasons: Sequence[Reason]) -> list[dict[str, str]]:
    return [{"code": one.code, "message": one.message} for one in reasons]
