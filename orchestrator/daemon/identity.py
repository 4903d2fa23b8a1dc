"""Opens who we are to others: keys, issuers, and the checking of callers."""

from __future__ import annotations

import time
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

from orchestrator.daemon import slices
from orchestrator.daemon.clock import SystemClock
from orchestrator.daemon.closing import push_closing
from orchestrator.errors import ConfigurationError
from orchestrator.identity.issuer import Issuer
from orchestrator.identity.issuers import MAIN, IssuerSet
from orchestrator.identity.keys import KeyStore
from orchestrator.identity.private_file import private_folder
from orchestrator.identity.replay import ReplayStore
from orchestrator.identity.verify import CallerVerifier
from orchestrator.settings import Settings


@dataclass(frozen=True)
class Identity:
    """All issuers, and who may call."""

    issuers: IssuerSet
    callers: CallerVerifier


def open_identity(settings: Settings, url: str, clock: SystemClock, stack: AsyncExitStack) -> Identity:
    """Load keys, or make the first ones, and put the issuers together.

    Raises:
        OrchestratorError: keys or settings are not fit.
    """
    issuers = IssuerSet(
        _issuer(settings, url, MAIN, clock),
        {name: _issuer(settings, url, name, clock) for name in settings.identity.issuers},
    )
    own = {issuer.url for name, issuer in issuers.items() if name != MAIN}
    for config in slices.callers(settings):
        if config.issuer in own:
            raise ConfigurationError(
                f"callers lists {config.issuer}, an issuer of this daemon itself: its jobs could dispatch jobs",
                fix="remove it from callers",
            )
    callers = CallerVerifier(
        slices.callers(settings),
        local=issuers.main,
        replay=ReplayStore(settings.state_dir / "spent-tokens", time.time()),
        clock_ns=clock.now_ns,
        monotonic=time.monotonic,
    )
    push_closing(stack, "caller verification", callers.close)
    return Identity(issuers, callers)


def _issuer(settings: Settings, url: str, name: str, clock: SystemClock) -> Issuer:
    keys = KeyStore.open(_key_folder(settings, name), slices.rotation(settings, name), time.time())
    return Issuer(slices.issuer(settings, url, name), keys, clock.now_ns)


def _key_folder(settings: Settings, name: str) -> Path:
    """The main issuer's is as old as the program; the others lie beside its files, each in a folder of its own."""
    folder = settings.state_dir / "keys"
    if not name:
        return folder
    private_folder(folder / "issuers")
    return folder / "issuers" / name
