"""Handing checkpoints to places that this machine cannot change: what keeps a rewritten log from passing as true.

An anchor is one such place. `Anchoring` brings it the newest checkpoint, again and again until it is accepted; while
a place is away only the newest waits, since each checkpoint vouches for all records before it.
"""

from __future__ import annotations

from typing import Protocol

from orchestrator.evidence.audit.checkpoint import Checkpoint


class Anchor(Protocol):
    """A place that keeps checkpoints. `name` is for metrics and messages and holds no secret."""

    @property
    def name(self) -> str: ...

    async def put(self, checkpoint: Checkpoint) -> None:
        """Return once the place has accepted it for good. Putting the same one again is no error.

        Raises:
            TryAgainError: reason `anchor_unreachable` or `anchor_refused`; it may have been accepted.
        """
