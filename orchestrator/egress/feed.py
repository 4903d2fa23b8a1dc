"""The gateway's line to the daemon: the table of runners comes in by long poll, verdicts go out in batches.

Both over TLS, to a daemon that the CA file vouches for, as the ServiceAccount whose projected token lies in a file.
Nothing here may make the gateway serve longer: when polls fail the table grows old by itself.
"""

from __future__ import annotations

import asyncio
import logging
import random
import ssl
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import msgspec

from orchestrator.egress.batch import MAX_BATCH_BYTES, Outbox
from orchestrator.egress.cluster import ClusterGateway
from orchestrator.egress.table import MAX_UPDATE_BYTES, TableError, decode_update
from orchestrator.errors import GiveUpError, OrchestratorError, TryAgainError

log = logging.getLogger("orchestrator.egress")

TABLE_PATH = "/gateway/v1/table"
VERDICTS_PATH = "/gateway/v1/verdicts"

POLL_SECONDS = 10.0
"""Longest wait for the answer to the first poll."""
POLL_SHARE = 2 / 3
"""Longest wait for the others, of the time that a table stays fresh: the daemon holds a poll for half of that."""
POLL_GAP_SECONDS = 0.01
"""Between an answer and the next poll, so that changes in quick succession come together."""
POST_SECONDS = 10.0
GATHER_SECONDS = 0.05
"""How long a verdict waits for others to go with it."""
LAST_VERDICTS_SECONDS = 2.0
"""How long a revocation's acknowledgement waits for the runner's last verdicts to be delivered."""
LOG_AGAIN_SECONDS = 30.0
_FIRST_PAUSE = 0.1
_LONGEST_PAUSE = 2.0
_MAX_TOKEN_BYTES = 16 << 10
_MAX_ANSWER_BYTES = 64 << 10


@dataclass(frozen=True, slots=True)
class FeedConfig:
    """`daemon_url` is https and without a trailing slash; `gateway` names this very process."""

    daemon_url: str
    ca_file: Path
    token_file: Path
    gateway: str


class _RefusedError(GiveUpError):
    """The daemon will not take this request, however often it comes."""


