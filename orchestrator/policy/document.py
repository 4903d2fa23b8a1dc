"""The decision document: what a policy must answer, read strictly. The four outcomes come from here."""

from __future__ import annotations

from typing import Annotated

import msgspec

from orchestrator.model.decision import Verdict
from orchestrator.model.egress import EgressProtocol

_DAY = 86_400


_Code = Annotated[str, msgspec.Meta(pattern=r"^[a-z][a-z0-9_]{0,63}\Z")]


class ReasonDocument(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`code` is stable and in snake_case; `message` tells a developer what is missing and how to get it."""

    code: _Code
    message: Annotated[str, msgspec.Meta(min_length=1, max_length=2000)]


class EgressDocument(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One destination; cut down to what the pool allows before it counts."""

    host: Annotated[str, msgspec.Meta(pattern=r"^(\*\.)?[a-z0-9_]([a-z0-9_.-]{0,251}[a-z0-9])?\Z")]
    port: Annotated[int, msgspec.Meta(ge=1, le=65535)] = 443
    protocol: EgressProtocol = EgressProtocol.TLS


class ObligationsDocument(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What an allow is tied to. `egress` absent or null leaves the pool's list; an empty list means nothing."""

    egress: Annotated[list[EgressDocument], msgspec.Meta(max_length=1000)] | None = None
    max_duration_seconds: Annotated[int, msgspec.Meta(ge=1, le=7 * _DAY)] | None = None
    token_ttl_seconds: Annotated[int, msgspec.Meta(ge=1, le=_DAY)] | None = None
    session_tags: Annotated[
        dict[
            Annotated[str, msgspec.Meta(min_length=1, max_length=128)],
            Annotated[str, msgspec.Meta(max_length=256)],
        ],
        msgspec.Meta(max_length=50),
    ] = {}


class WaiverDocument(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A signed exception that was needed for the allow, and the codes of the reasons that it set aside."""

    exception: Annotated[str, msgspec.Meta(pattern=r"^sha256:[0-9a-f]{64}\Z")]
    codes: Annotated[list[_Code], msgspec.Meta(min_length=1, max_length=100)]


class DecisionDocument(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The value of `data.orchestrator.decision`. Only a JSON `true` in `allow` allows.

    `observed` are reasons of rules that are only watched for now: they would have refused.
    """

    allow: bool
    reasons: Annotated[list[ReasonDocument], msgspec.Meta(max_length=100)] = []
    obligations: ObligationsDocument = msgspec.field(default_factory=ObligationsDocument)
    observed: Annotated[list[ReasonDocument], msgspec.Meta(max_length=100)] = []
    waived: Annotated[list[WaiverDocument], msgspec.Meta(max_length=100)] = []


class Evaluation(msgspec.Struct, frozen=True):
    """An engine's answer. `document` is there for allow and deny; `detail` says why for the other two.

    `engine` is name and version of who answered, `bundle_digest` (`sha256:<hex>`, may be empty) what it
    answered from. `detail` never holds a value of the input.
    """

    verdict: Verdict
    document: DecisionDocument | None = None
    detail: str = ""
    engine: str = ""
    bundle_digest: str = ""


_DECODER = msgspec.json.Decoder(DecisionDocument, strict=True)


def read_answer(answer: str | bytes | None, *, engine: str, bundle_digest: str) -> Evaluation:
    """The outcome of an engine's answer (JSON text; None for undefined). Pure.

    Anything but a well-formed decision document is an *error*: unknown keys, a number where a boolean
    belongs, a limit out of range.
    """
    if answer is None:
        detail = "no rule of the policy gave an answer"
        return Evaluation(Verdict.UNDEFINED, detail=detail, engine=engine, bundle_digest=bundle_digest)
    try:
        document = _DECODER.decode(answer)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        detail = f"the policy's answer is not a decision document: {str(error)[:300]}"
        return Evaluation(Verdict.ERROR, detail=detail, engine=engine, bundle_digest=bundle_digest)
    verdict = Verdict.ALLOW if document.allow else Verdict.DENY
    return Evaluation(verdict, document=document, engine=engine, bundle_digest=bundle_digest)
