"""The caller token that the daemon leaves for the command line."""

from __future__ import annotations

import asyncio
import threading
from types import SimpleNamespace

from orchestrator.daemon import presence
from orchestrator.daemon.presence import Presence


async def test_the_token_that_was_made_last_is_the_one_that_stays(tmp_path, monkeypatch):
    """One key is withdrawn while a token that it signed is on its way to the disk, and another is made at once."""
    replace, begun, gate, made = presence.replace_private_file, threading.Event(), threading.Event(), []

    def held(path, data):
        if not begun.is_set():
            begun.set()
            gate.wait(20)
        replace(path, data)

    def mint():
        made.append(f"token-{len(made)}")
        return made[-1], None

    monkeypatch.setattr(presence, "replace_private_file", held)
    daemon = Presence(tmp_path, "http://127.0.0.1:1", SimpleNamespace(mint_caller_token=mint))
    first = asyncio.create_task(daemon.renew())
    await asyncio.to_thread(begun.wait, 20)
    second = asyncio.create_task(daemon.renew())
    await asyncio.wait([second], timeout=0.3)  # where nothing holds it, it is done by now
    gate.set()
    await asyncio.gather(first, second)
    assert (tmp_path / "caller-token").read_text() == made[-1] == "token-1"
