"""The trace that a platform's own receiver makes of a job, where its ids can be said without asking. Pure.

OpenTelemetry's GitHub receiver (collector-contrib `githubreceiver`, since 0.151) derives ids from what GitHub tells of
a run: the trace from run id and attempt, the span of a job from its check run. So do we, and hang our trace below. Our
own spans keep their own ids: a receiver that got both would else take two spans for one.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from urllib.parse import urlsplit

from orchestrator.model.job import JobOffer

_NUMBER = re.compile(r"[1-9][0-9]{0,18}")
_NEEDED = ("run_id", "run_attempt", "check_run_id")
_ISSUER = "token.actions.githubusercontent.com"


@dataclass(frozen=True, slots=True)
class PlatformTrace:
    """Trace id, and the span of the job in it, or that of its run where it is not known which job of it this is.

    `taken` are ids of spans in it that the receiver makes, as far as they can be said; steps have ids of their own.
    """

    trace_id: str
    span_id: str
    taken: frozenset[str] = frozenset()


def platform_trace(offer: JobOffer) -> PlatformTrace | None:
    """Where the job is in its platform's trace, by verified facts alone; None when they do not tell."""
    facts = offer.caller.facts
    if not _from_github(offer) or any(_is_missing(offer, name) for name in _NEEDED[:2]):
        return None
    run = f"{facts['run_id']}{facts['run_attempt']}"
    job = facts.get("check_run_id", "")
    spans = [f"{run}s"] if _is_missing(offer, "check_run_id") else [f"{job}-j", f"{job}-q", f"{run}s"]
    found = [_digest(span)[8:16].hex() for span in spans]
    return PlatformTrace(_digest(f"{run}t")[:16].hex(), found[0], frozenset(found))


def missing_facts(offer: JobOffer) -> tuple[str, ...]:
    """The facts without which a job of GitHub's cannot be found in its platform's trace; empty for all other jobs."""
    return tuple(name for name in _NEEDED if _is_missing(offer, name)) if _from_github(offer) else ()


def _from_github(offer: JobOffer) -> bool:
    """A job that GitHub has given to a runner of ours, or that was dispatched with a job's token from there."""
    named = offer.spec.awaits_platform_job and "run_id" in offer.caller.facts
    return named or urlsplit(offer.caller.issuer).hostname == _ISSUER


def _is_missing(offer: JobOffer, name: str) -> bool:
    return _NUMBER.fullmatch(offer.caller.facts.get(name, "")) is None


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()
