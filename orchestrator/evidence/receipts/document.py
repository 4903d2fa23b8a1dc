"""What a teardown receipt holds: an in-toto statement with a predicate of our own. Values only.

It says what the job was given and how each of it ended: its runner, its ways in and out, its credentials. What it
leaves out is empty or 0. Times are RFC 3339 in UTC. `docs/how-to/check-a-receipt.md` explains each field.

Source: in-toto Statement v1.
"""

from __future__ import annotations

from datetime import UTC, datetime
from functools import lru_cache
from typing import Final

import msgspec

PREDICATE_TYPE: Final = "urn:orchestrator:teardown-receipt:v1"
"""A name, not an address: the daemon does not know where its documentation is published."""

UNKNOWN: Final = "unknown"
"""When a session at a target ends that is not in our trust map: the target decides."""


class Part(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Of the document: a field that has its default is left out."""


class JobPart(Part, frozen=True, kw_only=True):
    """`caller` is the caller's short id, `platform_key` the platform's own name of the job where it gave one."""

    id: str
    source: str
    attempt: int
    pool: str
    caller: str
    trace_id: str
    platform_key: str = ""


class OutcomePart(Part, frozen=True, kw_only=True):
    result: str
    reason: str
    exit_code: int | None = None
    cancelled_by: str = ""


class TimesPart(Part, frozen=True, kw_only=True):
    """`sealed` is when the receipt was made, after all that it tells."""

    offered: str
    ended: str
    sealed: str
    admitted: str = ""
    bound: str = ""
    named: str = ""


class RunnerUse(Part, frozen=True, kw_only=True):
    """One runner under the job's one name. `bound` is there for the only one that ever got the work."""

    uid: str
    created: str = ""
    bound: str = ""
    vanished: str = ""


class RunnerPart(Part, frozen=True, kw_only=True):
    """`absent` is when a look by `seen_by` found nothing under the name any more, and so none of `uses`."""

    name: str
    backend: str
    uses: list[RunnerUse] = msgspec.field(default_factory=list)
    deletion_accepted: str = ""
    absent: str = ""
    seen_by: str = ""


class AccessPart(Part, frozen=True, kw_only=True):
    """A way in or out that the runner had, and what became of it, each in a word."""

    what: str
    how: str


class RefusalPart(Part, frozen=True, kw_only=True):
    """Every credential of ours is refused `since` the end was recorded; looked at again when the receipt was made."""

    since: str
    checked: str


class TokenPart(Part, frozen=True, kw_only=True):
    """A credential that the job was given. `session_ends` is the latest end of any session made from it at its target,
    or `unknown`; `revoked` when a third party's credential was ended there."""

    jti: str
    audience: str
    issuer: str
    expires: str
    session_ends: str
    kind: str = "id_token"
    role: str = ""
    rule: str = ""
    trust: str = ""
    target: str = ""
    revoked: str = ""


class TokenSum(Part, frozen=True, kw_only=True):
    """Tokens for one audience beyond those that are listed."""

    audience: str
    kind: str
    count: int
    expire: str
    sessions_end: str


class DecisionPart(Part, frozen=True, kw_only=True):
    """`exceptions` are the signed ones (`sha256:<hex>`) without which the answer would have been no."""

    id: str
    stage: str
    verdict: str
    input: str
    bundle: str
    audience: str = ""
    exceptions: list[str] = msgspec.field(default_factory=list)


class RuleUse(Part, frozen=True, kw_only=True):
    """What went out by one rule of the pool or of policy."""

    rule: str
    connections: int
    bytes_up: int = 0
    bytes_down: int = 0


class EgressPart(Part, frozen=True, kw_only=True):
    """`refused` counts by reason; `probes` are the agent's own proofs among them. Hosts that no rule names are left
    out: they are the job's word."""

    allowed: list[RuleUse] = msgspec.field(default_factory=list)
    refused: dict[str, int] = msgspec.field(default_factory=dict)
    probes: int = 0


class LogPart(Part, frozen=True, kw_only=True):
    bytes_kept: int = 0
    bytes_dropped: int = 0
    secrets_masked: int = 0


class SummaryPart(Part, frozen=True, kw_only=True):
    """The gate let this artifact into this environment; `digest` is that of the signed summary."""

    digest: str
    artifact: str
    environment: str
    decision: str


class AlarmPart(Part, frozen=True, kw_only=True):
    alarm: str
    first: str
    count: int = 1


class JournalPart(Part, frozen=True, kw_only=True):
    """The facts that the receipt speaks of: `facts` of this job, from the first to the last `seq`."""

    first_seq: int
    last_seq: int
    facts: int


class DaemonPart(Part, frozen=True, kw_only=True):
    """Who signed. `restarts` counts the daemons that took the job over."""

    url: str
    version: str
    restarts: int = 0


class Receipt(Part, frozen=True, kw_only=True):
    """`bound_seconds` is how long after its end nothing may be left of a job; `leftovers` names what is."""

    job: JobPart
    outcome: OutcomePart
    times: TimesPart
    bound_seconds: float
    journal: JournalPart
    daemon: DaemonPart
    runner: RunnerPart | None = None
    access: list[AccessPart] = msgspec.field(default_factory=list)
    refused: RefusalPart | None = None
    tokens: list[TokenPart] = msgspec.field(default_factory=list)
    more_tokens: list[TokenSum] = msgspec.field(default_factory=list)
    more_revoked: int = 0
    token_refusals: dict[str, int] = msgspec.field(default_factory=dict)
    decisions: list[DecisionPart] = msgspec.field(default_factory=list)
    more_decisions: dict[str, int] = msgspec.field(default_factory=dict)
    egress: EgressPart | None = None
    log: LogPart | None = None
    artifacts: list[str] = msgspec.field(default_factory=list)
    attestations: list[str] = msgspec.field(default_factory=list)
    summaries: list[SummaryPart] = msgspec.field(default_factory=list)
    more_summaries: int = 0
    alarms: list[AlarmPart] = msgspec.field(default_factory=list)
    leftovers: list[str] = msgspec.field(default_factory=list)


class Subject(Part, frozen=True, kw_only=True):
    """The job: a statement needs a digest, and a job has no bytes, so it is that of its id."""

    name: str
    digest: dict[str, str]


class Statement(Part, frozen=True, kw_only=True, rename={"type": "_type", "predicate_type": "predicateType"}):
    type: str
    subject: list[Subject]
    predicate_type: str
    predicate: Receipt


def moment(at_ns: int) -> str:
    """RFC 3339 in UTC with microseconds, as everywhere in the API; empty for 0, which means *never*."""
    if not at_ns:
        return ""
    seconds, rest = divmod(at_ns, 1_000_000_000)
    return f"{_second(seconds)}.{rest // 1000:06}Z"


@lru_cache(maxsize=256)
def _second(seconds: int) -> str:
    # The moments of a job, and of those that end with it, are mostly of a few seconds.
    return datetime.fromtimestamp(seconds, UTC).isoformat()[:19]
