"""What the tracker says of a deployment's ticket: `policy.lookups.TicketLookup`."""

from __future__ import annotations

import logging
import re
import ssl
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from orchestrator.daemon.closing import push_closing
from orchestrator.daemon.github.source_facts import SourceFacts, open_source_facts
from orchestrator.errors import ConfigurationError, OrchestratorError
from orchestrator.evidence.provenance import timestamp
from orchestrator.identity.secret_file import SecretFile
from orchestrator.intake.asked_once import AskedOnce
from orchestrator.intake.tickets.client import Tracker, TrackerConnection
from orchestrator.intake.tickets.ticket import Ticket, TicketFields, TicketForm
from orchestrator.intake.tickets.trailer import trailer_of
from orchestrator.policy.lookups import Facts, Question
from orchestrator.settings import Settings
from orchestrator.settings.tickets import TicketSettings

log = logging.getLogger("orchestrator.daemon.promotion.tickets")


@dataclass(frozen=True, slots=True)
class _Answer:
    ticket: Ticket
    checked_at_ns: int


class Tickets:
    """Implements `policy.lookups.TicketLookup`. A job that names no ticket has the one of its artifact's commit, where
    `source` and the setting `trailer` are there."""

    def __init__(
        self, tracker: Tracker, given: TicketSettings, source: SourceFacts | None, clock_ns: Callable[[], int]
    ) -> None:
        self._tracker = tracker
        self._environments = frozenset(given.environments)
        self._trailer = given.trailer
        self._source = source
        self._max_age = given.max_age_seconds
        self._clock_ns = clock_ns
        self._answers: AskedOnce[str, _Answer] = AskedOnce(self._fetch, time.monotonic)

    async def __call__(self, question: Question) -> Facts | None:
        """None where no ticket is named.

        Raises:
            OrchestratorError: it could not be asked; also written to the log.
        """
        if self._environments and question.environment not in self._environments:
            return None
        wanted = question.record.offer.spec.ticket or await self._of_commit(question)
        if not wanted:
            return None
        try:
            answer = await self._answers.get(wanted, self._max_age)
        except OrchestratorError as error:
            log.warning("a ticket could not be looked up: %s (%s); %s", error, error.reason, error.fix)
            raise
        return _told(answer)

    async def _of_commit(self, question: Question) -> str:
        if not self._trailer or self._source is None:
            return ""
        return trailer_of(await self._source.message(question), self._trailer)

    async def _fetch(self, ticket: str) -> _Answer:
        checked_at_ns = self._clock_ns()
        return _Answer(await self._tracker.ticket(ticket), checked_at_ns)


def _told(answer: _Answer) -> Facts:
    ticket = answer.ticket
    return {
        "id": ticket.id,
        "exists": ticket.exists,
        "open": ticket.open,
        "status": ticket.status,
        "project": ticket.project,
        "type": ticket.type,
        "url": ticket.url,
        "checked_at": timestamp(answer.checked_at_ns),
    }


class ReleaseFacts(NamedTuple):
    """What is asked of others about a deployment; None where it is not configured."""

    source: SourceFacts | None
    ticket: Tickets | None


def open_release_facts(settings: Settings, clock_ns: Callable[[], int], stack: AsyncExitStack) -> ReleaseFacts:
    """Both as configured. Nothing is sent yet.

    Raises:
        ConfigurationError: as `open_source_facts` and `open_tickets`.
    """
    source = open_source_facts(settings, clock_ns, stack)
    return ReleaseFacts(source, open_tickets(settings, source, clock_ns, stack))


def open_tickets(
    settings: Settings, source: SourceFacts | None, clock_ns: Callable[[], int], stack: AsyncExitStack
) -> Tickets | None:
    """None where `promotion.tickets` is not configured. Nothing is sent yet.

    Raises:
        ConfigurationError: reason `tracker_ca_unusable`.
    """
    given = settings.promotion.tickets
    if given is None:
        return None
    tracker = Tracker(connection_of(given))
    push_closing(stack, "tracker of tickets", tracker.close)
    return Tickets(tracker, given, source, clock_ns)


def connection_of(given: TicketSettings) -> TrackerConnection:
    """How the tracker is reached, in its client's words.

    Raises:
        ConfigurationError: reason `tracker_ca_unusable`.
    """
    fields = given.fields
    form = TicketForm(
        url=given.url,
        page=given.page or given.url,
        pattern=re.compile(given.pattern),
        fields=TicketFields(fields.id, fields.status, fields.project, fields.type),
        open_values=frozenset(given.open_values),
    )
    return TrackerConnection(
        form,
        _credential(given),
        proxy=given.proxy,
        tls=_tls(given.ca_file) if given.ca_file else None,
        timeout_seconds=given.timeout_seconds,
    )


def _credential(given: TicketSettings) -> Callable[[], tuple[str, str] | None]:
    if given.token_file is None:
        return lambda: None
    file = SecretFile(given.token_file, "the tracker's token")
    if given.scheme == "PRIVATE-TOKEN":
        return lambda: (given.scheme, file.read())
    return lambda: ("Authorization", f"{given.scheme} {file.read()}")


def _tls(ca_file: Path) -> ssl.SSLContext:
    context = ssl.create_default_context()
    try:
        context.load_verify_locations(ca_file)
    except (OSError, ssl.SSLError) as error:
        raise ConfigurationError(
            f"promotion.tickets: the CA file {ca_file} cannot be used: {error.strerror or error}",
            reason="tracker_ca_unusable",
            fix="name a PEM file with the certificates of the tracker's CA",
        ) from error
    return context
