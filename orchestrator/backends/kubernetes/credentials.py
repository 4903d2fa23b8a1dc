"""Who presents a pod's projected token: TokenReview, behind everything that can be known without asking.

The order is: what the token itself claims, whether our own record still has a use for such a pod, then the
API server. Its *yes* is kept for a few seconds, its *no* never; our record is asked again each time.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections import OrderedDict
from collections.abc import Callable, Collection
from typing import Protocol

import msgspec

from orchestrator.backends.kubernetes.client import ApiClient
from orchestrator.backends.kubernetes.config import RUNNER_AUDIENCE, SERVICE_ACCOUNT
from orchestrator.backends.kubernetes.pod_token import Claimed, PodIdentity, claimed, subject
from orchestrator.errors import OrchestratorError, TryAgainError
from orchestrator.lifecycle.ports import RunnerIdentity
from orchestrator.model.runner import RunnerName

CACHE_SECONDS = 10.0
"""How long a positive review is kept. The API server's own cache of them lasts as long."""
MAX_CACHED = 20_000
REVIEWS_AT_ONCE = 16
MAX_WAITING = 512
"""Reviews that may wait for their turn; further ones are told to come again."""

_PATH = "/apis/authentication.k8s.io/v1/tokenreviews"
_EXTRA = "authentication.kubernetes.io/"


class _User(msgspec.Struct):
    username: str = ""
    extra: dict[str, list[str]] | None = None


class _Status(msgspec.Struct):
    authenticated: bool = False
    user: _User | None = None
    audiences: list[str] | None = None


class _Review(msgspec.Struct):
    status: _Status | None = None


_REVIEW = msgspec.json.Decoder(_Review)


class PodDirectory(Protocol):
    """What is known of pods from the journal's records and the watch. Quick, and no I/O."""

    def runner_of(self, pod: PodIdentity) -> RunnerName | None:
        """The unended job's runner that this pod is, or will be once its creation is noted."""
        ...

    def waiting(self, pod: PodIdentity) -> bool:
        """Whether it is a warm runner that nobody has taken yet."""
        ...


class TokenReviewer:
    """TokenReviews of one audience, few at a time."""

    def __init__(self, client: ApiClient, audience: str = RUNNER_AUDIENCE) -> None:
        self.audience = audience
        self.reviews = 0
        """How many were asked for."""
        self._client = client
        self._turns = asyncio.Semaphore(REVIEWS_AT_ONCE)
        self._waiting = 0

    async def confirms(self, token: str, said: Claimed) -> bool:
        """Whether the API server vouches that the bearer is who the token claims, now.

        Raises:
            TryAgainError: reason `temporarily_unavailable`: it could not be asked. Nobody is let in meanwhile.
        """
        if self._waiting >= MAX_WAITING:
            raise TryAgainError("too many tokens wait to be reviewed", reason="temporarily_unavailable")
        self._waiting += 1
        try:
            async with self._turns:
                status = await self._ask(token)
        finally:
            self._waiting -= 1
        user = status.user
        if not status.authenticated or user is None or self.audience not in (status.audiences or ()):
            return False
        extra = user.extra or {}
        named = (extra.get(_EXTRA + "pod-name"), extra.get(_EXTRA + "pod-uid"))
        return user.username == subject(said.pod.namespace, said.account) and named == (
            [said.pod.name],
            [said.pod.uid],
        )

    async def _ask(self, token: str) -> _Status:
        review = {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenReview",
            "spec": {"token": token, "audiences": [self.audience]},
        }
        self.reviews += 1
        try:
            answer = await self._client.request("POST", _PATH, body=msgspec.json.encode(review))
            return _REVIEW.decode(answer).status or _Status()
        except (OrchestratorError, msgspec.DecodeError) as error:
            # Also a refusal for good: it is about our own rights, never about the bearer.
            reason = error.reason if isinstance(error, OrchestratorError) else "unreadable"
            raise TryAgainError(
                f"the cluster cannot say whose token this is [{reason}]",
                reason="temporarily_unavailable",
                retry_after_seconds=2,
            ) from error


class _Cache:
    """Confirmed tokens by digest, each for a short time."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._until: OrderedDict[bytes, float] = OrderedDict()

    def has(self, token: str) -> bool:
        return self._until.get(_digest(token), 0.0) > self._monotonic()

    def add(self, token: str, seconds: float) -> None:
        digest = _digest(token)
        self._until[digest] = self._monotonic() + min(seconds, CACHE_SECONDS)
        self._until.move_to_end(digest)
        while len(self._until) > MAX_CACHED:
            self._until.popitem(last=False)


class PodCredentials:
    """`lifecycle.ports.RunnerCredentials` for the pods of the pools' namespaces."""

    def __init__(
        self,
        reviewer: TokenReviewer,
        namespaces: Collection[str],
        directory: PodDirectory,
        *,
        now: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._reviewer = reviewer
        self._namespaces = frozenset(namespaces)
        self._directory = directory
        self._now = now
        self._cache = _Cache(monotonic)

    async def verify(self, credential: str) -> RunnerIdentity | None:
        """See the port. None from the moment the job's end is recorded.

        Raises:
            TryAgainError: reason `temporarily_unavailable`: the API server could not be asked.
        """
        pod = await self.pod(credential)
        name = self._directory.runner_of(pod) if pod is not None else None
        return RunnerIdentity(name, pod.uid) if pod is not None and name is not None else None

    async def pod(self, credential: str) -> PodIdentity | None:
        """The pod behind the credential, if we have a use for it: a runner's, or a warm one.

        Raises:
            TryAgainError: as for `verify`.
        """
        now = self._now()
        said = claimed(credential, self._reviewer.audience, now)
        if said is None or said.account != SERVICE_ACCOUNT or said.pod.namespace not in self._namespaces:
            return None
        if not self._known(said.pod):
            return None
        if not self._cache.has(credential):
            if not await self._reviewer.confirms(credential, said):
                return None
            self._cache.add(credential, said.expires_at - now)
        return said.pod if self._known(said.pod) else None  # its job may have ended while we asked

    def _known(self, pod: PodIdentity) -> bool:
        return self._directory.runner_of(pod) is not None or self._directory.waiting(pod)


class AccountCredentials:
    """Whether a token is one of a pod of one ServiceAccount: the gateways' own."""

    def __init__(
        self,
        reviewer: TokenReviewer,
        namespace: str,
        account: str,
        *,
        now: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._reviewer = reviewer
        self._owner = (namespace, account)
        self._now = now
        self._cache = _Cache(monotonic)

    async def verify(self, credential: str) -> PodIdentity | None:
        """The pod of that ServiceAccount that the token is bound to.

        Raises:
            TryAgainError: reason `temporarily_unavailable`: the API server could not be asked.
        """
        now = self._now()
        said = claimed(credential, self._reviewer.audience, now)
        if said is None or (said.pod.namespace, said.account) != self._owner:
            return None
        if not self._cache.has(credential):
            if not await self._reviewer.confirms(credential, said):
                return None
            self._cache.add(credential, said.expires_at - now)
        return said.pod


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "replace")).digest()
