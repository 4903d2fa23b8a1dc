"""Opens who we are to others: keys, issuers, the trust map, the checking of callers, and the exchange."""

from __future__ import annotations

import time
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from orchestrator.daemon import slices
from orchestrator.daemon.clock import SystemClock
from orchestrator.daemon.closing import push_closing
from orchestrator.daemon.records.audit_notes import AuditNotes
from orchestrator.daemon.trust import TrustHolder, facts_given
from orchestrator.errors import ConfigurationError
from orchestrator.evidence.audit.facts import DAEMON
from orchestrator.identity.brokered import Broker
from orchestrator.identity.exchange import Collaborators, Exchange, Note, Summarize
from orchestrator.identity.issuer import Issuer
from orchestrator.identity.issuers import MAIN, IssuerSet
from orchestrator.identity.keys import KeyStore
from orchestrator.identity.rate import RateLimit
from orchestrator.identity.replay import ReplayStore
from orchestrator.identity.verify import CallerVerifier
from orchestrator.journal.redact import Masker
from orchestrator.lifecycle.engine import Engine
from orchestrator.lifecycle.pools import Pools
from orchestrator.lifecycle.ports import Policy
from orchestrator.private_file import private_folder
from orchestrator.settings import Settings

_EXCHANGES_PER_SECOND = 5.0
_EXCHANGE_BURST = 20


@dataclass(frozen=True)
class Identity:
    """All issuers, who may call, and who may get what."""

    issuers: IssuerSet
    callers: CallerVerifier
    trust: TrustHolder


async def open_identity(
    settings: Settings, url: str, clock: SystemClock, notes: AuditNotes, stack: AsyncExitStack
) -> Identity:
    """Load keys, or make the first ones, and put the issuers together.

    Raises:
        OrchestratorError: keys or settings are not fit.
    """
    issuers = IssuerSet(
        _issuer(settings, url, MAIN, clock),
        {name: _issuer(settings, url, name, clock) for name in settings.identity.issuers},
    )
    await notes.keys_in_use(issuers, DAEMON)
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
    brokered = slices.brokered(settings).__contains__
    trust = TrustHolder(settings.identity.trust_maps, issuers, brokered, facts_given(settings))
    await trust.load(partial(notes.trust_loaded, actor=DAEMON))
    return Identity(issuers, callers, trust)


def exchange_of(
    identity: Identity,
    policy: Policy,
    engine: Engine,
    note: Note,
    pools: Pools,
    masker: Masker,
    broker: Broker | None,
    summarize: Summarize,
) -> Exchange:
    """The exchange for jobs of all backends."""
    trust = identity.trust.current
    asked = Collaborators(policy, engine.bound_record, pools.of, note, masker.register, trust, broker, summarize)
    rate = RateLimit(per_second=_EXCHANGES_PER_SECOND, burst=_EXCHANGE_BURST, monotonic=time.monotonic)
    return Exchange(identity.issuers, asked, rate)


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
