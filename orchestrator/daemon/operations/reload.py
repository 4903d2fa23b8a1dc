"""SIGHUP, or an operator: settings, policy bundle, its candidate, trust map and what else the daemon names are loaded
again. A bundle that denies far more than the one before it may be taken back here too.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from functools import partial

from orchestrator.daemon.operations.live_settings import LiveSettings, Loaded
from orchestrator.daemon.records.audit_notes import BY_SIGNAL, AuditNotes
from orchestrator.daemon.records.decision_log import DecisionRoom
from orchestrator.daemon.trust import TrustHolder
from orchestrator.errors import GiveUpError, OrchestratorError
from orchestrator.evidence.audit.facts import DAEMON
from orchestrator.policy.bundle import BundleHolder
from orchestrator.policy.decision_log.deny_watch import Jump
from orchestrator.policy.opa_server import OpaServerEngine
from orchestrator.telemetry.metrics import Metrics

_log = logging.getLogger("orchestrator")

Load = Callable[[str], Awaitable[bool]]
"""Reads files again and puts them in force, in the name of an actor; whether anything changed. Raises where they are
not fit, and then what was in force stays."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """`word` is `loaded`, `unchanged` or `refused`; the latter with `reason`, `detail` and `fix`, and what was in force
    stays so. `settings` is for those only."""

    word: str
    reason: str = ""
    detail: str = ""
    fix: str = ""
    settings: Loaded = field(default_factory=Loaded)


class Reload:
    """Settings, policy, the trust map and what `also` names, each by itself: one that is refused keeps the others from
    nothing. One reload after the other; signals that come meanwhile become one more.

    Without `live` there is no file to read settings from.
    """

    def __init__(
        self,
        engine: BundleHolder | OpaServerEngine,
        trust: TrustHolder,
        decisions: DecisionRoom,
        notes: AuditNotes,
        metrics: Metrics,
        live: LiveSettings | None,
        also: Mapping[str, Load] | None = None,
    ) -> None:
        self._engine = engine
        self._trust = trust
        self._decisions = decisions
        self._notes = notes
        self._metrics = metrics
        self._live = live
        self._also = also or {}
        self._asked = asyncio.Event()
        self._requests: deque[tuple[str, asyncio.Future[Mapping[str, Outcome]]]] = deque()
        self._over = False
        self._signalled = False
        self._jump: Jump | None = None
        decisions.on_jump = self.jumped

    def signalled(self) -> None:
        self._signalled = True
        self._asked.set()

    async def ask(self, actor: str) -> Mapping[str, Outcome]:
        """As `reload`, in its turn; it is done to the end, also when nobody waits for it any more.

        Raises:
            GiveUpError: reason `daemon_stopping`.
        """
        if self._over:
            raise _stopping()
        answer: asyncio.Future[Mapping[str, Outcome]] = asyncio.get_running_loop().create_future()
        self._requests.append((actor, answer))
        self._asked.set()
        return await answer

    def jumped(self, jump: Jump) -> None:
        """The bundle in force denies far more than the one before it."""
        self._jump = jump
        self._asked.set()

    async def run_for_ever(self) -> None:
        """Until it is cancelled, which refuses all that still wait: they would hold up the stop."""
        try:
            while True:
                await self._asked.wait()
                self._asked.clear()
                await self._do_what_is_asked()
        finally:
            self._over = True
            for _, answer in self._requests:
                if not answer.done():
                    answer.set_exception(_stopping())

    async def _do_what_is_asked(self) -> None:
        jump, self._jump = self._jump, None
        if jump is not None:
            await self._answer(jump)
        if self._signalled:
            self._signalled = False
            await self.reload()
        while self._requests:
            actor, answer = self._requests[0]
            outcomes = await self.reload(actor)
            self._requests.popleft()
            if not answer.done():  # who asked may have gone
                answer.set_result(outcomes)

    async def reload(self, actor: str = BY_SIGNAL) -> Mapping[str, Outcome]:
        """Load what there is to load: `settings`, `policy`, `policy candidate`, `trust map` and the others, each with
        what came of it. Never raises."""
        outcomes: dict[str, Outcome] = {}
        if self._live is not None:
            outcomes["settings"] = await self._outcome("settings", partial(self._load_settings, self._live), actor)
            self._metrics.settings_reloaded(outcomes["settings"].word)
        outcomes["policy"] = await self._outcome("policy", self._load_policy, actor)
        self._metrics.policy_reloaded(outcomes["policy"].word)
        if self._decisions.candidate_configured:
            outcomes["policy candidate"] = await self._outcome("policy candidate", self._load_candidate, actor)
        if self._trust.configured:
            outcomes["trust map"] = await self._outcome("trust map", self._load_trust, actor)
            self._metrics.trust_reloaded(outcomes["trust map"].word)
        for what, load in self._also.items():
            outcomes[what] = await self._outcome(what, load, actor)
            _log.info(f"{what}: {outcomes[what].word}")
        return outcomes

    async def _load_settings(self, live: LiveSettings, actor: str) -> Loaded:
        loaded = await live.load(actor)
        _log.info("settings reloaded", extra={"changed": loaded.changed, "jobs_ending": dict(loaded.ending)})
        if loaded.restart:
            _log.warning("restart to put these settings in force too", extra={"needs_restart": loaded.restart})
        return loaded

    async def _load_policy(self, actor: str) -> bool:
        if isinstance(self._engine, OpaServerEngine):
            await self._engine.check()
            _log.info("policy belongs to the OPA server, which answers; there is nothing to reload here")
            return False
        before = self._engine.digest
        changed = await self._engine.reload(partial(self._notes.policy_loaded, actor=actor))
        if changed:
            await self._decisions.came_into_force(self._engine.bundle, actor, before)
        _log.info("policy reloaded", extra={"changed": changed, "bundle": self._engine.digest, "before": before})
        return changed

    async def _load_candidate(self, _actor: str) -> bool:
        changed = await self._decisions.load_candidate()
        _log.info("policy candidate reloaded", extra={"changed": changed, "bundle": self._decisions.candidate.digest})
        return changed

    async def _answer(self, jump: Jump) -> None:
        """Have the jump in the audit log, and take the bundle back where the settings say so. Never raises."""
        engine = self._engine
        rolls_back = self._decisions.rolls_back and isinstance(engine, BundleHolder)
        try:
            await self._notes.deny_jump(jump, rolled_back=rolls_back)
            if rolls_back and isinstance(engine, BundleHolder):
                await self._roll_back(engine)
        except OrchestratorError as error:
            _log.error("the jump of denials was not answered", extra={"reason": error.reason, "detail": str(error)})
        except Exception:  # noqa: BLE001 -- what is in force stays so, whatever broke
            _log.exception("the jump of denials was not answered")

    async def _roll_back(self, engine: BundleHolder) -> None:
        taken = engine.digest
        if await engine.roll_back(lambda bundle: self._notes.policy_loaded(bundle, DAEMON)):
            await self._decisions.came_into_force(engine.bundle, DAEMON, taken)
            _log.error("the bundle before is in force again", extra={"bundle": engine.digest, "taken_back": taken})

    async def _load_trust(self, actor: str) -> bool:
        before = self._trust.digest
        changed = await self._trust.load(partial(self._notes.trust_loaded, actor=actor))
        _log.info("trust map reloaded", extra={"changed": changed, "digest": self._trust.digest, "before": before})
        return changed

    async def _outcome(self, what: str, load: Callable[[str], Awaitable[bool | Loaded]], actor: str) -> Outcome:
        try:
            loaded = await load(actor)
        except OrchestratorError as error:
            refused = Outcome("refused", error.reason, str(error), error.fix)
            detail = {"reason": error.reason, "detail": str(error), "fix": error.fix}
            _log.error(f"{what} reload refused; the one in force stays", extra=detail)
        except Exception:  # noqa: BLE001 -- the old one is in force, whatever broke
            refused = Outcome("refused", "internal_error", "The daemon's log says what broke.")
            _log.exception(f"{what} reload failed; the one in force stays")
        else:
            if isinstance(loaded, Loaded):
                return Outcome("loaded" if loaded.changed else "unchanged", settings=loaded)
            return Outcome("loaded" if loaded else "unchanged")
        with contextlib.suppress(OrchestratorError):  # nothing comes of it
            await self._notes.refused(what, refused.reason, actor)
        return refused


def _stopping() -> GiveUpError:
    return GiveUpError(
        "the daemon stops, and its next start reads everything again", reason="daemon_stopping", fix="start it"
    )


def has_terminal() -> bool:
    """Whether this process has a controlling terminal. It loses it when the terminal is closed."""
    try:
        os.close(os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY | os.O_CLOEXEC))
    except OSError:
        return False
    return True
