"""A running job says which artifact it deploys, where nothing that dispatched it could: its platform chose the runner.

It is the job's word, as everything in a dispatch is: it chooses what policy looks at, and proves nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from orchestrator.errors import GiveUpError
from orchestrator.model.events import ArtifactNamed
from orchestrator.model.record import Record
from orchestrator.server.deps import JobEngine


async def deploying(
    engine: JobEngine, running: Callable[[], Record], turn: asyncio.Lock, digest: str
) -> dict[str, str]:
    """The answer once it is durable that the job deploys this digest. `running` raises when the job is over.

    Raises:
        GiveUpError: `artifact_already_named`: it deploys another one; `job_not_running`, `job_finished`.
        TryAgainError: the journal cannot take it now.
    """
    async with turn:  # of two at once one is first, and the other leaves no fact
        record = running()
        if not record.offer.spec.artifact_digest:
            await engine.note(record.id, ArtifactNamed(digest))
            record = running()
    if record.offer.spec.artifact_digest != digest:
        raise GiveUpError(
            f"This job deploys {record.offer.spec.artifact_digest}, and no other artifact.",
            reason="artifact_already_named",
            fix="deploy another artifact in another job",
        )
    return {"job_id": record.id, "artifact_digest": digest}
