"""The eight points of a delivery without standing trust, each with the evidence that this installation has of it. Pure.

A point is *met*, *partly* met or *unmet*; *unknown* where nothing has happened yet that could show it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

MET, PARTLY, UNMET, UNKNOWN = "met", "partly", "unmet", "unknown"
SHORT_SECONDS: Final = 3600


@dataclass(frozen=True, slots=True)
class Standing:
    """What is configured and what was counted. Shares are from 0 to 1, None of nothing; times in seconds."""

    secretless_share: float | None
    secrets: int
    secrets_overdue: int
    secrets_failing: int
    secrets_by_hand: int
    longest_token_seconds: int
    longest_session_seconds: int
    environments: Sequence[str]
    issuers: Sequence[str]
    bundle_digest: str
    bundle_tests: int | None
    deploys_traced_share: float | None
    pools: int
    pools_proving_egress: int
    audit_enabled: bool
    audit_healthy: bool
    anchors: int


def checklist(now: Standing) -> list[dict[str, Any]]:
    """Each point: number, title, state, evidence, and what to do where it is not met."""
    points = (_identity, _short, _policy, _signed, _runners, _separate, _logged, _rotated)
    return [{"number": number, **point(now)} for number, point in enumerate(points, 1)]


def _point(title: str, state: str, evidence: Sequence[str], fix: str) -> dict[str, Any]:
    return {"title": title, "state": state, "evidence": list(evidence), "fix": "" if state == MET else fix}


def _identity(now: Standing) -> dict[str, Any]:
    shown = f"of the jobs of the last 30 days, got no static secret: {percent(now.secretless_share)}"
    state = MET if now.secretless_share == 1 or not now.secrets else PARTLY
    fix = "replace the registered secrets, the riskiest first: orchestrator inventory"
    return _point(
        "Jobs have an identity of their own instead of secrets", state, [shown, f"{now.secrets} registered"], fix
    )


def _short(now: Standing) -> dict[str, Any]:
    longest = max(now.longest_token_seconds, now.longest_session_seconds)
    state = MET if longest <= SHORT_SECONDS else PARTLY
    shown = [f"a token lives {now.longest_token_seconds} s at most", f"a session of it {now.longest_session_seconds} s"]
    return _point("Credentials are short-lived", state, shown, "lower max_ttl_seconds and the targets' session limits")


def _policy(now: Standing) -> dict[str, Any]:
    tests = "its tests belong to another engine" if now.bundle_tests is None else f"{now.bundle_tests} files of tests"
    state = MET if now.bundle_tests else UNKNOWN if now.bundle_tests is None else UNMET
    return _point(
        "Policy is code, reviewed and tested", state, [now.bundle_digest or "no digest", tests], "write tests"
    )


def _signed(now: Standing) -> dict[str, Any]:
    part = now.deploys_traced_share
    state = UNKNOWN if part is None else MET if part == 1 else PARTLY if part else UNMET
    shown = f"of what was deployed, has all three: {percent(part)}"
    return _point(
        "What is deployed is signed, with SBOM and provenance", state, [shown], "see docs/how-to/write-policy.md"
    )


def _runners(now: Standing) -> dict[str, Any]:
    state = MET if now.pools_proving_egress == now.pools else PARTLY if now.pools_proving_egress else UNMET
    shown = f"{now.pools_proving_egress} of {now.pools} pools start no job before forbidden egress was seen to fail"
    return _point("Runners live for one job, with a closed network", state, [shown], "set require_egress_proof")


def _separate(now: Standing) -> dict[str, Any]:
    apart = len(now.environments) >= 2
    state = MET if apart and len(now.issuers) >= 2 else PARTLY if now.environments else UNMET
    shown = [f"trust maps: {', '.join(now.environments) or 'none'}", f"issuers: {len(now.issuers)}"]
    fix = "write a trust map for each environment, and give protected ones an issuer of their own"
    return _point("Environments have trust policies of their own", state, shown, fix)


def _logged(now: Standing) -> dict[str, Any]:
    state = UNMET if not now.audit_enabled else MET if now.audit_healthy and now.anchors else PARTLY
    told = "on" if now.audit_enabled else "off"
    shown = [f"audit log: {told}, {'healthy' if now.audit_healthy else 'not healthy'}", f"{now.anchors} anchors"]
    todo = ["switch the audit log on"] if not now.audit_enabled else []
    ill = now.audit_enabled and not now.audit_healthy
    todo += ["see in the daemon's log why the audit log cannot be written"] if ill else []
    todo += ["anchor its checkpoints elsewhere"] if not now.anchors else []
    fix = ", and ".join(todo)
    return _point("Every exchange, decision and deployment is logged", state, shown, fix)


def _rotated(now: Standing) -> dict[str, Any]:
    bad = now.secrets_overdue + now.secrets_failing
    state = MET if not bad and not now.secrets_by_hand else UNMET if bad else PARTLY
    shown = [
        f"{now.secrets_overdue} of {now.secrets} secrets are overdue",
        f"{now.secrets_failing} rotations fail",
        f"{now.secrets_by_hand} have nobody but people to rotate them",
    ]
    return _point(
        "Secrets that are left have owners and are rotated", state, shown, "orchestrator secrets; give each `rotate`"
    )


def percent(part: float | None) -> str:
    return "none yet" if part is None else f"{part:.0%}"
