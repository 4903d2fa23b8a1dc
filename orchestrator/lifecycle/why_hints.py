"""Facts of a job that may explain how it ended, though they are not the reason that was recorded. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from orchestrator.lifecycle.why_words import clause, words
from orchestrator.model.events import (
    AlarmRaised,
    EgressDecided,
    Fact,
    JobFinished,
    TokenRefused,
)

MAX_HINTS = 20

_NAMED = 3


def hints(facts: Iterable[Fact]) -> tuple[str, ...]:
    """One sentence for each kind of thing that went wrong beside the job's end; at most `MAX_HINTS`."""
    denied: dict[str, str] = {}
    connections = 0
    refused: list[TokenRefused] = []
    others: list[str] = []
    for fact in facts:
        match fact.event:
            case EgressDecided(allowed=False, canary=False) as verdict:
                connections += verdict.connections
                denied[f"{words(verdict.host)}:{verdict.port}"] = words(verdict.reason or verdict.rule)
            case TokenRefused() as refusal:
                refused.append(refusal)
            case AlarmRaised(alarm, detail):
                others.append(f"An alarm was raised: {words(alarm)}{clause(detail, ', ')}.")
            case JobFinished(leftovers) if leftovers:
                others.append(f"Left behind: {words(', '.join(leftovers))}.")
            case _:
                pass
    found = [*_egress(denied, connections), *_tokens(refused), *dict.fromkeys(others)]
    return tuple(found[:MAX_HINTS])


def _egress(denied: dict[str, str], connections: int) -> list[str]:
    if not denied:
        return []
    lately = list(denied.items())[-_NAMED:]
    named = [f"{place} ({reason})" if reason else place for place, reason in lately]
    more = f" and {len(denied) - _NAMED} more" if len(denied) > _NAMED else ""
    count = f"{connections} connection{'' if connections == 1 else 's'}"
    return [f"The gateway refused {count}, lately to {', '.join(named)}{more}: the pool and policy do not allow them."]


def _tokens(refused: list[TokenRefused]) -> list[str]:
    if not refused:
        return []
    last = refused[-1]
    count = "A token was" if len(refused) == 1 else f"{len(refused)} tokens were"
    detail = clause(last.detail, ", ")
    return [f"{count} refused, lately for the audience {words(last.audience)!r}: {words(last.reason)}{detail}."]
