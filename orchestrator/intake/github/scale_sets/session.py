"""A message session with the Actions service, as its client keeps it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from orchestrator.intake.github.scale_sets.messages import Statistics


@dataclass(slots=True, eq=False)
class Session:
    """Made by `ActionsClient.create_session`, which also renews its token: early, and when a call finds it refused.

    `statistics` is as of the creation or the last refresh (None: the service told none). The rest is the client's.
    """

    id: str
    set_id: int
    owner: str
    statistics: Statistics | None
    queue_url: str = field(repr=False)
    token: str = field(repr=False)
    fresh_until: float = field(repr=False)
    """Monotonic seconds from which on a poll renews the token first."""
    generation: int = 0
    """How often it was refreshed."""
    renewing: asyncio.Lock = field(default_factory=asyncio.Lock, repr=False)
