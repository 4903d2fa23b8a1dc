"""What differs between two answers, by gravity."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from orchestrator.policy.decision_log.compare import Change, difference
from orchestrator.policy.document import Evaluation, read_answer

X = "sha256:" + "a" * 64


def answer(**given: Any) -> Evaluation:
    if "codes" in given:
        given["reasons"] = [{"code": code, "message": given.get("text", "m")} for code in given.pop("codes")]
    given.pop("text", None)
    if "watched" in given:
        given["observed"] = [{"code": code, "message": "m"} for code in given.pop("watched")]
    return read_answer(msgspec.json.encode(given), engine="e", bundle_digest="d")


def read(text: str | None) -> Evaluation:
    return read_answer(text, engine="e", bundle_digest="d")


ALLOW = answer(allow=True)
DENY = answer(allow=False, codes=["a"])
BROKEN, UNDEFINED = read("1"), read(None)


@pytest.mark.parametrize(
    ("old", "new", "change", "appeared", "vanished"),
    [
        (ALLOW, DENY, Change.NEWLY_DENIED, {"a"}, set()),
        (DENY, ALLOW, Change.NEWLY_ALLOWED, set(), {"a"}),
        (DENY, answer(allow=False, codes=["a", "b"]), Change.OTHER_REASONS, {"b"}, set()),
        (ALLOW, BROKEN, Change.FAILED, {"policy_error"}, set()),
        (DENY, UNDEFINED, Change.FAILED, {"policy_undefined"}, {"a"}),
        (BROKEN, UNDEFINED, Change.FAILED, {"policy_undefined"}, {"policy_error"}),
        (BROKEN, DENY, Change.OTHER_REASONS, {"a"}, {"policy_error"}),
        (BROKEN, ALLOW, Change.NEWLY_ALLOWED, set(), {"policy_error"}),
        (ALLOW, answer(allow=True, obligations={"token_ttl_seconds": 5}), Change.OTHER_OBLIGATIONS, set(), set()),
        (ALLOW, answer(allow=True, obligations={"egress": []}), Change.OTHER_OBLIGATIONS, set(), set()),
        (ALLOW, answer(allow=True, watched=["w"]), Change.OTHER_OBSERVATIONS, {"w"}, set()),
        (
            answer(allow=True, waived=[{"exception": X, "codes": ["c"]}]),
            ALLOW,
            Change.OTHER_OBSERVATIONS,
            set(),
            {"c"},
        ),
    ],
)
def test_differences(old, new, change, appeared, vanished):
    found = difference(old, new)
    assert found is not None
    assert (found.change, found.appeared, found.vanished) == (change, appeared, vanished)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (ALLOW, ALLOW),
        (BROKEN, BROKEN),
        (UNDEFINED, UNDEFINED),
        (DENY, answer(allow=False, codes=["a"], text="worded anew")),
        (DENY, answer(allow=False, codes=["a"], obligations={"token_ttl_seconds": 5})),
        (answer(allow=False, codes=["a", "b"]), answer(allow=False, codes=["b", "a"])),
    ],
)
def test_what_is_no_difference(old, new):
    assert difference(old, new) is None
