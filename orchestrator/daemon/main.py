"""The daemon's life: start, recover, serve, drain, stop."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import AsyncExitStack
from functools import partial

from orchestrator import __version__
from orchestrator.daemon import slices
from orchestrator.daemon.api import api_server
from orchestrator.daemon.audit_notes import BY_SIGNAL
from orchestrator.daemon.closing import push_closing
from orchestrator.daemon.cluster_gate import ClusterGate, deployment_gate, open_cluster_gate
from orchestrator.daemon.collector import spare_the_loop
from orchestrator.daemon.leadership import lead
from orchestrator.daemon.listening import keep_port, listen
from orchestrator.daemon.loops import periodic_loops
from orchestrator.daemon.platform_log import PlatformLog
from orchestrator.daemon.presence import Presence
from orchestrator.daemon.reload import Load, Reload, Reread, has_terminal
from orchestrator.daemon.rooms import Rooms, open_rooms, prepare_state_dir
from orchestrator.errors import OrchestratorError
from orchestrator.lifecycle.recovery import recover
from orchestrator.model.job import JobId
from orchestrator.model.phase import Phase
from orchestrator.settings import Settings
from orchestrator.telemetry.logging import configure

_log = logging.getLogger("orchestrator")

EXIT_DRAINED = 0
EXIT_NOT_STARTED = 1
EXIT_WORK_LEFT = 2

_TEARDOWN_AFTER_DRAIN_SECONDS = 15
_LET_GO_SECONDS = 0.5


def run(settings: Settings, ready: Callable[[str], None] | None = None, reread: Reread | None = None) -> int:
    """Run until SIGTERM or SIGINT; a second signal does not wait for running jobs. SIGHUP reloads policy and
    trust map.

    `ready` is called with the API's URL once jobs are taken; `reread` reads the settings again, to say on SIGHUP
    which of them need a restart. Returns 0 when drained, 1 when it could not start (the reason is on standard
    error; it also ends so when another daemon may have taken its place), 2 when work was left for the next start.
    """
    # sqlite3 gives up the interpreter lock at every row; the default switch interval of 5 ms would stall commits.
    sys.setswitchinterval(0.0005)
    try:
        import uvloop
    except ImportError:
        return asyncio.run(_guarded(settings, ready, reread))
    return uvloop.run(_guarded(settings, ready, reread))


async def _guarded(settings: Settings, ready: Callable[[str], None] | None, reread: Reread | None) -> int:
    try:
        return await _serve(settings, ready, reread)
    except OrchestratorError as error:
        sys.stderr.write(f"orchestrator cannot start: {error.diagnostics()} [{error.reason}]\n")
        return EXIT_NOT_STARTED


async def _serve(settings: Settings, ready: Callable[[str], None] | None, reread: Reread | None) -> int:
    configure(settings.logs.level, settings.logs.format)
    prepare_state_dir(settings.state_dir)
    listener = listen(settings)
    address = listener.getsockname()
    url = slices.public_url(settings, settings.server.host, int(address[1]))
    drain = Drain()
    async with AsyncExitStack() as stack:
        stack.callback(listener.close)
        if not await lead(settings, listener, stack):
            return EXIT_DRAINED
        rooms = await open_rooms(settings, url, stack)
        await asyncio.to_thread(keep_port, settings.state_dir, int(address[1]))
        watched = rooms.policy_engine, rooms.trust, rooms.decisions
        reload = Reload(*watched, rooms.notes, rooms.metrics, settings, reread, _loaded_again(rooms))
        stack.enter_context(_signals(drain, reload))
        configure(settings.logs.level, settings.logs.format, rooms.masker.text)
        stack.callback(rooms.journal.subscribe(rooms.metrics.observe))
        stack.callback(rooms.journal.subscribe(rooms.egress_keeper.observe))
        stack.callback(rooms.journal.subscribe(rooms.platforms.observe))
        stack.callback(rooms.journal.subscribe(rooms.static_secrets.holders.observe))
        stack.callback(rooms.journal.subscribe(rooms.accounts.keeper.observe))
        stack.callback(rooms.journal.subscribe(PlatformLog(rooms.engine.record).observe))
        recovered = await _take_over(rooms, stack)
        rooms.exporter.start()
        push_closing(stack, "trace exporter", rooms.exporter.stop)
        rooms.notifications.start(rooms.journal, stack)
        presence = Presence(settings.state_dir, f"http://{_reachable(address)}", rooms.issuer)
        server = api_server(rooms, drain, presence)
        await server.serve(listener)
        push_closing(stack, "public API", server.stop)
        stack.callback(presence.withdraw)
        await presence.announce()
        await rooms.platforms.start(stack)
        gate = await open_cluster_gate(settings, deployment_gate(rooms), stack)
        spare_the_loop()
        _log.info("ready", extra={"url": url, "version": __version__, "recovered_jobs": recovered})
        if ready:
            ready(url)
        return await _until_drained(rooms, presence, drain, reload, gate)


def _loaded_again(rooms: Rooms) -> Mapping[str, Load]:
    """What SIGHUP loads besides policy and trust map, where it is configured."""
    found: dict[str, Load] = {}
    if rooms.promotion.signers.configured:
        found["signers"] = partial(rooms.promotion.signers.load, rooms.notes.signers_loaded)
    if rooms.approvals.desk.configured:
        found["approvers"] = partial(rooms.approvals.desk.load, BY_SIGNAL)
    return found


async def _take_over(rooms: Rooms, stack: AsyncExitStack) -> int:
    """Go on where the last daemon stopped, and only then let runners in that lived on; returns the jobs recovered."""
    live = await rooms.journal.live()
    rooms.metrics.adopt(live)
    rooms.static_secrets.holders.adopt(live)
    rooms.accounts.keeper.follower.adopt(live)
    for room in rooms.backends.values():
        await room.adopt(live)
    recovered = await recover(rooms.journal, rooms.engine, rooms.instance)
    if rooms.broker is not None:
        await rooms.broker.adopt(live)
    for room in rooms.backends.values():
        await room.serve(rooms.runner_deps, stack)
    return recovered


def _reachable(address: tuple[str, int]) -> str:
    host = "127.0.0.1" if address[0] in ("0.0.0.0", "::") else address[0]  # noqa: S104 -- compared, not bound
    return f"[{host}]:{address[1]}" if ":" in host else f"{host}:{address[1]}"


class Drain:
    """Set by the first signal; `hurry` by the second."""

    def __init__(self) -> None:
        self.begun = asyncio.Event()
        self.hurry = asyncio.Event()

    def signalled(self) -> None:
        (self.hurry if self.begun.is_set() else self.begun).set()


async def _until_drained(
    rooms: Rooms, presence: Presence, drain: Drain, reload: Reload, gate: ClusterGate | None
) -> int:
    async with asyncio.TaskGroup() as group:
        loops = [group.create_task(work, name=name) for name, work in periodic_loops(rooms, presence, gate)]
        loops.append(group.create_task(reload.run_for_ever(), name="reload"))
        await drain.begun.wait()
        clean = await _drain(rooms, drain)
        for task in loops:
            task.cancel("shutdown")
    _log.info("stopped", extra={"work_left": not clean})
    return EXIT_DRAINED if clean else EXIT_WORK_LEFT


@contextlib.contextmanager
def _signals(drain: Drain, reload: Reload) -> Iterator[None]:
    """Signals mean what `run` says from before anybody is told that we are here until every room is closed."""
    loop = asyncio.get_running_loop()
    hangup = _on_hangup(drain, reload)
    handlers = {signal.SIGTERM: drain.signalled, signal.SIGINT: drain.signalled, signal.SIGHUP: hangup}
    for number, handler in handlers.items():
        loop.add_signal_handler(number, handler)
    # Who started us may have left them blocked, which a program inherits: then we could not be stopped in order.
    signal.pthread_sigmask(signal.SIG_UNBLOCK, handlers)
    try:
        yield
    finally:
        for number in handlers:
            loop.remove_signal_handler(number)


def _on_hangup(drain: Drain, reload: Reload) -> Callable[[], None]:
    """SIGHUP means *reload*, except that it came from a terminal which was closed over us: then it means *stop*."""
    began_on_terminal = has_terminal()

    def signalled() -> None:
        (drain if began_on_terminal and not has_terminal() else reload).signalled()

    return signalled


async def _drain(rooms: Rooms, drain: Drain) -> bool:
    """True when no job is under way that ends with us. Queued jobs stay queued and count as kept, not as left; so
    do jobs whose runners go on without us."""
    rooms.engine.begin_drain()
    rooms.platforms.begin_drain()
    limit = rooms.settings.deadlines.drain_seconds
    _log.info("draining", extra={"active_jobs": len(_ends_with_us(rooms)), "limit_seconds": limit})
    async with asyncio.TaskGroup() as group:
        letting_go = group.create_task(_let_go_of_the_idle(rooms), name="letting-go")
        quiet = await _quiet(rooms, limit, drain.hurry)
        letting_go.cancel("drained")
    if quiet:
        return True
    # Local sandboxes die with the daemon: end their jobs with a true reason while we still can. Again and again,
    # for a runner that was being made may have claimed its job meanwhile.
    for _ in range(_TEARDOWN_AFTER_DRAIN_SECONDS):
        await _end_running_jobs(rooms)
        if await _quiet(rooms, 1.0, None):
            return True
    return False


async def _let_go_of_the_idle(rooms: Rooms) -> None:
    """Runners that wait for a job, and those that are being made for one, would hold us up for nothing: whatever job
    they are for stays with its platform, for the next daemon."""
    while True:
        try:
            await rooms.platforms.let_go(_ends_with_us(rooms))
        except OrchestratorError as error:
            _log.warning("runners without a job are not given up yet: %s", error)
        await asyncio.sleep(_LET_GO_SECONDS)


def _ends_with_us(rooms: Rooms) -> list[JobId]:
    """Jobs under way whose runners die with this daemon."""
    return [job_id for job_id in rooms.engine.active_ids() if not _outlives_us(rooms, job_id)]


def _outlives_us(rooms: Rooms, job_id: JobId) -> bool:
    record = rooms.engine.record(job_id)
    room = rooms.backends.get(record.backend) if record else None
    return room is not None and room.outlives_daemon


async def _end_running_jobs(rooms: Rooms) -> None:
    for job_id in _ends_with_us(rooms):
        record = rooms.engine.record(job_id)
        if record and record.phase is Phase.RUNNING and record.cancel is None:
            # A journal that takes nothing must not keep us here; the next daemon then finds the job lost.
            with contextlib.suppress(OrchestratorError, TimeoutError):
                async with asyncio.timeout(1.0):
                    await rooms.engine.cancel(job_id, "daemon", "the daemon was stopped before the job ended")


async def _quiet(rooms: Rooms, seconds: float, hurry: asyncio.Event | None) -> bool:
    """Wait until no job is under way, for so long at most."""
    quiet = asyncio.Event()

    def look(_facts: object = None) -> None:
        if not _ends_with_us(rooms):
            quiet.set()

    def look_soon(_facts: object) -> None:
        # The feed runs before the engine has dropped the finished job.
        asyncio.get_running_loop().call_later(0.01, look)

    unsubscribe = rooms.journal.subscribe(look_soon)
    look()
    waits = [asyncio.ensure_future(event.wait()) for event in (quiet, hurry) if event]
    try:
        await asyncio.wait(waits, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    finally:
        unsubscribe()
        for wait in waits:
            wait.cancel()
    return quiet.is_set()
