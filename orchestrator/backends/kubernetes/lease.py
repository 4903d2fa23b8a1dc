"""Of the daemons of one installation one works: who holds the Lease (coordination.k8s.io/v1).

Clocks of different machines are never compared: a standby takes over only when the Lease has not changed for its
whole duration by the standby's own clock, and the leader has stopped before that by its own. What a Lease cannot
give is fencing; the journal has an owner of its own for that.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Never

import msgspec

from orchestrator.backends.kubernetes.answers import ConflictError, NotFoundError
from orchestrator.backends.kubernetes.client import ApiClient
from orchestrator.errors import ConfigurationError, GiveUpError, OrchestratorError, TryAgainError

_log = logging.getLogger(__name__)


class LeaseLostError(GiveUpError):
    """Another daemon may work now, so this one must not."""

    reason = "lease_lost"


@dataclass(frozen=True, slots=True)
class LeaseTiming:
    """Seconds. The leader gives up after `deadline` without a renewal, well before `duration` lets others in."""

    duration: float = 15.0
    renew: float = 5.0
    deadline: float = 10.0
    retry: float = 2.0


class _Spec(msgspec.Struct):
    holderIdentity: str | None = None  # noqa: N815 -- the API's names
    renewTime: str | None = None  # noqa: N815
    leaseDurationSeconds: int | None = None  # noqa: N815
    leaseTransitions: int | None = None  # noqa: N815
    acquireTime: str | None = None  # noqa: N815


class _Lease(msgspec.Struct):
    metadata: dict[str, Any] = msgspec.field(default_factory=dict)
    spec: _Spec | None = None


_LEASE = msgspec.json.Decoder(_Lease)


class LeaderLease:
    """One daemon's view of the Lease. `acquire`, then `keep` for as long as it works, then `release`."""

    def __init__(
        self,
        client: ApiClient,
        namespace: str,
        name: str,
        holder: str,
        timing: LeaseTiming | None = None,
        *,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """`holder` must differ between any two processes, restarts included."""
        self.waits_for = ""
        """Why it is not ours, in words; empty once it is."""
        self._client = client
        self._path = f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases"
        self._namespace = namespace
        self._name = name
        self._holder = holder
        self._timing = timing or LeaseTiming()
        self._monotonic = monotonic
        self._seen = ""
        self._seen_at = 0.0
        self._uid = ""
        self._held_by = ""
        self._renewed_at = float("-inf")
        self._ours: _Lease | None = None

    @property
    def valid_for(self) -> float:
        """Seconds left in which the leader may work without a renewal; negative when it may not."""
        return self._renewed_at + self._timing.deadline - self._monotonic()

    async def acquire(self) -> None:
        """Wait until the Lease is ours.

        Raises:
            ConfigurationError: reason `lease_forbidden`: we have no right to it.
        """
        while not await self._try_to_take():  # noqa: ASYNC110 -- it is the cluster that changes
            await asyncio.sleep(self._timing.retry)
        self.waits_for = ""
        _log.info("this daemon holds the Lease", extra={"lease": self._name, "holder": self._holder})

    async def keep(self) -> Never:
        """Renew until cancelled.

        Raises:
            LeaseLostError: another holds it, or it could not be renewed in time.
        """
        while True:
            wait = max(0.0, self._renewed_at + self._timing.renew - self._monotonic())
            await asyncio.sleep(min(wait, max(self.valid_for, 0.0)))
            while not await self._renew():  # noqa: ASYNC110
                await asyncio.sleep(min(self._timing.retry / 2, max(self.valid_for, 0.0)))

    async def release(self) -> None:
        """Let the next one in without waiting, if it is still ours. Never fails."""
        lease, self._ours = self._ours, None
        if lease is None or self.valid_for <= 0:
            return
        try:
            async with asyncio.timeout(self._timing.retry):
                await self._give_back(lease)
        except (OrchestratorError, TimeoutError) as error:
            _log.warning("the Lease could not be given back; the next daemon waits for its end: %s", error)

    # How.

    async def _try_to_take(self) -> bool:
        began = self._monotonic()
        try:
            lease = await self._get()
            spec = lease.spec or _Spec()
            holder = self._last_holder(lease)
            duration = max(float(spec.leaseDurationSeconds or 0), self._timing.duration)
            if holder not in ("", self._holder) and self._monotonic() < self._seen_at + duration:
                self.waits_for = f"{holder} leads"
                return False
            self._ours = await self._taken(lease, began)
        except ConflictError:
            self.waits_for = "another daemon was quicker"
            return False
        except TryAgainError as error:
            self.waits_for = f"the Lease cannot be read: {error} [{error.reason}]"
            return False
        except GiveUpError as error:
            raise ConfigurationError(
                f"the Lease {self._namespace}/{self._name} cannot be held: {error}",
                reason="lease_forbidden",
                fix="apply the rendered manifests, or set kubernetes.lease: false for a lone daemon",
            ) from error
        self._renewed_at = began
        return True

    async def _taken(self, lease: _Lease, began: float) -> _Lease:
        """Who is told to end while the cluster is asked gives back what came of it: nobody else would for as long as a
        Lease lasts."""
        asked = asyncio.ensure_future(self._put(lease, self._holder))
        try:
            return await asyncio.shield(asked)
        except asyncio.CancelledError:
            with contextlib.suppress(OrchestratorError):
                self._ours, self._renewed_at = await asked, began
            await self.release()
            raise

    def _last_holder(self, lease: _Lease) -> str:
        """Whose the Lease is. One that was deleted and made anew is nobody's, and yet whoever held the one before
        may work on until its next renewal fails: it counts as theirs for as long as a Lease lasts."""
        uid, version = str(lease.metadata.get("uid", "")), str(lease.metadata.get("resourceVersion", ""))
        holder = (lease.spec or _Spec()).holderIdentity or ""
        if version != self._seen:
            if uid == self._uid or holder or not self._uid:
                self._held_by = holder
            self._uid, self._seen, self._seen_at = uid, version, self._monotonic()
        return self._held_by

    async def _give_back(self, lease: _Lease) -> None:
        """A renewal whose answer nobody waited for any more may have made it another version, or still be about to."""
        while True:
            try:
                await self._put(lease, "")
            except ConflictError:
                lease = await self._get()
                if (lease.spec or _Spec()).holderIdentity != self._holder:
                    return
            else:
                return

    async def _renew(self) -> bool:
        """False to try again soon."""
        began = self._monotonic()
        left = self.valid_for
        if left <= 0 or self._ours is None:
            raise LeaseLostError(f"the Lease was not renewed for {self._timing.deadline:g} s")
        try:
            async with asyncio.timeout(left):
                self._ours = await self._put(self._ours, self._holder)
        except ConflictError:
            # Our own write whose answer was lost, or somebody else's.
            return await self._look_again(left)
        except NotFoundError as error:
            raise LeaseLostError("the Lease was deleted") from error
        except (TryAgainError, TimeoutError) as error:
            _log.warning("the Lease could not be renewed: %s; %.0f s are left", error, left)
            return False
        except GiveUpError as error:
            _log.warning("renewing the Lease was refused: %s; %.0f s are left", error, left)
            return False
        self._renewed_at = began
        return True

    async def _look_again(self, left: float) -> bool:
        try:
            async with asyncio.timeout(left):
                lease = await self._get()
        except (OrchestratorError, TimeoutError):
            return False
        holder = (lease.spec or _Spec()).holderIdentity or ""
        if holder != self._holder:
            raise LeaseLostError(f"{holder or 'nobody'} holds the Lease now")
        self._ours = lease
        return False

    async def _get(self) -> _Lease:
        """The Lease, made when there is none."""
        try:
            return _read(await self._client.request("GET", f"{self._path}/{self._name}"))
        except NotFoundError:
            document = {
                "apiVersion": "coordination.k8s.io/v1",
                "kind": "Lease",
                "metadata": {"name": self._name, "namespace": self._namespace},
            }
            return _read(await self._client.request("POST", self._path, body=msgspec.json.encode(document)))

    async def _put(self, before: _Lease, holder: str) -> _Lease:
        """Only over exactly the version that was read."""
        now = datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
        spec = before.spec or _Spec()
        changed = holder != (spec.holderIdentity or "")
        document = {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": before.metadata,
            "spec": {
                "holderIdentity": holder,
                "leaseDurationSeconds": max(1, int(self._timing.duration)) if holder else 1,
                "acquireTime": now if changed else spec.acquireTime or now,
                "renewTime": now,
                "leaseTransitions": (spec.leaseTransitions or 0) + bool(holder and changed),
            },
        }
        answer = await self._client.request(
            "PUT", f"{self._path}/{self._name}", body=msgspec.json.encode(document), timeout=self._timing.deadline / 2
        )
        return _read(answer)


def _read(answer: bytes) -> _Lease:
    try:
        return _LEASE.decode(answer)
    except msgspec.DecodeError as error:
        raise TryAgainError(f"the Lease cannot be read: {error}"[:300], reason="api_unavailable") from None
