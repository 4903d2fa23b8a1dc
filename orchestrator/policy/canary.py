"""Questions with known answers, put to the embedded interpreter before it decides anything.

Each stands for a way in which some Rego engine was seen to fail open. The answers are OPA's.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from orchestrator.errors import ConfigurationError
from orchestrator.policy.rego import Module, RegoFailureError, RegoProgram

CANARY_MODULE = Module(
    "canary.rego",
    """package canary

default allow := false

allow if input.signed

denied contains "unsigned" if not input.signed

strict if input.signed == true

missing := input.no.such.field

absent if not input.no.such.field

moment := time.parse_rfc3339_ns("2026-11-22T10:00:00Z")

one_segment if glob.match("a/*", ["/"], "a/b")

two_segments if glob.match("a/*", ["/"], "a/b/c")

exact if input.number == 9007199254740993

rounded if input.number == 9007199254740992

every_one if {
	every item in input.items { item == true }
}

codes := [code | some code in {"b", "a"}]

broken if time.parse_rfc3339_ns("yesterday") > 0

text := sprintf("%s has %d", ["x", 2])
""",
)


@dataclass(frozen=True, slots=True)
class Canary:
    """`expected` is the value wanted; `UNDEFINED` and `FAILS` stand for no value and a loud error."""

    name: str
    rule: str
    input: Any
    expected: Any


UNDEFINED = object()
FAILS = object()

CANARIES: Sequence[Canary] = (
    Canary("true is true", "allow", {"signed": True}, True),
    Canary("false is not true", "allow", {"signed": False}, False),
    Canary("default false", "allow", {}, False),
    Canary("null is not true", "strict", {"signed": None}, UNDEFINED),
    Canary("a number is not a boolean", "strict", {"signed": 1}, UNDEFINED),
    Canary("not of false", "denied", {"signed": False}, ["unsigned"]),
    Canary("not of a missing field", "denied", {}, ["unsigned"]),
    Canary("not of true", "denied", {"signed": True}, []),
    Canary("missing field", "missing", {}, UNDEFINED),
    Canary("negated missing field", "absent", {}, True),
    Canary("time with Z", "moment", {}, 1795341600000000000),
    Canary("glob within a segment", "one_segment", {}, True),
    Canary("glob does not cross /", "two_segments", {}, UNDEFINED),
    Canary("big integer", "exact", {"number": 9007199254740993}, True),
    Canary("big integer is not rounded", "rounded", {"number": 9007199254740993}, UNDEFINED),
    Canary("every", "every_one", {"items": [True, False]}, UNDEFINED),
    Canary("sets come sorted", "codes", {}, ["a", "b"]),
    Canary("a builtin's error is loud", "broken", {}, FAILS),
    Canary("sprintf", "text", {}, "x has 2"),
)

Ask = Callable[[str, str], str | None]


def run_canaries(ask: Ask | None = None) -> None:
    """Put all questions to the interpreter, or to `ask(rule path, input JSON)` in its place.

    Raises:
        ConfigurationError: reason `policy_engine_unsound`, naming the first question answered wrongly.
    """
    asked = ask or RegoProgram([CANARY_MODULE]).rule
    for canary in CANARIES:
        try:
            text = asked(f"data.canary.{canary.rule}", json.dumps(canary.input))
            answer = UNDEFINED if text is None else json.loads(text)
        except RegoFailureError:
            answer = FAILS
        # `1 == True` in Python: compare types too.
        if type(answer) is not type(canary.expected) or answer != canary.expected:
            raise ConfigurationError(
                f"the policy engine fails the canary {canary.name!r}",
                reason="policy_engine_unsound",
                fix="install the locked dependencies; this build of the engine must not decide anything",
            )
