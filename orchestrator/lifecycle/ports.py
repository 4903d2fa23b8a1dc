"""What the engine needs from the rest of the world: small protocols, declared here by their consumer.

Every port has an in-memory implementation in `orchestrator.testing` and one conformance suite that the
real ones pass too. Unless a docstring says otherwise, a call may raise `TryAgainError` (the engine backs
off and repeats it) or `GiveUpError` (the engine ends the job with that reason).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from orchestrator.model.decision import Decision
from orchestrator.model.events import Event, Fact
from orchestrator.model.job import JobId
from orchestrator.model.journey import Journey
from orchestrator.model.pool import Pool
from orchestrator.model.record import Record
from orchestrator.model.runner import RunnerName, RunnerSpec, RunnerView


class Clock(Protocol):
    """Time, so that tests can step it."""

    def now_ns(self) -> int:
        """Unix time in nanoseconds."""
        ...

    async def sleep(self, seconds: float) -> None: ...

    def call_later(self, seconds: float, callback: Callable[[], None]) -> Callable[[], None]:
        """Call `callback` on the event loop after `seconds`; returns *cancel*, which is safe to call twice."""
        ...


class Journal(Protocol):
    """The one durable truth."""

    async def append(self, facts: Sequence[tuple[JobId, Event]]) -> Sequence[Fact]:
        """Store the facts in this order and atomically; they are durable when this returns.

        The journal stamps time (never running backwards within a job) and sequence. However the call ends,
        by an error or by cancellation, its facts are then stored or never will be, and `facts_of` shows
        which: a cancelled caller is let go no sooner.

        Raises:
            TryAgainError: reason `journal_unavailable`: nothing was stored (disk full, journal closed). Reason
                `audit_unavailable`: the audit log did not take them. Nothing was stored where that was known before;
                else they are stored, and nothing may be done about them yet: no feed has heard of them, and reads
                raise the same until the audit log has them.
            GiveUpError: nothing was stored; reason `job_known`, an offer of a job that is there already, finished
                or not; `job_unknown`, a fact of one that is not.
        """
        ...

    async def live(self) -> Sequence[Sequence[Fact]]:
        """All facts of each job that has no JobFinished yet, each job's in order; for recovery."""
        ...

    async def facts_of(self, job_id: JobId) -> Sequence[Fact]:
        """All facts of one job in order; empty when the job is unknown."""
        ...

    async def job_named(self, key: str) -> JobId | None:
        """The job whose PlatformJobNamed has this key, the first one if there are several; None when nobody had it.

        Knows finished jobs too, until they are forgotten.
        """
        ...


class Backend(Protocol):
    """Where runners live. All four calls are idempotent; names are unique, and that uniqueness is the lock."""

    async def create(self, spec: RunnerSpec) -> RunnerView:
        """Make the runner, or return the one that exists if it was made from an equal spec.

        Raises:
            GiveUpError: reason `runner_name_clash` when the name is taken by another spec.
        """
        ...

    async def inspect(self, name: RunnerName) -> RunnerView:
        """The runner as it is now; state *absent* when there is none. Never answers from a stale cache."""
        ...

    async def delete(self, name: RunnerName) -> None:
        """Ask for the runner's end, running or not. Unknown names are fine. Returns before it is gone."""
        ...

    async def list(self) -> Sequence[RunnerView]:
        """Every runner of ours that still has anything left, known to the journal or not."""
        ...

    def journey(self, name: RunnerName) -> Journey | None:
        """What was seen of the runner's way so far, also of one that went lately; None when nothing was.

        Asks nobody, does not raise, and is no proof of anything: it is for traces.
        """
        ...

    def subscribe(self, changed: Callable[[RunnerName], None]) -> None:
        """Call `changed` whenever a runner may look different; a hint, never the only way to learn it."""
        ...


class Policy(Protocol):
    """May it, and how. Never raises: a failure is a Decision with verdict *error*."""

    async def admit(self, record: Record, pool: Pool) -> Decision: ...

    async def exchange(self, record: Record, pool: Pool, audience: str) -> Decision: ...


class JobSource(Protocol):
    """Where a job came from and where its result goes. Reporting is idempotent."""

    async def report(self, record: Record) -> None: ...


class Attester(Protocol):
    """Evidence that belongs to a job's end, made while its facts can still be added to."""

    async def attest(self, record: Record) -> Sequence[Event]:
        """Notes to append before the job is finished, such as a signed provenance; often none. Asked again when they
        could not be stored, or others could not say theirs: the answer is the same then."""
        ...


@dataclass(frozen=True, slots=True)
class Withdrawn:
    """A way in or out that a job's runner had, in a word, and how it was taken away; `left` for what could not be."""

    what: str
    how: str
    left: bool = False


class Revoker(Protocol):
    """Something that holds live access for a job and drops it at the job's end (gateway, runner API)."""

    async def revoke(self, record: Record) -> Sequence[Withdrawn] | None:
        """Drop it; what was dropped goes on the job's receipt. None when nothing was held, or nobody need know."""
        ...


class Sealer(Protocol):
    """Makes a job's receipt, the last thing before it is finished."""

    def withdrawn(self, record: Record, access: Sequence[Withdrawn]) -> None:
        """Every revoker has done its work for this job, and this is what they say. May be told again."""
        ...

    async def seal(self, record: Record, absent_ns: int, notes: Sequence[Event]) -> Sequence[Event]:
        """Facts to append together with `notes` and the finish. `absent_ns` is when a look found the runner gone, 0 for
        a job that had none."""
        ...


@dataclass(frozen=True, slots=True)
class RunnerIdentity:
    """What a verified runner credential says: this very runner, not merely one of this name."""

    name: RunnerName
    uid: str


class RunnerCredentials(Protocol):
    """Checks the credential that a runner presents (sandbox: its runner token; pod: its projected token)."""

    async def verify(self, credential: str) -> RunnerIdentity | None:
        """The runner behind the credential, or None when it is no good for whatever reason."""
        ...
