"""How the command line finds the daemon: its address and a short-lived caller token in the state folder."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
from pathlib import Path

from orchestrator import __version__
from orchestrator.identity.issuer import Issuer
from orchestrator.private_file import replace_private_file
from orchestrator.to_the_end import to_the_end


class Presence:
    """Writes `daemon.json` and `caller-token` (mode 0600); `withdraw` removes both."""

    def __init__(self, folder: Path, url: str, issuer: Issuer) -> None:
        self._daemon = folder / "daemon.json"
        self._token = folder / "caller-token"
        self._url = url
        self._issuer = issuer
        self._writing = asyncio.Lock()

    async def announce(self) -> None:
        """Say where we are; the token first, so that who finds the address finds a token too."""
        await self._write_token()
        about = {"url": self._url, "pid": os.getpid(), "version": __version__}
        await asyncio.to_thread(replace_private_file, self._daemon, json.dumps(about).encode())

    async def renew_for_ever(self) -> None:
        """A fresh token at half of the life of the last one."""
        while True:
            await asyncio.sleep(self._issuer.config.caller_token_ttl_seconds / 2)
            await self.renew()

    async def renew(self) -> None:
        """A fresh token now, by the key that signs now; what the disk refuses is left to the next turn."""
        with contextlib.suppress(OSError):  # a full disk must not end the daemon
            await self._write_token()

    async def _write_token(self) -> None:
        # One at a time, to its end: a token of before a key was withdrawn must not be the one that stays.
        async with self._writing:
            token, _ = self._issuer.mint_caller_token()
            await to_the_end(asyncio.to_thread(replace_private_file, self._token, token.encode()))

    def withdraw(self) -> None:
        for path in (self._daemon, self._token):
            path.unlink(missing_ok=True)
