"""What a receipt proves of the promises P3 (nothing is left behind) and P4 (no token outlives its job). Pure.

A signature says who wrote a receipt; this says what it amounts to, from the document alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from orchestrator.evidence.receipts.document import UNKNOWN, Receipt


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that the receipt says of a promise; `holds` is False where it says that the promise was broken."""

    promise: str
    holds: bool
    text: str


def judge(receipt: Receipt) -> list[Finding]:
    """Everything that can be said, broken promises included."""
    return [*_nothing_left(receipt), *_no_token_outlives(receipt)]


def _nothing_left(receipt: Receipt) -> Iterator[Finding]:
    for what in receipt.leftovers:
        yield Finding("P3", False, f"left behind: {what}")
    runner = receipt.runner
    if runner is None:
        yield Finding("P3", True, "there never was a runner")
        return
    took = _seconds(receipt.times.ended, runner.absent)
    if took is None or took < 0:
        yield Finding("P3", False, "nobody saw the runner to be gone after the job's end")
        return
    seen = f"nothing of the runner was left {took:.3f} s after the end, seen by {runner.seen_by}"
    if took <= receipt.bound_seconds:
        yield Finding("P3", True, seen)
    elif any(alarm.alarm == "teardown_stuck" for alarm in receipt.alarms):
        yield Finding("P3", True, f"{seen}, after its bound of {receipt.bound_seconds:g} s, which an alarm had told")
    else:
        yield Finding("P3", False, f"{seen}: later than its bound of {receipt.bound_seconds:g} s, and no alarm told")
    if receipt.access:
        withdrawn = ", ".join(f"{one.what} {one.how}" for one in receipt.access)
        yield Finding("P3", True, f"ways in and out were taken away: {withdrawn}")


def _no_token_outlives(receipt: Receipt) -> Iterator[Finding]:
    if receipt.refused is not None:
        same = receipt.refused.since == receipt.times.ended
        since = receipt.refused.since
        yield Finding("P4", same, f"the runner's credential and all tokens of ours are refused by us since {since}")
    count = len(receipt.tokens) + sum(more.count for more in receipt.more_tokens)
    if not count:
        yield Finding("P4", True, "no token was given out")
        return
    if receipt.refused is None:
        yield Finding("P4", False, "tokens were given out, and nobody saw them to be refused")
    known = [token for token in receipt.tokens if not token.revoked]
    expire = [token.expires for token in known] + [more.expire for more in receipt.more_tokens]
    if expire:
        yield Finding("P4", True, f"who never asks us may accept one of {count} until {max(expire)}")
    ends = [token.session_ends for token in known] + [more.sessions_end for more in receipt.more_tokens]
    certain = [end for end in ends if end != UNKNOWN]
    if certain:
        yield Finding("P4", True, f"the last session made from them ends by {max(certain)}")
    if len(certain) < len(ends):
        targets = {token.audience for token in known if token.session_ends == UNKNOWN}
        targets |= {more.audience for more in receipt.more_tokens if more.sessions_end == UNKNOWN}
        yield Finding(
            "P4", True, f"when sessions end is unknown to us, their targets decide: {', '.join(sorted(targets))}"
        )


def _seconds(start: str, end: str) -> float | None:
    try:
        return (datetime.fromisoformat(end) - datetime.fromisoformat(start)).total_seconds()
    except (ValueError, TypeError):
        return None
