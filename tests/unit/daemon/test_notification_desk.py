"""Who is told by a daemon that had nobody to tell for a while."""

from __future__ import annotations

from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from orchestrator.daemon.clock import SystemClock
from orchestrator.daemon.notifications import NotificationDesk
from orchestrator.identity.webhook_keys import new_shared_key
from orchestrator.journal.sqlite import SqliteJournal
from orchestrator.model.events import JobOffered
from orchestrator.settings.notifications import NotificationSettings
from orchestrator.testing.hook_receiver import HookReceiver
from orchestrator.testing.stories import WHOLE, offer
from tests.unit.notifications.plain import near, quick


async def test_what_happened_while_nobody_was_told_is_told_to_nobody_later(tmp_path: Path) -> None:
    """Three daemons: one tells, the next has no endpoint, the third has the first one's again."""
    (tmp_path / "key").write_text(new_shared_key())
    clock = SystemClock()
    journal = await SqliteJournal.open(tmp_path / "journal.db", clock)
    async with HookReceiver() as receiver:
        ops = {"name": "ops", "url": receiver.url, "key_files": [tmp_path / "key"], "events": ["job.ended"]}
        for number, endpoints in enumerate(([ops], [], [ops])):
            given = NotificationSettings.model_validate(
                {"endpoints": [one | {"allow_private": True} for one in endpoints]}
            )
            desk = NotificationDesk(tmp_path / "notifications.db", near(journal, clock.now_ns, quick()))
            async with AsyncExitStack() as stack:
                stack.push_async_callback(desk.stop)
                await desk.open(given)
                started: Any = journal  # all that is needed of it is its feed
                desk.start(started, stack)
                happened = offer(str(number))
                await journal.append([(happened.key.id, event) for event in (JobOffered(happened), *WHOLE["failure"])])
                if endpoints:
                    await receiver.wait_for(1 if number == 0 else 2)
        told = [hook.json["data"]["job"]["id"] for hook in receiver.taken]
        assert told == ["dispatch.0.1", "dispatch.2.1"]
    await journal.close()


async def test_an_outbox_that_nobody_needs_stops_no_start(tmp_path: Path) -> None:
    (tmp_path / "notifications.db").write_text("no database")
    clock = SystemClock()
    journal = await SqliteJournal.open(tmp_path / "journal.db", clock)
    desk = NotificationDesk(tmp_path / "notifications.db", near(journal, clock.now_ns, quick()))
    await desk.open(NotificationSettings())
    assert desk.listed() == []
    await desk.stop()
    await journal.close()
