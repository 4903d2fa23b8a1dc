"""The daemon's HTTP API for the command line. Synchronous and standard library only: commands start at once.

A request makes its own connection. Waiting is bounded everywhere: `connect_seconds` to be let in, `read_seconds`
of silence while an answer is due. A silent *stream* is no fault; it raises `IdleError`, for its reader to judge.
"""

from __future__ import annotations

import http.client
import json
import ssl
import uuid
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from typing import Any
from urllib.parse import quote, urlencode

from orchestrator import __version__
from orchestrator.cli.exits import AnswerError, CommandError, UnreachableError
from orchestrator.cli.link.patience import Patience
from orchestrator.cli.link.sse import EventParser, EventTooLargeError, ServerEvent
from orchestrator.cli.link.target import Target

_MAX_ANSWER_BYTES = 64 << 20
_CHUNK_BYTES = 64 * 1024
_PAGE = 200

Document = dict[str, Any]


class IdleError(Exception):
    """A stream was silent for `read_seconds`."""


class DaemonClient:
    """Calls of the public API. Every method may raise `UnreachableError` and `AnswerError`."""

    def __init__(self, target: Target, *, connect_seconds: float = 5, read_seconds: float = 30) -> None:
        self._target = target
        self._connect_seconds = connect_seconds
        self._read_seconds = read_seconds

    @property
    def url(self) -> str:
        return self._target.url

    def dispatch(self, job: Mapping[str, Any], key: str | None = None) -> tuple[Document, bool]:
        """Submit a job; its view, and whether the daemon already had it under this key.

        The key makes it safe to ask again when an answer was lost, and so this does, for a bounded time;
        so it does when the queue is full. A daemon that never was there fails at once.
        """
        headers = {"Idempotency-Key": key or f"cli-{uuid.uuid4()}"}
        patience = Patience(seconds=30)
        while True:
            try:
                with self._open("POST", "/v1/jobs", body=job, headers=headers) as response:
                    return _document(response), response.headers.get("Idempotency-Replayed", "") == "true"
            except UnreachableError as error:
                if not error.sent and not patience.tried:
                    raise
                patience.failed(error)
            except AnswerError as error:
                if error.status not in (429, 503):
                    raise
                patience.failed(error, error.retry_after_seconds)

    def job(self, job_id: str) -> Document:
        return self._get(f"/v1/jobs/{quote(job_id, safe='')}")

    def trace(self, job_id: str) -> Document:
        return self._get(f"/v1/jobs/{quote(job_id, safe='')}/trace")

    def trust(self, job_id: str, audience: str, role: str = "") -> Document:
        """Why the job gets a token for the audience, or none."""
        query = {"audience": audience} | ({"role": role} if role else {})
        return self._get(f"/v1/jobs/{quote(job_id, safe='')}/trust", query)

    def trust_inventory(self) -> Document:
        """Who could get what by the trust map in force."""
        return self._get("/v1/trust")

    def receipt(self, job_id: str) -> str:
        """The signed envelope, as it was kept: a change of one byte would be another document."""
        return self._text(f"/v1/jobs/{quote(job_id, safe='')}/receipt")

    def evidence_key(self) -> str:
        """The daemon's public key of receipts and provenance, as PEM."""
        return self._text("/v1/evidence/key")

    def keys(self) -> Document:
        """The signing keys of each issuer."""
        return self._get("/v1/keys")

    def revoke_key(self, kid: str) -> Document:
        """Withdraw a signing key; again is without effect."""
        return self.call("POST", f"/v1/keys/{quote(kid, safe='')}/revoke")

    def call(
        self, method: str, path: str, body: Mapping[str, Any] | None = None, query: Mapping[str, str] | None = None
    ) -> Document:
        """Any operation that answers with a document."""
        with self._open(method, path, body=body, query=query) as response:
            return _document(response)

    def check_policy(self, question: Mapping[str, Any]) -> Document:
        """What policy says of a deployment that somebody has in mind; nothing is granted."""
        return self.call("POST", "/v1/policy/check", question)

    def pools(self) -> Document:
        return self._get("/v1/pools")

    def sources(self) -> Document:
        return self._get("/v1/sources")

    def jobs(self, *, limit: int, **filters: str | None) -> Iterator[Document]:
        """Summaries of jobs that fit all filters, newest first, at most `limit`; pages are fetched as needed."""
        query = {name: value for name, value in filters.items() if value}
        after: str | None = None
        while limit > 0:
            page = {**query, "limit": str(min(limit, _PAGE))} | ({"after": after} if after else {})
            answer = self._get("/v1/jobs", page)
            yield from answer["jobs"][:limit]
            limit -= len(answer["jobs"])
            after = answer["next"]
            if not after or not answer["jobs"]:
                return

    def cancel(self, job_id: str, reason: str = "") -> Document:
        """Ask for the job's end; its view."""
        return self.call("DELETE", f"/v1/jobs/{quote(job_id, safe='')}", query={"reason": reason} if reason else None)

    def log(self, job_id: str, *, offset: int = 0, follow: bool = False) -> Iterator[bytes]:
        """The job's output from byte `offset` on, as it comes.

        Raises:
            IdleError: nothing came for a while (only when following).
        """
        query = {"follow": "true" if follow else "false", "offset": str(offset)}
        with self._open("GET", f"/v1/jobs/{quote(job_id, safe='')}/log", query=query) as response:
            yield from self._stream(response)

    def events(self, job_id: str, *, after: int = 0, follow: bool = True) -> Iterator[ServerEvent]:
        """The job's facts from its first, or those behind number `after`; `data` is JSON text.

        Raises:
            IdleError: nothing came for a while.
        """
        query = {"follow": "true" if follow else "false"}
        headers = {"Last-Event-ID": str(after)} if after else {}
        parser = EventParser()
        with self._open("GET", f"/v1/jobs/{quote(job_id, safe='')}/events", query=query, headers=headers) as response:
            for chunk in self._stream(response):
                try:
                    yield from parser.feed(chunk)
                except EventTooLargeError as error:
                    raise CommandError(f"the daemon's event stream cannot be read: {error}") from None

    def read(self, path: str, query: Mapping[str, str] | None = None) -> Document:
        """The answer to a GET; for commands with a part of the API of their own, who quote their paths."""
        return self._get(path, query)

    def read_text(self, path: str) -> str:
        return self._text(path)

    def artifact(self, digest: str) -> Document:
        return self._get(f"/v1/artifacts/{quote(digest, safe='')}")

    def attestation(self, digest: str, attestation: str) -> str:
        """As a Sigstore bundle."""
        return self._text(f"/v1/artifacts/{quote(digest, safe='')}/attestations/{quote(attestation, safe='')}")

    def send(self, path: str, body: Mapping[str, Any]) -> Document:
        """The answer to a POST of JSON."""
        with self._open("POST", path, body=body) as response:
            return _document(response)

    def _get(self, path: str, query: Mapping[str, str] | None = None) -> Document:
        return self.call("GET", path, query=query)

    def _text(self, path: str) -> str:
        with self._open("GET", path) as response:
            return _read_all(response).decode("utf-8", "replace")

    def _stream(self, response: http.client.HTTPResponse) -> Iterator[bytes]:
        while True:
            try:
                chunk = response.read1(_CHUNK_BYTES)
            except TimeoutError:
                raise IdleError from None
            except (OSError, http.client.HTTPException) as error:
                raise self._lost(error) from None
            if not chunk:
                if response.length:  # http.client takes the end of the connection for the end of the body
                    raise self._lost(EOFError())
                return
            yield chunk

    @contextmanager
    def _open(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Iterator[http.client.HTTPResponse]:
        """One request; the answer with its body still to be read, or an error for any status but 2xx."""
        sent = {
            "Authorization": f"Bearer {self._target.token()}",
            "Accept": "application/json, application/problem+json, text/plain, text/event-stream",
            "User-Agent": f"orchestrator-cli/{__version__}",
            **(headers or {}),
        }
        payload = None
        if body is not None:
            payload = json.dumps(body).encode()
            sent["Content-Type"] = "application/json"
        address = self._target.parts.path + path + (f"?{urlencode(query)}" if query else "")
        with closing(self._connect()) as connection:
            try:
                connection.request(method, address, body=payload, headers=sent)
                response = connection.getresponse()
            except (OSError, http.client.HTTPException) as error:
                raise self._lost(error) from None
            with response:
                if not 200 <= response.status < 300:
                    raise _problem(response, self.url)
                yield response

    def _connect(self) -> http.client.HTTPConnection:
        parts = self._target.parts
        host = parts.hostname or ""
        make = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        connection = make(host, parts.port, timeout=self._connect_seconds)
        try:
            connection.connect()
        except ssl.SSLError as error:
            raise UnreachableError(f"no trusted TLS connection to {self.url}: {error.reason}") from None
        except OSError as error:
            why = "took too long to answer" if isinstance(error, TimeoutError) else (error.strerror or str(error))
            raise UnreachableError(
                f"no daemon answers at {self.url}: {why}",
                fix="start one with `orchestrator run`, or say where it is with --url",
            ) from None
        connection.sock.settimeout(self._read_seconds)
        return connection

    def _lost(self, error: Exception) -> UnreachableError:
        why = "no answer in time" if isinstance(error, TimeoutError) else "the connection was lost"
        return UnreachableError(f"{self.url}: {why}", fix="is the daemon still running?", sent=True)


def _read_all(response: http.client.HTTPResponse) -> bytes:
    try:
        content = response.read(_MAX_ANSWER_BYTES + 1)
        cut = bool(response.length) and len(content) <= _MAX_ANSWER_BYTES
    except (OSError, http.client.HTTPException):
        content, cut = b"", True
    if cut:
        raise UnreachableError("the connection was lost in the middle of an answer", sent=True)
    if len(content) > _MAX_ANSWER_BYTES:
        raise CommandError(f"the daemon's answer is larger than {_MAX_ANSWER_BYTES} bytes")
    return content


def _document(response: http.client.HTTPResponse) -> Document:
    try:
        document = json.loads(_read_all(response))
    except ValueError:
        document = None
    if not isinstance(document, dict):
        raise CommandError("the answer is not JSON of this API", fix="does --url name the orchestrator's daemon?")
    return document


def _problem(response: http.client.HTTPResponse, url: str) -> AnswerError:
    """An error answer, told by its problem document (RFC 9457) where it has one."""
    try:
        document = json.loads(_read_all(response))
    except (ValueError, CommandError):
        document = None
    if not isinstance(document, dict) or "reason" not in document:
        return AnswerError(
            f"{url} answered {response.status} {response.reason}, and not as this API does",
            status=response.status,
            reason="not_this_api",
            fix="does --url name the orchestrator's daemon?",
        )
    faults = [item for item in document.get("errors", []) if isinstance(item, dict)]
    message = f"{document.get('detail') or document.get('title') or 'refused'} [{document['reason']}]"
    after = response.headers.get("Retry-After", "")
    return AnswerError(
        "\n".join([message, *(f"  {item.get('pointer', '')}: {item.get('detail', '')}" for item in faults[:20])]),
        status=response.status,
        reason=str(document["reason"]),
        fix=str(document.get("fix") or ""),
        retry_after_seconds=float(after) if after.isdecimal() else None,
    )
