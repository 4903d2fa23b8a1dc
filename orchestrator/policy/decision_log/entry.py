"""One line of the decision log, and reading it back with the check that its input is the one that was judged.

Names are those of OPA's decision log (https://www.openpolicyagent.org/docs/management-decision-logs), so that what
reads that reads this; what has no name there stands under `custom`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import msgspec

from orchestrator.model.decision import Stage, Verdict
from orchestrator.policy.decide import Answered
from orchestrator.policy.decision_log.compare import SAME, codes_of, difference
from orchestrator.policy.document import DecisionDocument, Evaluation, read_answer
from orchestrator.policy.engine import MAX_INPUT_BYTES
from orchestrator.policy.input import rfc3339

PATH = "orchestrator/decision"
LIVE, CANDIDATE = "policy", "candidate"
"""The names under `bundles`: what decided, and what was only asked beside it."""
_OF_JOBS = (Stage.ADMISSION, Stage.EXCHANGE)
_MAX_DETAIL = 300
_INPUT = "/input"


class Bundle(msgspec.Struct, frozen=True):
    revision: str


class Fault(msgspec.Struct, frozen=True):
    """Why there is no result: `code` is `policy_error` or `policy_undefined`."""

    code: str
    message: str


class Shadow(msgspec.Struct, frozen=True):
    """What the candidate bundle answered: nothing came of it. `change` is a word of `compare.Change`, or `same`."""

    change: str
    verdict: Verdict
    codes: Sequence[str] = ()
    detail: str = ""


class Custom(msgspec.Struct, frozen=True, omit_defaults=True):
    """What OPA's log has no name for. `number` counts the decisions of one run of the daemon from 1, and those too that
    could not be written."""

    run: str
    number: int
    verdict: Verdict
    stage: str
    job_id: str = ""
    input_digest: str = ""
    engine: str = ""
    candidate: Shadow | None = None


class Entry(msgspec.Struct, frozen=True, omit_defaults=True):
    """A decision. `input` is the text that was judged, `result` the engine's own answer; either may be absent. `erased`
    has `/input` when it was too large to be judged and to be kept."""

    decision_id: str
    timestamp: str
    labels: dict[str, str]
    bundles: dict[str, Bundle]
    path: str
    custom: Custom
    metrics: dict[str, int] = {}
    erased: Sequence[str] = ()
    error: Fault | None = None
    result: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    input: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET

    @property
    def bundle_digest(self) -> str:
        """`sha256:<hex>` of the bundle that decided; empty when none was asked."""
        live = self.bundles.get(LIVE)
        return live.revision if live else ""

    @property
    def input_json(self) -> str:
        """The input document; empty when there was none."""
        return "" if isinstance(self.input, msgspec.UnsetType) else bytes(self.input).decode()

    def evaluation(self) -> Evaluation:
        """What the engine answered then.

        Raises:
            EntryDamagedError: the result is no decision document, or contradicts the verdict.
        """
        verdict = self.custom.verdict
        if verdict in (Verdict.ERROR, Verdict.UNDEFINED):
            detail = self.error.message if self.error else ""
            return Evaluation(verdict, detail=detail, engine=self.custom.engine, bundle_digest=self.bundle_digest)
        answer = None if isinstance(self.result, msgspec.UnsetType) else bytes(self.result)
        read = read_answer(answer, engine=self.custom.engine, bundle_digest=self.bundle_digest)
        if read.verdict is not verdict:
            raise EntryDamagedError(f"the result of decision {self.decision_id[:64]} does not say {verdict.value}")
        return read


class EntryDamagedError(ValueError):
    """A line that is no entry, or not the one that was written."""


_ENCODER = msgspec.json.Encoder()
_DECODER = msgspec.json.Decoder(Entry)


class Place(msgspec.Struct, frozen=True):
    """Where a line stands: the daemon's run, and the decision's number in it."""

    run: str
    number: int


def line_of(answered: Answered, place: Place, labels: dict[str, str], shadow: Evaluation | None = None) -> bytes:
    """A decision as a line of the log, with its newline. `shadow` is what the candidate answered, if one was asked."""
    decision, evaluation = answered.decision, answered.evaluation
    large = len(answered.input_json) > MAX_INPUT_BYTES
    bundles = {LIVE: Bundle(decision.bundle_digest)} if decision.bundle_digest else {}
    if shadow is not None:
        bundles[CANDIDATE] = Bundle(shadow.bundle_digest)
    entry = Entry(
        decision_id=decision.id,
        timestamp=rfc3339(answered.time_ns),
        labels=labels,
        bundles=bundles,
        path=PATH,
        custom=Custom(
            run=place.run,
            number=place.number,
            verdict=decision.verdict,
            stage=decision.stage.value,
            job_id=answered.record.id if decision.stage in _OF_JOBS else "",
            input_digest=decision.input_digest,
            engine=decision.engine,
            candidate=None if shadow is None else _shadow(evaluation, shadow),
        ),
        metrics={"timer_server_handler_ns": decision.duration_ns},
        error=None if evaluation.document else Fault(f"policy_{evaluation.verdict.value}", evaluation.detail),
        result=_raw(evaluation.document) if evaluation.document else msgspec.UNSET,
        input=msgspec.Raw(answered.input_json) if answered.input_json and not large else msgspec.UNSET,
        erased=(_INPUT,) if large else (),
    )
    return _ENCODER.encode(entry) + b"\n"


def _shadow(live: Evaluation, candidate: Evaluation) -> Shadow:
    found = difference(live, candidate)
    change = found.change.value if found else SAME
    return Shadow(change, candidate.verdict, sorted(codes_of(candidate)), candidate.detail[:_MAX_DETAIL])


def _raw(document: DecisionDocument) -> msgspec.Raw:
    return msgspec.Raw(_ENCODER.encode(document))


def read_entry(line: bytes) -> Entry:
    """The entry of a line, whose input is the one that was judged.

    Raises:
        EntryDamagedError: it is none, or its input is not what its digest says.
    """
    try:
        entry = _DECODER.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise EntryDamagedError(f"not an entry of a decision log: {str(error)[:200]}") from None
    if isinstance(entry.input, msgspec.UnsetType):
        if entry.custom.input_digest and _INPUT not in entry.erased:
            raise EntryDamagedError(f"decision {entry.decision_id[:64]} has lost its input")
        return entry
    found = f"sha256:{hashlib.sha256(entry.input).hexdigest()}"
    if found != entry.custom.input_digest:
        raise EntryDamagedError(f"the input of decision {entry.decision_id[:64]} is not the one that was judged")
    return entry


class _Job(msgspec.Struct):
    id: str = ""


class _Caller(msgspec.Struct):
    id: str = ""
    issuer: str = ""
    subject: str = ""
    facts: dict[str, Any] = {}


class _Pool(msgspec.Struct):
    name: str = ""


class _Request(msgspec.Struct):
    audience: str = ""
    deployment_environment: str = ""
    artifact_digest: str = ""


class Subject(msgspec.Struct):
    """Whom and what a decision concerned, from its input."""

    job: _Job | None = None
    caller: _Caller | None = None
    pool: _Pool | None = None
    request: _Request | None = None

    @property
    def environment(self) -> str:
        return self.request.deployment_environment if self.request else ""

    @property
    def audience(self) -> str:
        return self.request.audience if self.request else ""

    @property
    def artifact_digest(self) -> str:
        return self.request.artifact_digest if self.request else ""

    @property
    def pool_name(self) -> str:
        return self.pool.name if self.pool else ""

    @property
    def caller_subject(self) -> str:
        """The caller's own name at its issuer, which is readable; else our id of it."""
        return (self.caller.subject or self.caller.id) if self.caller else ""

    @property
    def repository(self) -> str:
        """As the caller's issuer or the platform verified it; empty where it is not known."""
        name = self.caller.facts.get("repository", "") if self.caller else ""
        return name if isinstance(name, str) else ""


_SUBJECTS = msgspec.json.Decoder(Subject)
_NOTHING = Subject()


def subject_of(entry: Entry) -> Subject:
    """Whom the decision concerned; empty words where the input does not say."""
    if isinstance(entry.input, msgspec.UnsetType):
        return _NOTHING
    try:
        return _SUBJECTS.decode(entry.input)
    except msgspec.DecodeError:
        return _NOTHING
