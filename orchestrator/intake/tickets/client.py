"""Asks the tracker for one ticket: bounded in time, size and number of calls, and never redirected."""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

import aiohttp

from orchestrator.intake.tickets.errors import AnswerUnreadableError, TrackerRefusedError, TrackerUnavailableError
from orchestrator.intake.tickets.ticket import Ticket, TicketForm

MAX_BODY: Final = 1 << 20
CONCURRENT: Final = 8
ATTEMPTS: Final = 3
FIRST_WAIT: Final = 0.2
"""Seconds before the second try; it doubles."""
LONGEST_HOLD: Final = 600.0
"""Seconds; a limit of the tracker's is believed to last no longer."""
_GONE: Final = (404, 410)


@dataclass(frozen=True, slots=True)
class TrackerConnection:
    """How the tracker is reached and as whom. `credential` gives the header to send, read anew for each call; it raises
    `TryAgainError`. `tls` replaces the system's certificates."""

    form: TicketForm
    credential: Callable[[], tuple[str, str] | None] = field(repr=False)
    proxy: str = field(default="", repr=False)
    tls: ssl.SSLContext | None = None
    timeout_seconds: float = 5.0


class Tracker:
    """One tracker. `close` when done."""

    def __init__(self, connection: TrackerConnection, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._connection = connection
        self._monotonic = monotonic
        self._turns = asyncio.Semaphore(CONCURRENT)
        self._held_until = 0.0
        self._session: aiohttp.ClientSession | None = None

    async def ticket(self, ticket: str) -> Ticket:
        """The ticket of this id; one that cannot be an id is not asked for, and does not exist.

        Raises:
            TrackerUnavailableError: no answer within the connection's time, all tries together.
            TrackerRefusedError, AnswerUnreadableError
            TryAgainError: the credential cannot be read.
        """
        if not self._connection.form.is_id(ticket):
            return Ticket(ticket, exists=False)
        try:
            async with asyncio.timeout(self._connection.timeout_seconds), self._turns:
                return await self._asked(ticket)
        except TimeoutError:
            seconds = self._connection.timeout_seconds
            raise TrackerUnavailableError(f"the tracker gave no answer within {seconds:g} s") from None

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def _asked(self, ticket: str) -> Ticket:
        for attempt in range(1, ATTEMPTS + 1):
            try:
                return await self._once(ticket)
            except TrackerUnavailableError as error:
                if attempt == ATTEMPTS or error.retry_after_seconds is not None:
                    raise
            await asyncio.sleep(FIRST_WAIT * 2 ** (attempt - 1))
        raise AssertionError("the last attempt returns or raises")

    async def _once(self, ticket: str) -> Ticket:
        left = self._held_until - self._monotonic()
        if left > 0:
            raise TrackerUnavailableError("the tracker's limit is used up", retry_after_seconds=left)
        try:
            status, headers, body = await self._exchange(self._connection.form.address(ticket))
        except (aiohttp.ClientError, OSError) as error:
            # Words of the library may quote a proxy's password.
            raise TrackerUnavailableError(f"the tracker cannot be reached ({type(error).__name__})") from None
        if status == 200:
            return self._connection.form.read(ticket, body)
        if status in _GONE:
            return Ticket(ticket, exists=False)
        if status == 429:
            self._held_until = self._monotonic() + (wait := _seconds(headers.get("Retry-After", "")))
            raise TrackerUnavailableError("the tracker's limit is used up", retry_after_seconds=wait)
        if status >= 500 or status == 408:
            raise TrackerUnavailableError(f"the tracker answered {status}")
        raise TrackerRefusedError(f"the tracker answered {status}")

    async def _exchange(self, address: str) -> tuple[int, Mapping[str, str], bytes]:
        connection = self._connection
        headers = {"Accept": "application/json"}
        credential = connection.credential()
        if credential is not None:
            headers[credential[0]] = credential[1]
        async with self._open().get(
            address, headers=headers, allow_redirects=False, proxy=connection.proxy or None
        ) as response:
            data = bytearray()
            async for part in response.content.iter_any():
                data += part
                if len(data) > MAX_BODY:
                    response.close()
                    raise AnswerUnreadableError(f"the answer is larger than {MAX_BODY} bytes")
            return response.status, response.headers, bytes(data)

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=CONCURRENT, ssl=self._connection.tls or True),
                cookie_jar=aiohttp.DummyCookieJar(),
                timeout=aiohttp.ClientTimeout(total=None),  # all tries together have one bound, in `ticket`
                headers={"User-Agent": "ephemeral-runner-orchestrator"},
                trust_env=False,
            )
            # The library would ask again by itself when a connection is cut; there is one rule for that here.
            self._session._retry_connection = False  # noqa: SLF001
        return self._session


def _seconds(text: str) -> float:
    """A wait that was asked for; dates are too rare here to be read, and count as the least wait."""
    return min(float(text), LONGEST_HOLD) if text.isascii() and text.isdigit() and len(text) < 9 else 1.0
