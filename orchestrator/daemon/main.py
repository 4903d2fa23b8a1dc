"""The daemon's life: start, recover, serve, drain, stop."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import sys
from collections.abc import Callable, Coroutine, Iterator, Mapping
from contextlib import AsyncExitStack
from functools import partial
from typing import Any

from orchestrator import __version__
from orchestrator.daemon import last_resort, slices
from orchestrator.daemon.api import api_server
from orchestrator.daemon.closing import push_closing
from orchestrator.daemon.cluster.gate import deployment_gate, open_cluster_gate
from orchestrator.daemon.cluster.leadership import lead
from orchestrator.daemon.collector import spare_the_loop
from orchestrator.daemon.listening import keep_port, listen
from orchestrator.daemon.loops import periodic_loops
from orchestrator.daemon.operations.drain import Drain, Drainage
from orchestrator.daemon.operations.live_settings import LiveSettings, Reread
from orchestrator.daemon.operations.operators import OperatingDesk
from orchestrator.daemon.operations.reload import Load, Reload, has_terminal
from orchestrator.daemon.platform_log import PlatformLog
from orchestrator.daemon.presence import Presence
from orchestrator.daemon.rooms import Rooms, open_rooms, prepare_state_dir
from orchestrator.daemon.stopping import ToldToStopError, until_told_to_stop
from orchestrator.errors import OrchestratorError
from orchestrator.lifecycle.recovery import recover
from orchestrator.settings import Settings
from orchestrator.telemetry.logging import configure

_log = logging.getLogger("orchestrator")

EXIT_DRAINED = 0
EXIT_NOT_STARTED = 1
EXIT_WORK_LEFT = 2


def run(settings: Settings, ready: Callable[[str], None] | None = None, reread: Reread | None = None) -> int:
    """Run until SIGTERM or SIGINT; a second signal does not wait for running jobs. SIGHUP reloads settings, policy and
    trust map.

    `ready` is called with the API's URL once jobs are taken; `reread` reads the settings again. Returns 0 when drained,
    1 when it could not start (the reason is on standard error; it also ends so when another daemon may have taken its
    place, by a defect, and when its end takes too long), 2 when work was left for the next start.
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
        code = await _serve(settings, ready, reread)
    except ToldToStopError:
        _log.info("stopped before it was ready")
        code = EXIT_DRAINED
    except OrchestratorError as error:
        sys.stderr.write(f"orchestrator cannot start: {error.diagnostics()} [{error.reason}]\n")
        code = EXIT_NOT_STARTED
    except Exception:  # noqa: BLE001 -- told here, for a thread that hangs must not keep us from the end after a defect
        _log.exception("ended by a defect")
        code = EXIT_NOT_STARTED
    last_resort.wait_for_no_thread(code)
    return code


async def _serve(settings: Settings, ready: Callable[[str], None] | None, reread: Reread | None) -> int:
    configure(settings.logs.level, settings.logs.format)
    prepare_state_dir(settings.state_dir)
    listener = listen(settings)
    address = listener.getsockname()
    url = slices.public_url(settings, settings.server.host, int(address[1]))
    drain, hung_up = Drain(), asyncio.Event()
    async with AsyncExitStack() as stack:
        stack.callback(listener.close)
        with until_told_to_stop(hung_up.set):
            await lead(settings, listener, stack)
            rooms = await open_rooms(settings, url, stack)
            await asyncio.to_thread(keep_port, settings.state_dir, int(address[1]))
        live = LiveSettings(rooms, reread) if reread else None
        watched = rooms.policy_engine, rooms.trust, rooms.decisions
        reload = Reload(*watched, rooms.notes, rooms.metrics, live, _loaded_again(rooms))
        stack.enter_context(_signals(drain, reload))
        if hung_up.is_set():  # what has been read by now may be older than the wish
            reload.signalled()
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
        drainage = Drainage(rooms, drain)
        server = api_server(rooms, drain, presence, OperatingDesk(reload, drainage, rooms.notes))
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
        loops = dict(periodic_loops(rooms, presence, gate))
        loops |= {"reload": reload.run_for_ever(), "drain": drainage.run_for_ever()}
        return await _until_drained(drain, drainage, loops, lambda: live.current if live else settings)


def _loaded_again(rooms: Rooms) -> Mapping[str, Load]:
    """What is loaded again besides settings, policy and trust map, where it is configured."""
    found: dict[str, Load] = {}
    if rooms.promotion.signers.configured:
        found["signers"] = partial(_load_signers, rooms)
    if rooms.approvals.desk.configured:
        found["approvers"] = rooms.approvals.desk.load
    return found


async def _load_signers(rooms: Rooms, actor: str) -> bool:
    return await rooms.promotion.signers.load(partial(rooms.notes.signers_loaded, actor=actor))


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


async def _until_drained(
    drain: Drain, drainage: Drainage, loops: Mapping[str, Coroutine[Any, Any, None]], settings: Callable[[], Settings]
) -> int:
    async with asyncio.TaskGroup() as group:
        running = [group.create_task(work, name=name) for name, work in loops.items()]
        try:
            await drain.stopping.wait()
            clean = await drainage.until_quiet(settings().deadlines.drain_seconds)
        finally:  # also when a loop has ended, which is a defect
            last_resort.expect_the_end()
        await last_resort.until_ended(running)
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
