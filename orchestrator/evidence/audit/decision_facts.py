"""What the audit log is told of a decision: what was answered, and from what. Pure; see `facts`."""

from __future__ import annotations

from typing import Any, Final

from orchestrator.model.decision import Decision

_MAX_TEXT: Final = 400
_MAX_CODES: Final = 32
_MAX_RARE: Final = 16
"""Entries of lists that are mostly empty."""
_MAX_CODE: Final = 64
_MAX_DIGEST: Final = 71


def of_decision(decision: Decision) -> dict[str, Any]:
    """Reasons stand by their codes, since their text may quote the job."""
    return {
        "id": decision.id[:_MAX_TEXT],
        "verdict": decision.verdict.value,
        "reasons": [reason.code[:_MAX_CODE] for reason in decision.reasons[:_MAX_CODES]],
        "observed": [reason.code[:_MAX_CODE] for reason in decision.observed[:_MAX_RARE]],
        "waived": _waived(decision),
        "input_digest": decision.input_digest[:_MAX_TEXT],
        "bundle_digest": decision.bundle_digest[:_MAX_TEXT],
        "engine": decision.engine[:_MAX_TEXT],
    }


def _waived(decision: Decision) -> list[str]:
    """Each code that was set aside, after the exception that did it."""
    told = [(waiver.exception, code) for waiver in decision.waivers for code in waiver.codes]
    return [f"{exception[:_MAX_DIGEST]} {code[:_MAX_CODE]}" for exception, code in told[:_MAX_RARE]]
