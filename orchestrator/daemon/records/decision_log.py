"""Policy over time: the log of decisions, the bundles that were in force, a candidate beside policy, the deny watch."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path

from orchestrator import __version__
from orchestrator.daemon.closing import push_closing
from orchestrator.errors import ConfigurationError
from orchestrator.evidence.audit.facts import DAEMON
from orchestrator.lifecycle.observation import SECOND
from orchestrator.lifecycle.ports import Clock
from orchestrator.policy.bundle import BundleHolder, default_bundle, load_bundle
from orchestrator.policy.decide import Answered, Listener
from orchestrator.policy.decision_log.bundles import BundleArchive, Load
from orchestrator.policy.decision_log.deny_watch import DenyWatch, Jump, Sensitivity
from orchestrator.policy.decision_log.shadow import OUTCOMES, Candidate
from orchestrator.policy.decision_log.writer import Bounds, DecisionLog
from orchestrator.policy.files import Bundle
from orchestrator.policy.input import rfc3339
from orchestrator.policy.opa_server import OpaServerEngine
from orchestrator.settings import PolicySettings, Settings
from orchestrator.telemetry.metrics import Metrics

_log = logging.getLogger("orchestrator")


class DecisionRoom:
    """Hears of every decision and of every bundle that comes into force. Made by `open_decisions`.

    `on_jump` may be set by who wants to hear of a jump of denials.
    """

    def __init__(self, settings: PolicySettings, folder: Path, clock: Clock) -> None:
        self.candidate = Candidate()
        self.log: DecisionLog | None = None
        self.jump: Jump | None = None
        """What the deny watch noticed under the bundle in force; None for nothing."""
        self.jumps = 0
        self.on_jump: Callable[[Jump], None] | None = None
        self._settings = settings
        self._clock = clock
        self._archive = BundleArchive(folder / "bundles")
        given = settings.deny_watch
        self._watch = DenyWatch(Sensitivity(given.share, given.least, int(given.seconds * SECOND)))
        if settings.decisions.enabled:
            bounds = Bounds(settings.decisions.max_bytes, int(settings.decisions.retention_seconds * SECOND))
            self.log = DecisionLog(folder, {"version": __version__}, bounds, self.candidate, clock.now_ns)
            if self.log.cut:
                detail = {"files": self.log.cut, "fix": "nothing to do; orchestrator policy decisions tells which"}
                _log.warning(
                    "the last moment of the log of decisions may be missing: its daemon was killed", extra=detail
                )

    @property
    def candidate_configured(self) -> bool:
        return self._settings.candidate is not None

    @property
    def rolls_back(self) -> bool:
        """Whether a jump of denials takes the new bundle out of force."""
        return self._settings.deny_watch.rollback

    def heard(self, answered: Answered) -> None:
        """Policy has decided: quick, and raises nothing."""
        if self.log is not None:
            self.log.offer(answered)
        jump = self._watch.decided(answered)
        if jump is not None:
            self._jumped(jump)

    def beside(self, other: Listener) -> Listener:
        """Both hear of each decision, `other` first."""

        def both(answered: Answered) -> None:
            other(answered)
            self.heard(answered)

        return both

    async def begin(self, engine: BundleHolder | OpaServerEngine, by: str) -> None:
        """The daemon starts with this policy, and with the candidate if that is fit: never does one keep it from it."""
        if isinstance(engine, BundleHolder):
            await self._keep(engine.bundle, by, "")
        if self.candidate_configured:
            try:
                await self.load_candidate()
            except ConfigurationError as error:
                detail = {"reason": error.reason, "detail": str(error), "fix": error.fix}
                _log.error("policy candidate refused; there is none", extra=detail)

    async def came_into_force(self, bundle: Bundle, by: str, before: str) -> None:
        """A bundle has just taken over from the one whose digest is `before`."""
        self._watch.changed(self._clock.now_ns())
        self.jump = None
        await self._keep(bundle, by, before)

    async def load_candidate(self) -> bool:
        """Load the candidate with all its checks; True when it is another than before.

        Raises:
            ConfigurationError: it is refused, and the one that was asked so far stays.
        """
        folder = self._settings.candidate
        if folder is None:
            return False
        bundle = await asyncio.to_thread(load_candidate, folder)
        if bundle.digest == self.candidate.digest:
            return False
        self.candidate.load(bundle)
        return True

    async def close(self) -> None:
        if self.log is not None:
            await self.log.close()

    async def _keep(self, bundle: Bundle, by: str, before: str) -> None:
        if self.log is None:
            return
        folder = self._settings.bundle or default_bundle()
        load = Load(rfc3339(self._clock.now_ns()), bundle.digest, by, str(folder.absolute()), before, __version__)
        try:
            await asyncio.to_thread(self._archive.keep, bundle, load)
        except OSError as error:
            _log.warning("the bundle in force is not kept for policy blame", extra={"error": error.strerror})

    def _jumped(self, jump: Jump) -> None:
        self.jump = jump
        self.jumps += 1
        detail = {
            "denied_before": round(jump.before, 3),
            "of_before": jump.before_count,
            "denied_after": round(jump.after, 3),
            "of_after": jump.after_count,
            "fix": "orchestrator policy decisions --denied --since 1h; put the old rules back if this is not meant",
        }
        _log.error("policy denies far more since its bundle changed", extra=detail)
        if self.on_jump is not None:
            self.on_jump(jump)


def load_candidate(folder: Path) -> Bundle:
    """As `load_bundle`; errors say which setting that is.

    Raises:
        ConfigurationError: as `load_bundle`.
    """
    try:
        return load_bundle(folder)
    except ConfigurationError as error:
        raise ConfigurationError(f"policy.candidate: {error}", reason=error.reason, fix=error.fix) from None


def decisions_folder(settings: Settings) -> Path:
    """Where the log lies."""
    return settings.policy.decisions.folder or settings.state_dir / "decisions"


async def open_decisions(
    settings: Settings, engine: BundleHolder | OpaServerEngine, clock: Clock, stack: AsyncExitStack
) -> DecisionRoom:
    """The room, for a daemon that starts with this policy.

    Raises:
        ConfigurationError: reason `decision_log_unusable`.
    """
    room = DecisionRoom(settings.policy, decisions_folder(settings), clock)
    push_closing(stack, "log of decisions", room.close)
    await room.begin(engine, DAEMON)
    return room


def watch_decisions(metrics: Metrics, room: DecisionRoom) -> None:
    """Add what the room counts."""
    log, candidate = room.log, room.candidate
    if log is not None:
        metrics.watch("policy_log_healthy", "1 while decisions can be kept.", lambda: float(log.healthy))
        metrics.watch("policy_log_bytes", "Bytes of the log of decisions.", lambda: float(log.size))
        cut = "Files of the log whose daemon was killed before this one began."
        metrics.watch("policy_log_cut_files", cut, lambda: float(log.cut))
        metrics.watch_count("policy_log_kept", "Decisions kept in the log.", lambda: float(log.written))
        metrics.watch_count("policy_log_lost", "Decisions that could not be kept.", lambda: float(log.lost))
    if room.candidate_configured:
        loaded = "1 while a candidate is asked beside policy."
        metrics.watch("policy_candidate_loaded", loaded, lambda: float(bool(candidate.digest)))
        answers = "Answers of the candidate since it was loaded, by what would be different."
        metrics.watch_words(
            "policy_candidate_answers", answers, "outcome", lambda: {one: candidate.count(one) for one in OUTCOMES}
        )
    jump = "1 while the bundle in force denies far more than the one before it did."
    metrics.watch("policy_deny_jump", jump, lambda: float(room.jump is not None))
    metrics.watch_count("policy_deny_jumps", "Times that a new bundle was found to deny far more.", lambda: room.jumps)
