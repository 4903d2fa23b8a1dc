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
    `before` are trace id and span of the run's attempt before, None for the first one.
    """

    trace_id: str
    span_id: str
    taken: frozenset[str] = frozenset()
    before: tuple[str, str] | None = None


def platform_trace(offer: JobOffer) -> PlatformTrace | None:
    """Where the job is in its platform's trace, by verified facts alone; None when they do not tell."""
    facts = offer.caller.facts
    if not _from_github(offer) or any(_is_missing(offer, name) for name in _NEEDED[:2]):
        return None
    attempt, job = int(facts["run_attempt"]), facts.get("check_run_id", "")
    trace_id, root = _run(facts["run_id"], attempt)
    found = [] if _is_missing(offer, "check_run_id") else [_span(f"{job}-j"), _span(f"{job}-q")]
    before = _run(facts["run_id"], attempt - 1) if attempt > 1 else None
    return PlatformTrace(trace_id, found[0] if found else root, frozenset((*found, root)), before)


def platform_run_id(offer: JobOffer) -> str:
    """GitHub's id of the workflow run that the job is a part of, by verified facts alone; empty when not known."""
    known = _from_github(offer) and not _is_missing(offer, "run_id")
    return offer.caller.facts["run_id"] if known else ""


def missing_facts(offer: JobOffer) -> tuple[str, ...]:
    """The facts without which a job of GitHub's cannot be found in its platform's trace; empty for all other jobs."""
    return tuple(name for name in _NEEDED if _is_missing(offer, name)) if _from_github(offer) else ()


def _from_github(offer: JobOffer) -> bool:
    """A job that GitHub has given to a runner of ours, or that was dispatched with a job's token from there."""
    named = offer.spec.awaits_platform_job and "run_id" in offer.caller.facts
    return named or urlsplit(offer.caller.issuer).hostname == _ISSUER


def _is_missing(offer: JobOffer, name: str) -> bool:
    return _NUMBER.fullmatch(offer.caller.facts.get(name, "")) is None


def _run(run_id: str, attempt: int) -> tuple[str, str]:
    """Ids of the trace of an attempt of a run, and of its root."""
    digest = hashlib.sha256(f"{run_id}{attempt}t".encode()).digest()
    return digest[:16].hex(), _span(f"{run_id}{attempt}s")


def _span(text: str) -> str:
    return hashlib.sha256(text.encode()).digest()[8:16].hex()