class Feed:
    """Keeps a `ClusterGateway`'s table current and empties its `Outbox`, until `run` is cancelled."""

    def __init__(self, config: FeedConfig, gateway: ClusterGateway, outbox: Outbox) -> None:
        self.counts: Counter[str] = Counter()
        """Requests to the daemon by what became of them: `polled`, `reported`, or the reason of the failure."""
        self._config = config
        self._gateway = gateway
        self._outbox = outbox
        self._max_age = 0.0
        self._logged: dict[tuple[str, str], float] = {}
        self._news = asyncio.Event()
        self._sending = asyncio.Lock()
        self._session: aiohttp.ClientSession | None = None
        self._trust: tuple[tuple[int, int, int], ssl.SSLContext] | None = None

    def wake(self) -> None:
        """Something was put into the outbox."""
        self._news.set()

    async def run(self) -> None:
        """Poll and report; a daemon that is away is tried again for ever."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._poll_for_ever(), name="table")
            group.create_task(self._report_for_ever(), name="verdicts")

    async def close(self, seconds: float) -> None:
        """Deliver what still waits, as far as that goes within `seconds`."""
        try:
            async with asyncio.timeout(seconds):
                await self._empty()
        except (TimeoutError, OrchestratorError) as error:
            log.warning("%d verdicts could not be delivered: %s", len(self._outbox), error)
        finally:
            if self._session is not None:
                await self._session.close()

    # --- the table ---

    async def _poll_for_ever(self) -> None:
        pause = _FIRST_PAUSE
        while True:
            try:
                await self._poll()
            except OrchestratorError as error:
                self._failed("the table of runners could not be read", error)
                await asyncio.sleep(random.uniform(pause / 2, pause))  # noqa: S311 -- jitter
                pause = min(2 * pause, _LONGEST_PAUSE)
            else:
                self.counts["polled"] += 1
                pause = _FIRST_PAUSE
                await asyncio.sleep(POLL_GAP_SECONDS)

    async def _poll(self) -> None:
        asked_at = asyncio.get_running_loop().time()  # the table's age begins before it is made
        query = {"gateway": self._config.gateway, "after": self._gateway.version}
        seconds = max(POLL_SHARE * self._max_age, 1.0) if self._max_age else POLL_SECONDS
        data = await self._ask("GET", TABLE_PATH, seconds, MAX_UPDATE_BYTES, query=query)
        try:
            update = decode_update(data)
            ended = self._gateway.apply(update, asked_at)
        except TableError as error:
            # Without a table the daemon sends the whole one next.
            self._gateway.forget("the daemon sent one that does not fit")
            raise TryAgainError(f"the daemon sent no table: {error}", reason="table_invalid") from error
        self._max_age = update.max_age
        if ended:
            await self._gateway.settle()
            # The next poll says that the runner's access is over; its verdicts should be there by then.
            try:
                async with asyncio.timeout(LAST_VERDICTS_SECONDS):
                    await self._empty()
            except (TimeoutError, OrchestratorError) as error:
                log.warning("last verdicts are late: %s", error)

    # --- verdicts ---

    async def _report_for_ever(self) -> None:
        pause = _FIRST_PAUSE
        while True:
            await self._news.wait()
            self._news.clear()
            await asyncio.sleep(GATHER_SECONDS)
            try:
                await self._empty()
            except OrchestratorError as error:
                self._failed("verdicts could not be delivered", error)
                await asyncio.sleep(random.uniform(pause / 2, pause))  # noqa: S311 -- jitter
                pause = min(2 * pause, _LONGEST_PAUSE)
                self._news.set()
            else:
                pause = _FIRST_PAUSE

    async def _empty(self) -> None:
        """Send batches until nothing waits. One at a time, whoever calls: their numbers say the order."""
        async with self._sending:
            while (batch := self._outbox.next()) is not None:
                body = msgspec.json.encode(batch)
                if len(body) > MAX_BATCH_BYTES:
                    self._outbox.refused()
                    continue
                try:
                    await self._ask("POST", VERDICTS_PATH, POST_SECONDS, _MAX_ANSWER_BYTES, body=body)
                except _RefusedError as error:
                    log.error("the daemon refuses a batch of verdicts; it is lost: %s", error)  # noqa: TRY400
                    self._outbox.refused()
                else:
                    self._outbox.taken()
                    self.counts["reported"] += 1

    # --- requests ---

    async def _ask(
        self,
        method: str,
        path: str,
        seconds: float,
        max_bytes: int,
        *,
        query: dict[str, str] | None = None,
        body: bytes | None = None,
    ) -> bytes:
        """The body of a 200.

        Raises:
            TryAgainError: no answer, or one that may change: reason `daemon_unreachable`, `daemon_refuses_token`,
                `daemon_busy`, or `gateway_files_unreadable`.
            _RefusedError: the daemon says the request itself is wrong.
        """
        headers = {"Authorization": f"Bearer {self._token()}"}
        if body is not None:
            headers["Content-Type"] = "application/json"
        url = self._config.daemon_url + path
        timeout = aiohttp.ClientTimeout(total=seconds)
        try:
            async with self._open().request(
                method, url, params=query, data=body, headers=headers, timeout=timeout, allow_redirects=False,
                ssl=self._tls(),
            ) as answer:  # fmt: skip
                content = await _read(answer, max_bytes)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise TryAgainError(
                f"the daemon does not answer: {type(error).__name__}", reason="daemon_unreachable"
            ) from error
        if answer.status == 200:
            return content
        if answer.status == 401:
            raise TryAgainError("the daemon does not take the gateway's token", reason="daemon_refuses_token")
        if method == "POST" and answer.status in (400, 413, 415, 422):
            raise _RefusedError(f"status {answer.status}", reason="batch_refused")
        raise TryAgainError(f"the daemon answers {answer.status}", reason="daemon_busy")

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                trust_env=False, cookie_jar=aiohttp.DummyCookieJar(), auto_decompress=False
            )
        return self._session

    def _token(self) -> str:
        """Read each time: the kubelet replaces a projected token long before it expires."""
        try:
            with self._config.token_file.open("rb") as file:
                token = file.read(_MAX_TOKEN_BYTES).decode("ascii").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise _unreadable(self._config.token_file) from error
        if not token or not token.isprintable():
            raise _unreadable(self._config.token_file)
        return token

    def _tls(self) -> ssl.SSLContext:
        """Trust in the CA file alone, read again when it was replaced."""
        try:
            found = self._config.ca_file.stat()
            mark = (found.st_ino, found.st_mtime_ns, found.st_size)
            if self._trust is None or self._trust[0] != mark:
                context = ssl.create_default_context(cafile=str(self._config.ca_file))
                context.minimum_version = ssl.TLSVersion.TLSv1_3
                self._trust = (mark, context)
        except (OSError, ssl.SSLError) as error:
            raise _unreadable(self._config.ca_file) from error
        return self._trust[1]

    def _failed(self, what: str, error: OrchestratorError) -> None:
        """Count it, and log it when it is new or still so after a while."""
        self.counts[error.reason] += 1
        now = time.monotonic()
        if now >= self._logged.get((what, error.reason), 0.0) + LOG_AGAIN_SECONDS:
            self._logged[what, error.reason] = now
            log.warning("%s: %s", what, error, extra={"reason": error.reason})


def gateway_name(host: str) -> str:
    """A name for this very process: a gateway that was restarted holds no table and counts batches from 1."""
    kept = "".join(c for c in host if c.isascii() and (c.isalnum() or c in "-."))[:64].strip("-.")
    return f"{kept or 'gateway'}_{time.time_ns():x}{random.SystemRandom().getrandbits(32):08x}"


async def _read(answer: aiohttp.ClientResponse, max_bytes: int) -> bytes:
    content = bytearray()
    async for chunk in answer.content.iter_chunked(1 << 16):
        content += chunk
        if len(content) > max_bytes:
            answer.close()
            raise aiohttp.ClientPayloadError("the answer is too long")
    return bytes(content)


def _unreadable(path: Path) -> TryAgainError:
    return TryAgainError(f"{path} cannot be used", reason="gateway_files_unreadable")
