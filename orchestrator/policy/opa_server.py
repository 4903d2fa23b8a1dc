"""Rego evaluated by an OPA server over its Data API (OPA 1.x, `POST /v1/data/<path>`).

OPA's answers differ from what their status codes suggest: an undefined decision is *200 without `result`*, and
a builtin's error makes an expression silently undefined unless `strict-builtin-errors` is asked for (then it
is a 500). The policies live in that server, as a bundle of its own; its revision stands in each decision.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
from urllib.parse import quote

import aiohttp
import msgspec
from tenacity import AsyncRetrying, retry_if_exception_type, stop_never, wait_random_exponential

from orchestrator.errors import ConfigurationError, TryAgainError
from orchestrator.model.decision import Verdict
from orchestrator.policy.document import Evaluation, read_answer
from orchestrator.policy.engine import ENTRYPOINT, MAX_INPUT_BYTES, too_large

_HEADERS = {"Content-Type": "application/json", "Accept-Encoding": "identity"}
_QUERY = {"strict-builtin-errors": "true", "provenance": "true"}


class _Revision(msgspec.Struct):
    revision: str = ""


class _Provenance(msgspec.Struct):
    version: str = ""
    bundles: dict[str, _Revision] = {}


class _Answer(msgspec.Struct):
    result: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    provenance: _Provenance = msgspec.field(default_factory=_Provenance)


class _RefusedError(Exception):
    """The server answered, and the answer is no decision."""


_DECODER = msgspec.json.Decoder(_Answer)


class OpaServerEngine:
    """Asks an OPA server. All failures, and silence for longer than the timeout, are verdict *error*.

    Args:
        url: base URL of the server, e.g. `http://127.0.0.1:8181`.
        session: client session to use; without one the engine makes its own and closes it.
        timeout_seconds: for one question, all tries together. Only a lost connection is tried again
            (a question changes nothing, so asking twice is harmless).
        max_answer_bytes: largest answer read.
    """

    def __init__(
        self,
        url: str,
        *,
        session: aiohttp.ClientSession | None = None,
        timeout_seconds: float = 5.0,
        entrypoint: str = ENTRYPOINT,
        max_input_bytes: int = MAX_INPUT_BYTES,
        max_answer_bytes: int = 1 << 20,
    ) -> None:
        path = "/".join(quote(part, safe="") for part in entrypoint.removeprefix("data.").split("."))
        self._url = f"{url.rstrip('/')}/v1/data/{path}"
        self._shown = re.sub(r"//[^/]*@", "//", self._url)  # what stands before an @ is a secret
        self._session = session
        self._owns_session = session is None
        self._timeout_seconds = timeout_seconds
        self._max_input_bytes = max_input_bytes
        self._max_answer_bytes = max_answer_bytes

    async def evaluate(self, input_json: str) -> Evaluation:
        if too_large(input_json, self._max_input_bytes):
            return _error(f"the policy input is larger than {self._max_input_bytes} bytes")
        body = b'{"input":' + input_json.encode() + b"}"
        try:
            async with asyncio.timeout(self._timeout_seconds):
                return _read(await self._ask_until_answered(body))
        except TimeoutError:
            return _error(f"the OPA server gave no answer within {self._timeout_seconds:g} seconds")
        except _RefusedError as error:
            return _error(f"the OPA server gave no decision: {error}")
        except (aiohttp.ClientError, OSError, ValueError, RuntimeError) as error:
            return _error(f"the OPA server could not be asked: {type(error).__name__}")

    async def check(self) -> None:
        """Ask about an empty document, which must not be allowed; for start-up, before anything depends on it.

        Raises:
            TryAgainError: reason `policy_engine_unavailable`: the server cannot be reached or errs.
            ConfigurationError: reason `policy_invalid`: the server's policy has no decision, or allows.
        """
        evaluation = await self.evaluate("{}")
        if evaluation.verdict is Verdict.ERROR:
            raise TryAgainError(
                evaluation.detail,
                reason="policy_engine_unavailable",
                fix=f"see that the OPA server answers POST {self._shown} and look at its log",
            )
        if evaluation.verdict is not Verdict.DENY:
            raise ConfigurationError(
                f"the OPA server's policy answers {evaluation.verdict.value} to an empty document",
                reason="policy_invalid",
                fix=f"serve a bundle that defines {ENTRYPOINT} with a default that denies",
            )

    async def aclose(self) -> None:
        if self._owns_session and self._session is not None:
            await self._session.close()
            self._session = None

    async def _ask_until_answered(self, body: bytes) -> bytes:
        retrying = AsyncRetrying(
            retry=retry_if_exception_type((aiohttp.ClientConnectionError, aiohttp.ClientPayloadError, ConnectionError)),
            wait=wait_random_exponential(multiplier=0.02, max=0.5),
            stop=stop_never,
            reraise=True,
        )
        async for attempt in retrying:
            with attempt:
                return await self._ask(body)
        raise AssertionError("tenacity ends only by a result or an error")

    async def _ask(self, body: bytes) -> bytes:
        if self._session is None:
            self._session = aiohttp.ClientSession(trust_env=False)
        async with self._session.post(
            self._url, params=_QUERY, data=body, headers=_HEADERS, allow_redirects=False
        ) as response:
            if response.status != 200:
                raise _RefusedError(f"status {response.status}")
            answer = bytearray()
            async for chunk in response.content.iter_chunked(65536):
                answer += chunk
                if len(answer) > self._max_answer_bytes:
                    raise _RefusedError(f"its answer is larger than {self._max_answer_bytes} bytes")
            return bytes(answer)


def _read(body: bytes) -> Evaluation:
    try:
        answer = _DECODER.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise _RefusedError("its answer is not what OPA's Data API returns") from None
    bundles = sorted((name, bundle.revision) for name, bundle in answer.provenance.bundles.items())
    revisions = " ".join(f"{name}@{revision or 'unknown'}" for name, revision in bundles)
    engine = f"opa/{answer.provenance.version or 'unknown'} {revisions}".rstrip()
    digest = "sha256:" + hashlib.sha256(revisions.encode()).hexdigest() if bundles else ""
    result = None if isinstance(answer.result, msgspec.UnsetType) else bytes(answer.result)
    return read_answer(result, engine=engine[:200], bundle_digest=digest)


def _error(detail: str) -> Evaluation:
    return Evaluation(Verdict.ERROR, detail=detail, engine="opa")
